/* message.h — an application message (MQTT 5.0, 3.3), as every layer passes it on. */
#ifndef COTERIE_MESSAGE_H
#define COTERIE_MESSAGE_H

#include "bytes.h"

struct message {
    struct bytes topic;        /* valid UTF-8, no wildcard, 1 to 65,535 bytes; checked at ingress */
    struct bytes payload;      /* any bytes; empty and retained clears the topic */
    struct bytes properties;   /* the properties that only travel with the message, encoded as in a PUBLISH of 5.0
                                * without their length: payload format, content type, response topic, correlation
                                * data, user properties, in the order received; checked at ingress; often empty */
    uint64_t origin_session;   /* session id of the publisher, for No Local; 0 for a will or none */
    uint64_t created_ms;       /* cluster time at which it entered the log */
    uint64_t expires_ms;       /* cluster time from which it is not sent any more; 0 = never */
    uint8_t qos;               /* 0, 1 or 2, as published */
    bool retain;               /* as published */
};

/* What counts against limits of bytes: whatever the publisher made of it, payload or properties. */
static inline uint64_t message_bytes(const struct message *message)
{
    return (uint64_t)message->payload.size + message->properties.size;
}

#endif
