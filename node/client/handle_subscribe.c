/* handle_subscribe.c — SUBSCRIBE and UNSUBSCRIBE.
 *
 * Filters that are refused here (invalid: 0x8F, shared: 0x9E for now) do not go into the command; their codes wait in
 * client->codes until the state machine has decided about the others, and all are answered in the order asked.
 *
 * The place for shared subscriptions: let TOPIC_FILTER_SHARED through in subscription_code(). */
#include "client_private.h"

#include "base/memory.h"

#include <stdlib.h>

static uint8_t subscription_code(enum topic_filter_kind kind)
{
    switch (kind) {
    case TOPIC_FILTER_INVALID: return REASON_FILTER_INVALID;
    case TOPIC_FILTER_SHARED: return REASON_SHARED_NOT_SUPPORTED;
    case TOPIC_FILTER_PLAIN: break;
    }
    return CODE_FROM_STATE;
}

/* Keeps the code of filter `number`, which is not for the state machine. *codes is made when it is first needed. */
static void keep_code(struct pending_codes **codes, uint16_t packet_id, uint32_t count, uint32_t number, uint8_t code)
{
    if (*codes == NULL) {
        *codes = memory_allocate(sizeof(**codes) + count);
        (*codes)->next = NULL;
        (*codes)->packet_id = packet_id;
        (*codes)->count = count;
        for (uint32_t i = 0; i < count; i++)
            (*codes)->codes[i] = CODE_FROM_STATE;
    }
    (*codes)->codes[number] = code;
}

static void send_codes(struct client *client, enum mqtt_type type, uint16_t packet_id, const uint8_t *codes,
                       uint32_t count, struct actions *out)
{
    struct mqtt_suback suback = {
        .packet_id = packet_id, .reasons = codes, .count = count, .properties = MQTT_PROPERTIES_NONE};

    client_sent(client, mqtt_encode_suback(&client->peer, type, &suback, &out->out), out);
}

/* Puts what was refused aside until the outcome; or answers now if all of it was refused. True: propose. */
static bool wants_outcome(struct client *client, enum mqtt_type answer, struct pending_codes *codes, uint32_t proposed,
                          struct actions *out)
{
    struct pending_codes **last = &client->codes;

    if (codes == NULL)
        return true;
    if (proposed == 0) {
        send_codes(client, answer, codes->packet_id, codes->codes, codes->count, out);
        free(codes);
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
    struct pending_codes *codes = NULL;
    uint32_t number = 0, proposed = 0;
    struct command_subscribe *command;

    for (; mqtt_next_subscription(&rest, &subscription); number++) {
        uint8_t code = subscription_code(subscription.kind);

        if (code == CODE_FROM_STATE) {
            command_put_filter(&out->text, subscription.text, subscription.options);
            proposed++;
        } else {
            keep_code(&codes, subscribe->packet_id, subscribe->count, number, code);
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
    struct pending_codes *codes = NULL;
    uint32_t number = 0, proposed = 0;
    struct command_unsubscribe *command;

    for (; mqtt_next_filter(&rest, &text); number++) {
        struct topic_filter parts;
        enum topic_filter_kind kind = topic_filter_parse(text, &parts);

        if (kind == TOPIC_FILTER_PLAIN) {
            command_put_filter(&out->text, text, 0);
            proposed++;
        } else {
            keep_code(&codes, unsubscribe->packet_id, unsubscribe->count, number,
                      kind == TOPIC_FILTER_INVALID ? REASON_FILTER_INVALID : REASON_NO_SUBSCRIPTION_EXISTED);
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
        next++;
    }
}

void handle_codes(struct client *client, const struct effect *effect, uint32_t tag, struct actions *out)
{
    enum mqtt_type answer = effect->type == EFFECT_SUBSCRIBED ? MQTT_SUBACK : MQTT_UNSUBACK;
    struct pending_codes *codes = client->codes;

    /* Outcomes come in the order of proposing, so only the first of the list can be ours. */
    if (codes != NULL && codes->packet_id == TAG_PACKET_ID(tag)) {
        client->codes = codes->next;
        merge_codes(codes, effect);
        send_codes(client, answer, codes->packet_id, codes->codes, codes->count, out);
        free(codes);
    } else {
        send_codes(client, answer, TAG_PACKET_ID(tag), effect->codes.codes, effect->codes.count, out);
    }
    if (answer == MQTT_SUBACK)
        out->subscribed_index = effect->codes.index;
}
