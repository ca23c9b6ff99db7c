/* paho_c.c — Eclipse Paho's C client, steered by lines on stdin; tests/broker/makes.py has the other end and the manual.
 *
 *   stdin --"publish topic=a qos=1 payload=x"--> command --> MQTTClient
 *   stdout <--"published reason=0", "message topic=a ..."-- callbacks, from threads of the library
 *
 * One client per process, so that a test can kill it like a device that loses power. Values contain no white space;
 * what a line must not say twice (all but `user`), the last one wins. A line is written by one call: threads take turns. */
#include <MQTTClient.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_BYTES_MAX = 8192, WORDS_MAX = 32, TIMEOUT_S = 20 };

/* "name=value" words of one line. They point into the line. */
struct words {
    const char *verb;
    const char *names[WORDS_MAX];
    const char *values[WORDS_MAX];
    int count;
};

static MQTTClient client;
static int version = MQTTVERSION_3_1_1;

static struct words words_split(char *line)
{
    struct words words = {.verb = strtok(line, " \n")};
    char *word;
    while ((word = strtok(NULL, " \n")) != NULL && words.count < WORDS_MAX) {
        char *value = strchr(word, '=');
        if (value == NULL)
            continue;
        *value++ = '\0';
        words.names[words.count] = word;
        words.values[words.count++] = value;
    }
    return words;
}

static const char *words_text(const struct words *words, const char *name, const char *otherwise)
{
    for (int i = words->count - 1; i >= 0; i--)
        if (strcmp(words->names[i], name) == 0)
            return words->values[i];
    return otherwise;
}

static int words_number(const struct words *words, const char *name, int otherwise)
{
    const char *text = words_text(words, name, NULL);
    return text != NULL ? (int)strtoul(text, NULL, 10) : otherwise;
}

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    fflush(stdout);
}

/* ---- properties ---- */

enum kind { BYTE, TWO_BYTES, FOUR_BYTES, VARIABLE, TEXT, PAIR };

static const struct property_row {
    const char *name;
    enum MQTTPropertyCodes identifier;
    enum kind kind;
} PROPERTIES[] = {
    {"payload_format", MQTTPROPERTY_CODE_PAYLOAD_FORMAT_INDICATOR, BYTE},
    {"message_expiry", MQTTPROPERTY_CODE_MESSAGE_EXPIRY_INTERVAL, FOUR_BYTES},
    {"content_type", MQTTPROPERTY_CODE_CONTENT_TYPE, TEXT},
    {"response_topic", MQTTPROPERTY_CODE_RESPONSE_TOPIC, TEXT},
    {"correlation_data", MQTTPROPERTY_CODE_CORRELATION_DATA, TEXT},
    {"subscription_id", MQTTPROPERTY_CODE_SUBSCRIPTION_IDENTIFIER, VARIABLE},
    {"session_expiry", MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL, FOUR_BYTES},
    {"topic_alias", MQTTPROPERTY_CODE_TOPIC_ALIAS, TWO_BYTES},
    {"user", MQTTPROPERTY_CODE_USER_PROPERTY, PAIR},
};
enum { PROPERTY_COUNT = sizeof PROPERTIES / sizeof PROPERTIES[0] };

static void property_add(MQTTProperties *properties, const struct property_row *row, const char *value)
{
    MQTTProperty property = {.identifier = row->identifier};
    unsigned long number = strtoul(value, NULL, 10);
    switch (row->kind) {
    case BYTE: property.value.byte = (unsigned char)number; break;
    case TWO_BYTES: property.value.integer2 = (unsigned short)number; break;
    case FOUR_BYTES:
    case VARIABLE: property.value.integer4 = (unsigned)number; break;
    case TEXT:
        property.value.data.data = (char *)value;
        property.value.data.len = (int)strlen(value);
        break;
    case PAIR: {
        const char *colon = strchr(value, ':');
        size_t key = colon != NULL ? (size_t)(colon - value) : strlen(value);
        property.value.data.data = (char *)value;
        property.value.data.len = (int)key;
        property.value.value.data = (char *)value + key + (colon != NULL);
        property.value.value.len = (int)strlen(property.value.value.data);
        break;
    }
    }
    MQTTProperties_add(properties, &property);
}

/* All properties that the line has; with `only`, no other than this one. */
static MQTTProperties properties_from(const struct words *words, const char *only)
{
    MQTTProperties properties = MQTTProperties_initializer;
    for (int i = 0; i < words->count; i++)
        for (int row = 0; row < PROPERTY_COUNT; row++)
            if (strcmp(words->names[i], PROPERTIES[row].name) == 0 &&
                (only == NULL || strcmp(only, PROPERTIES[row].name) == 0))
                property_add(&properties, &PROPERTIES[row], words->values[i]);
    return properties;
}

static void property_print(FILE *out, const struct property_row *row, const MQTTProperty *property)
{
    const MQTTLenString *text = (const MQTTLenString *)&property->value.data;
    fprintf(out, " %s=", row->name);
    switch (row->kind) {
    case BYTE: fprintf(out, "%u", property->value.byte); break;
    case TWO_BYTES: fprintf(out, "%u", property->value.integer2); break;
    case FOUR_BYTES:
    case VARIABLE: fprintf(out, "%u", property->value.integer4); break;
    case TEXT: fprintf(out, "%.*s", text->len, text->data); break;
    case PAIR:
        fprintf(out, "%.*s:%.*s", text->len, text->data, property->value.value.len, property->value.value.data);
        break;
    }
}

static void properties_print(FILE *out, const MQTTProperties *properties)
{
    for (int i = 0; i < properties->count; i++)
        for (int row = 0; row < PROPERTY_COUNT; row++)
            if (properties->array[i].identifier == PROPERTIES[row].identifier)
                property_print(out, &PROPERTIES[row], &properties->array[i]);
}

/* ---- what the library tells ---- */

static int on_message(void *context, char *topic, int topic_bytes, MQTTClient_message *message)
{
    (void)context;
    char *line = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&line, &size);
    if (out == NULL)
        abort();
    fprintf(out, "message topic=%.*s payload=%.*s qos=%d retain=%d", topic_bytes > 0 ? topic_bytes : (int)strlen(topic),
            topic, message->payloadlen, (const char *)message->payload, message->qos, message->retained);
    properties_print(out, &message->properties);
    fclose(out);
    say("%s\n", line);
    free(line);
    MQTTClient_freeMessage(&message);
    MQTTClient_free(topic);
    return 1;
}

static void on_delivered(void *context, MQTTClient_deliveryToken token)
{
    (void)context, (void)token;
    say("published\n");
}

static void on_published(void *context, int token, int packet_type, MQTTProperties *properties,
                         enum MQTTReasonCodes reason)
{
    (void)context, (void)token, (void)packet_type, (void)properties;
    say("published reason=%d\n", (int)reason);
}

static void on_disconnected(void *context, MQTTProperties *properties, enum MQTTReasonCodes reason)
{
    (void)context, (void)properties;
    say("lost reason=%d\n", (int)reason);
}

static void on_lost(void *context, char *cause)
{
    (void)context, (void)cause;
    if (version < MQTTVERSION_5)
        say("lost\n");
}

/* ---- what the test asks for ---- */

static void client_create(const struct words *words)
{
    char address[64];
    MQTTClient_createOptions options = MQTTClient_createOptions_initializer;
    version = options.MQTTVersion = words_number(words, "version", 4);
    snprintf(address, sizeof address, "tcp://127.0.0.1:%d", words_number(words, "port", 1883));
    if (MQTTClient_createWithOptions(&client, address, words_text(words, "id", ""), MQTTCLIENT_PERSISTENCE_NONE, NULL,
                                     &options) != MQTTCLIENT_SUCCESS)
        abort();
    bool five = version == MQTTVERSION_5;
    MQTTClient_setCallbacks(client, NULL, on_lost, on_message, five ? NULL : on_delivered);
    if (five) {
        MQTTClient_setPublished(client, NULL, on_published);
        MQTTClient_setDisconnected(client, NULL, on_disconnected);
    }
}

static void command_connect(const struct words *words)
{
    client_create(words);
    static const MQTTClient_connectOptions before_5 = MQTTClient_connectOptions_initializer,
                                           with_5 = MQTTClient_connectOptions_initializer5;
    MQTTClient_connectOptions options = version == MQTTVERSION_5 ? with_5 : before_5;
    MQTTClient_willOptions will = MQTTClient_willOptions_initializer;
    options.MQTTVersion = version;
    options.connectTimeout = TIMEOUT_S;
    if (words_text(words, "will_topic", NULL) != NULL) {
        will.topicName = words_text(words, "will_topic", NULL);
        will.message = words_text(words, "will_payload", "");
        will.qos = words_number(words, "will_qos", 0);
        will.retained = words_number(words, "will_retain", 0);
        options.will = &will;
    }
    int clean = words_number(words, "clean", 1), reason;
    if (version == MQTTVERSION_5) {
        options.cleanstart = clean;
        MQTTProperties properties = properties_from(words, "session_expiry"),
                       of_will = MQTTProperties_initializer;
        MQTTResponse answer = MQTTClient_connect5(client, &options, &properties, &of_will);
        reason = answer.reasonCode;
        MQTTResponse_free(answer);
        MQTTProperties_free(&properties);
    } else {
        options.cleansession = clean;
        reason = MQTTClient_connect(client, &options);
    }
    say("connected reason=%d present=%d\n", reason, options.returned.sessionPresent);
}

static void command_subscribe(const struct words *words)
{
    MQTTProperties properties = properties_from(words, "subscription_id");
    MQTTSubscribe_options options = MQTTSubscribe_options_initializer;
    MQTTResponse answer = MQTTClient_subscribe5(client, words_text(words, "filter", "#"), words_number(words, "qos", 0),
                                                &options, &properties);
    if (version == MQTTVERSION_5 || answer.reasonCode != MQTTREASONCODE_SUCCESS)
        say("subscribed code=%d\n", (int)answer.reasonCode);
    else
        say("subscribed\n"); /* before 5.0 it keeps the granted QoS for itself */
    MQTTResponse_free(answer);
    MQTTProperties_free(&properties);
}

static void command_unsubscribe(const struct words *words)
{
    MQTTProperties properties = MQTTProperties_initializer;
    MQTTResponse answer = MQTTClient_unsubscribe5(client, words_text(words, "filter", "#"), &properties);
    say("unsubscribed code=%d\n", (int)answer.reasonCode);
    MQTTResponse_free(answer);
}

static void command_publish(const struct words *words)
{
    MQTTProperties properties = properties_from(words, NULL);
    const char *payload = words_text(words, "payload", "");
    int qos = words_number(words, "qos", 0);
    MQTTResponse answer =
        MQTTClient_publish5(client, words_text(words, "topic", ""), (int)strlen(payload), payload, qos,
                            words_number(words, "retain", 0), version == MQTTVERSION_5 ? &properties : NULL, NULL);
    if (qos == 0 || (int)answer.reasonCode < 0)
        say("published reason=%d\n", (int)answer.reasonCode);
    MQTTResponse_free(answer);
    MQTTProperties_free(&properties);
}

static void command_disconnect(const struct words *words)
{
    (void)words;
    if (version == MQTTVERSION_5)
        MQTTClient_disconnect5(client, TIMEOUT_S * 1000, MQTTREASONCODE_SUCCESS, NULL);
    else
        MQTTClient_disconnect(client, TIMEOUT_S * 1000);
    say("disconnected\n");
}

static const struct {
    const char *verb;
    void (*run)(const struct words *words);
} COMMANDS[] = {
    {"connect", command_connect}, {"subscribe", command_subscribe},   {"unsubscribe", command_unsubscribe},
    {"publish", command_publish}, {"disconnect", command_disconnect},
};

int main(void)
{
    char line[LINE_BYTES_MAX];
    while (fgets(line, sizeof line, stdin) != NULL) {
        struct words words = words_split(line);
        for (size_t i = 0; words.verb != NULL && i < sizeof COMMANDS / sizeof COMMANDS[0]; i++)
            if (strcmp(words.verb, COMMANDS[i].verb) == 0)
                COMMANDS[i].run(&words);
    }
    return 0;
}
