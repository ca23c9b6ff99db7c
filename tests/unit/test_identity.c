/* test_identity.c — a node is made once, when asked, and never mistaken for another one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "storage/identity.h"
#include "tests/sim/world/disk_sim.h"

static const struct identity_places places = {"/data", "/log"};
static const struct identity node_2 = {.cluster_id = {1, 2, 3}, .node_id = 2, .incarnation = 77};

static int setup(void **state)
{
    *state = disk_sim_new(&(struct disk_sim_options){.seed = 1});
    return 0;
}

static int teardown(void **state)
{
    disk_sim_free(*state);
    return 0;
}

static enum status load(struct disk_sim *sim, uint32_t node_id, struct identity *identity, struct identity_fault *fault)
{
    return identity_load(disk_sim_disk(sim), &places, node_id, identity, fault);
}

static void given_node_2(struct disk_sim *sim)
{
    struct identity_fault fault;
    assert_int_equal(identity_create(disk_sim_disk(sim), &places, &node_2, &fault), STATUS_OK);
}

static void an_identity_survives_a_power_loss_right_after_its_creation(void **state)
{
    given_node_2(*state);
    disk_sim_crash(*state);
    struct identity identity;
    struct identity_fault fault;
    assert_int_equal(load(*state, 2, &identity, &fault), STATUS_OK);
    assert_true(identity_equal(&identity, &node_2));
    assert_string_equal(fault.text, "");
}

static void empty_directories_are_no_node_and_stay_empty(void **state)
{
    struct identity identity;
    struct identity_fault fault;
    assert_int_equal(load(*state, 2, &identity, &fault), STATUS_NOT_FOUND);
    assert_non_null(strstr(fault.text, "Bootstrap a new cluster or join one"));
    assert_int_equal(disk_sim_content(*state, "/data/identity").size, 0);
}

static void a_node_whose_log_disk_was_emptied_is_refused_and_told_how_to_be_replaced(void **state)
{
    given_node_2(*state);
    assert_int_equal(disk_unlink(disk_sim_disk(*state), "/log/identity"), STATUS_OK);
    struct identity identity;
    struct identity_fault fault;
    assert_int_equal(load(*state, 2, &identity, &fault), STATUS_DAMAGED);
    assert_non_null(strstr(fault.text, "/log/identity is missing"));
    assert_non_null(strstr(fault.text, "coterie --replace NUMBER"));
}

static void a_node_whose_data_disk_was_emptied_is_refused_too(void **state)
{
    given_node_2(*state);
    assert_int_equal(disk_unlink(disk_sim_disk(*state), "/data/identity"), STATUS_OK);
    struct identity identity;
    struct identity_fault fault;
    assert_int_equal(load(*state, 2, &identity, &fault), STATUS_DAMAGED);
    assert_non_null(strstr(fault.text, "/data/identity is missing"));
}

static void an_identity_is_never_made_over_another_one_whatever_its_state(void **state)
{
    given_node_2(*state);
    disk_unlink(disk_sim_disk(*state), "/data/identity");
    disk_sim_flip(*state, "/log/identity", 3, 1);
    struct identity other = node_2;
    other.incarnation = 78;
    struct identity_fault fault;
    assert_int_equal(identity_create(disk_sim_disk(*state), &places, &other, &fault), STATUS_EXISTS);
    assert_non_null(strstr(fault.text, "/log/identity exists"));
}

static void the_configured_node_id_must_be_the_stored_one(void **state)
{
    given_node_2(*state);
    struct identity identity;
    struct identity_fault fault;
    assert_int_equal(load(*state, 3, &identity, &fault), STATUS_INVALID);
    assert_non_null(strstr(fault.text, "belongs to node 2"));
}

static void two_directories_of_different_nodes_are_refused(void **state)
{
    given_node_2(*state);
    struct disk_sim *other = disk_sim_new(&(struct disk_sim_options){.seed = 2});
    struct identity replaced = node_2;
    struct identity identity;
    struct identity_fault fault;
    replaced.incarnation = 78;
    assert_int_equal(identity_create(disk_sim_disk(other), &places, &replaced, &fault), STATUS_OK);
    disk_sim_put(*state, "/log/identity", disk_sim_content(other, "/log/identity"));
    disk_sim_free(other);
    assert_int_equal(load(*state, 2, &identity, &fault), STATUS_INVALID);
    assert_non_null(strstr(fault.text, "two different nodes"));
}

static void no_flipped_bit_goes_unnoticed(void **state)
{
    given_node_2(*state);
    struct identity identity;
    struct identity_fault fault;
    size_t size = disk_sim_content(*state, "/data/identity").size;
    for (size_t i = 0; i < 8 * size; i++) {
        disk_sim_flip(*state, "/data/identity", i / 8, (uint8_t)(1u << i % 8));
        assert_int_equal(load(*state, 2, &identity, &fault), STATUS_CORRUPT);
        disk_sim_flip(*state, "/data/identity", i / 8, (uint8_t)(1u << i % 8));
    }
    assert_int_equal(load(*state, 2, &identity, &fault), STATUS_OK);
}

static void a_creation_that_power_loss_interrupts_leaves_all_or_a_refusal(void **state)
{
    (void)state;
    for (uint64_t skip = 0; skip < 8; skip++) {
        struct disk_sim *sim = disk_sim_new(&(struct disk_sim_options){.seed = skip});
        struct identity identity;
        struct identity_fault fault;
        disk_sim_fail(sim, DISK_SIM_SYNC, skip / 2, STATUS_IO_ERROR, skip % 2 == 0);
        disk_sim_fail(sim, DISK_SIM_SYNC_DIRECTORY, skip / 2, STATUS_IO_ERROR, true);
        enum status created = identity_create(disk_sim_disk(sim), &places, &node_2, &fault);
        disk_sim_crash(sim);
        disk_sim_heal(sim);
        enum status loaded = load(sim, 2, &identity, &fault);
        if (created == STATUS_OK || loaded == STATUS_OK) {
            assert_int_equal(loaded, STATUS_OK);
            assert_true(identity_equal(&identity, &node_2));
        } else {
            assert_true(loaded == STATUS_NOT_FOUND || loaded == STATUS_DAMAGED || loaded == STATUS_CORRUPT);
        }
        disk_sim_free(sim);
    }
}

static void the_text_of_an_identity_names_cluster_node_and_incarnation(void **state)
{
    (void)state;
    char text[IDENTITY_TEXT_SIZE];
    identity_text(&node_2, text);
    assert_string_equal(text, "01020300000000000000000000000000-node-2-000000000000004d");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_identity_survives_a_power_loss_right_after_its_creation, setup, teardown),
        cmocka_unit_test_setup_teardown(empty_directories_are_no_node_and_stay_empty, setup, teardown),
        cmocka_unit_test_setup_teardown(a_node_whose_log_disk_was_emptied_is_refused_and_told_how_to_be_replaced, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_node_whose_data_disk_was_emptied_is_refused_too, setup, teardown),
        cmocka_unit_test_setup_teardown(an_identity_is_never_made_over_another_one_whatever_its_state, setup, teardown),
        cmocka_unit_test_setup_teardown(the_configured_node_id_must_be_the_stored_one, setup, teardown),
        cmocka_unit_test_setup_teardown(two_directories_of_different_nodes_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(no_flipped_bit_goes_unnoticed, setup, teardown),
        cmocka_unit_test(a_creation_that_power_loss_interrupts_leaves_all_or_a_refusal),
        cmocka_unit_test(the_text_of_an_identity_names_cluster_node_and_incarnation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
