#include "state_world.h"

#include "base/memory.h"
#include "state_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- entries ---- */

static void reopen(struct world *w, uint32_t replica)
{
    assert_int_equal(state_commit(w->states[replica]), STATUS_OK);
    state_close(w->states[replica]);
    assert_int_equal(state_open(w->stores[replica], replica + 1, &w->states[replica]), STATUS_OK);
}

/* One replica applies all at once, the other in the shortest steps: what they make of it may not depend on that. */
static enum status apply(struct world *w, uint32_t replica, struct bytes entry)
{
    enum status status = STATUS_OK;
    if (replica == 0)
        return state_apply(w->states[replica], w->index, 1, entry, w->effects[replica]);
    state_apply_begin(w->states[replica], w->index, 1, entry);
    while (status == STATUS_OK && state_applying(w->states[replica]))
        status = state_apply_more(w->states[replica], w->effects[replica], 0);
    return status;
}

void world_apply_entry(struct world *w, struct bytes entry)
{
    uint64_t hashes[WORLD_REPLICAS][2];
    w->index++;
    for (uint32_t i = 0; i < WORLD_REPLICAS; i++) {
        effects_clear(w->effects[i]);
        assert_int_equal(apply(w, i, entry), STATUS_OK);
        assert_int_equal(state_applied(w->states[i]), w->index);
        if (i == 1 && w->reopen)
            reopen(w, i);
        state_hash(w->states[i], hashes[i]);
        const char *broken = state_check(w->states[i]);
        if (broken != NULL)
            fail_msg("replica %u at entry %llu: %s", i + 1, (unsigned long long)w->index, broken);
    }
    assert_memory_equal(hashes[0], hashes[1], sizeof hashes[0]);
    assert_int_equal(state_due_ms(w->states[0]), state_due_ms(w->states[1]));
    assert_int_equal(state_work_pending(w->states[0]), state_work_pending(w->states[1]));
}

static void match_all(struct world *w, uint32_t replica, struct match *match)
{
    assert_false(state_match_more(w->states[replica], w->effects[replica], UINT32_MAX, match));
}

void world_match(struct world *w, uint32_t replica, const struct message *message, uint64_t reachable,
                 struct match *match)
{
    state_match_begin(w->states[replica], message, reachable);
    match_all(w, replica, match);
}

void world_match_copy(struct world *w, uint32_t replica, const struct message *message, const uint64_t *groups,
                      uint32_t count, struct match *match)
{
    state_match_copy_begin(w->states[replica], message, groups, count);
    match_all(w, replica, match);
}

void world_begin(struct world *w, uint32_t node)
{
    buffer_clear(&w->batch);
    w->batch_count = 0;
    w->batch_node = node;
    batch_begin(&w->batch, node, w->epochs[node], w->numbers[node] + 1);
}

void world_add(struct world *w, const struct command *command)
{
    command_encode(command, &w->batch);
    w->batch_count++;
}

void world_apply(struct world *w)
{
    batch_finish(&w->batch, 0, w->batch_count);
    batch_set_stamp(w->batch.data, w->clock_ms);
    w->numbers[w->batch_node]++;
    world_apply_entry(w, buffer_bytes(&w->batch));
}

void world_apply_one(struct world *w, uint32_t node, const struct command *command)
{
    world_begin(w, node);
    world_add(w, command);
    world_apply(w);
}

static uint32_t any_node_up(struct world *w)
{
    bool up;
    for (uint32_t node = 1; node < NODES_MAX; node++) {
        if (state_node_epoch(w->states[0], node, &up) != 0)
            return node;
    }
    fail_msg("no node is up");
    return 0;
}

void world_tick(struct world *w, uint64_t later_ms)
{
    struct command tick = {.type = COMMAND_TICK};
    w->clock_ms += later_ms;
    do
        world_apply_one(w, any_node_up(w), &tick);
    while (state_due_ms(w->states[0]) <= w->clock_ms);
}

void world_finish_work(struct world *w)
{
    struct command more = {.type = COMMAND_CONTINUE};
    while (state_work_pending(w->states[0]))
        world_apply_one(w, any_node_up(w), &more);
}

void world_node_up(struct world *w, uint32_t node)
{
    struct command command = {.type = COMMAND_NODE_UP, .node_up = {.node = node}};
    memset(command.node_up.boot_nonce, ++w->nonce, sizeof command.node_up.boot_nonce);
    command.node_up.client_address = bytes_text("host:1883");
    command.node_up.version = bytes_text("1");
    buffer_clear(&w->batch);
    batch_begin(&w->batch, node, 0, 0);
    command_encode(&command, &w->batch);
    batch_finish(&w->batch, 0, 1);
    batch_set_stamp(w->batch.data, w->clock_ms);
    world_apply_entry(w, buffer_bytes(&w->batch));
    bool up;
    w->epochs[node] = state_node_epoch(w->states[0], node, &up);
    w->numbers[node] = 0;
}

void world_node_down(struct world *w, uint32_t node)
{
    struct command command = {.type = COMMAND_NODE_DOWN, .node_down = {node, w->epochs[node]}};
    world_apply_one(w, node == 1 ? 2 : 1, &command);
}

void world_settings(struct world *w, const struct command_settings *settings)
{
    struct command command = {.type = COMMAND_SETTINGS, .settings = *settings};
    world_apply_one(w, 1, &command);
}

int world_setup(void **state)
{
    struct world *w = memory_zeroed(1, sizeof *w);
    w->clock_ms = 1000;
    w->reopen = true;
    for (uint32_t i = 0; i < WORLD_REPLICAS; i++) {
        const char *path = i == 1 ? getenv("STATE_STORE") : NULL;
        struct store_options options = {.path = path, .map_bytes_max = 1 << 30};
        assert_int_equal(store_open(&options, &w->stores[i]), STATUS_OK);
        assert_int_equal(state_open(w->stores[i], i + 1, &w->states[i]), STATUS_OK);
        w->effects[i] = effects_new();
    }
    world_node_up(w, 1);
    world_node_up(w, 2);
    *state = w;
    return 0;
}

int world_teardown(void **state)
{
    struct world *w = *state;
    for (uint32_t i = 0; i < WORLD_REPLICAS; i++) {
        state_close(w->states[i]);
        store_close(w->stores[i]);
        effects_free(w->effects[i]);
    }
    buffer_release(&w->batch);
    free(w);
    return 0;
}

const struct effect *world_effect(const struct world *w, uint32_t node, enum effect_type type, uint32_t n)
{
    const struct effects *effects = w->effects[node - 1];
    for (uint32_t i = 0; i < effects_count(effects); i++) {
        if (effects_at(effects, i)->type == type && n-- == 0)
            return effects_at(effects, i);
    }
    return NULL;
}

uint32_t world_effect_count(const struct world *w, uint32_t node, enum effect_type type)
{
    uint32_t count = 0;
    while (world_effect(w, node, type, count) != NULL)
        count++;
    return count;
}

/* ---- clients ---- */

const char *world_member(unsigned number)
{
    static char names[4][8];
    static unsigned next;
    char *name = names[next++ % 4];
    snprintf(name, sizeof names[0], "m%u", number);
    return name;
}

struct world_client *world_client(struct world *w, const char *name)
{
    for (uint32_t i = 0; i < w->client_count; i++) {
        if (strcmp(w->clients[i].name, name) == 0)
            return &w->clients[i];
    }
    assert_true(w->client_count < WORLD_CLIENTS_MAX);
    struct world_client *client = &w->clients[w->client_count++];
    snprintf(client->name, sizeof client->name, "%s", name);
    return client;
}

enum outcome world_connect(struct world *w, const char *name, struct connect_options options)
{
    struct world_client *client = world_client(w, name);
    client->node = options.node == 0 ? 1 : options.node;
    client->connection = ++w->connections;
    struct command command = {
        .type = COMMAND_CONNECT,
        .connect = {.connection = client->connection,
                    .client_id = bytes_text(name),
                    .user_name = bytes_text(options.user != NULL ? options.user : ""),
                    .will_allowed = options.will_allowed,
                    .credential_epoch = options.credential_epoch,
                    .adopts = options.adopts,
                    .protocol_level = 5,
                    .clean_start = options.clean_start,
                    .has_will = options.will_topic != NULL,
                    .receive_maximum = options.receive_maximum == 0 ? UINT16_MAX : options.receive_maximum,
                    .session_expiry_s = options.expiry_s},
    };
    if (options.will_topic != NULL) {
        command.connect.will = (struct command_will){
            .message = {.topic = bytes_text(options.will_topic), .payload = bytes_text("will"),
                        .qos = options.will_qos, .retain = options.will_retain},
            .delay_s = options.will_delay_s,
            .message_expiry_s = UINT32_MAX,
        };
    }
    world_apply_one(w, client->node, &command);
    const struct effect *effect = world_effect(w, 1, EFFECT_CONNECTED, 0);
    assert_non_null(effect);
    if (effect->outcome != OUTCOME_DONE)
        return effect->outcome;
    client->owner = (struct command_owner){effect->session_id, effect->connected.client_epoch};
    client->session_present = effect->connected.session_present;
    return effect->outcome;
}

void world_end(struct world *w, const char *name, enum end_cause cause)
{
    struct world_client *client = world_client(w, name);
    struct command command = {.type = COMMAND_END, .end = {.owner = client->owner, .cause = cause}};
    world_apply_one(w, client->node, &command);
}

uint8_t world_subscribe_id(struct world *w, const char *name, const char *filter, uint8_t options, uint32_t id)
{
    struct world_client *client = world_client(w, name);
    struct buffer filters = {0};
    command_put_filter(&filters, bytes_text(filter), options);
    struct command command = {
        .type = COMMAND_SUBSCRIBE,
        .subscribe = {.owner = client->owner, .subscription_id = id, .count = 1, .filters = buffer_bytes(&filters)},
    };
    world_apply_one(w, client->node, &command);
    buffer_release(&filters);
    const struct effect *effect = world_effect(w, 1, EFFECT_SUBSCRIBED, 0);
    assert_non_null(effect);
    return effect->outcome == OUTCOME_DONE ? effect->codes.codes[0] : 0xff;
}

uint8_t world_subscribe(struct world *w, const char *name, const char *filter, uint8_t options)
{
    return world_subscribe_id(w, name, filter, options, 0);
}

uint8_t world_unsubscribe(struct world *w, const char *name, const char *filter)
{
    struct world_client *client = world_client(w, name);
    struct buffer filters = {0};
    command_put_filter(&filters, bytes_text(filter), 0);
    struct command command = {
        .type = COMMAND_UNSUBSCRIBE,
        .unsubscribe = {.owner = client->owner, .count = 1, .filters = buffer_bytes(&filters)},
    };
    world_apply_one(w, client->node, &command);
    buffer_release(&filters);
    const struct effect *effect = world_effect(w, 1, EFFECT_UNSUBSCRIBED, 0);
    assert_non_null(effect);
    return effect->outcome == OUTCOME_DONE ? effect->codes.codes[0] : 0xff;
}

static enum outcome outcome_of(const struct world *w, enum effect_type type)
{
    const struct effect *effect = world_effect(w, 1, type, 0);
    assert_non_null(effect);
    return effect->outcome;
}

enum outcome world_publish(struct world *w, const char *name, const char *topic, const char *payload,
                           struct publish_options options)
{
    struct world_client *client = world_client(w, name);
    struct command command = {
        .type = COMMAND_PUBLISH,
        .publish = {.owner = client->owner,
                    .packet_id = options.packet_id,
                    .register_only = options.register_only,
                    .message_expiry_s = options.expiry_s == 0 ? UINT32_MAX : options.expiry_s,
                    .message = {.topic = bytes_text(topic), .payload = bytes_text(payload), .qos = options.qos,
                                .retain = options.retain}},
    };
    world_apply_one(w, client->node, &command);
    return outcome_of(w, EFFECT_PUBLISHED);
}

enum outcome world_pubrel(struct world *w, const char *name, uint16_t packet_id)
{
    struct world_client *client = world_client(w, name);
    struct command command = {.type = COMMAND_PUBREL, .pubrel = {client->owner, packet_id}};
    world_apply_one(w, client->node, &command);
    return outcome_of(w, EFFECT_RELEASED);
}

enum outcome world_ack_own(struct world *w, const char *name, uint64_t order)
{
    struct world_client *client = world_client(w, name);
    struct buffer own = {0};
    uint64_t previous = 0;
    command_ack_put_own(&own, &previous, order);
    struct command command = {.type = COMMAND_ACK,
                              .ack = {.owner = client->owner, .own_count = 1, .own = buffer_bytes(&own)}};
    world_apply_one(w, client->node, &command);
    buffer_release(&own);
    return outcome_of(w, EFFECT_DELIVERY_DONE);
}

enum outcome world_ack_broadcast(struct world *w, const char *name, uint64_t filter_id, uint64_t upto,
                                 const uint64_t *except, uint32_t count)
{
    struct world_client *client = world_client(w, name);
    struct buffer list = {0};
    uint64_t previous = 0;
    command_ack_put_broadcast(&list, filter_id, upto, count);
    for (uint32_t i = 0; i < count; i++)
        command_ack_put_own(&list, &previous, except[i]);
    struct command command = {
        .type = COMMAND_ACK,
        .ack = {.owner = client->owner, .broadcast_count = 1, .broadcast = buffer_bytes(&list)},
    };
    world_apply_one(w, client->node, &command);
    buffer_release(&list);
    return outcome_of(w, EFFECT_DELIVERY_DONE);
}

static enum outcome complete(struct world *w, const char *name, enum command_type type, uint64_t order,
                             enum effect_type answer)
{
    struct world_client *client = world_client(w, name);
    struct command command = {.type = type, .delivery = {client->owner, order}};
    world_apply_one(w, client->node, &command);
    return outcome_of(w, answer);
}

enum outcome world_pubrec(struct world *w, const char *name, uint64_t order)
{
    return complete(w, name, COMMAND_PUBREC, order, EFFECT_DELIVERY_RELEASED);
}

enum outcome world_pubcomp(struct world *w, const char *name, uint64_t order)
{
    return complete(w, name, COMMAND_PUBCOMP, order, EFFECT_DELIVERY_DONE);
}

void world_retained_more(struct world *w, const char *name, uint16_t count)
{
    struct world_client *client = world_client(w, name);
    uint64_t position;
    assert_true(state_retained_scan(w->states[0], client->owner.session_id, &position));
    struct command command = {.type = COMMAND_RETAINED_MORE, .retained_more = {client->owner, position, count}};
    world_apply_one(w, client->node, &command);
}

/* ---- reading ---- */

static size_t put(char *text, size_t at, size_t size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int written = vsnprintf(text + at, at < size ? size - at : 0, format, arguments);
    va_end(arguments);
    return at + (size_t)written;
}

static const char *queue_of(struct world *w, uint32_t replica, const char *name, char *text, size_t size)
{
    uint64_t session = world_client(w, name)->owner.session_id, after = 0;
    struct queued queued;
    size_t at = 0;
    text[0] = 0;
    while (state_next_queued(w->states[replica], session, after, w->effects[replica], &queued) == STATUS_OK) {
        after = queued.target.order;
        at = put(text, at, size, "%s%.*s@%d%s%s%s", at > 0 ? " " : "", (int)queued.message.payload.size,
                 queued.released ? "" : (const char *)queued.message.payload.data, queued.target.qos,
                 queued.target.retain ? "!" : "", queued.target.admitted ? "*" : "", queued.released ? "." : "");
        for (uint32_t i = 0; i < queued.target.subscription_id_count; i++)
            at = put(text, at, size, "#%u", queued.target.subscription_ids[i]);
    }
    return text;
}

const char *world_queue(struct world *w, const char *name)
{
    static char texts[WORLD_REPLICAS][8192];
    for (uint32_t i = 0; i < WORLD_REPLICAS; i++)
        queue_of(w, i, name, texts[i], sizeof texts[i]);
    assert_string_equal(texts[0], texts[1]);
    return texts[0];
}

struct queued world_delivery(struct world *w, const char *name, uint32_t n)
{
    uint64_t session = world_client(w, name)->owner.session_id, after = 0;
    struct queued queued;
    do {
        assert_int_equal(state_next_queued(w->states[0], session, after, w->effects[0], &queued), STATUS_OK);
        after = queued.target.order;
    } while (n-- > 0);
    return queued;
}

void world_complete(struct world *w, const char *name, const struct queued *queued)
{
    struct target target = queued->target;
    uint64_t filters[8];
    assert_true(target.broadcast_count <= 8);
    if (target.broadcast_count > 0)
        memcpy(filters, target.broadcast_filters, target.broadcast_count * sizeof filters[0]);
    if (target.admitted && !queued->released)
        world_pubrec(w, name, target.order);
    if (target.admitted)
        world_pubcomp(w, name, target.order);
    if (target.own)
        world_ack_own(w, name, target.order);
    for (uint32_t i = 0; i < target.broadcast_count; i++)
        world_ack_broadcast(w, name, filters[i], target.order, NULL, 0);
}

void world_drain(struct world *w, const char *name)
{
    uint64_t session = world_client(w, name)->owner.session_id;
    struct queued queued;
    while (state_next_queued(w->states[0], session, 0, w->effects[0], &queued) == STATUS_OK)
        world_complete(w, name, &queued);
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(a, b);
}

const char *world_targets(const struct world *w, uint32_t node)
{
    static char text[4096];
    char items[64][64];
    size_t at = 0;
    uint32_t count = 0;
    const struct effect *effect;
    for (uint32_t n = 0; (effect = world_effect(w, node, EFFECT_MESSAGE, n)) != NULL; n++) {
        for (uint32_t i = 0; i < effect->message.count; i++) {
            const struct target *target = &effect->message.targets[i];
            struct session_facts facts;
            assert_true(state_session(w->states[0], target->session_id, &facts));
            assert_int_equal(facts.connection, target->connection);
            assert_true(count < 64);
            snprintf(items[count++], sizeof items[0], "%.*s:%.*s@%d%s%s%s", (int)facts.client_id.size,
                     (const char *)facts.client_id.data, (int)effect->message.message->payload.size,
                     effect->message.message->payload.size > 0 ? (const char *)effect->message.message->payload.data
                                                               : "",
                     target->qos, target->retain ? "!" : "", target->admitted ? "*" : "",
                     target->order == 0 ? "?" : "");
        }
    }
    qsort(items, count, sizeof items[0], compare_texts);
    text[0] = 0;
    for (uint32_t i = 0; i < count; i++)
        at = put(text, at, sizeof text, "%s%s", i > 0 ? " " : "", items[i]);
    return text;
}

struct state_counts world_counts(const struct world *w)
{
    struct state_counts counts;
    state_counts(w->states[0], &counts);
    return counts;
}

/* ---- chance ---- */

static uint64_t random_state;

uint64_t draw(uint64_t below)
{
    random_state ^= random_state << 13; /* xorshift */
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % below;
}

static void run_seed(void (*run)(unsigned steps), uint64_t seed, unsigned steps)
{
    random_state = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    run(steps);
}

void world_run_seeds(void (*run)(unsigned steps), unsigned seeds)
{
    const char *seed = getenv("STATE_SEED"), *steps = getenv("STATE_STEPS");
    unsigned count = steps != NULL ? (unsigned)atoi(steps) : 600;
    if (seed != NULL) {
        run_seed(run, strtoull(seed, NULL, 10), count);
        return;
    }
    for (unsigned i = 1; i <= seeds; i++) {
        print_message("seed %u\n", i);
        run_seed(run, i, count);
    }
}
