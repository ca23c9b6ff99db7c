/* state_read.c — what the delivery of a node reads from the state: targets of QoS 0, queues, facts about sessions. */
#include "state.h"

#include "publish.h"
#include "queues.h"
#include "scans.h"
#include "sessions.h"
#include "wills.h"
#include "window.h"

void state_match_begin(struct state *state, const struct message *message, uint64_t reachable)
{
    publish_live_begin(state, message, reachable, NULL, 0);
}

void state_match_copy_begin(struct state *state, const struct message *message, const uint64_t *groups, uint32_t group_count)
{
    static const uint64_t none = 0;
    publish_live_begin(state, message, 0, groups != NULL ? groups : &none, group_count);
}

bool state_match_more(struct state *state, struct effects *effects, uint64_t looks, struct match *match)
{
    state->worked_max = state_worked(state) + (looks > 0 ? looks : 1);
    return publish_live_more(state, effects, match);
}

static void *copy_into(struct effects *arena, const void *data, size_t size)
{
    return size > 0 ? memcpy(effects_allocate(arena, size), data, size) : NULL;
}

static void fill_target(const struct session *session, const struct delivery *delivery, struct effects *arena,
                        struct target *target)
{
    *target = (struct target){.session_id = session->id,
                              .connection = session->owner.connection,
                              .order = delivery->order,
                              .qos = delivery->qos,
                              .retain = delivery->retain,
                              .shared = delivery->group != 0,
                              .subscription_id_count = delivery->subscription_id_count};
    target->subscription_ids = copy_into(arena, delivery->subscription_ids,
                                         delivery->subscription_id_count * sizeof(uint32_t));
}

enum status state_next_queued(struct state *state, uint64_t session_id, uint64_t after, struct effects *arena,
                              struct queued *queued)
{
    struct session *session = session_by_id(state, session_id);
    if (session == NULL || session->ended)
        return STATUS_NOT_FOUND;
    if (!readings_prepare(state, session, READER_SENDS, after))
        return STATUS_NEED_MORE;
    struct delivery sent = {0};
    struct merged waiting;
    *queued = (struct queued){0};
    bool has_sent = window_next(state, session, after, &sent);
    if (has_sent)
        fill_target(session, &sent, arena, &queued->target);
    bool has_waiting = queues_next(state, session, READER_SENDS, after, &waiting);
    if (!has_sent && !has_waiting)
        return STATUS_NOT_FOUND;
    uint64_t message_id = sent.message_id;
    if (has_waiting && (!has_sent || waiting.delivery.order < sent.order)) {
        fill_target(session, &waiting.delivery, arena, &queued->target);
        queued->target.own = waiting.own;
        queued->target.broadcast_count = waiting.filter_count;
        queued->target.broadcast_filters =
            copy_into(arena, waiting.filters, waiting.filter_count * sizeof(uint64_t));
        message_id = waiting.delivery.message_id;
    } else {
        queued->target.admitted = true;
        queued->released = sent.released;
        if (sent.released)
            return STATUS_OK; /* only its number matters from here on */
    }
    return messages_get(&state->messages, message_id, &state->assembled, &queued->message) ? STATUS_OK
                                                                                           : STATUS_NOT_FOUND;
}

bool state_retained_scan(const struct state *state, uint64_t session_id, uint64_t *subscribe_position)
{
    const struct session *session = session_by_id(state, session_id);
    const struct scan *scan = session != NULL ? scan_first(session) : NULL;
    if (scan == NULL)
        return false;
    *subscribe_position = scan->position;
    return true;
}

static bool fill_facts(const struct session *session, struct session_facts *facts)
{
    if (session == NULL || session->ended)
        return false;
    *facts = (struct session_facts){.session_id = session->id,
                                    .client_id = session_client_id(session),
                                    .user_name = session_user_name(session),
                                    .connected = session->owner.client_epoch != 0,
                                    .node = session->owner.node,
                                    .client_epoch = session->owner.client_epoch,
                                    .connection = session->owner.connection,
                                    .expiry_s = session->expiry_s};
    return true;
}

bool state_session(const struct state *state, uint64_t session_id, struct session_facts *facts)
{
    return fill_facts(session_by_id(state, session_id), facts);
}

bool state_inbound_open(struct state *state, uint64_t session_id, uint16_t packet_id)
{
    const struct session *session = session_by_id(state, session_id);
    return session != NULL && !session->ended && inbound_is_open(state, session, packet_id);
}

bool state_will_topic(struct state *state, uint64_t session_id, uint64_t client_epoch, struct bytes *topic,
                      struct names *names)
{
    return will_topic(state, session_id, client_epoch, topic, names);
}

bool state_session_by_client_id(const struct state *state, struct bytes client_id, struct session_facts *facts)
{
    return fill_facts(session_by_client_id(state, client_id), facts);
}
