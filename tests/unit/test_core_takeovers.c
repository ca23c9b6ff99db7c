/* test_core_takeovers.c — clients that take one client id from each other are slowed down; who comes back once is not. */
#include "core_world.h"

#include "node/client/takeovers.h"
#include "node/client/timers.h"

#define LATE_MS (2 * TIMERS_STEP_MS) /* a timer may be */

static uint64_t slowed(struct cores *cores)
{
    uint64_t count = 0;

    for (uint32_t node = 1; node <= 3; node++) {
        struct core_stats stats;

        core_stats(cores_core(cores, node), &stats);
        count += stats.limits[LIMIT_TAKE_OVERS];
    }
    return count;
}

/* Two clients that come back at once whenever they are thrown out, one at each of two nodes (or the same): so often. */
static struct device given_flapping(struct cores *cores, uint32_t one, uint32_t other, const char *id, uint32_t times)
{
    struct device last = given_client(cores, one, 4, id);

    for (uint32_t i = 0; i < times; i++) {
        struct device next = when_connects(cores, i % 2 == 0 ? other : one, 4, id, true, 0);

        then_connack(next, false, 0);
        then_closed(last);
        last = next;
    }
    return last;
}

static void a_pair_at_one_node_is_slowed_down_more_and_more(void **state)
{
    static const uint64_t rests_ms[] = {1000, 2000, 4000, 8000, 16000, 16000};
    struct cores *cores = *state;
    struct device last = given_flapping(cores, 2, 2, "pair", 4); /* the first take-over is not hasty */

    for (size_t i = 0; i < sizeof(rests_ms) / sizeof(rests_ms[0]); i++) {
        struct device next = when_connects(cores, 2, 4, "pair", true, 0);
        uint64_t taken_ms = cores_now_ms(cores);

        assert_int_equal(slowed(cores), i + 1);
        while (line_received(next.line).size == 0) {
            assert_true(cores_now_ms(cores) < taken_ms + rests_ms[i] + LATE_MS);
            then_open(last); /* it is served all the while */
            cores_pass(cores, 5);
        }
        assert_true(cores_now_ms(cores) >= taken_ms + rests_ms[i]);
        then_connack(next, false, 0);
        then_closed(last);
        last = next;
    }
}

static void a_pair_at_two_nodes_is_slowed_down_at_both(void **state)
{
    struct cores *cores = *state;
    struct device last = given_flapping(cores, 1, 3, "pair", 7); /* one more is hasty at node 3 than at node 1 */
    struct device next = when_connects(cores, 3, 4, "pair", true, 0);

    then_receives_nothing(next);
    cores_pass(cores, 1000 + LATE_MS);
    then_connack(next, false, 0);
    then_closed(last);
    last = when_connects(cores, 1, 4, "pair", true, 0);
    then_receives_nothing(last);
    cores_pass(cores, 1000 + LATE_MS);
    then_connack(last, false, 0);
    then_closed(next);
    assert_int_equal(slowed(cores), 2);
}

static void whoever_waits_is_turned_away_by_a_node_that_stops(void **state)
{
    struct cores *cores = *state;
    struct device last = given_flapping(cores, 2, 2, "pair", 4), next = when_connects(cores, 2, 5, "pair", true, 0);

    then_receives_nothing(next);
    core_stop(cores_core(cores, 2), cores_now_ms(cores));
    cores_settle(cores);
    then_connack(next, false, 0x88); /* CONNACK does not know 0x8B */
    then_closed(next);
    then_closed(last);
}

static void whoever_waits_is_refused_if_another_one_was_faster(void **state)
{
    struct cores *cores = *state;
    struct device last = given_flapping(cores, 2, 2, "pair", 4);
    struct device slow = when_connects(cores, 2, 5, "pair", true, 0), old = when_connects(cores, 2, 4, "pair", true, 0);
    struct device fast;

    cores_pass(cores, 5);
    fast = when_connects(cores, 3, 4, "pair", true, 0); /* where nobody was hasty */
    then_connack(fast, false, 0);
    then_closed(last);
    then_receives_nothing(slow);
    cores_pass(cores, 1000 + LATE_MS);
    then_connack(slow, false, 0x9f);
    then_closed(slow);
    cores_pass(cores, 1000 + LATE_MS);
    then_connack(old, false, 3);
    then_closed(old);
    then_open(fast);
}

static void who_comes_back_once_never_waits(void **state)
{
    struct cores *cores = *state;
    struct device last = given_session(cores, 1, 4, "lone");

    for (uint32_t i = 0; i < 200; i++) { /* its former connection is still there each time */
        struct device next;

        cores_pass(cores, 1000);
        next = when_resumes(cores, 1 + i % 3, 4, "lone");
        then_closed(last);
        last = next;
    }
    assert_int_equal(slowed(cores), 0);
}

static void who_says_goodbye_before_it_comes_back_takes_nothing_over(void **state)
{
    struct cores *cores = *state;

    for (uint32_t i = 0; i < 50; i++) {
        struct device device = given_client(cores, 1 + i % 3, 4, "polite");

        when_sends(device, "e0");
        then_closed(device);
    }
    assert_int_equal(slowed(cores), 0);
}

static void other_ids_are_not_slowed_down(void **state)
{
    struct cores *cores = *state;

    given_flapping(cores, 2, 2, "pair", 4);
    when_connects(cores, 2, 4, "pair", true, 0);
    assert_int_equal(slowed(cores), 1);
    given_flapping(cores, 2, 2, "other", 3);
    assert_int_equal(slowed(cores), 1);
}

static void a_pair_is_forgiven_after_minutes(void **state)
{
    struct cores *cores = *state;

    given_flapping(cores, 2, 2, "pair", 4);
    cores_pass(cores, 60000);
    given_flapping(cores, 2, 2, "pair", 1); /* of four hasty ones two are left */
    assert_int_equal(slowed(cores), 0);
}

static void who_leaves_while_it_waits_takes_nothing_over(void **state)
{
    struct cores *cores = *state;
    struct device last = given_flapping(cores, 2, 2, "pair", 4);
    struct device next = when_connects(cores, 2, 4, "pair", true, 0);

    line_drop(next.line);
    cores_pass(cores, 20000);
    then_open(last);
}

static void what_a_client_sends_behind_its_connect_waits_with_it(void **state)
{
    struct cores *cores = *state;
    struct device next;

    given_flapping(cores, 2, 2, "pair", 4);
    next = when_connects(cores, 2, 4, "pair", true, 0);
    when_sends(next, "c0");
    then_receives_nothing(next);
    cores_pass(cores, 1000 + LATE_MS);
    then_connack(next, false, 0);
    then_receives(next, "d0");
}

static void when_contended(struct cores *cores, const char *id)
{
    given_flapping(cores, 2, 2, id, 4);
    when_connects(cores, 2, 4, id, true, 0);
}

static void a_line_is_written_once_in_a_minute_for_each_id(void **state)
{
    struct cores *cores = *state;

    when_contended(cores, "first"); /* the line about all limits is written, too; so not now any more */
    when_contended(cores, "one");
    assert_non_null(strstr(cores_warning(cores, 2), "client id one: it rests for 1000 ms"));
    when_contended(cores, "two");
    assert_non_null(strstr(cores_warning(cores, 2), "client id two: it rests for 1000 ms"));
    when_connects(cores, 2, 4, "one", true, 0);
    assert_non_null(strstr(cores_warning(cores, 2), "client id two"));
    cores_pass(cores, 59900);
    when_connects(cores, 2, 4, "one", true, 0); /* takes it over, */
    for (int i = 0; i < 8; i++)
        when_connects(cores, 2, 4, "one", true, 0); /* and these would */
    assert_null(strstr(cores_warning(cores, 2), "client id one"));
    cores_pass(cores, 100);
    when_connects(cores, 2, 4, "one", true, 0);
    assert_non_null(strstr(cores_warning(cores, 2), "client id one"));
}

static void the_table_has_room_for_whoever_is_noisy_now(void **state)
{
    struct takeovers *takeovers = takeovers_new(1000, 42);
    char name[20];

    (void)state;
    for (uint64_t i = 0; i < 100000; i++) { /* a fleet comes back, once each */
        snprintf(name, sizeof(name), "device-%llu", (unsigned long long)i);
        takeovers_note(takeovers, bytes_text(name), i);
    }
    for (uint64_t now_ms = 200000; now_ms < 200003; now_ms++) {
        takeovers_note(takeovers, bytes_text("pair"), now_ms);
        assert_int_equal(takeovers_wait_ms(takeovers, bytes_text("pair"), now_ms), 0);
    }
    assert_int_equal(takeovers_wait_ms(takeovers, bytes_text("pair"), 200003), 999);
    assert_int_equal(takeovers_wait_ms(takeovers, bytes_text("device-99999"), 200003), 0);
    assert_int_equal(takeovers_wait_ms(takeovers, bytes_text("nobody"), 200003), 0);
    takeovers_free(takeovers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_pair_at_one_node_is_slowed_down_more_and_more, world_of_three, world_free),
        cmocka_unit_test_setup_teardown(a_pair_at_two_nodes_is_slowed_down_at_both, world_of_three, world_free),
        cmocka_unit_test_setup_teardown(whoever_waits_is_turned_away_by_a_node_that_stops, world_of_three, world_free),
        cmocka_unit_test_setup_teardown(whoever_waits_is_refused_if_another_one_was_faster, world_of_three, world_free),
        cmocka_unit_test_setup_teardown(who_comes_back_once_never_waits, world_of_three, world_free),
        cmocka_unit_test_setup_teardown(who_says_goodbye_before_it_comes_back_takes_nothing_over, world_of_three, world_free),
        cmocka_unit_test_setup_teardown(other_ids_are_not_slowed_down, world_of_three, world_free),
        cmocka_unit_test_setup_teardown(a_pair_is_forgiven_after_minutes, world_of_three, world_free),
        cmocka_unit_test_setup_teardown(who_leaves_while_it_waits_takes_nothing_over, world_of_three, world_free),
        cmocka_unit_test_setup_teardown(what_a_client_sends_behind_its_connect_waits_with_it, world_of_three, world_free),
        cmocka_unit_test_setup_teardown(a_line_is_written_once_in_a_minute_for_each_id, world_of_three, world_free),
        cmocka_unit_test(the_table_has_room_for_whoever_is_noisy_now),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
