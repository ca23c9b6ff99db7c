/* test_core_health.c — G8: a node that cannot commit; back-pressure; limits on memory; the parts of the core. */
#include "core_world.h"

#include "node/client/inflight.h"
#include "node/client/registry.h"
#include "node/client/timers.h"

/* ---- cut off ---- */

static void a_node_that_is_cut_off_sends_its_clients_elsewhere_before_it_is_declared_down(void **state)
{
    struct cores *cores = *state;
    struct device bob = given_client(cores, 2, 5, "bob"), old = given_client(cores, 2, 4, "old");
    const char *why = NULL;

    assert_true(core_ready(cores_core(cores, 2), &why));
    cores_cut(cores, 2, true);
    assert_false(core_ready(cores_core(cores, 2), &why));
    when_publishes(bob, "a", "x", 1, 1);
    cores_pass(cores, 1400);
    when_sends(bob, "c0");
    then_receives(bob, "d0"); /* held: alive, but nothing is acknowledged */
    then_open(old);
    cores_pass(cores, 200);
    then_receives(bob, "e0 9c (1c 'node1:1883 node3:1883')");
    then_closed(bob);
    then_closed(old);
}

static void a_connect_is_held_and_then_refused(void **state)
{
    struct cores *cores = *state;
    struct device bob = when_dials(cores, 2), old = when_dials(cores, 2);

    cores_cut(cores, 2, true);
    when_sends(bob, "10 'MQTT' 05 02 0000 () 'bob'");
    when_sends(old, "10 'MQTT' 04 02 0000 'old'");
    cores_pass(cores, 1900);
    then_receives_nothing(bob);
    cores_pass(cores, 200); /* cut off, and it has had time to hear otherwise */
    then_receives(bob, "20 00 9c (1c 'node1:1883 node3:1883')");
    then_closed(bob);
    then_receives(old, "20 00 03");
    then_closed(old);
    assert_int_equal(node_stats(cores, 2).connects[CONNECT_REFUSED_UNAVAILABLE], 2);
}

static void a_node_that_knows_that_it_is_cut_off_refuses_at_once(void **state)
{
    struct cores *cores = *state;
    struct device bob, old;

    cores_cut(cores, 2, true);
    cores_pass(cores, 2100);
    bob = when_connects(cores, 2, 5, "bob", true, 0);
    then_receives(bob, "20 00 9c (1c 'node1:1883 node3:1883')");
    then_closed(bob);
    old = when_connects(cores, 2, 4, "old", true, 0);
    then_receives(old, "20 00 03");
    then_closed(old);
    cores_cut(cores, 2, false);
    given_client(cores, 2, 5, "bob");
}

static void a_node_that_stood_still_holds_a_connect_until_it_has_heard_its_leader(void **state)
{
    struct cores *cores = *state;
    struct device bob;

    cores_cut(cores, 2, true);
    cores_pass(cores, 1600); /* cut off, as far as it can tell for now */
    bob = when_connects(cores, 2, 5, "bob", true, 0);
    cores_pass(cores, 100);
    then_receives_nothing(bob);
    cores_cut(cores, 2, false);
    then_connack(bob, false, 0);
}

static void a_node_that_only_lags_holds_a_connect_for_as_long_as_configured(void **state)
{
    struct cores *cores = *state;
    struct device bob = given_client(cores, 2, 5, "other"), held;

    cores_lag(cores, 2, true); /* the leader is heard */
    when_publishes(bob, "a", "x", 1, 1);
    held = when_connects(cores, 2, 4, "held", true, 0);
    cores_pass(cores, 4900);
    then_receives_nothing(held);
    then_open(held);
    cores_lag(cores, 2, false);
    then_connack(held, false, 0);
}

static void alone_it_says_unavailable(void **state)
{
    struct cores *cores = cores_new(1, NULL, NULL);
    struct device bob = when_dials(cores, 1);

    (void)state;
    cores_cut(cores, 1, true);
    when_sends(bob, "10 'MQTT' 05 02 0000 () 'bob'");
    cores_pass(cores, 5100);
    then_receives(bob, "20 00 88 ()");
    then_closed(bob);
    cores_free(cores);
}

static void a_held_connect_goes_on_when_the_node_is_back(void **state)
{
    struct cores *cores = *state;
    struct device bob = when_dials(cores, 2);

    cores_cut(cores, 2, true);
    when_sends(bob, "10 'MQTT' 05 02 0000 () 'bob'");
    when_sends(bob, "c0");
    cores_pass(cores, 1900);
    then_receives_nothing(bob);
    cores_cut(cores, 2, false);
    then_connack(bob, false, 0);
    then_receives(bob, "d0");
}

static void a_connect_on_its_way_is_not_told_no_and_leaves_no_will_behind(void **state)
{
    struct cores *cores = *state;
    struct device carol = given_client(cores, 1, 4, "carol"), bob = when_dials(cores, 2);

    when_subscribes(cores, carol, "will", 1);
    cores_lag(cores, 2, true); /* the leader is heard, but nothing is applied here */
    when_sends(bob, "10 'MQTT' 05 0e 0000 () 'bob' () 'will' 'gone'");
    cores_cut(cores, 2, true);
    cores_pass(cores, 5100);
    then_receives_nothing(bob); /* it will be the owner yet */
    then_closed(bob);
    cores_lag(cores, 2, false);
    cores_cut(cores, 2, false);
    cores_pass(cores, 100);
    then_receives_nothing(carol);
    bob = when_connects(cores, 3, 5, "bob", false, 0);
    then_connack(bob, false, 0);
}

static void what_was_published_while_cut_off_is_committed_once_when_the_node_is_back_in_time(void **state)
{
    struct cores *cores = *state;
    struct device carol = given_client(cores, 3, 4, "carol"), alice = given_client(cores, 2, 4, "alice");

    when_subscribes(cores, carol, "a", 1);
    cores_cut(cores, 2, true);
    when_publishes(alice, "a", "held", 1, 1);
    when_publishes(alice, "a", "held too", 1, 2);
    cores_pass(cores, 1000);
    then_receives_nothing(alice);
    cores_cut(cores, 2, false);
    then_answered(alice, 0x40, 1);
    then_answered(alice, 0x40, 2);
    then_message(carol, "a", "held", 1, 0);
    then_message(carol, "a", "held too", 1, 0);
    then_receives_nothing(carol);
}

static void qos0_goes_on_between_clients_of_a_node_that_is_cut_off(void **state)
{
    struct cores *cores = *state;
    struct device bob = given_client(cores, 2, 4, "bob"), alice = given_client(cores, 2, 4, "alice");

    when_subscribes(cores, bob, "a", 0);
    cores_cut(cores, 2, true);
    when_publishes(alice, "a", "x", 0, 0);
    then_message(bob, "a", "x", 0, 0);
}

static void an_installed_snapshot_closes_all_clients_and_begins_a_new_life(void **state)
{
    struct cores *cores = *state;
    struct device alice = given_client(cores, 1, 4, "alice"), bob = given_session(cores, 2, 5, "bob");
    bool up = false;
    uint64_t epoch = state_node_epoch(core_state(cores_core(cores, 1)), 2, &up);

    when_subscribes(cores, bob, "a", 1);
    cores_lag(cores, 2, true);
    when_published(alice, "a", "missed", 1);
    cores_lag(cores, 3, true); /* so that nothing is settled by chance */
    cores_replace_state(cores, 2);
    cores_lag(cores, 3, false);
    cores_lag(cores, 2, false);
    then_receives(bob, "e0 9c (1c 'node1:1883 node3:1883')");
    then_closed(bob);
    assert_true(state_node_epoch(core_state(cores_core(cores, 1)), 2, &up) > epoch);
    assert_true(up);
    bob = when_resumes(cores, 2, 5, "bob");
    then_message(bob, "a", "missed", 1, DUPLICATE); /* it might have been sent, for all the others know */
}

static void who_was_there_before_a_new_life_and_connects_in_it_has_an_end_and_a_will(void **state)
{
    struct cores *cores = *state;
    struct device carol = given_client(cores, 1, 4, "carol"), bob = when_dials(cores, 2);

    when_subscribes(cores, carol, "will", 1);
    cores_replace_state(cores, 2);
    when_sends(bob, "10 'MQTT' 05 0e 0000 () 'bob' () 'will' 'gone'");
    then_connack(bob, false, 0);
    line_drop(bob.line);
    then_message(carol, "will", "gone", 1, 0);
}

/* ---- back-pressure ---- */

static void a_publisher_whose_commands_wait_is_not_read(void **state)
{
    struct core_limits limits = {.client_commands_max = 10};
    struct cores *cores = cores_new(2, &limits, NULL);
    struct device alice = given_client(cores, 2, 4, "alice");
    struct buffer many = {0};

    (void)state;
    for (int i = 1; i <= 30; i++) {
        char notation[40];
        struct buffer one;

        snprintf(notation, sizeof(notation), "32 'a' %04x <x>", i);
        one = packet(notation);
        buffer_put_bytes(&many, buffer_bytes(&one));
        buffer_release(&one);
    }
    cores_lag(cores, 2, true);
    when_sends_bytes(alice, many);
    then_receives_nothing(alice);
    assert_false(line_read(alice.line));
    assert_int_equal(node_stats(cores, 2).paused_clients, 1);
    assert_int_equal(node_stats(cores, 2).commands_pending, 10);
    cores_lag(cores, 2, false);
    for (uint16_t i = 1; i <= 30; i++)
        then_answered(alice, 0x40, i);
    assert_true(line_read(alice.line));
    assert_int_equal(node_stats(cores, 2).paused_clients, 0);
    cores_free(cores);
}

static void all_publishers_wait_when_too_much_is_on_its_way_together(void **state)
{
    struct core_limits limits = {.commands_bytes_max = 4000};
    struct cores *cores = cores_new(2, &limits, NULL);
    struct device devices[20];

    (void)state;
    for (uint32_t i = 0; i < 20; i++) {
        char id[8];

        snprintf(id, sizeof(id), "d%u", (unsigned)i);
        devices[i] = given_client(cores, 2, 4, id);
    }
    cores_lag(cores, 2, true);
    for (uint32_t i = 0; i < 20; i++) {
        for (uint16_t n = 1; n <= 20; n++)
            when_publishes(devices[i], "a", "0123456789012345678901234567890123456789", 1, n);
    }
    assert_true(node_stats(cores, 2).commands_pending_bytes < 4200);
    assert_true(node_stats(cores, 2).paused_clients > 10);
    cores_lag(cores, 2, false);
    for (uint32_t i = 0; i < 20; i++) {
        for (uint16_t n = 1; n <= 20; n++)
            then_answered(devices[i], 0x40, n);
    }
    cores_free(cores);
}

static void input_of_all_clients_together_is_bounded(void **state)
{
    struct core_limits limits = {.memory_bytes_max = 200000};
    struct cores *cores = cores_new(1, &limits, NULL);
    struct device devices[10];
    struct buffer part = raw("30 ffff07 'a'");
    uint32_t closed = 0;

    (void)state;
    while (part.size < 50000)
        buffer_put_u8(&part, 'x');
    for (uint32_t i = 0; i < 10; i++) {
        char id[8];

        snprintf(id, sizeof(id), "d%u", (unsigned)i);
        devices[i] = given_client(cores, 1, 4, id);
        line_send(devices[i].line, buffer_bytes(&part));
        closed += line_closed(devices[i].line);
    }
    assert_int_equal(closed, 6);
    assert_true(node_stats(cores, 1).input_bytes <= 200000);
    buffer_release(&part);
    cores_free(cores);
}

static void who_does_not_read_its_answers_is_not_read_either(void **state)
{
    struct core_limits limits = {.output_bytes_max = 1000};
    struct cores *cores = cores_new(1, &limits, NULL);
    struct device bob = given_client(cores, 1, 4, "bob");
    uint32_t answers = 0;

    (void)state;
    line_stop(bob.line, true);
    for (uint32_t i = 0; i < 1000; i++)
        when_sends(bob, "c0");
    assert_false(line_read(bob.line));
    assert_true(node_stats(cores, 1).output_bytes < 1100);
    line_stop(bob.line, false);
    for (; line_received(bob.line).size > 0; answers++)
        then_receives(bob, "d0");
    assert_int_equal(answers, 1000); /* in this world what is sent after the stop arrives all the same */
    assert_true(line_read(bob.line));
    cores_free(cores);
}

/* ---- packet ids ---- */

static void a_packet_id_in_use_is_waited_for_and_after_a_while_ends_the_connection(void **state)
{
    struct core_limits limits = {.collision_ms = 2000};
    struct cores *cores = cores_new(1, &limits, NULL);
    struct device bob = given_client(cores, 1, 5, "bob"), alice = given_client(cores, 1, 4, "alice");
    struct device silent = given_client(cores, 1, 5, "silent");
    uint16_t id;

    (void)state;
    when_subscribes(cores, bob, "a", 1);
    when_subscribes(cores, silent, "a", 1);
    when_published(alice, "a", "first", 1);
    id = then_message(bob, "a", "first", 1, 0);
    assert_int_equal(then_message(silent, "a", "first", 1, 0), id);
    for (uint32_t i = 1; i < PACKET_IDS; i++) { /* nobody wants these, but they are numbered */
        struct buffer publish = packet("32 'b' 0001 <x>");

        line_send_quietly(alice.line, buffer_bytes(&publish));
        buffer_release(&publish);
        if (i % 500 == 0)
            cores_settle(cores);
    }
    cores_settle(cores);
    line_take(alice.line, line_received(alice.line).size);
    when_published(alice, "a", "same id", 1);
    cores_pass(cores, 1000);
    then_receives_nothing(bob);
    when_answers(bob, 0x40, id);
    cores_pass(cores, 30);
    assert_int_equal(then_message(bob, "a", "same id", 1, 0), id);
    cores_pass(cores, 1100);
    then_open(bob);
    then_receives(silent, "e0 80");
    then_closed(silent);
    cores_free(cores);
}

/* ---- parts ---- */

static void timers_fire_late_by_a_step_at_most_and_never_early(void **state)
{
    static struct timers timers;
    static struct timer all[500];
    uint32_t fired = 0;
    uint64_t seed = 7;

    (void)state;
    timers_init(&timers, 1000);
    for (uint32_t i = 0; i < 500; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        timers_set(&timers, &all[i], 1000 + (seed >> 33) % 300000);
    }
    for (uint32_t i = 0; i < 500; i += 7)
        timers_clear(&timers, &all[i]);
    for (uint64_t now = 1000; now < 310000;) {
        struct timer *timer;

        while ((timer = timers_expire(&timers, now)) != NULL) {
            assert_true(timer->at_ms <= now && now - timer->at_ms <= TIMERS_STEP_MS);
            fired++;
        }
        if (timers_next_ms(&timers) == UINT64_MAX)
            break;
        assert_true(timers_next_ms(&timers) > now);
        now = timers_next_ms(&timers);
    }
    assert_int_equal(fired, 500 - 72);
}

static void a_registry_finds_by_number_and_forgets(void **state)
{
    struct registry registry = {0};
    uint64_t numbers[200];
    uint32_t slot = 0, count = 0;

    (void)state;
    for (uintptr_t i = 0; i < 200; i++) {
        numbers[i] = registry_take(&registry);
        registry_set(&registry, numbers[i], (struct client *)(i + 1));
    }
    for (uint32_t i = 0; i < 200; i += 2)
        registry_remove(&registry, numbers[i]);
    for (uint32_t i = 0; i < 200; i++)
        assert_ptr_equal(registry_find(&registry, numbers[i]), i % 2 == 0 ? NULL : (void *)(uintptr_t)(i + 1));
    assert_int_not_equal(registry_take(&registry), numbers[0]);
    while (registry_next(&registry, &slot) != NULL)
        count++;
    assert_int_equal(count, 100);
    registry_release(&registry);
}

static struct bytes acknowledged(struct inflight *inflight, struct buffer *own, struct buffer *broadcast,
                                 uint32_t *broadcast_count)
{
    uint32_t own_count = 0;

    buffer_clear(own);
    buffer_clear(broadcast);
    assert_true(inflight_acknowledge(inflight, own, &own_count, broadcast, broadcast_count));
    return buffer_bytes(own);
}

static void packet_ids_go_round_and_are_never_zero(void **state)
{
    const uint64_t edges[] = {0, PACKET_IDS - 1, PACKET_IDS, 65534, 65535, 65536, 65537, INT32_MAX, UINT32_MAX, UINT64_MAX / 2};

    (void)state;
    for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
        struct inflight inflight = {0};
        uint64_t first = edges[i] < 4 ? 1 : edges[i] - 3;

        for (uint64_t order = first; order < first + 8; order++) {
            assert_in_range(packet_id_of(order), 1, 65535);
            assert_int_equal(packet_id_of(order), packet_id_of(order + PACKET_IDS));
            assert_int_not_equal(packet_id_of(order), packet_id_of(order + 1));
            assert_false(inflight_id_taken(&inflight, order));
            inflight_add(&inflight, order, 1, DELIVERY_SENT, NULL, NULL, 0)->own = true;
        }
        for (uint64_t order = first; order < first + 8; order++) {
            assert_int_equal(inflight_find_id(&inflight, packet_id_of(order))->order, order);
            assert_true(inflight_id_taken(&inflight, order + PACKET_IDS));
        }
        inflight_release(&inflight);
    }
}

static void acknowledgements_say_what_is_done_and_what_is_not(void **state)
{
    struct inflight inflight = {0};
    struct buffer own = {0}, broadcast = {0};
    const uint64_t filter = 9;
    uint32_t count = 0;
    static const uint8_t own_wanted[] = {3, 2}, broadcast_wanted[] = {9, 7, 2, 4, 2};

    (void)state;
    for (uint64_t order = 3; order <= 8; order++) {
        bool of_filter = order % 2 == 0 || order == 7;

        inflight_add(&inflight, order, 1, DELIVERY_SENT, NULL, &filter, of_filter ? 1 : 0)->own = !of_filter;
    }
    assert_int_equal(inflight.unacknowledged, 6);
    inflight_acked(&inflight, inflight_find_id(&inflight, packet_id_of(5)));
    inflight_acked(&inflight, inflight_find_id(&inflight, packet_id_of(7)));
    inflight_acked(&inflight, inflight_find_id(&inflight, packet_id_of(3)));
    assert_int_equal(inflight.unacknowledged, 3);
    acknowledged(&inflight, &own, &broadcast, &count);
    assert_int_equal(own.size, sizeof(own_wanted)); /* 3, and 2 further */
    assert_memory_equal(own.data, own_wanted, own.size);
    assert_int_equal(count, 1); /* filter 9, up to 7, except two: 4, and 2 further */
    assert_int_equal(broadcast.size, sizeof(broadcast_wanted));
    assert_memory_equal(broadcast.data, broadcast_wanted, broadcast.size);
    assert_int_equal(inflight.count, 6);
    inflight_acks_done(&inflight);
    assert_int_equal(inflight.count, 5); /* 3 has left; 5 and 7 lie behind 4 and 6 */
    assert_null(inflight_find_id(&inflight, packet_id_of(5)));
    assert_false(inflight_id_taken(&inflight, 5 + PACKET_IDS));
    assert_true(inflight_id_taken(&inflight, 4 + PACKET_IDS));
    inflight_release(&inflight);
    buffer_release(&own);
    buffer_release(&broadcast);
}

#define ON_THREE_NODES(test) cmocka_unit_test_setup_teardown(test, world_of_three, world_free)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_THREE_NODES(a_node_that_is_cut_off_sends_its_clients_elsewhere_before_it_is_declared_down),
        ON_THREE_NODES(a_connect_is_held_and_then_refused),
        cmocka_unit_test_setup_teardown(a_node_that_knows_that_it_is_cut_off_refuses_at_once, world_of_three,
                                        world_free),
        cmocka_unit_test_setup_teardown(a_node_that_stood_still_holds_a_connect_until_it_has_heard_its_leader, world_of_three,
                                        world_free),
        cmocka_unit_test_setup_teardown(a_node_that_only_lags_holds_a_connect_for_as_long_as_configured, world_of_three,
                                        world_free),
        cmocka_unit_test(alone_it_says_unavailable),
        ON_THREE_NODES(a_held_connect_goes_on_when_the_node_is_back),
        ON_THREE_NODES(a_connect_on_its_way_is_not_told_no_and_leaves_no_will_behind),
        ON_THREE_NODES(what_was_published_while_cut_off_is_committed_once_when_the_node_is_back_in_time),
        ON_THREE_NODES(qos0_goes_on_between_clients_of_a_node_that_is_cut_off),
        ON_THREE_NODES(an_installed_snapshot_closes_all_clients_and_begins_a_new_life),
        ON_THREE_NODES(who_was_there_before_a_new_life_and_connects_in_it_has_an_end_and_a_will),
        cmocka_unit_test(a_publisher_whose_commands_wait_is_not_read),
        cmocka_unit_test(all_publishers_wait_when_too_much_is_on_its_way_together),
        cmocka_unit_test(input_of_all_clients_together_is_bounded),
        cmocka_unit_test(a_packet_id_in_use_is_waited_for_and_after_a_while_ends_the_connection),
        cmocka_unit_test(who_does_not_read_its_answers_is_not_read_either),
        cmocka_unit_test(timers_fire_late_by_a_step_at_most_and_never_early),
        cmocka_unit_test(a_registry_finds_by_number_and_forgets),
        cmocka_unit_test(packet_ids_go_round_and_are_never_zero),
        cmocka_unit_test(acknowledgements_say_what_is_done_and_what_is_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
