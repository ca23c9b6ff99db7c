/* test_state_golden.c — the rows of every table as every released version writes and reads them.
 *
 * tests/golden/rows-<n>.txt holds the rows that the commands below lead to, one line each: table, key, value. Stores and
 * snapshots of released versions are made of such rows. Before the first release a change of a row means to write the
 * file again (GOLDEN_WRITE=1) and to look at the difference; after it, to keep reading the old one as well. */
#include "base/hash.h"
#include "state_world.h"

#include "base/memory.h"
#include "rights.h"
#include "state_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN COTERIE_SOURCE_DIR "/tests/golden/rows-1.txt"
#define RETAINED 105 /* five more than a SUBSCRIBE brings at once: an open scan */
#define MEMBERS 9    /* of a broadcast filter */
#define ROWS_PER_STEP 1000

#define PERSISTENT ((struct connect_options){.expiry_s = NEVER})
#define QOS_1 ((struct publish_options){.qos = 1})

static bool in_use(unsigned table)
{
    return table != TABLE_CLIENTS && table <= TABLE_AUDIT;
}

/* ---- one row at least in each table ---- */

static void given_retained(struct world *w)
{
    char topic[16];
    world_connect(w, "keeper", PERSISTENT);
    for (unsigned i = 0; i < RETAINED; i++) {
        snprintf(topic, sizeof topic, "r/%03u", i);
        world_publish(w, "keeper", topic, "v", (struct publish_options){.qos = 1, .retain = true});
    }
    world_publish(w, "keeper", "soon", "v", (struct publish_options){.qos = 1, .retain = true, .expiry_s = 60});
    world_subscribe(w, "keeper", "r/+", 1);
}

static void given_a_broadcast_queue(struct world *w)
{
    char name[8];
    for (unsigned i = 0; i < MEMBERS; i++) {
        snprintf(name, sizeof name, "m%u", i);
        world_connect(w, name, PERSISTENT);
        world_subscribe(w, name, "all", 1);
    }
    world_publish(w, "keeper", "all", "first", QOS_1);
    world_publish(w, "keeper", "all", "second", QOS_1);
    struct queued first = world_delivery(w, "m0", 0);
    uint64_t filter = first.target.broadcast_filters[0], except[] = {first.target.order};
    world_ack_broadcast(w, "m0", filter, first.target.order + (1u << POSITION_COMMAND_BITS), except, 1);
    world_unsubscribe(w, "m1", "all");
}

static void given_qos_2_both_ways(struct world *w)
{
    world_connect(w, "two", (struct connect_options){.expiry_s = NEVER, .receive_maximum = 2});
    world_subscribe_id(w, "two", "exactly/#", 2, 7);
    for (uint16_t id = 1; id <= 3; id++)
        world_publish(w, "two", "exactly/once", "m", (struct publish_options){.qos = 2, .packet_id = id});
    world_pubrec(w, "two", world_delivery(w, "two", 0).target.order);
}

/* One message was given to a member that is away, and is offered to others; one waits. */
static void given_a_group(struct world *w)
{
    world_connect(w, "shares", (struct connect_options){.expiry_s = NEVER, .receive_maximum = 1});
    world_subscribe_id(w, "shares", "$share/group/job/+", 1, 9);
    world_publish(w, "keeper", "job/1", "m", QOS_1);
    world_publish(w, "keeper", "job/2", "m", QOS_1);
    world_end(w, "shares", END_CLEAN);
}

static void given_wills_and_ends(struct world *w)
{
    world_connect(w, "mortal", (struct connect_options){.expiry_s = 3600, .will_topic = "w", .will_delay_s = 60,
                                                        .will_qos = 1, .will_retain = true});
    world_connect(w, "elsewhere", (struct connect_options){.expiry_s = 3600, .node = 2, .will_topic = "w"});
    world_end(w, "mortal", END_WITH_WILL);
    world_node_down(w, 2);
}

/* What operators have set up. */
static void given_users_and_roles(struct world *w)
{
    const struct command commands[] = {
        {.type = COMMAND_USER_ADD,
         .user = {.actor = bytes_text("op"), .name = bytes_text("ann"), .credential = bytes_text("$argon2id$")}},
        {.type = COMMAND_USER_QUOTA,
         .user = {.actor = bytes_text("op"), .name = bytes_text("ann"), .quota = {1, 2, 3, 4, 5}}},
        {.type = COMMAND_ROLE_ADD, .role = {.actor = bytes_text("op"), .name = bytes_text("reader")}},
        {.type = COMMAND_ROLE_RULE,
         .role = {.actor = bytes_text("op"), .name = bytes_text("reader"), .change = RULE_DENY, .rights = RIGHTS_ALL,
                  .priority = -7, .filter = bytes_text("a/%u/#")}},
        {.type = COMMAND_ROLE_GRANT,
         .role = {.actor = bytes_text("op"), .name = bytes_text("reader"), .user = bytes_text("ann"), .granted = true}},
        {.type = COMMAND_BAN,
         .ban = {.actor = bytes_text("op"), .kind = BAN_ADDRESS, .seconds = 60, .subject = bytes_text("192.0.2.1"),
                 .reason = bytes_text("why")}},
    };
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        world_apply_one(w, 1, &commands[i]);
}

/* A session ends with more rows than one step may delete. */
static void given_work_to_do(struct world *w)
{
    world_connect(w, "doomed", (struct connect_options){0});
    world_subscribe(w, "doomed", "doom", 1);
    struct command command = {
        .type = COMMAND_PUBLISH,
        .publish = {.owner = world_client(w, "keeper")->owner,
                    .message_expiry_s = UINT32_MAX,
                    .message = {.topic = bytes_text("doom"), .payload = bytes_text("m"), .qos = 1}},
    };
    world_begin(w, 1);
    for (unsigned i = 0; i < ROWS_PER_STEP + 2; i++)
        world_add(w, &command);
    world_apply(w);
    world_end(w, "doomed", END_CLEAN);
}

static void given_all_kinds_of_rows(struct world *w)
{
    w->reopen = false;
    given_retained(w);
    given_a_broadcast_queue(w);
    given_qos_2_both_ways(w);
    given_a_group(w);
    given_wills_and_ends(w);
    given_users_and_roles(w);
    given_work_to_do(w);
    assert_int_equal(state_commit(w->states[0]), STATUS_OK);
}

/* ---- rows as text ---- */

static void put_hex(struct buffer *out, struct bytes bytes)
{
    char digits[4];
    for (size_t i = 0; i < bytes.size; i++) {
        snprintf(digits, sizeof digits, "%02x", bytes.data[i]);
        buffer_put(out, digits, 2);
    }
}

static void put_rows(struct buffer *out, struct store *store)
{
    for (unsigned table = 0; table < TABLE_COUNT; table++) {
        const char *name = store_table_name((enum table)table);
        struct row row = {0};
        for (bool found = store_first_at(store, (enum table)table, row.key, &row); found;
             found = store_first_after(store, (enum table)table, row.key, &row)) {
            buffer_put(out, name, strlen(name));
            buffer_put_u8(out, ' ');
            put_hex(out, row.key);
            buffer_put_u8(out, ' ');
            put_hex(out, row.value);
            buffer_put_u8(out, '\n');
        }
    }
}

static enum table table_of(const char *name)
{
    for (unsigned table = 0; table < TABLE_COUNT; table++)
        if (strcmp(store_table_name((enum table)table), name) == 0)
            return (enum table)table;
    fail_msg("no table is called %s", name);
    return TABLE_META;
}

static void get_hex(struct buffer *out, const char *text)
{
    unsigned byte;
    buffer_clear(out);
    for (; sscanf(text, "%2x", &byte) == 1; text += 2)
        buffer_put_u8(out, (uint8_t)byte);
}

static void load_rows(struct store *store, char *text)
{
    struct buffer key = {0}, value = {0};
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = '\0';
        char *key_text = strchr(line, ' '), *value_text = strchr(key_text + 1, ' ');
        *key_text++ = *value_text++ = '\0';
        get_hex(&key, key_text);
        get_hex(&value, value_text);
        store_insert(store, table_of(line), buffer_bytes(&key), buffer_bytes(&value));
    }
    buffer_release(&key);
    buffer_release(&value);
}

static void read_golden(struct buffer *out)
{
    uint8_t part[4096];
    size_t size;
    FILE *file = fopen(GOLDEN, "r");
    if (file == NULL)
        fail_msg("%s is missing", GOLDEN);
    while ((size = fread(part, 1, sizeof part, file)) > 0)
        buffer_put(out, part, size);
    fclose(file);
}

static void write_golden(const struct buffer *text)
{
    FILE *file = fopen(GOLDEN, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text->data, 1, text->size, file), text->size);
    fclose(file);
}

/* ---- tests ---- */

static void the_rows_are_those_of_released_versions(void **state)
{
    struct world *w = *state;
    struct buffer rows = {0}, golden = {0};
    given_all_kinds_of_rows(w);
    put_rows(&rows, w->stores[0]);
    if (getenv("GOLDEN_WRITE") != NULL)
        write_golden(&rows);
    read_golden(&golden);
    size_t same = 0;
    while (same < rows.size && same < golden.size && rows.data[same] == golden.data[same])
        same++;
    if (rows.size != golden.size || same < rows.size) {
        while (same > 0 && rows.data[same - 1] != '\n')
            same--;
        fail_msg("the rows have changed; first difference:\n%.*s", 200, (const char *)rows.data + same);
    }
    buffer_release(&rows);
    buffer_release(&golden);
}

static void every_table_in_use_has_a_row(void **state)
{
    struct world *w = *state;
    given_all_kinds_of_rows(w);
    for (unsigned table = 0; table < TABLE_COUNT; table++) {
        struct row row;
        if (in_use(table) && !store_first_at(w->stores[0], (enum table)table, bytes_of(NULL, 0), &row))
            fail_msg("no row of %s", store_table_name((enum table)table));
    }
}

static void a_state_is_opened_from_them(void **state)
{
    struct world *w = *state;
    struct buffer golden = {0}, again = {0}, copy = {0};
    struct store *store;
    struct state *loaded;
    read_golden(&golden);
    buffer_put_bytes(&copy, buffer_bytes(&golden));
    buffer_put_u8(&copy, 0);
    assert_int_equal(store_open(&(struct store_options){0}, &store), STATUS_OK);
    load_rows(store, (char *)copy.data);
    assert_int_equal(state_open(store, 1, &loaded), STATUS_OK);
    const char *broken = state_check(loaded);
    if (broken != NULL)
        fail_msg("%s", broken);
    assert_int_equal(state_commit(loaded), STATUS_OK);
    put_rows(&again, store);
    assert_true(bytes_equal(buffer_bytes(&again), buffer_bytes(&golden)));
    state_close(loaded);

    /* And it goes on from there like one that was never closed. */
    given_all_kinds_of_rows(w);
    state_close(w->states[1]);
    store_close(w->stores[1]);
    w->stores[1] = store;
    assert_int_equal(state_open(store, 2, &w->states[1]), STATUS_OK);
    world_finish_work(w);
    world_tick(w, 7200 * 1000);
    world_drain(w, "two");
    buffer_release(&golden);
    buffer_release(&again);
    buffer_release(&copy);
}

#define WORLD(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD(the_rows_are_those_of_released_versions),
        WORLD(every_table_in_use_has_a_row),
        WORLD(a_state_is_opened_from_them),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    hash_set_secret(UINT64_C(0x5ec2e7)); /* another process: its tables lie otherwise, its rows are the same */
    return failed + cmocka_run_group_tests_name("with another secret", tests, NULL, NULL);
}
