/* handle_subscribe.c — SUBSCRIBE and UNSUBSCRIBE.
 *
 * Filters that are refused here (invalid: 0x8F) do not go into the command; their codes wait in client->codes until the
 * state machine has decided about the others, and all are answered in the order asked. Shared subscriptions go into the
 * command as they are: the state machine knows them by their text. */
#include "client_private.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

static uint8_t subscription_code(struct client *client, const struct mqtt_subscription *subscription)
{
    uint8_t refused = capabilities_check_filter(client, subscription);
    struct topic_filter parts;

    if (refused != REASON_SUCCESS)
        return refused;
    if (subscription->kind == TOPIC_FILTER_INVALID || topic_filter_parse(subscription->text, &parts) == TOPIC_FILTER_INVALID)
        return REASON_FILTER_INVALID;
    if (client_may(client, RIGHT_SUBSCRIBE, parts.filter)) /* that of a group is what is in it */
        return CODE_FROM_STATE;
    client->node->stats.subscribes_denied++;
    return REASON_NOT_AUTHORIZED;
}

/* The octet of options, with no more QoS than this server offers. */
static uint8_t granted_options(const struct client *client, uint8_t options)
{
    uint8_t max = (uint8_t)client->node->capabilities.maximum_qos;

    return SUBSCRIPTION_QOS(options) <= max ? options : (uint8_t)((options & ~0x03) | max);
}

/* A request of `count` filters, all of them for the state machine so far. */
static struct pending_codes *codes_new(uint16_t packet_id, uint32_t count)
{
    struct pending_codes *codes = memory_zeroed(1, sizeof(*codes) + 2 * (size_t)count);

    codes->packet_id = packet_id;
    codes->count = count;
    memset(codes->codes, CODE_FROM_STATE, count);
    return codes;
}

void pending_codes_free(struct pending_codes *codes)
{
    buffer_release(&codes->sys);
    free(codes);
}

/* Remembers a filter of $SYS that wants what we have at once: no such message is in the state machine. */
static void note_sys(struct pending_codes *codes, uint32_t number, const struct mqtt_subscription *subscription)
{
    if (!bytes_starts_with(subscription->text, bytes_text("$SYS/")) ||
        SUBSCRIPTION_RETAIN_HANDLING(subscription->options) == 2)
        return;
    buffer_put_u32(&codes->sys, number);
    command_put_filter(&codes->sys, subscription->text, subscription->options);
}

/* Asks for what is there of those that were granted. */
static void answer_sys(const struct pending_codes *codes, struct actions *out)
{
    struct reader reader = reader_of(buffer_bytes(&codes->sys));
    struct command_filter filter;

    while (reader.rest.size > 0) {
        uint32_t number = reader_u32(&reader);

        if (!command_next_filter(&reader, &filter))
            return;
        if (codes->codes[number] >= REASON_FAILURE)
            continue;
        if (SUBSCRIPTION_RETAIN_HANDLING(filter.options) == 0 || codes->codes[codes->count + number] == 0)
            command_put_filter(&out->sys_filters, filter.filter, filter.options);
    }
    out->sys_subscription_id = codes->subscription_id;
}

static void send_codes(struct client *client, enum mqtt_type type, uint16_t packet_id, const uint8_t *codes,
                       uint32_t count, struct actions *out)
{
    struct mqtt_suback suback = {
        .packet_id = packet_id, .reasons = codes, .count = count, .properties = MQTT_PROPERTIES_NONE};

    client_sent(client, mqtt_encode_suback(&client->peer, type, &suback, &out->out), out);
}

/* 5.0: whether this packet id has not been answered yet, as that of another request or of a QoS 2 PUBLISH. */
static bool id_in_use(const struct client *client, uint16_t packet_id)
{
    if (client->peer.level < MQTT_LEVEL_5)
        return false;
    for (const struct pending_codes *codes = client->codes; codes != NULL; codes = codes->next) {
        if (codes->packet_id == packet_id)
            return true;
    }
    return received_is_open(&client->received, packet_id);
}

static void refuse_all(struct client *client, enum mqtt_type answer, uint16_t packet_id, uint32_t count,
                       uint8_t reason, struct actions *out)
{
    uint8_t *codes = memory_allocate(count);

    memset(codes, reason, count);
    send_codes(client, answer, packet_id, codes, count, out);
    free(codes);
}

/* Puts what was refused aside until the outcome; or answers now if all of it was refused. True: propose. */
static bool wants_outcome(struct client *client, enum mqtt_type answer, struct pending_codes *codes, uint32_t proposed,
                          struct actions *out)
{
    struct pending_codes **last = &client->codes;

    if (proposed == 0) {
        send_codes(client, answer, codes->packet_id, codes->codes, codes->count, out);
        pending_codes_free(codes);
        return false;
    }
    while (*last != NULL)
        last = &(*last)->next;
    *last = codes;
    return true;
}

void handle_subscribe(struct client *client, const struct mqtt_subscribe *subscribe, struct actions *out)
{
    struct bytes rest = subscribe->filters;
    struct mqtt_subscription subscription;
    struct pending_codes *codes;
    uint32_t number = 0, proposed = 0;
    struct command_subscribe *command;
    uint8_t refused = capabilities_check_subscribe(client, subscribe);

    if (refused != REASON_SUCCESS) {
        client_fail(client, refused, out);
        return;
    }
    if (id_in_use(client, subscribe->packet_id)) {
        refuse_all(client, MQTT_SUBACK, subscribe->packet_id, subscribe->count, REASON_PACKET_ID_IN_USE, out);
        return;
    }
    if (subscribe->count > client->node->capabilities.filters_max) {
        client_count_limit(client->node, LIMIT_FILTERS);
        refuse_all(client, MQTT_SUBACK, subscribe->packet_id, subscribe->count, REASON_QUOTA_EXCEEDED, out);
        return;
    }
    codes = codes_new(subscribe->packet_id, subscribe->count);
    codes->subscription_id = subscribe->properties.subscription_id;
    for (; mqtt_next_subscription(&rest, &subscription); number++) {
        uint8_t code = subscription_code(client, &subscription);

        if (code == CODE_FROM_STATE) {
            command_put_filter(&out->text, subscription.text, granted_options(client, subscription.options));
            note_sys(codes, number, &subscription);
            proposed++;
        } else {
            codes->codes[number] = code;
        }
    }
    if (!wants_outcome(client, MQTT_SUBACK, codes, proposed, out))
        return;
    command = &actions_propose(out, COMMAND_SUBSCRIBE, subscribe->packet_id)->subscribe;
    command->owner = client_owner(client);
    command->subscription_id = subscribe->properties.subscription_id;
    command->count = proposed;
    command->filters = buffer_bytes(&out->text);
}

void handle_unsubscribe(struct client *client, const struct mqtt_unsubscribe *unsubscribe, struct actions *out)
{
    struct bytes rest = unsubscribe->filters, text;
    struct pending_codes *codes;
    uint32_t number = 0, proposed = 0;
    struct command_unsubscribe *command;

    if (id_in_use(client, unsubscribe->packet_id)) {
        refuse_all(client, MQTT_UNSUBACK, unsubscribe->packet_id, unsubscribe->count, REASON_PACKET_ID_IN_USE, out);
        return;
    }
    if (unsubscribe->count > client->node->capabilities.filters_max) {
        client_count_limit(client->node, LIMIT_FILTERS); /* UNSUBACK has no code for a quota, and 3.x none at all */
        client_fail(client, REASON_QUOTA_EXCEEDED, out);
        return;
    }
    codes = codes_new(unsubscribe->packet_id, unsubscribe->count);
    for (; mqtt_next_filter(&rest, &text); number++) {
        struct topic_filter parts;

        if (topic_filter_parse(text, &parts) != TOPIC_FILTER_INVALID) {
            command_put_filter(&out->text, text, 0);
            proposed++;
        } else {
            codes->codes[number] = REASON_FILTER_INVALID;
        }
    }
    if (!wants_outcome(client, MQTT_UNSUBACK, codes, proposed, out))
        return;
    command = &actions_propose(out, COMMAND_UNSUBSCRIBE, unsubscribe->packet_id)->unsubscribe;
    command->owner = client_owner(client);
    command->count = proposed;
    command->filters = buffer_bytes(&out->text);
}

/* ---- the outcome ---- */

/* Fills the state machine's codes into the places left for them. A quota refusal has none: then 0x97 for each. */
static void merge_codes(struct pending_codes *codes, const struct effect *effect)
{
    uint32_t next = 0;

    for (uint32_t i = 0; i < codes->count; i++) {
        if (codes->codes[i] != CODE_FROM_STATE)
            continue;
        codes->codes[i] = next < effect->codes.count ? effect->codes.codes[next] : REASON_QUOTA_EXCEEDED;
        codes->codes[codes->count + i] = effect->codes.existed != NULL && next < effect->codes.count &&
                                         effect->codes.existed[next] != 0;
        next++;
    }
}

void handle_codes(struct client *client, const struct effect *effect, uint32_t tag, struct actions *out)
{
    enum mqtt_type answer = effect->type == EFFECT_SUBSCRIBED ? MQTT_SUBACK : MQTT_UNSUBACK;
    struct pending_codes *codes = client->codes;

    /* Outcomes come in the order of proposing, so only the first of the list can be ours. */
    if (effect->outcome == OUTCOME_QUOTA ||
        (effect->codes.count > 0 && memchr(effect->codes.codes, REASON_QUOTA_EXCEEDED, effect->codes.count) != NULL))
        client_count_limit(client->node, LIMIT_SUBSCRIPTIONS);
    if (codes != NULL && codes->packet_id == TAG_PACKET_ID(tag)) {
        client->codes = codes->next;
        merge_codes(codes, effect);
        send_codes(client, answer, codes->packet_id, codes->codes, codes->count, out);
        answer_sys(codes, out);
        pending_codes_free(codes);
    } else {
        send_codes(client, answer, TAG_PACKET_ID(tag), effect->codes.codes, effect->codes.count, out);
    }
    if (answer == MQTT_SUBACK)
        out->subscribed_index = effect->codes.index;
}
