/* reason.c — the table of reason codes (MQTT 5.0, 2.4 and the tables of each packet).
 *
 * A row: the code, its name for logs, the packets in which a client may send it, those in which a server may, and the
 * return code of CONNACK that says the same to a client of 3.x. A new code is a row here and a name in reason.h. */
#include "reason.h"

#define IN(type) (1u << (type))
#define RECEIVED (IN(MQTT_PUBACK) | IN(MQTT_PUBREC))      /* answers to a PUBLISH */
#define RELEASED (IN(MQTT_PUBREL) | IN(MQTT_PUBCOMP))
#define SUBACKS (IN(MQTT_SUBACK) | IN(MQTT_UNSUBACK))
#define CONNACK IN(MQTT_CONNACK)
#define DISCONNECT IN(MQTT_DISCONNECT)
#define SILENT MQTT_CONNACK_SILENT

struct reason {
    uint8_t code;
    uint8_t connack_3;
    uint16_t from_client;
    uint16_t from_server;
    const char *name;
};

static const struct reason reasons[] = {
    {0x00, 0, RECEIVED | RELEASED | DISCONNECT,
     CONNACK | RECEIVED | RELEASED | SUBACKS | DISCONNECT | IN(MQTT_AUTH), "success"},
    {0x01, SILENT, 0, IN(MQTT_SUBACK), "granted QoS 1"},
    {0x02, SILENT, 0, IN(MQTT_SUBACK), "granted QoS 2"},
    {0x04, SILENT, DISCONNECT, 0, "disconnect with will message"},
    {0x10, SILENT, RECEIVED, RECEIVED, "no matching subscribers"},
    {0x11, SILENT, 0, IN(MQTT_UNSUBACK), "no subscription existed"},
    {0x18, SILENT, IN(MQTT_AUTH), IN(MQTT_AUTH), "continue authentication"},
    {0x19, SILENT, IN(MQTT_AUTH), 0, "re-authenticate"},
    {0x80, SILENT, RECEIVED | DISCONNECT, CONNACK | RECEIVED | SUBACKS | DISCONNECT, "unspecified error"},
    {0x81, SILENT, DISCONNECT, CONNACK | DISCONNECT, "malformed packet"},
    {0x82, SILENT, DISCONNECT, CONNACK | DISCONNECT, "protocol error"},
    {0x83, SILENT, RECEIVED | DISCONNECT, CONNACK | RECEIVED | SUBACKS | DISCONNECT, "implementation specific error"},
    {0x84, 1, 0, CONNACK, "unsupported protocol version"},
    {0x85, 2, 0, CONNACK, "client identifier not valid"},
    {0x86, 4, 0, CONNACK, "bad user name or password"},
    {0x87, 5, RECEIVED, CONNACK | RECEIVED | SUBACKS | DISCONNECT, "not authorized"},
    {0x88, 3, 0, CONNACK, "server unavailable"},
    {0x89, 3, 0, CONNACK | DISCONNECT, "server busy"},
    {0x8a, 5, 0, CONNACK, "banned"},
    {0x8b, SILENT, 0, DISCONNECT, "server shutting down"},
    {0x8c, 5, 0, CONNACK | DISCONNECT, "bad authentication method"},
    {0x8d, SILENT, 0, DISCONNECT, "keep alive timeout"},
    {0x8e, SILENT, 0, DISCONNECT, "session taken over"},
    {0x8f, SILENT, 0, SUBACKS | DISCONNECT, "topic filter invalid"},
    {0x90, SILENT, RECEIVED | DISCONNECT, CONNACK | RECEIVED | DISCONNECT, "topic name invalid"},
    {0x91, SILENT, RECEIVED, RECEIVED | SUBACKS, "packet identifier in use"},
    {0x92, SILENT, RELEASED, RELEASED, "packet identifier not found"},
    {0x93, SILENT, DISCONNECT, DISCONNECT, "receive maximum exceeded"},
    {0x94, SILENT, DISCONNECT, DISCONNECT, "topic alias invalid"},
    {0x95, SILENT, DISCONNECT, CONNACK | DISCONNECT, "packet too large"},
    {0x96, SILENT, DISCONNECT, DISCONNECT, "message rate too high"},
    {0x97, 3, RECEIVED | DISCONNECT, CONNACK | RECEIVED | IN(MQTT_SUBACK) | DISCONNECT, "quota exceeded"},
    {0x98, SILENT, DISCONNECT, DISCONNECT, "administrative action"},
    {0x99, SILENT, RECEIVED | DISCONNECT, CONNACK | RECEIVED | DISCONNECT, "payload format invalid"},
    {0x9a, SILENT, 0, CONNACK | DISCONNECT, "retain not supported"},
    {0x9b, SILENT, 0, CONNACK | DISCONNECT, "QoS not supported"},
    {0x9c, 3, 0, CONNACK | DISCONNECT, "use another server"},
    {0x9d, 3, 0, CONNACK | DISCONNECT, "server moved"},
    {0x9e, SILENT, 0, IN(MQTT_SUBACK) | DISCONNECT, "shared subscriptions not supported"},
    {0x9f, 3, 0, CONNACK | DISCONNECT, "connection rate exceeded"},
    {0xa0, SILENT, 0, DISCONNECT, "maximum connect time"},
    {0xa1, SILENT, 0, IN(MQTT_SUBACK) | DISCONNECT, "subscription identifiers not supported"},
    {0xa2, SILENT, 0, IN(MQTT_SUBACK) | DISCONNECT, "wildcard subscriptions not supported"},
};

static const struct reason *find(uint8_t code)
{
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        if (reasons[i].code == code)
            return &reasons[i];
    return NULL;
}

const char *mqtt_reason_name(uint8_t reason)
{
    const struct reason *row = find(reason);
    return row != NULL ? row->name : "unknown reason";
}

bool mqtt_reason_from_client(enum mqtt_type type, uint8_t reason)
{
    const struct reason *row = find(reason);
    return row != NULL && (row->from_client & IN(type)) != 0;
}

bool mqtt_reason_from_server(enum mqtt_type type, uint8_t reason)
{
    const struct reason *row = find(reason);
    return row != NULL && (row->from_server & IN(type)) != 0;
}

uint8_t mqtt_reason_connack_3(uint8_t reason)
{
    const struct reason *row = find(reason);
    return row != NULL ? row->connack_3 : MQTT_CONNACK_SILENT;
}
