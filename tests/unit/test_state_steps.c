/* No input makes one step of the state machine long: what is largest in each way, in steps of counted work.
 *
 * The limits of a step are looks (state_worked): a thing in memory is one, an operation on a row ten. A step may go beyond
 * what it was allowed by the smallest thing that is done whole: one row's worth. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "effects.h"
#include "keys.h"
#include "state.h"
#include "store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NODE       1
#define STEP_LOOKS 5000
#define SLACK      8000    /* what is dirty is written back, 512 rows at once */
#define MANY       10000   /* subscriptions, sessions, topics */

struct machine {
    struct store *store;
    struct state *state;
    struct effects *effects;
    struct buffer batch, text;
    uint64_t index, epoch, number, clock_ms;
    uint32_t count;
    uint64_t longest;            /* of the steps since it was last asked */
    uint64_t steps, targets;
};

/* ---- entries ---- */

static void note_effects(struct machine *m)
{
    for (uint32_t i = 0; i < effects_count(m->effects); i++) {
        const struct effect *effect = effects_at(m->effects, i);
        if (effect->type == EFFECT_BATCH)
            assert_int_equal(effect->batch.verdict, BATCH_APPLIED);
        m->targets += effect->type == EFFECT_MESSAGE ? effect->message.count : 0;
        if (effect->type == EFFECT_MESSAGE)
            assert_in_range(effect->message.count, 1, 1000);
    }
    effects_clear(m->effects);
}

static void apply(struct machine *m)
{
    m->clock_ms += 1000;
    batch_finish(&m->batch, 0, m->count);
    batch_set_stamp(m->batch.data, m->clock_ms);
    state_apply_begin(m->state, ++m->index, 1, buffer_bytes(&m->batch));
    while (state_applying(m->state)) {
        uint64_t before = state_worked(m->state);
        assert_int_equal(state_apply_more(m->state, m->effects, STEP_LOOKS), STATUS_OK);
        uint64_t worked = state_worked(m->state) - before;
        m->longest = worked > m->longest ? worked : m->longest;
        m->steps++;
        note_effects(m);
    }
}

static void begin(struct machine *m)
{
    buffer_clear(&m->batch);
    m->count = 0;
    m->number++;
    batch_begin(&m->batch, NODE, m->epoch, m->number);
}

static void add(struct machine *m, const struct command *command)
{
    command_encode(command, &m->batch);
    m->count++;
}

static void apply_one(struct machine *m, const struct command *command)
{
    begin(m);
    add(m, command);
    apply(m);
}

static void finish_work(struct machine *m)
{
    struct command command = {.type = COMMAND_CONTINUE};
    while (state_work_pending(m->state))
        apply_one(m, &command);
}

static int setup(void **state)
{
    struct machine *m = calloc(1, sizeof *m);
    struct command up = {.type = COMMAND_NODE_UP, .node_up = {.node = NODE, .boot_nonce = {1}}};
    struct command settings = {.type = COMMAND_SETTINGS,
                               .settings = {.queue_messages_max = 100000,
                                            .queue_bytes_max = 1 << 30,
                                            .subscriptions_max = 100000,
                                            .sessions_max = 1000000,
                                            .retained_messages_max = 1000000,
                                            .retained_bytes_max = 1 << 30,
                                            .store_bytes_max = 1 << 30,
                                            .session_expiry_max_s = UINT32_MAX,
                                            .in_flight_max = 100}};
    assert_int_equal(store_open(&(struct store_options){0}, &m->store), STATUS_OK);
    assert_int_equal(state_open(m->store, NODE, &m->state), STATUS_OK);
    m->effects = effects_new();
    batch_begin(&m->batch, NODE, 0, 0);
    add(m, &up);
    apply(m);
    m->epoch = POSITION(m->index, 0);
    apply_one(m, &settings);
    *state = m;
    return 0;
}

static int teardown(void **state)
{
    struct machine *m = *state;
    effects_free(m->effects);
    state_close(m->state);
    store_close(m->store);
    buffer_release(&m->batch);
    buffer_release(&m->text);
    free(m);
    return 0;
}

/* ---- given ---- */

static struct command_owner connect_for(struct machine *m, const char *client_id, uint16_t receive_maximum)
{
    struct command command = {.type = COMMAND_CONNECT,
                              .connect = {.connection = 1,
                                          .client_id = bytes_text(client_id),
                                          .protocol_level = 5,
                                          .receive_maximum = receive_maximum,
                                          .session_expiry_s = UINT32_MAX}};
    apply_one(m, &command);
    return (struct command_owner){POSITION(m->index, 0), POSITION(m->index, 0)};
}

static struct command_owner connect(struct machine *m, const char *client_id, const char *will_topic)
{
    struct command command = {.type = COMMAND_CONNECT,
                              .connect = {.connection = 1,
                                          .client_id = bytes_text(client_id),
                                          .protocol_level = 5,
                                          .receive_maximum = 100,
                                          .session_expiry_s = will_topic != NULL ? 0 : 3600,
                                          .has_will = will_topic != NULL,
                                          .will_allowed = will_topic != NULL}};
    if (will_topic != NULL) {
        command.connect.will.message = (struct message){.topic = bytes_text(will_topic), .payload = bytes_text("w"), .qos = 1};
        command.connect.will.message_expiry_s = UINT32_MAX;
    }
    apply_one(m, &command);
    return (struct command_owner){POSITION(m->index, 0), POSITION(m->index, 0)};
}

static void subscribe_with(struct machine *m, struct command_owner owner, uint32_t count, void (*name)(uint32_t, char *),
                           uint8_t options)
{
    struct command command = {.type = COMMAND_SUBSCRIBE, .subscribe = {.owner = owner, .count = count}};
    char text[200];
    buffer_clear(&m->text);
    for (uint32_t i = 0; i < count; i++) {
        name(i, text);
        command_put_filter(&m->text, bytes_text(text), options);
    }
    command.subscribe.filters = buffer_bytes(&m->text);
    apply_one(m, &command);
}

static void subscribe(struct machine *m, struct command_owner owner, uint32_t count, void (*name)(uint32_t, char *))
{
    subscribe_with(m, owner, count, name, 1);
}

static void publish_twice_acknowledged(struct machine *m, struct command_owner owner, const char *topic)
{
    struct command command = {.type = COMMAND_PUBLISH,
                              .publish = {.owner = owner,
                                          .packet_id = 1,
                                          .message_expiry_s = UINT32_MAX,
                                          .message = {.topic = bytes_text(topic), .payload = bytes_text("x"), .qos = 2}}};
    struct command release = {.type = COMMAND_PUBREL, .pubrel = {.owner = owner, .packet_id = 1}};
    apply_one(m, &command);
    apply_one(m, &release);
}

static void publish(struct machine *m, struct command_owner owner, const char *topic, bool retain)
{
    struct command command = {.type = COMMAND_PUBLISH,
                              .publish = {.owner = owner,
                                          .packet_id = 1,
                                          .message_expiry_s = UINT32_MAX,
                                          .message = {.topic = bytes_text(topic), .payload = bytes_text("x"), .qos = 1, .retain = retain}}};
    apply_one(m, &command);
}

static void given_retained(struct machine *m, struct command_owner owner, uint32_t count)
{
    char topic[64];
    for (uint32_t i = 0; i < count; i++) {
        snprintf(topic, sizeof topic, "%u/%u/%u/%u/%u", i % 7, i % 11, i % 13, i % 17, i);
        publish(m, owner, topic, true);
    }
}

static void begin_measuring(struct machine *m)
{
    m->longest = m->steps = m->targets = 0;
}

static void then_no_step_was_long(const struct machine *m, uint64_t slack)
{
    print_message("longest step %llu looks, of %llu steps\n", (unsigned long long)m->longest,
                  (unsigned long long)m->steps);
    assert_in_range(m->longest, 1, STEP_LOOKS + slack);
}

/* ---- names of filters ---- */

static void name_nowhere(uint32_t i, char *text)
{
    snprintf(text, 200, "+/+/+/+/+/no%u/#", i);
}

static void name_flat(uint32_t i, char *text)
{
    snprintf(text, 200, "flat/%u", i);
}

/* All of them match t/t/t/t/t/t/t/t/t/t/t/t/t/t. */
static void name_overlapping(uint32_t i, char *text)
{
    size_t at = 0;
    for (uint32_t level = 0; level < 14; level++) {
        text[at++] = (i >> level & 1) != 0 ? '+' : 't';
        text[at++] = '/';
    }
    text[at - 1] = '\0';
}

static void name_group(uint32_t i, char *text)
{
    snprintf(text, 200, "$share/group%u/all", i);
}

static void name_one(uint32_t i, char *text)
{
    (void)i;
    snprintf(text, 200, "all");
}

/* ---- the tests ---- */

static void filters_that_match_no_retained_topic_are_looked_for_in_parts(void **state)
{
    struct machine *m = *state;
    struct command_owner owner = connect(m, "alice", NULL);
    uint64_t position;
    given_retained(m, owner, 3000);
    begin_measuring(m);
    subscribe(m, owner, 1000, name_nowhere);
    assert_true(state_retained_scan(m->state, owner.session_id, &position));
    struct command more = {.type = COMMAND_RETAINED_MORE,
                           .retained_more = {.owner = owner, .subscribe_position = position, .count = 100}};
    for (int i = 0; i < 10; i++)
        apply_one(m, &more);
    then_no_step_was_long(m, 3 * 10 * 1000); /* a thousand rows are looked at, each sought and read */
}

static void a_retained_message_looks_only_at_scans_of_filters_that_match(void **state)
{
    struct machine *m = *state;
    struct command_owner owner = connect(m, "alice", NULL);
    given_retained(m, owner, 2000);
    subscribe(m, owner, 2000, name_nowhere); /* open scans */
    begin_measuring(m);
    publish(m, owner, "0/0/0/0/0", true);
    assert_in_range(m->longest, 1, 1000);
}

static void many_subscriptions_of_one_client_come_and_go_in_parts(void **state)
{
    struct machine *m = *state;
    struct command_owner owner = connect(m, "alice", NULL);
    begin_measuring(m);
    subscribe(m, owner, MANY, name_flat);
    then_no_step_was_long(m, SLACK);
    struct command end = {.type = COMMAND_END, .end = {.owner = owner, .cause = END_CLEAN, .has_session_expiry = true}};
    apply_one(m, &end);
    finish_work(m);
    then_no_step_was_long(m, SLACK);
    struct state_counts counts;
    state_counts(m->state, &counts);
    assert_int_equal(counts.subscriptions, 0);
}

static void a_session_with_many_subscriptions_is_resumed_and_taken_over_in_parts(void **state)
{
    struct machine *m = *state;
    struct command_owner owner = connect(m, "alice", NULL), publisher = connect(m, "bob", NULL);
    subscribe(m, owner, MANY, name_flat);
    struct command end = {.type = COMMAND_END, .end = {.owner = owner, .cause = END_CLEAN}};
    begin_measuring(m);
    apply_one(m, &end);
    publish(m, publisher, "flat/7", false);
    assert_int_equal(m->targets, 0);
    connect(m, "alice", NULL);
    publish(m, publisher, "flat/7", false);
    assert_int_equal(m->targets, 1);
    connect(m, "alice", NULL);
    publish(m, publisher, "flat/9999", false);
    assert_int_equal(m->targets, 2);
    then_no_step_was_long(m, SLACK);
}

static void many_groups_on_one_filter_come_and_go_in_parts(void **state)
{
    struct machine *m = *state;
    struct command_owner owner = connect(m, "alice", NULL);
    struct state_counts counts;
    begin_measuring(m);
    subscribe(m, owner, MANY, name_group);
    subscribe(m, owner, MANY, name_group);
    publish(m, owner, "all", false);
    struct command end = {.type = COMMAND_END, .end = {.owner = owner, .cause = END_CLEAN, .has_session_expiry = true}};
    apply_one(m, &end);
    finish_work(m);
    then_no_step_was_long(m, 2 * SLACK + MANY); /* the session's groups are looked through whole */
    state_counts(m->state, &counts);
    assert_int_equal(counts.groups, 0);
}

static void given_group_of_full_members(struct machine *m, struct command_owner publisher)
{
    char client_id[16];
    for (uint32_t i = 0; i < MANY; i++) {
        snprintf(client_id, sizeof client_id, "m%u", i);
        subscribe(m, connect_for(m, client_id, 1), 1, name_group);
    }
    for (uint32_t i = 0; i < MANY; i++)
        publish(m, publisher, "all", false);
}

/* Nobody has room until all have been asked. */
static void a_group_of_full_members_is_asked_in_parts(void **state)
{
    struct machine *m = *state;
    struct command_owner publisher = connect(m, "publisher", NULL);
    struct state_counts before, after;
    given_group_of_full_members(m, publisher);
    state_counts(m->state, &before);
    begin_measuring(m);
    publish(m, publisher, "all", false);
    then_no_step_was_long(m, 500);
    assert_in_range(m->steps, MANY / STEP_LOOKS, 10);
    assert_int_equal(m->targets, 0);
    state_counts(m->state, &after);
    assert_int_equal(after.queued, before.queued + 1);
}

/* A message waits in each of many groups: their member looks through all of them, but not for every message. */
static void what_waits_in_many_groups_is_given_without_looking_at_all_of_them_for_each(void **state)
{
    struct machine *m = *state;
    struct command_owner owner = connect(m, "alice", NULL);
    struct queued queued;
    uint64_t previous = 0;
    subscribe(m, owner, MANY, name_group);
    publish(m, owner, "all", false);
    struct command ack = {.type = COMMAND_ACK, .ack = {.owner = owner, .own_count = 100}};
    assert_int_equal(state_next_queued(m->state, owner.session_id, 0, m->effects, &queued), STATUS_OK);
    buffer_clear(&m->text);
    for (uint64_t i = 0; i < 100; i++)
        command_ack_put_own(&m->text, &previous, queued.target.order + i);
    ack.ack.own = buffer_bytes(&m->text);
    uint64_t before = state_worked(m->state);
    effects_clear(m->effects);
    apply_one(m, &ack);
    finish_work(m);
    assert_in_range(state_worked(m->state) - before, 10000, 10 * MANY);
    assert_int_equal(state_next_queued(m->state, owner.session_id, previous, m->effects, &queued), STATUS_OK);
    effects_clear(m->effects);
}

/* Of two filters that match, in a session that has many others: by the filters, not by the session's subscriptions. */
static void a_message_to_one_with_many_other_subscriptions_does_not_look_at_them(void **state)
{
    struct machine *m = *state;
    struct command_owner owner = connect(m, "alice", NULL), other = connect(m, "bob", NULL);
    subscribe(m, owner, MANY, name_flat);
    subscribe(m, other, 1, name_one);
    struct command command = {.type = COMMAND_SUBSCRIBE, .subscribe = {.owner = owner, .count = 1}};
    buffer_clear(&m->text);
    command_put_filter(&m->text, bytes_text("#"), 1);
    command.subscribe.filters = buffer_bytes(&m->text);
    apply_one(m, &command);
    begin_measuring(m);
    publish(m, owner, "all", false);
    publish(m, owner, "flat/5", false);
    assert_int_equal(m->targets, 3);
    assert_in_range(m->longest, 1, 1000);
}

/* More than OWN_MEMBERS_MAX: what is pending is rows of one broadcast queue. */
static void much_is_acknowledged_at_once_in_parts(void **state)
{
    struct machine *m = *state;
    struct command_owner owner = {0};
    char name[32];
    for (uint32_t i = 0; i < 9; i++) {
        snprintf(name, sizeof name, "c%u", i);
        owner = connect(m, name, NULL);
        subscribe(m, owner, 1, name_one);
    }
    for (uint32_t i = 0; i < 2000; i++)
        publish(m, owner, "all", false);
    struct command ack = {.type = COMMAND_ACK, .ack = {.owner = owner, .broadcast_count = 1}};
    buffer_clear(&m->text);
    command_ack_put_broadcast(&m->text, 1, UINT64_MAX, 0);
    ack.ack.broadcast = buffer_bytes(&m->text);
    begin_measuring(m);
    apply_one(m, &ack);
    then_no_step_was_long(m, SLACK);
    assert_in_range(m->steps, 5, UINT32_MAX);
    struct queued queued;
    assert_int_equal(state_next_queued(m->state, owner.session_id, 0, m->effects, &queued), STATUS_NOT_FOUND);
}

#define QUEUES 2000

/* Nine sessions share the queues of many filters, each of which holds a message: every `stride`th first, and so on. */
static struct command_owner given_filled_queues(struct machine *m, uint16_t receive_maximum, uint32_t stride)
{
    struct command_owner owner = {0};
    struct command end = {.type = COMMAND_END, .end = {.cause = END_CLEAN}};
    char name[200];
    for (uint32_t i = 0; i < 9; i++) {
        snprintf(name, sizeof name, "c%u", i);
        owner = connect_for(m, name, receive_maximum);
        subscribe_with(m, owner, QUEUES, name_flat, 2);
        end.end.owner = owner;
        apply_one(m, &end);
    }
    struct command_owner publisher = connect(m, "publisher", NULL);
    for (uint32_t i = 0; i < QUEUES; i++) {
        name_flat(i * stride % QUEUES, name);
        publish_twice_acknowledged(m, publisher, name);
    }
    return owner;
}

static struct command_owner given_full_queues(struct machine *m, uint16_t receive_maximum)
{
    return given_filled_queues(m, receive_maximum, 7);
}

/* As the delivery of a node does: STATUS_NEED_MORE ends a step, and it asks again. */
static enum status next_queued(struct machine *m, struct command_owner owner, uint64_t after, struct queued *queued)
{
    enum status status;
    do {
        uint64_t before = state_worked(m->state);
        effects_clear(m->effects);
        status = state_next_queued(m->state, owner.session_id, after, m->effects, queued);
        uint64_t worked = state_worked(m->state) - before;
        m->longest = worked > m->longest ? worked : m->longest;
        m->steps++;
    } while (status == STATUS_NEED_MORE);
    return status;
}

static void many_queues_of_one_session_are_not_all_looked_at_for_each_message(void **state)
{
    struct machine *m = *state;
    struct command_owner owner = given_full_queues(m, 100);
    struct queued queued = {0};
    uint64_t before = state_worked(m->state), count = 0;
    while (next_queued(m, owner, queued.target.order, &queued) == STATUS_OK)
        count++;
    assert_int_equal(count, QUEUES);
    assert_in_range(state_worked(m->state) - before, QUEUES, QUEUES * 200);
    effects_clear(m->effects);
}

static void many_queues_are_asked_in_steps_for_who_comes_back(void **state)
{
    struct machine *m = *state;
    struct command_owner owner = given_full_queues(m, 1);
    struct queued queued;
    begin_measuring(m);
    assert_int_equal(next_queued(m, owner, 0, &queued), STATUS_OK);
    assert_in_range(m->steps, QUEUES * 10 / STEP_LOOKS, 10);
    then_no_step_was_long(m, 500);
    begin_measuring(m);
    connect_for(m, "c8", 1);
    assert_in_range(m->steps, QUEUES * 10 / STEP_LOOKS, 20);
    then_no_step_was_long(m, 500);
    effects_clear(m->effects);
}

/* The window is one message, so each is admitted by itself. */
static void many_queues_are_not_looked_at_again_for_each_message_that_is_completed(void **state)
{
    struct machine *m = *state;
    struct command_owner owner = given_filled_queues(m, 1, 1);
    struct queued queued = {0};
    uint64_t worked = 0;
    owner.client_epoch = connect_for(m, "c8", 1).client_epoch;
    for (uint32_t i = 0; i < QUEUES * 3 / 4; i++) {
        assert_int_equal(next_queued(m, owner, queued.target.order, &queued), STATUS_OK);
        effects_clear(m->effects);
        uint64_t before = state_worked(m->state);
        apply_one(m, &(struct command){.type = COMMAND_PUBREC, .delivery = {owner, queued.target.order}});
        apply_one(m, &(struct command){.type = COMMAND_PUBCOMP, .delivery = {owner, queued.target.order}});
        worked += state_worked(m->state) - before;
    }
    print_message("%llu looks\n", (unsigned long long)worked);
    assert_in_range(worked / QUEUES, 1, QUEUES / 5);
}

/* What comes while they are asked does not bring it out of order, and comes once. */
static void what_is_published_while_many_queues_are_asked_comes_behind(void **state)
{
    struct machine *m = *state;
    struct command_owner owner = given_full_queues(m, 100), publisher = connect(m, "another", NULL);
    struct queued queued = {0};
    uint64_t count = 0, previous = 0;
    char name[200];
    for (; count < QUEUES / 2; count++) {
        assert_int_equal(next_queued(m, owner, queued.target.order, &queued), STATUS_OK);
        if (count == QUEUES / 2 - 3)
            previous = queued.target.order; /* back to here: many queues have nothing, until something comes */
    }
    count = QUEUES / 2 - 2;
    assert_int_equal(state_next_queued(m->state, owner.session_id, previous, m->effects, &queued), STATUS_NEED_MORE);
    for (uint32_t i = 0; i < QUEUES; i += 100) {
        name_flat(i, name);
        publish_twice_acknowledged(m, publisher, name);
    }
    while (next_queued(m, owner, previous, &queued) == STATUS_OK) {
        assert_true(queued.target.order > previous);
        assert_int_equal(queued.target.broadcast_count, 1);
        previous = queued.target.order;
        count++;
    }
    assert_int_equal(count, QUEUES + QUEUES / 100);
    effects_clear(m->effects);
}

static void what_waits_in_many_queues_is_admitted_without_looking_at_all_of_them_for_each(void **state)
{
    struct machine *m = *state;
    given_full_queues(m, 100);
    begin_measuring(m);
    connect_for(m, "c3", 100);
    struct state_counts counts;
    state_counts(m->state, &counts);
    assert_int_equal(counts.in_flight, 100);
    print_message("longest step %llu looks\n", (unsigned long long)m->longest);
    assert_in_range(m->longest, 1, 100 * 500); /* each message; each queue before that, in steps */
}

static size_t place_size(struct machine *m, struct command_owner owner)
{
    struct key key = key_pair(owner.session_id, 1);
    struct bytes row;
    assert_int_equal(state_commit(m->state), STATUS_OK);
    assert_true(store_get(m->store, TABLE_CURSORS, key_bytes(&key), &row));
    return row.size;
}

static void acknowledge_all(struct machine *m, struct command_owner owner)
{
    struct command ack = {.type = COMMAND_ACK, .ack = {.owner = owner, .broadcast_count = 1}};
    buffer_clear(&m->text);
    command_ack_put_broadcast(&m->text, 1, UINT64_MAX, 0);
    ack.ack.broadcast = buffer_bytes(&m->text);
    apply_one(m, &ack);
}

/* It leaves one message alone, and publishes what it does not want itself, and all others take. */
static void what_a_session_publishes_for_others_is_not_listed_for_ever(void **state)
{
    struct machine *m = *state;
    struct command_owner owners[9];
    struct queued queued;
    char name[32];
    for (uint32_t i = 0; i < 9; i++) {
        snprintf(name, sizeof name, "c%u", i);
        owners[i] = connect(m, name, NULL);
        subscribe_with(m, owners[i], 1, name_one, 1 | SUBSCRIPTION_NO_LOCAL);
    }
    publish(m, owners[1], "all", false);
    begin_measuring(m);
    for (uint32_t i = 0; i < 3000; i++) {
        publish(m, owners[0], "all", false);
        if (i % 100 == 0)
            publish(m, owners[1], "all", false);
    }
    then_no_step_was_long(m, SLACK);
    for (uint32_t i = 1; i < 9; i++)
        acknowledge_all(m, owners[i]);
    assert_in_range(place_size(m, owners[0]), 1, 2000 + 8 * 31);
    uint64_t order = 0, count = 0;
    for (; state_next_queued(m->state, owners[0].session_id, order, m->effects, &queued) == STATUS_OK; count++) {
        order = queued.target.order;
        effects_clear(m->effects);
    }
    assert_int_equal(count, 31);
    acknowledge_all(m, owners[0]);
    assert_in_range(place_size(m, owners[0]), 1, 30);
    struct state_counts counts;
    state_counts(m->state, &counts);
    assert_int_equal(counts.queued, 0);
}

static void one_message_that_matches_many_filters_of_one_client(void **state)
{
    struct machine *m = *state;
    struct command_owner owner = connect(m, "alice", NULL);
    subscribe(m, owner, MANY, name_overlapping);
    begin_measuring(m);
    publish(m, owner, "t/t/t/t/t/t/t/t/t/t/t/t/t/t", false);
    assert_int_equal(m->targets, 1);
    then_no_step_was_long(m, SLACK);
}

static void one_message_to_many_clients_held_here(void **state)
{
    struct machine *m = *state;
    struct command_owner owner = {0};
    char name[32];
    for (uint32_t i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "c%u", i);
        owner = connect(m, name, NULL);
        subscribe(m, owner, 1, name_one);
    }
    begin_measuring(m);
    publish(m, owner, "all", false);
    assert_int_equal(m->targets, MANY);
    then_no_step_was_long(m, SLACK);
}

static void the_end_of_a_node_whose_clients_all_leave_wills(void **state)
{
    struct machine *m = *state;
    char name[32];
    for (uint32_t i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "s%u", i);
        subscribe(m, connect(m, name, NULL), 1, name_one);
    }
    for (uint32_t i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "w%u", i);
        connect(m, name, "all");
    }
    begin_measuring(m);
    struct command up = {.type = COMMAND_NODE_UP, .node_up = {.node = NODE, .boot_nonce = {2}}};
    buffer_clear(&m->batch);
    batch_begin(&m->batch, NODE, 0, 0);
    m->count = 0;
    m->number = 0;
    add(m, &up);
    apply(m);
    m->epoch = POSITION(m->index, 0);
    finish_work(m);
    then_no_step_was_long(m, 2 * SLACK);
    struct state_counts counts;
    state_counts(m->state, &counts);
    assert_int_equal(counts.wills_pending, 0);
}

#define MACHINE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        MACHINE(filters_that_match_no_retained_topic_are_looked_for_in_parts),
        MACHINE(a_retained_message_looks_only_at_scans_of_filters_that_match),
        MACHINE(many_subscriptions_of_one_client_come_and_go_in_parts),
        MACHINE(a_session_with_many_subscriptions_is_resumed_and_taken_over_in_parts),
        MACHINE(many_groups_on_one_filter_come_and_go_in_parts),
        MACHINE(a_group_of_full_members_is_asked_in_parts),
        MACHINE(what_waits_in_many_groups_is_given_without_looking_at_all_of_them_for_each),
        MACHINE(a_message_to_one_with_many_other_subscriptions_does_not_look_at_them),
        MACHINE(much_is_acknowledged_at_once_in_parts),
        MACHINE(many_queues_of_one_session_are_not_all_looked_at_for_each_message),
        MACHINE(many_queues_are_asked_in_steps_for_who_comes_back),
        MACHINE(many_queues_are_not_looked_at_again_for_each_message_that_is_completed),
        MACHINE(what_is_published_while_many_queues_are_asked_comes_behind),
        MACHINE(what_waits_in_many_queues_is_admitted_without_looking_at_all_of_them_for_each),
        MACHINE(what_a_session_publishes_for_others_is_not_listed_for_ever),
        MACHINE(one_message_that_matches_many_filters_of_one_client),
        MACHINE(one_message_to_many_clients_held_here),
        MACHINE(the_end_of_a_node_whose_clients_all_leave_wills),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
