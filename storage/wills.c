#include "wills.h"

#include "due.h"
#include "publish.h"
#include "security.h"
#include "sessions.h"

#include <assert.h>

struct will_row {
    uint64_t message_id;
    uint32_t delay_s, message_expiry_s;
    bool allowed;
    struct names names;      /* borrowed until the store is written to */
};

static bool row_get(struct state *state, uint64_t session_id, uint64_t client_epoch, struct will_row *row)
{
    struct key key = key_pair(session_id, client_epoch);
    struct bytes value;
    if (!store_get(state->store, TABLE_WILLS, key_bytes(&key), &value))
        return false;
    struct reader in = reader_of(value);
    row->message_id = reader_varint(&in);
    row->delay_s = (uint32_t)reader_varint(&in);
    row->message_expiry_s = (uint32_t)reader_varint(&in);
    row->allowed = reader_u8(&in) != 0;
    row->names.user = reader_block(&in);
    row->names.client_id = reader_block(&in);
    return reader_done(&in);
}

static void row_delete(struct state *state, uint64_t session_id, uint64_t client_epoch)
{
    struct key key = key_pair(session_id, client_epoch);
    if (store_delete(state->store, TABLE_WILLS, key_bytes(&key)))
        state->counts.wills_pending--;
}

void will_store(struct state *state, struct session *session, const struct command_will *will, bool allowed)
{
    assert(session->will_epoch == 0);
    uint64_t message_id = state->next_message_id++;
    messages_add(&state->messages, message_id, &will->message, 1);
    struct key key = key_pair(session->id, session->owner.client_epoch);
    buffer_clear(&state->row);
    buffer_put_varint(&state->row, message_id);
    buffer_put_varint(&state->row, will->delay_s);
    buffer_put_varint(&state->row, will->message_expiry_s);
    buffer_put_u8(&state->row, allowed);
    buffer_put_block(&state->row, session_user_name(session));
    buffer_put_block(&state->row, session_client_id(session));
    store_insert(state->store, TABLE_WILLS, key_bytes(&key), buffer_bytes(&state->row));
    state->counts.wills_pending++;
    session->will_epoch = session->owner.client_epoch;
    session_touch(state, session);
}

static void clear_schedule(struct state *state, struct session *session)
{
    if (session->will_due_ms != 0)
        due_remove(state, session->will_due_ms, DUE_WILL, session->id);
    session->will_due_ms = 0;
    session->will_epoch = 0;
    session_touch(state, session);
}

static void forget_row(struct state *state, uint64_t session_id, uint64_t client_epoch)
{
    struct will_row row;
    if (!row_get(state, session_id, client_epoch, &row))
        return;
    row_delete(state, session_id, client_epoch);
    messages_release(&state->messages, row.message_id, 1);
}

/* With the rights of now. */
static bool is_permitted(const struct state *state, const struct will_row *row, struct bytes topic)
{
    struct rule_list rules = {0};
    enum verdict verdict;

    if (!security_has_roles(state->security))
        return true;
    security_rules(state->security, row->names.user, &rules);
    verdict = rules_judge(rules.rules, rules.count, &row->names, RIGHT_PUBLISH, topic);
    rule_list_release(&rules);
    return verdict == VERDICT_ALLOW || (verdict == VERDICT_NONE && row->allowed);
}

static void publish_row(struct state *state, uint64_t session_id, uint64_t client_epoch)
{
    struct will_row row;
    struct message message;
    if (!row_get(state, session_id, client_epoch, &row) ||
        !messages_get(&state->messages, row.message_id, &state->assembled, &message))
        return;
    message.origin_session = session_id; /* No Local holds for it as for what the client published itself */
    if (is_permitted(state, &row, message.topic))
        publish_begin_copy(state, &message, row.message_expiry_s);
    else
        state->counts.wills_refused++;
    row_delete(state, session_id, client_epoch);
    messages_release(&state->messages, row.message_id, 1);
}

void will_forget(struct state *state, struct session *session)
{
    if (session->will_epoch == 0)
        return;
    uint64_t client_epoch = session->will_epoch;
    clear_schedule(state, session);
    forget_row(state, session->id, client_epoch);
}

void will_publish_now(struct state *state, struct session *session)
{
    uint64_t client_epoch = session->will_epoch;
    clear_schedule(state, session);
    publish_row(state, session->id, client_epoch);
}

void will_schedule(struct state *state, struct session *session)
{
    struct will_row row;
    if (session->will_epoch == 0 || !row_get(state, session->id, session->will_epoch, &row))
        return;
    if (row.delay_s == 0) {
        will_publish_now(state, session);
        return;
    }
    session->will_due_ms = seconds_from(state->clock_ms, row.delay_s);
    due_add(state, session->will_due_ms, DUE_WILL, session->id);
    session_touch(state, session);
}

bool will_detach(struct state *state, struct session *session, bool session_goes_on)
{
    struct will_row row;
    if (session->will_epoch == 0 || !row_get(state, session->id, session->will_epoch, &row))
        return false;
    if (session_goes_on && row.delay_s > 0) {
        will_forget(state, session);
        return false;
    }
    session->will_epoch = 0;
    session_touch(state, session);
    return true;
}

bool will_decide(struct state *state, uint64_t session_id, uint64_t client_epoch, bool publish)
{
    struct will_row row;
    if (!row_get(state, session_id, client_epoch, &row))
        return false;
    if (publish)
        publish_row(state, session_id, client_epoch);
    else
        forget_row(state, session_id, client_epoch);
    return true;
}

void will_resume(struct state *state, struct session *session)
{
    if (session->will_epoch == 0)
        return;
    if (session->will_due_ms <= state->clock_ms)
        will_publish_now(state, session);
    else
        will_forget(state, session);
}

bool will_topic(struct state *state, uint64_t session_id, uint64_t client_epoch, struct bytes *topic, struct names *names)
{
    struct will_row row;
    struct message message;
    if (!row_get(state, session_id, client_epoch, &row) ||
        !messages_get(&state->messages, row.message_id, &state->assembled, &message))
        return false;
    *topic = message.topic;
    *names = row.names;
    return true;
}

void will_fall_due(struct state *state, uint64_t session_id)
{
    struct session *session = session_by_id(state, session_id);
    if (session == NULL || session->will_due_ms == 0)
        return;
    session->will_due_ms = 0; /* the TICK has taken its row */
    will_publish_now(state, session);
}
