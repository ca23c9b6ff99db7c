/* state.c — batches: each is applied once, in the order of its origin, and only while that life of its origin lasts.
 *
 *   entry --batch_decode--> origin and number --> commands --apply_*--> rows, effects
 *
 *   NODE_UP          epoch 0, number 0; the nonce of the life that is known already: seen
 *   epoch differs    stale: that life has ended, or is not ours to judge
 *   number           last + 1: applied; <= last: seen before; > last + 1: a gap, the origin sends again
 *
 * An entry is applied in steps of counted work (state_apply_more). Between two of them the state is that of some place in the
 * middle of the entry, or even of a command (state_amid_command); nothing but the next step may change it.
 *
 *   ENTRY_FIRST -> COMMANDS <-> COMMAND -> WORK -> LAST     before each: the session that came or went, the message under
 *                                                           way, the session that has ended
 *
 * Whatever is in an entry, the applied index advances: an entry that cannot be read is skipped by every node alike. The
 * rows of TABLE_META are written, like all that is dirty, when the store is to be committed or hashed. */
#include "state.h"

#include "apply.h"
#include "base/bug.h"
#include "base/logger.h"
#include "base/memory.h"
#include "due.h"
#include "groups.h"
#include "memberships.h"
#include "publish.h"
#include "scans.h"
#include "security_private.h"
#include "sessions.h"
#include "subscriptions.h"
#include "window.h"
#include "work.h"

#include <assert.h>
#include <stdlib.h>

#define ROWS_AT_ONCE 100      /* of work that clients wait for, without waiting for a CONTINUE */
#define LOOKS_MIN    100      /* in a step: so that each gets somewhere, whatever its stage looks up first */
#define LOOKS_MAX    (1 << 20) /* in a step of state_apply(), which does all of them */

static const struct command_settings default_settings = {
    .queue_messages_max = 100000,
    .queue_bytes_max = UINT64_C(256) << 20,
    .subscriptions_max = 10000,
    .sessions_max = 10000000,
    .retained_messages_max = 10000000,
    .retained_bytes_max = UINT64_C(4) << 30,
    .store_bytes_max = UINT64_C(16) << 30,
    .session_expiry_max_s = UINT32_MAX,
    .in_flight_max = 100,
};

/* ---- lists ---- */

void dirty_list_add(struct dirty_list *list, void *thing, uint32_t *slot)
{
    if (*slot != NOT_LISTED)
        return;
    if (list->count == list->capacity) {
        list->capacity = list->capacity == 0 ? 64 : list->capacity * 2;
        list->things = memory_resize(list->things, list->capacity * sizeof *list->things);
    }
    *slot = list->count;
    list->things[list->count++] = thing;
}

void *list_room(void *list, uint32_t count)
{
    bool full = (count & (count - 1)) == 0; /* 0, or a power of two */
    return full ? memory_resize(list, (count > 0 ? 2 * (size_t)count : 1) * sizeof(void *)) : list;
}

void dirty_list_remove(struct dirty_list *list, uint32_t *slot)
{
    if (*slot == NOT_LISTED)
        return;
    list->things[*slot] = NULL;
    *slot = NOT_LISTED;
}

void u32_list_add(struct u32_list *list, uint32_t item)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity == 0 ? 8 : list->capacity * 2;
        list->items = memory_resize(list->items, list->capacity * sizeof *list->items);
    }
    list->items[list->count++] = item;
}

void number_list_add(struct number_list *list, uint64_t item)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity == 0 ? 8 : list->capacity * 2;
        list->items = memory_resize(list->items, list->capacity * sizeof *list->items);
    }
    list->items[list->count++] = item;
}

/* ---- for apply_*.c ---- */

struct effect *outcome_add(struct state *state, enum effect_type type, enum outcome outcome)
{
    struct effect *effect = effects_add(state->effects, type);
    effect->command = state->command_number;
    effect->outcome = outcome;
    return effect;
}

struct session *state_owner(struct state *state, const struct command_owner *owner)
{
    struct session *session = session_by_id(state, owner->session_id);
    if (session != NULL && !session->ended && owner->client_epoch != 0 &&
        (session->owner.client_epoch == owner->client_epoch || bug(BUG_V07_NO_CLIENT_EPOCH)))
        return session;
    state->counts.fenced++;
    return NULL;
}

/* ---- rows of nodes and of the whole ---- */

static struct bytes meta_state_key(void)
{
    return bytes_text("state");
}

static struct bytes meta_settings_key(void)
{
    return bytes_text("settings");
}

/* Counts that no load recomputes; one table for writing and reading them. */
static uint64_t *kept_count(struct state_counts *counts, uint32_t number)
{
    uint64_t *const kept[] = {
        &counts->queued,         &counts->queued_bytes,    &counts->in_flight,
        &counts->dropped_queue_full, &counts->dropped_expired, &counts->dropped_session_ended,
        &counts->refused_quota,  &counts->fenced,          &counts->undecodable,
        &counts->wills_pending,  &counts->commands,        &counts->wills_refused,
    };
    return number < sizeof kept / sizeof kept[0] ? kept[number] : NULL;
}

static void write_meta(struct state *state)
{
    struct buffer *row = &state->row;
    uint64_t *count;
    buffer_clear(row);
    buffer_put_varint(row, state->applied + bug(BUG_V20_APPLIED_INDEX_APART));
    buffer_put_varint(row, state->applied_term);
    buffer_put_varint(row, state->clock_ms);
    buffer_put_varint(row, state->next_message_id);
    buffer_put_varint(row, state->next_filter_id);
    for (uint32_t i = 0; (count = kept_count(&state->counts, i)) != NULL; i++)
        buffer_put_varint(row, *count);
    store_put(state->store, TABLE_META, meta_state_key(), buffer_bytes(row));
}

static bool read_meta(struct state *state)
{
    struct bytes value;
    uint64_t *count;
    if (!store_get(state->store, TABLE_META, meta_state_key(), &value))
        return true; /* a new store */
    struct reader in = reader_of(value);
    state->applied = reader_varint(&in);
    state->applied_term = reader_varint(&in);
    state->clock_ms = reader_varint(&in);
    state->next_message_id = reader_varint(&in);
    state->next_filter_id = reader_varint(&in);
    for (uint32_t i = 0; (count = kept_count(&state->counts, i)) != NULL; i++)
        *count = reader_varint(&in);
    return reader_done(&in);
}

/* Settings are kept in the form that their command has in the log. */
static void write_settings(struct state *state)
{
    struct command command = {.type = COMMAND_SETTINGS, .settings = state->settings};
    buffer_clear(&state->row);
    command_encode(&command, &state->row);
    store_put(state->store, TABLE_META, meta_settings_key(), buffer_bytes(&state->row));
    state->settings_dirty = false;
}

static bool read_settings(struct state *state)
{
    struct bytes value;
    struct command command;
    state->settings = default_settings;
    if (!store_get(state->store, TABLE_META, meta_settings_key(), &value))
        return true;
    struct reader in = reader_of(value);
    if (command_decode(&in, &command) != STATUS_OK || command.type != COMMAND_SETTINGS)
        return false;
    state->settings = command.settings;
    return true;
}

static void write_node(struct state *state, uint32_t node)
{
    struct node_record *record = &state->nodes[node];
    struct key key = key_of(node);
    struct buffer *row = &state->row;
    buffer_clear(row);
    buffer_put_u8(row, record->up);
    buffer_put_varint(row, record->epoch);
    buffer_put_varint(row, record->last_batch);
    buffer_put(row, record->boot_nonce, sizeof record->boot_nonce);
    buffer_put_block(row, buffer_bytes(&record->client_address));
    buffer_put_block(row, buffer_bytes(&record->version));
    store_put(state->store, TABLE_NODES, key_bytes(&key), buffer_bytes(row));
    record->dirty = false;
}

static bool read_nodes(struct state *state)
{
    struct key zero = key_of(0);
    struct row row;
    for (bool found = store_first_at(state->store, TABLE_NODES, key_bytes(&zero), &row); found;
         found = store_first_after(state->store, TABLE_NODES, row.key, &row)) {
        if (row.key.size != sizeof(uint64_t) || key_number(row.key, 0) >= NODES_MAX)
            return false;
        uint32_t node = (uint32_t)key_number(row.key, 0);
        struct node_record *record = &state->nodes[node];
        struct reader in = reader_of(row.value);
        record->known = true;
        record->up = reader_u8(&in) != 0;
        record->epoch = reader_varint(&in);
        record->last_batch = reader_varint(&in);
        struct bytes nonce = reader_bytes(&in, sizeof record->boot_nonce);
        if (!in.failed)
            memcpy(record->boot_nonce, nonce.data, nonce.size);
        buffer_put_bytes(&record->client_address, reader_block(&in));
        buffer_put_bytes(&record->version, reader_block(&in));
        if (!reader_done(&in))
            return false;
        if (node == state->self && record->up)
            state->self_epoch = record->epoch;
    }
    return true;
}

static void write_back(struct state *state)
{
    sessions_write_back(state);
    memberships_write_back(state);
    filters_write_back(state);
    for (uint32_t node = 0; node < NODES_MAX; node++) {
        if (state->nodes[node].dirty)
            write_node(state, node);
    }
    if (state->settings_dirty)
        write_settings(state);
    messages_write_back(&state->messages);
    retained_write_back(&state->retained);
    write_meta(state);
}

/* ---- opening and closing ---- */

/* One row of this table per thing that state_open reads, in this order: later ones refer to earlier ones. */
static const struct {
    const char *table;
    bool (*load)(struct state *state);
} loads[] = {
    {"meta", read_meta},
    {"settings", read_settings},
    {"nodes", read_nodes},
    {"sessions", sessions_load},
    {"filters", filters_load},
    {"subscriptions", subscriptions_load},
    {"groups", groups_load},
    {"cursors", memberships_load},
    {"scans", scans_load},
    {"users", security_load},
};

static const char *load_all(struct state *state)
{
    if (messages_init(&state->messages, state->store) != STATUS_OK)
        return "messages";
    if (retained_init(&state->retained, state->store) != STATUS_OK)
        return "retained";
    for (size_t i = 0; i < sizeof loads / sizeof loads[0]; i++) {
        if (!loads[i].load(state))
            return loads[i].table;
    }
    due_load(state);
    work_load(state);
    return NULL;
}

enum status state_open(struct store *store, uint32_t self, struct state **out)
{
    assert(self > 0 && self < NODES_MAX);
    struct state *state = memory_zeroed(1, sizeof *state);
    session_map_init(&state->sessions, SESSION_BY_ID);
    session_map_init(&state->clients, SESSION_BY_CLIENT_ID);
    filters_init(state);
    state->store = store;
    state->self = self;
    state->next_message_id = state->next_filter_id = 1;
    state->index = index_new();
    state->shared = index_new();
    const char *trouble = load_all(state);
    enum status status = store_status(store);
    if (trouble != NULL && status == STATUS_OK) {
        log_event(LOG_ERROR, "state-corrupt", log_text("table", trouble));
        status = STATUS_CORRUPT;
    }
    if (status != STATUS_OK) {
        state_close(state);
        return status;
    }
    *out = state;
    return STATUS_OK;
}

static void free_things(struct state *state)
{
    struct session *session;
    struct filter *filter;
    uint64_t slot = 0;
    while ((session = session_map_next(&state->sessions, &slot)) != NULL)
        session_free(session);
    session_map_release(&state->clients);
    session_map_release(&state->sessions);
    for (slot = 0; (filter = hash_table_next(&state->filters, &slot)) != NULL;) {
        if (filter->group != NULL)
            group_unlist(state, filter);
        filter_free(filter);
    }
    hash_table_release(&state->groups);
    hash_table_release(&state->filters);
}

void state_close(struct state *state)
{
    if (state == NULL)
        return;
    free_things(state);
    index_free(state->index);
    index_free(state->shared);
    messages_release_memory(&state->messages);
    retained_release_memory(&state->retained);
    security_free(state->security);
    for (uint32_t node = 0; node < NODES_MAX; node++) {
        buffer_release(&state->nodes[node].client_address);
        buffer_release(&state->nodes[node].version);
    }
    buffer_release(&state->row);
    buffer_release(&state->assembled);
    buffer_release(&state->text);
    buffer_release(&state->codes);
    buffer_release(&state->existed);
    buffer_release(&state->publication.text);
    free(state->dirty_sessions.things);
    free(state->behind.things);
    free(state->dirty_filters.things);
    free(state->dirty_memberships.things);
    free(state->ids.items);
    free(state->read_ids.items);
    free(state->read_filters.items);
    free(state->broadcasts.items);
    free(state->matching.items);
    free(state->hits.items);
    free(state->targets.items);
    free(state->choices.items);
    free(state);
}

/* ---- applying ---- */

/* false: it goes on with the next call, at the latest in the next step. */
static bool apply_command(struct state *state, const struct command *command)
{
    switch (command->type) { /* no default: the compiler names the case we forgot */
    case COMMAND_NODE_UP:
        return apply_node_up(state, &command->node_up);
    case COMMAND_NODE_DOWN:
        return apply_node_down(state, &command->node_down);
    case COMMAND_CONTINUE:
        return work_step(state);
    case COMMAND_TICK:
        return apply_tick(state);
    case COMMAND_CHECKPOINT:
        state->checkpoint = true;
        return true;
    case COMMAND_SETTINGS:
        apply_settings(state, &command->settings);
        return true;
    case COMMAND_CONNECT:
        apply_connect(state, &command->connect);
        return true;
    case COMMAND_END:
        apply_end(state, &command->end);
        return true;
    case COMMAND_SUBSCRIBE:
        return apply_subscribe(state, &command->subscribe);
    case COMMAND_UNSUBSCRIBE:
        return apply_unsubscribe(state, &command->unsubscribe);
    case COMMAND_PUBLISH:
        return apply_publish(state, &command->publish);
    case COMMAND_PUBREL:
        apply_pubrel(state, &command->pubrel);
        return true;
    case COMMAND_ACK:
        return apply_ack(state, &command->ack);
    case COMMAND_DECLINE:
        return apply_decline(state, &command->decline);
    case COMMAND_PUBREC:
        apply_pubrec(state, &command->delivery);
        return true;
    case COMMAND_PUBCOMP:
        apply_pubcomp(state, &command->delivery);
        return true;
    case COMMAND_RETAINED_MORE:
        apply_retained_more(state, &command->retained_more);
        return true;
    case COMMAND_USER_ADD:
    case COMMAND_USER_PASSWORD:
    case COMMAND_USER_ENABLE:
    case COMMAND_USER_REMOVE:
    case COMMAND_USER_QUOTA:
        apply_user(state, command->type, &command->user);
        return true;
    case COMMAND_ROLE_ADD:
    case COMMAND_ROLE_REMOVE:
    case COMMAND_ROLE_RULE:
    case COMMAND_ROLE_GRANT:
        apply_role(state, command->type, &command->role);
        return true;
    case COMMAND_BAN:
        apply_ban(state, &command->ban);
        return true;
    }
    return true;
}

/* Takes the next command out of the batch; false: there is none, or it cannot be found. */
static bool next_command(struct state *state)
{
    struct entry *entry = &state->entry;
    if (state->command_number == state->batch.count || entry->commands.rest.size == 0 || entry->commands.failed)
        return false;
    state->position = POSITION(state->index_now, state->command_number);
    state->counts.commands++;
    entry->begun = false;
    entry->number = 0;
    entry->order = 0;
    if (command_decode(&entry->commands, &entry->command) == STATUS_OK) {
        entry->stage = ENTRY_COMMAND;
    } else {
        state->counts.undecodable++;
        state->command_number++; /* if not even its length can be read, what is behind cannot be found */
    }
    return true;
}

static enum batch_verdict judge(const struct state *state, const struct batch_header *batch)
{
    const struct node_record *record = &state->nodes[batch->origin_node];
    if (!record->up || record->epoch != batch->origin_epoch)
        return BATCH_STALE;
    if (batch->number <= record->last_batch)
        return bug(BUG_V06_GAPS_ACCEPTED) ? BATCH_APPLIED : BATCH_SEEN;
    if (bug(BUG_V05_RETRY_AS_NEW) || bug(BUG_V06_GAPS_ACCEPTED))
        return BATCH_APPLIED;
    return batch->number == record->last_batch + 1 ? BATCH_APPLIED : BATCH_GAP;
}

/* The batch that begins a life holds one command, NODE_UP of its origin. */
static enum batch_verdict judge_first(struct state *state, struct bytes commands)
{
    struct reader in = reader_of(commands);
    struct command command;
    const struct node_record *record = &state->nodes[state->batch.origin_node];
    if (state->batch.number != 0 || command_decode(&in, &command) != STATUS_OK || command.type != COMMAND_NODE_UP ||
        command.node_up.node != state->batch.origin_node) {
        state->counts.undecodable++;
        return BATCH_STALE;
    }
    if (record->known &&
        memcmp(record->boot_nonce, command.node_up.boot_nonce, sizeof record->boot_nonce) == 0)
        return BATCH_SEEN;
    state->batch.count = 1;
    return BATCH_APPLIED;
}

static void begin_batch(struct state *state, struct bytes commands)
{
    const struct batch_header *batch = &state->batch;
    enum batch_verdict verdict = BATCH_STALE;
    uint64_t expected = 0;
    if (batch->origin_node == 0 || batch->origin_node >= NODES_MAX) {
        state->counts.undecodable++;
    } else if (batch->origin_epoch == 0) {
        verdict = judge_first(state, commands);
    } else {
        struct node_record *record = &state->nodes[batch->origin_node];
        verdict = judge(state, batch);
        expected = record->last_batch + 1;
        if (verdict == BATCH_APPLIED) {
            record->last_batch = batch->number;
            record->dirty = true;
        }
    }
    struct effect *effect = effects_add(state->effects, EFFECT_BATCH);
    effect->batch.origin_node = batch->origin_node;
    effect->batch.origin_epoch = batch->origin_epoch;
    effect->batch.number = batch->number;
    effect->batch.verdict = verdict;
    effect->batch.expected = verdict == BATCH_GAP ? expected : 0;
    state->entry.commands = reader_of(verdict == BATCH_APPLIED ? commands : bytes_of(NULL, 0));
    state->entry.stage = ENTRY_COMMANDS;
}

/* The hash is of the state as of this entry, so it is taken when all of it has been applied. */
static void add_checkpoint(struct state *state)
{
    struct effect *effect = effects_add(state->effects, EFFECT_CHECKPOINT);
    effect->checkpoint.index = state->applied;
    state_hash(state, effect->checkpoint.hash);
}

void state_apply_begin(struct state *state, uint64_t index, uint64_t term, struct bytes entry)
{
    assert(index == state->applied + 1 && !state_applying(state));
    state->entry = (struct entry){.stage = ENTRY_FIRST, .index = index, .term = term, .commands = reader_of(entry)};
}

bool state_applying(const struct state *state)
{
    return state->entry.stage != ENTRY_NONE;
}

bool state_amid_command(const struct state *state)
{
    return state->entry.stage == ENTRY_COMMAND || state->entry.relinking.session != NULL ||
           state->entry.clearing != NULL || publish_is_open(state);
}

static void begin_entry(struct state *state)
{
    struct bytes entry = state->entry.commands.rest, commands;
    state->index_now = state->entry.index;
    state->command_number = 0;
    state->budget = bug(BUG_V25_DOWN_IN_ONE_GO) ? UINT32_MAX : STEP_ROWS_MAX;
    state->checkpoint = false;
    state->entry.stage = ENTRY_LAST;
    if (entry.size > 0 && batch_decode(entry, &state->batch, &commands) == STATUS_OK) {
        if (state->batch.stamp_ms > state->clock_ms)
            state->clock_ms = state->batch.stamp_ms;
        begin_batch(state, commands);
    } else if (entry.size > 0) {
        state->counts.undecodable++;
    }
}

static void finish_entry(struct state *state)
{
    state->applied = state->entry.index;
    state->applied_term = state->entry.term;
    state->entry.stage = ENTRY_NONE;
    if (state->checkpoint)
        add_checkpoint(state);
}

/* What a command has left to be done before anything else; false: nothing. */
static bool finish_former(struct state *state)
{
    struct entry *entry = &state->entry;
    if (entry->relinking.session != NULL) {
        subscriptions_relink(state);
        return true;
    }
    if (publish_is_open(state)) {
        publish_more(state);
        return true;
    }
    if (entry->clearing == NULL)
        return false;
    if (state->budget == 0 || !session_clear(state, entry->clearing))
        entry->clearing = NULL;
    return true;
}

/* A piece of what a command needs to know that is long to find out, before it changes anything; false: there is more. */
static bool prepare_command(struct state *state, const struct command *command)
{
    if (command->type != COMMAND_CONNECT || command->connect.clean_start)
        return true;
    struct session *session = session_by_client_id(state, command->connect.client_id);
    return session == NULL || window_prepare(state, session);
}

static void apply_step(struct state *state)
{
    struct entry *entry = &state->entry;
    if (finish_former(state))
        return;
    switch (entry->stage) {
    case ENTRY_FIRST:
        begin_entry(state);
        return;
    case ENTRY_COMMANDS:
        if (next_command(state))
            return;
        entry->stage = ENTRY_WORK;
        state->budget = state->budget < ROWS_AT_ONCE ? state->budget : ROWS_AT_ONCE;
        return;
    case ENTRY_COMMAND:
        if (prepare_command(state, &entry->command) && apply_command(state, &entry->command)) {
            state->command_number++;
            entry->stage = ENTRY_COMMANDS;
        }
        return;
    case ENTRY_WORK:
        if (work_at_once(state))
            entry->stage = ENTRY_LAST;
        return;
    case ENTRY_LAST:
        finish_entry(state);
        return;
    case ENTRY_NONE:
        return;
    }
}

/* Much that is dirty is written back before it is too much for one commit. */
static void write_back_if_much(struct state *state)
{
    if (state->dirty_sessions.count >= DIRTY_MAX)
        sessions_write_back(state);
    if (state->dirty_memberships.count >= DIRTY_MAX)
        memberships_write_back(state);
    if (state->dirty_filters.count >= DIRTY_MAX)
        filters_write_back(state);
}

enum status state_apply_more(struct state *state, struct effects *effects, uint64_t looks)
{
    state->effects = effects;
    state->worked_max = state_worked(state) + (looks > LOOKS_MIN ? looks : LOOKS_MIN);
    if (bug(BUG_V25_DOWN_IN_ONE_GO))
        state->worked_max = UINT64_MAX;
    do {
        state_look(state, 1);
        apply_step(state);
        write_back_if_much(state);
    } while (state_applying(state) && !state_spent(state));
    state->effects = NULL;
    return store_status(state->store);
}

enum status state_apply(struct state *state, uint64_t index, uint64_t term, struct bytes entry,
                        struct effects *effects)
{
    enum status status = STATUS_OK;
    state_apply_begin(state, index, term, entry);
    while (status == STATUS_OK && state_applying(state))
        status = state_apply_more(state, effects, LOOKS_MAX);
    return status;
}

uint64_t state_worked(const struct state *state)
{
    return state->looks + ROW_LOOKS * store_operations(state->store) + PAGE_LOOKS * store_pages(state->store);
}

uint64_t state_unwritten(const struct state *state)
{
    return store_pages_unwritten(state->store) + state->dirty_sessions.count + state->dirty_memberships.count +
           state->dirty_filters.count;
}

enum status state_spill(struct state *state)
{
    return store_spill(state->store);
}

enum status state_commit(struct state *state)
{
    if (state_applying(state))
        return STATUS_BUSY; /* half an entry must not be found after a restart */
    write_back(state);
    return store_commit(state->store);
}

void state_hash(struct state *state, uint64_t hash[2])
{
    write_back(state);
    store_hash(state->store, hash);
}

/* ---- facts ---- */

uint64_t state_applied(const struct state *state)
{
    return state->applied;
}

uint64_t state_applied_term(const struct state *state)
{
    return state->applied_term;
}

uint64_t state_clock_ms(const struct state *state)
{
    return state->clock_ms;
}

uint64_t state_due_ms(const struct state *state)
{
    return state->due_ms;
}

bool state_work_pending(const struct state *state)
{
    return state->work_count > 0;
}

const struct command_settings *state_settings(const struct state *state)
{
    return &state->settings;
}

uint64_t state_node_epoch(const struct state *state, uint32_t node, bool *up)
{
    bool known = node < NODES_MAX && state->nodes[node].known;
    *up = known && state->nodes[node].up;
    return known && state->nodes[node].up ? state->nodes[node].epoch : 0;
}

struct bytes state_node_address(const struct state *state, uint32_t node)
{
    return node < NODES_MAX ? buffer_bytes(&state->nodes[node].client_address) : bytes_of(NULL, 0);
}

void state_counts(const struct state *state, struct state_counts *counts)
{
    *counts = state->counts;
    counts->messages = state->messages.count;
    counts->retained = state->retained.count;
    counts->retained_bytes = state->retained.payload_bytes;
}
