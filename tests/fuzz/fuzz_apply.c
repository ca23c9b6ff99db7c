/* fuzz_apply.c — the state machine on whatever may be committed: two states apply the same entries, one of them in small
 * steps, and built anew from its rows at any time; both must say and hold the same.
 *
 *   input --draw--> command --encode--> (spoil a byte) --batch header--> (spoil a byte) --> entry --> state 1, state 2
 *
 * Entries may also be any bytes. What must hold after each: equal hashes, equal effects, equal needs (TICK, CONTINUE); and
 * every few entries state_check(). Whatever was committed, the state goes on. */
#include "base/topic.h"
#include "input.h"
#include "security.h"
#include "state_check.h"
#include "store.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STATES 2
#define NODES 3
#define CLIENTS 24
#define ENTRIES_MAX 400
#define CHECK_EVERY 8

struct machine {
    struct store *stores[STATES];
    struct state *states[STATES];
    struct effects *effects[STATES];
    struct effects *arena;        /* for what is read between entries */
    uint64_t index;
    uint64_t clock_ms;
    uint64_t numbers[NODES + 1];  /* of the last batch of each node's life */
    uint8_t nonce;
    uint32_t batch_count;
    struct buffer batch;
    struct buffer lists;          /* what the command under construction borrows */
};

/* ---- two states ---- */

static void check_states(struct machine *m)
{
    for (int i = 0; i < STATES; i++) {
        const char *broken = state_check(m->states[i]);
        if (broken != NULL) {
            fprintf(stderr, "state %d at entry %llu: %s\n", i + 1, (unsigned long long)m->index, broken);
            abort();
        }
    }
}

static void check_codes(const struct effect *a, const struct effect *b)
{
    assert(bytes_equal(bytes_of(a->codes.codes, a->codes.count), bytes_of(b->codes.codes, b->codes.count)));
}

/* All targets of one message, which may be told in parts. Their order may differ: it depends on when a client came, which
 * rows do not say. */
struct audience {
    uint64_t message_id, sum;
    uint32_t count;
};

static struct audience audience_at(const struct effects *effects, uint32_t *number)
{
    struct audience audience = {.message_id = effects_at(effects, *number)->message.message_id};
    for (; *number < effects_count(effects); ++*number) {
        const struct effect *effect = effects_at(effects, *number);
        if (effect->type != EFFECT_MESSAGE || effect->message.message_id != audience.message_id)
            break;
        for (uint32_t i = 0; i < effect->message.count; i++) {
            const struct target *target = &effect->message.targets[i];
            assert(target->qos <= 2 && target->connection != 0);
            audience.sum += target->session_id * 31 ^ target->order << 32 ^ target->qos;
        }
        audience.count += effect->message.count;
    }
    return audience;
}

static void check_effect(const struct effect *a, const struct effect *b)
{
    assert(a->type == b->type && a->command == b->command && a->outcome == b->outcome);
    assert(a->session_id == b->session_id && a->connection == b->connection);
    if (a->type == EFFECT_SUBSCRIBED || a->type == EFFECT_UNSUBSCRIBED)
        check_codes(a, b);
    else if (a->type == EFFECT_BATCH)
        assert(a->batch.verdict == b->batch.verdict && a->batch.expected == b->batch.expected);
    else if (a->type == EFFECT_CHECKPOINT)
        assert(memcmp(a->checkpoint.hash, b->checkpoint.hash, sizeof a->checkpoint.hash) == 0);
}

static void check_effects(struct machine *m)
{
    const struct effects *one = m->effects[0], *other = m->effects[1];
    uint32_t i = 0, j = 0;
    while (i < effects_count(one) && j < effects_count(other)) {
        const struct effect *a = effects_at(one, i), *b = effects_at(other, j);
        check_effect(a, b);
        if (a->type == EFFECT_MESSAGE) {
            struct audience x = audience_at(one, &i), y = audience_at(other, &j);
            assert(x.message_id == y.message_id && x.count == y.count && x.sum == y.sum);
        } else {
            i++;
            j++;
        }
    }
    assert(i == effects_count(one) && j == effects_count(other));
}

/* A batch counts once it was applied. */
static void note_batch(struct machine *m)
{
    const struct effect *effect = effects_count(m->effects[0]) > 0 ? effects_at(m->effects[0], 0) : NULL;
    if (effect != NULL && effect->type == EFFECT_BATCH && effect->batch.verdict == BATCH_APPLIED &&
        effect->batch.origin_node <= NODES)
        m->numbers[effect->batch.origin_node] = effect->batch.number;
}

/* As one, or in steps of every size. */
static void apply_to(struct machine *m, int which, struct bytes entry)
{
    static const uint64_t looks[] = {1, 1000, 10, 100, UINT32_MAX, 1};
    enum status status = STATUS_OK;
    effects_clear(m->effects[which]);
    if (which == 0) {
        status = state_apply(m->states[which], m->index, 1, entry, m->effects[which]);
    } else {
        state_apply_begin(m->states[which], m->index, 1, entry);
        for (unsigned step = (unsigned)m->index; status == STATUS_OK && state_applying(m->states[which]); step++)
            status = state_apply_more(m->states[which], m->effects[which], looks[step % 6]);
    }
    if (status != STATUS_OK)
        abort();
}

static void apply_entry(struct machine *m, struct bytes entry)
{
    uint64_t hashes[STATES][2];
    m->index++;
    for (int i = 0; i < STATES; i++) {
        apply_to(m, i, entry);
        state_hash(m->states[i], hashes[i]);
    }
    check_effects(m);
    note_batch(m);
    assert(memcmp(hashes[0], hashes[1], sizeof hashes[0]) == 0);
    assert(state_due_ms(m->states[0]) == state_due_ms(m->states[1]));
    assert(state_work_pending(m->states[0]) == state_work_pending(m->states[1]));
    if (m->index % CHECK_EVERY == 0)
        check_states(m);
}

static void rebuild(struct machine *m)
{
    if (state_commit(m->states[1]) != STATUS_OK)
        abort();
    state_close(m->states[1]);
    if (state_open(m->stores[1], 1, &m->states[1]) != STATUS_OK)
        abort();
}

/* ---- batches ---- */

static void batch_open(struct machine *m, uint32_t node)
{
    bool up;
    buffer_clear(&m->batch);
    m->batch_count = 0;
    batch_begin(&m->batch, node, state_node_epoch(m->states[0], node, &up), m->numbers[node] + 1);
}

static void batch_add(struct machine *m, const struct command *command)
{
    command_encode(command, &m->batch);
    m->batch_count++;
}

static void batch_apply(struct machine *m)
{
    batch_finish(&m->batch, 0, m->batch_count);
    batch_set_stamp(m->batch.data, m->clock_ms);
    apply_entry(m, buffer_bytes(&m->batch));
}

static void node_up(struct machine *m, uint32_t node)
{
    struct command command = {.type = COMMAND_NODE_UP, .node_up = {.node = node, .boot_nonce = {++m->nonce}}};
    buffer_clear(&m->batch);
    batch_begin(&m->batch, node, 0, 0);
    command_encode(&command, &m->batch);
    batch_finish(&m->batch, 0, 1);
    batch_set_stamp(m->batch.data, m->clock_ms);
    apply_entry(m, buffer_bytes(&m->batch));
}

/* ---- drawing commands ---- */

static struct bytes client_id(uint32_t number)
{
    static const char names[] = "abcdefghijklmnopqrstuvwxyz";
    return bytes_of(names + number, 1);
}

/* Also what no client may say: wildcards in odd places, and U+0000, which stands for '/' in keys. */
static struct bytes draw_any_text(struct input *in)
{
    static const char *const invalid[] = {"a/#/b", "#/a", "a+", "a/+/#/", "$share/g", "$share//a", "\xff", "+/#/+"};
    uint32_t number = input_below(in, 12);
    if (number < sizeof invalid / sizeof invalid[0])
        return bytes_text(invalid[number]);
    if (number == 8)
        return bytes_of("a\0b", 3);
    if (number == 9)
        return bytes_of("\0", 1);
    struct bytes any = input_bytes(in, 20);
    return any.size > 0 ? any : bytes_text("any");
}

static struct bytes draw_topic(struct input *in)
{
    static char deep[600];
    static const char *const topics[] = {"a",     "a/b", "a/b/c", "b",   "b/c", "a/c", "all", "all/x",
                                         "$SYS/x", "/",   "a//",   "r/1", "r/2", "r/3", deep};
    uint32_t number = input_below(in, sizeof topics / sizeof topics[0] + 1);
    memset(deep, 'd', sizeof deep - 1);
    return number < sizeof topics / sizeof topics[0] ? bytes_text(topics[number]) : draw_any_text(in);
}

static struct bytes draw_filter(struct input *in)
{
    static const char *const filters[] = {"all/#", "a",          "a/#",           "a/+",           "+/b",   "#",
                                          "r/#",   "b/c",        "+",             "a/b/c",         "$SYS/#", "all/#",
                                          "$share/g/a", "$share/h/all/#", "$share/g/#", "$share/h/a", "$share/g/+/b"};
    uint32_t number = input_below(in, sizeof filters / sizeof filters[0] + 1);
    return number < sizeof filters / sizeof filters[0] ? bytes_text(filters[number]) : draw_topic(in);
}

static struct command_owner draw_owner(struct machine *m, struct input *in)
{
    struct session_facts facts;
    uint32_t client = input_below(in, CLIENTS + 1);
    if (client < CLIENTS && state_session_by_client_id(m->states[0], client_id(client), &facts))
        return (struct command_owner){facts.session_id, facts.client_epoch};
    return (struct command_owner){input_u16(in), input_u16(in)};
}

static struct message draw_message(struct input *in)
{
    uint8_t flags = input_u8(in);
    return (struct message){.topic = draw_topic(in),
                            .payload = (flags & 0x30) == 0x30 ? bytes_text("") : bytes_text("payload"),
                            .properties = (flags & 0xc0) == 0xc0 ? input_bytes(in, 10) : bytes_text(""),
                            .qos = flags % 4 % 3,
                            .retain = (flags & 4) != 0};
}

static uint32_t draw_seconds(struct input *in)
{
    static const uint32_t seconds[] = {UINT32_MAX, 0, 1, 5, 60, UINT32_MAX - 1};
    return seconds[input_below(in, sizeof seconds / sizeof seconds[0])];
}

/* Of a user or a role. */
static struct bytes draw_name(struct input *in)
{
    static const char *const names[] = {"u", "v", "r", "s", SECURITY_EVERYONE, SECURITY_ANONYMOUS, "", "a/+"};
    uint32_t number = input_below(in, 9);
    return number < 8 ? bytes_text(names[number]) : draw_any_text(in);
}

static void draw_connect(struct input *in, struct command *command)
{
    uint8_t flags = input_u8(in);
    command->connect = (struct command_connect){.connection = 1 + input_u8(in),
                                                .client_id = client_id(input_below(in, CLIENTS)),
                                                .protocol_level = 5,
                                                .user_name = flags < 128 ? bytes_text("") : draw_name(in),
                                                .will_allowed = flags & 8,
                                                .clean_start = (flags & 7) == 7,
                                                .has_will = (flags & 0x30) == 0x30,
                                                .receive_maximum = (uint16_t)(1 + input_below(in, 4)),
                                                .session_expiry_s = draw_seconds(in)};
    if (command->connect.has_will)
        command->connect.will = (struct command_will){draw_message(in), draw_seconds(in) % 70, draw_seconds(in)};
}

static void draw_filters(struct machine *m, struct input *in, bool options, struct bytes *filters, uint32_t *count)
{
    *count = 1 + input_below(in, 3);
    buffer_clear(&m->lists);
    for (uint32_t i = 0; i < *count; i++) {
        uint8_t bits = options ? input_u8(in) : 0;
        uint8_t octet = (uint8_t)(bits % 3 | (bits & 0x0c) | (bits >> 4) % 3 << 4);
        command_put_filter(&m->lists, draw_filter(in), octet);
    }
    *filters = buffer_bytes(&m->lists);
}

/* One of the deliveries that the session waits for; false: none. */
static bool draw_delivery(struct machine *m, struct input *in, uint64_t session_id, struct queued *queued)
{
    uint32_t skip = input_below(in, 4);
    uint64_t after = 0;
    bool found = false;
    effects_clear(m->arena);
    for (struct queued next; skip-- > 0 || !found; found = true) {
        if (state_next_queued(m->states[0], session_id, after, m->arena, &next) != STATUS_OK)
            break;
        *queued = next;
        after = next.target.order;
    }
    return found;
}

static void draw_ack(struct machine *m, struct input *in, struct command *command)
{
    struct command_owner owner = draw_owner(m, in);
    struct queued queued;
    uint64_t previous = 0, except, order = input_u8(in);
    const struct target *target = &queued.target;
    command->ack.owner = owner;
    buffer_clear(&m->lists);
    if (!draw_delivery(m, in, owner.session_id, &queued)) {
        command_ack_put_own(&m->lists, &previous, 1 + order);
        command->ack.own_count = 1;
        command->ack.own = buffer_bytes(&m->lists);
    } else if (target->broadcast_count > 0 && (!target->own || order % 2 == 0)) {
        except = target->order > order % 8 ? target->order - order % 8 : target->order;
        command_ack_put_broadcast(&m->lists, target->broadcast_filters[order % target->broadcast_count],
                                  target->order + (order > 200 ? order : 0), order % 3 == 0);
        if (order % 3 == 0)
            command_ack_put_own(&m->lists, &previous, except);
        command->ack.broadcast_count = 1;
        command->ack.broadcast = buffer_bytes(&m->lists);
    } else {
        command_ack_put_own(&m->lists, &previous, target->order);
        if (order % 4 == 0)
            command_ack_put_own(&m->lists, &previous, target->order + 1 + order);
        command->ack.own_count = 1 + (order % 4 == 0);
        command->ack.own = buffer_bytes(&m->lists);
        if (order % 8 >= 6) {
            command->type = COMMAND_DECLINE;
            command->decline = (struct command_decline){owner, 1, buffer_bytes(&m->lists)};
        }
    }
}

static void draw_progress(struct machine *m, struct input *in, struct command *command)
{
    struct queued queued;
    command->delivery.owner = draw_owner(m, in);
    command->delivery.order = input_u8(in);
    if (draw_delivery(m, in, command->delivery.owner.session_id, &queued))
        command->delivery.order = queued.target.order;
}

static void draw_settings(struct input *in, struct command *command)
{
    command->settings = (struct command_settings){.queue_messages_max = 1 + input_u8(in),
                                                  .queue_bytes_max = input_u16(in),
                                                  .subscriptions_max = input_u8(in),
                                                  .sessions_max = input_u8(in),
                                                  .retained_messages_max = input_u8(in),
                                                  .retained_bytes_max = input_u16(in),
                                                  .store_bytes_max = UINT64_MAX - input_u16(in),
                                                  .session_expiry_max_s = draw_seconds(in),
                                                  .in_flight_max = input_u8(in)};
}

static void draw_user(struct input *in, struct command *command)
{
    uint8_t flags = input_u8(in);
    command->user = (struct command_user){.actor = bytes_text("op"), .name = draw_name(in), .enabled = flags & 1};
    if (command->type == COMMAND_USER_ADD || command->type == COMMAND_USER_PASSWORD)
        command->user.credential = flags & 2 ? input_bytes(in, 60) : bytes_text("$7$x");
    if (command->type == COMMAND_USER_QUOTA)
        command->user.quota = (struct quota){.subscriptions = input_below(in, 4), .queued_bytes = input_u8(in)};
}

static void draw_role(struct input *in, struct command *command)
{
    uint8_t flags = input_u8(in);
    command->role = (struct command_role){.actor = bytes_text("op"), .name = draw_name(in)};
    if (command->type == COMMAND_ROLE_GRANT) {
        command->role.user = draw_name(in);
        command->role.granted = (flags & 3) != 3;
    } else if (command->type == COMMAND_ROLE_RULE) {
        command->role.change = flags % 4 % 3;
        command->role.rights = 1 + (flags >> 2) % RIGHTS_ALL;
        command->role.priority = (int8_t)input_u8(in);
        command->role.filter = (flags & 0x80) != 0 ? bytes_text("a/%u/%c") : draw_filter(in);
    }
}

static void draw_ban(struct input *in, struct command *command)
{
    uint8_t flags = input_u8(in);
    command->ban = (struct command_ban){.actor = bytes_text("op"), .kind = flags % 3, .lifted = (flags & 0x30) == 0x30,
                                        .seconds = draw_seconds(in), .reason = bytes_text("why")};
    command->ban.subject = flags % 3 == BAN_CLIENT_ID ? client_id(input_below(in, CLIENTS)) : draw_name(in);
}

/* Types in the proportion in which they are worth drawing. */
static enum command_type draw_type(struct input *in)
{
    static const uint8_t types[] = {
        COMMAND_CONTINUE,  COMMAND_TICK,     COMMAND_CHECKPOINT,    COMMAND_SETTINGS,    COMMAND_NODE_DOWN,
        COMMAND_NODE_UP,   COMMAND_CONNECT,  COMMAND_CONNECT,       COMMAND_CONNECT,     COMMAND_END,
        COMMAND_SUBSCRIBE, COMMAND_SUBSCRIBE, COMMAND_SUBSCRIBE,    COMMAND_UNSUBSCRIBE, COMMAND_PUBLISH,
        COMMAND_PUBLISH,   COMMAND_PUBLISH,  COMMAND_PUBLISH,       COMMAND_PUBREL,      COMMAND_ACK,
        COMMAND_ACK,       COMMAND_ACK,      COMMAND_PUBREC,        COMMAND_PUBREC,      COMMAND_PUBCOMP,
        COMMAND_PUBCOMP,   COMMAND_RETAINED_MORE, COMMAND_USER_ADD, COMMAND_USER_PASSWORD, COMMAND_USER_ENABLE,
        COMMAND_USER_REMOVE, COMMAND_USER_QUOTA, COMMAND_ROLE_ADD,  COMMAND_ROLE_REMOVE,   COMMAND_ROLE_RULE,
        COMMAND_ROLE_RULE, COMMAND_ROLE_GRANT, COMMAND_BAN,
    };
    return types[input_below(in, sizeof types)];
}

static void draw_command(struct machine *m, struct input *in, struct command *command)
{
    bool up;
    memset(command, 0, sizeof *command);
    command->type = draw_type(in);
    switch (command->type) { /* no default: the compiler names the case we forgot */
    case COMMAND_NODE_UP:
        command->node_up.node = input_below(in, NODES + 1);
        return;
    case COMMAND_NODE_DOWN:
        command->node_down.node = 1 + input_below(in, NODES);
        command->node_down.node_epoch = state_node_epoch(m->states[0], command->node_down.node, &up);
        return;
    case COMMAND_CONTINUE:
    case COMMAND_CHECKPOINT:
        return;
    case COMMAND_TICK:
        m->clock_ms += (uint64_t)input_u8(in) * 100;
        return;
    case COMMAND_SETTINGS:
        draw_settings(in, command);
        return;
    case COMMAND_CONNECT:
        draw_connect(in, command);
        return;
    case COMMAND_END:
        command->end = (struct command_end){draw_owner(m, in), input_u8(in) & 1, false, 0};
        command->end.has_session_expiry = input_rarely(in, 3);
        command->end.session_expiry_s = draw_seconds(in);
        return;
    case COMMAND_SUBSCRIBE:
        command->subscribe.owner = draw_owner(m, in);
        command->subscribe.subscription_id = input_below(in, 4);
        draw_filters(m, in, true, &command->subscribe.filters, &command->subscribe.count);
        return;
    case COMMAND_UNSUBSCRIBE:
        command->unsubscribe.owner = draw_owner(m, in);
        draw_filters(m, in, false, &command->unsubscribe.filters, &command->unsubscribe.count);
        return;
    case COMMAND_PUBLISH:
        command->publish = (struct command_publish){draw_owner(m, in), (uint16_t)input_below(in, 5),
                                                    input_rarely(in, 6), draw_seconds(in), draw_message(in)};
        return;
    case COMMAND_PUBREL:
        command->pubrel = (struct command_pubrel){draw_owner(m, in), (uint16_t)input_below(in, 5)};
        return;
    case COMMAND_ACK:
    case COMMAND_DECLINE:
        draw_ack(m, in, command);
        return;
    case COMMAND_PUBREC:
    case COMMAND_PUBCOMP:
        draw_progress(m, in, command);
        return;
    case COMMAND_RETAINED_MORE:
        command->retained_more.owner = draw_owner(m, in);
        if (!state_retained_scan(m->states[0], command->retained_more.owner.session_id,
                                 &command->retained_more.subscribe_position))
            command->retained_more.subscribe_position = input_u16(in);
        command->retained_more.count = (uint16_t)input_below(in, RETAINED_MORE_MAX + 1);
        return;
    case COMMAND_USER_ADD:
    case COMMAND_USER_PASSWORD:
    case COMMAND_USER_ENABLE:
    case COMMAND_USER_REMOVE:
    case COMMAND_USER_QUOTA:
        draw_user(in, command);
        return;
    case COMMAND_ROLE_ADD:
    case COMMAND_ROLE_REMOVE:
    case COMMAND_ROLE_RULE:
    case COMMAND_ROLE_GRANT:
        draw_role(in, command);
        return;
    case COMMAND_BAN:
        draw_ban(in, command);
        return;
    }
}

/* ---- steps ---- */

static void some_commands(struct machine *m, struct input *in)
{
    uint32_t count = 1 + input_below(in, 4);
    batch_open(m, 1 + input_below(in, NODES));
    while (count-- > 0) {
        struct command command;
        draw_command(m, in, &command);
        batch_add(m, &command);
    }
}

/* So many subscribers of one filter that their messages wait in one shared queue. */
static void many_subscribers(struct machine *m, struct input *in)
{
    struct command command;
    for (uint32_t client = 0; client < CLIENTS / 2; client++) {
        batch_open(m, 1);
        command = (struct command){
            .type = COMMAND_CONNECT,
            .connect = {.connection = 1 + client, .client_id = client_id(client), .protocol_level = 4,
                        .receive_maximum = 10, .session_expiry_s = UINT32_MAX}};
        batch_add(m, &command);
        batch_apply(m);
    }
    struct bytes filter = draw_filter(in);
    uint8_t qos = input_u8(in) % 3;
    for (uint32_t client = 0; client < CLIENTS / 2; client++) {
        struct session_facts facts;
        if (!state_session_by_client_id(m->states[0], client_id(client), &facts))
            continue;
        buffer_clear(&m->lists);
        command_put_filter(&m->lists, filter, qos);
        command = (struct command){
            .type = COMMAND_SUBSCRIBE,
            .subscribe = {{facts.session_id, facts.client_epoch}, 0, 1, buffer_bytes(&m->lists)}};
        batch_open(m, 1);
        batch_add(m, &command);
        batch_apply(m);
    }
}

static void read_something(struct machine *m, struct input *in)
{
    struct message message = draw_message(in);
    struct match match;
    uint64_t nodes[STATES];
    uint32_t counts[STATES] = {0}, looks = 1 + input_u8(in);
    if (topic_name_check(message.topic) != STATUS_OK)
        return;
    for (int i = 0; i < STATES; i++) {
        bool more;
        effects_clear(m->arena);
        state_match_begin(m->states[i], &message, 0);
        do {
            more = state_match_more(m->states[i], m->arena, i == 0 ? UINT32_MAX : looks, &match);
            counts[i] += match.count;
        } while (more);
        nodes[i] = match.nodes;
    }
    assert(counts[0] == counts[1] && nodes[0] == nodes[1]);
}

static void step(struct machine *m, struct input *in)
{
    uint32_t kind = input_below(in, 24);
    if (kind < 14) {
        some_commands(m, in);
        batch_apply(m);
    } else if (kind < 16) {
        some_commands(m, in); /* one byte of it differs, anywhere, count and length included */
        batch_finish(&m->batch, 0, m->batch_count);
        batch_set_stamp(m->batch.data, m->clock_ms);
        m->batch.data[input_u16(in) % m->batch.size] ^= input_u8(in);
        apply_entry(m, buffer_bytes(&m->batch));
    } else if (kind == 16) {
        apply_entry(m, input_bytes(in, 255));
    } else if (kind == 17) {
        batch_open(m, 1 + input_below(in, NODES)); /* any bytes as commands */
        buffer_put_bytes(&m->batch, input_bytes(in, 255));
        m->batch_count = 1 + input_u8(in);
        batch_apply(m);
    } else if (kind == 18) {
        node_up(m, 1 + input_below(in, NODES));
    } else if (kind < 21) {
        rebuild(m);
    } else if (kind == 21) {
        read_something(m, in);
    } else if (kind == 22) {
        many_subscribers(m, in);
    } else if (m->batch.size > 0) {
        apply_entry(m, buffer_bytes(&m->batch)); /* sent twice */
    }
}

static struct machine *machine_new(void)
{
    static struct machine machine;
    struct machine *m = &machine;
    struct store_options memory = {.path = NULL};
    memset(m, 0, sizeof *m);
    m->clock_ms = 1000;
    m->arena = effects_new();
    for (int i = 0; i < STATES; i++) {
        if (store_open(&memory, &m->stores[i]) != STATUS_OK || state_open(m->stores[i], 1, &m->states[i]) != STATUS_OK)
            abort();
        m->effects[i] = effects_new();
    }
    node_up(m, 1);
    node_up(m, 2);
    return m;
}

static void machine_free(struct machine *m)
{
    for (int i = 0; i < STATES; i++) {
        state_close(m->states[i]);
        store_close(m->stores[i]);
        effects_free(m->effects[i]);
    }
    effects_free(m->arena);
    buffer_release(&m->batch);
    buffer_release(&m->lists);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct machine *m = machine_new();
    while (!input_done(&in) && m->index < ENTRIES_MAX)
        step(m, &in);
    rebuild(m);
    apply_entry(m, bytes_of(NULL, 0));
    check_states(m);
    machine_free(m);
    return 0;
}
