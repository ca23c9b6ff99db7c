/* test_broker_data.c — a node starts from the directory it had, or says why not. */
#include "node/data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

struct world {
    char directory[64];
    struct config *config;
    struct data data;
    char error[DATA_ERROR_MAX];
};

/* Jobs run at once and end when the test says so; data_open itself needs none. */
static struct disk_job *jobs;

static void keep_job(void *context, struct disk_job *job)
{
    (void)context;
    job->next = jobs;
    jobs = job;
}

static void when_jobs_are_done(void)
{
    while (jobs != NULL) {
        struct disk_job *job = jobs;
        jobs = job->next;
        disk_job_run(job);
        disk_job_done(job);
    }
}

static int given_a_directory(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    char error[CONFIG_ERROR_MAX];
    strcpy(w->directory, "/tmp/coterie-data-XXXXXX");
    assert_non_null(mkdtemp(w->directory));
    assert_int_equal(config_load(NULL, NULL, &w->config, error), STATUS_OK);
    free(w->config->node.data_dir);
    w->config->node.data_dir = malloc(128);
    snprintf(w->config->node.data_dir, 128, "%s/a/b", w->directory);
    w->config->cluster.bootstrap = true;
    *state = w;
    return 0;
}

static int remove_directory(void **state)
{
    struct world *w = *state;
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", w->directory);
    assert_int_equal(system(command), 0);
    config_free(w->config);
    free(w);
    return 0;
}

static enum status when_opened(struct world *w)
{
    const struct data_log log = {.queue = {.submit = keep_job}};
    return data_open(w->config, &log, &w->data, w->error);
}

static void when_closed(struct world *w)
{
    when_jobs_are_done();
    data_close(&w->data);
}

static void given_a_node(struct world *w)
{
    assert_int_equal(when_opened(w), STATUS_OK);
    assert_true(w->data.created);
    when_closed(w);
}

static void given_emptied(struct world *w, const char *inside)
{
    char command[256];
    snprintf(command, sizeof(command), "rm -rf '%s'/%s", w->config->node.data_dir, inside);
    assert_int_equal(system(command), 0);
}

static void then_refused(struct world *w, const char *sentence)
{
    assert_int_not_equal(when_opened(w), STATUS_OK);
    if (strstr(w->error, sentence) == NULL)
        fail_msg("expected '%s', got: %s", sentence, w->error);
}

static void a_node_is_made_only_when_asked_for(void **state)
{
    struct world *w = *state;
    w->config->cluster.bootstrap = false;
    then_refused(w, "there is no node in");
    w->config->cluster.bootstrap = true;
    assert_int_equal(when_opened(w), STATUS_OK);
    assert_true(w->data.created);
    when_closed(w);
}

static void the_second_start_finds_the_node_again(void **state)
{
    struct world *w = *state;
    given_a_node(w);
    struct identity first = w->data.identity;
    assert_int_equal(when_opened(w), STATUS_OK);
    assert_false(w->data.created);
    assert_true(identity_equal(&first, &w->data.identity));
    when_closed(w);
}

static void a_directory_serves_one_process_at_a_time(void **state)
{
    struct world *w = *state, other = *w;
    assert_int_equal(when_opened(w), STATUS_OK);
    then_refused(&other, "another process uses");
    when_closed(w);
}

static void the_data_of_another_cluster_is_refused(void **state)
{
    struct world *w = *state;
    given_a_node(w);
    strcpy(w->config->cluster.name, "another");
    then_refused(w, "belongs to another cluster");
}

static void the_data_of_another_node_is_refused(void **state)
{
    struct world *w = *state;
    given_a_node(w);
    w->config->node.id = 2;
    then_refused(w, "node 2");
}

static void a_wiped_directory_is_not_a_new_node(void **state)
{
    struct world *w = *state;
    given_a_node(w);
    given_emptied(w, "*");
    w->config->cluster.bootstrap = false;
    then_refused(w, "replace it");
}

static void a_log_disk_that_was_emptied_is_noticed(void **state)
{
    struct world *w = *state;
    given_a_node(w);
    given_emptied(w, "log/*");
    assert_int_not_equal(when_opened(w), STATUS_OK);
    assert_true(strlen(w->error) > 0);
}

static void a_store_that_is_gone_is_rebuilt_from_the_log(void **state)
{
    struct world *w = *state;
    given_a_node(w);
    given_emptied(w, "store/*");
    assert_int_equal(when_opened(w), STATUS_OK);
    assert_int_equal(state_applied(w->data.state), 0);
    when_closed(w);
}

/* As it is when a node dies after it has received a snapshot from the leader, and before it has installed it. */
static void given_a_received_snapshot(struct world *w, uint64_t index)
{
    struct store_options in_memory = {0};
    struct store *store;
    struct state *state;
    struct store_view *view;
    struct effects *effects = effects_new();
    struct snapshot_facts facts = {.index = index, .term = 3};
    memcpy(facts.cluster_id, w->data.identity.cluster_id, sizeof(facts.cluster_id));
    assert_int_equal(store_open(&in_memory, &store), STATUS_OK);
    assert_int_equal(state_open(store, w->config->node.id, &state), STATUS_OK);
    for (uint64_t i = 1; i <= index; i++)
        assert_int_equal(state_apply(state, i, 3, bytes_of(NULL, 0), effects), STATUS_OK);
    assert_int_equal(state_commit(state), STATUS_OK);
    assert_int_equal(store_view_open(store, &view), STATUS_OK);
    assert_int_equal(snapshot_write(w->data.snapshots_path, &facts, view, NULL), STATUS_OK);
    store_view_close(view);
    state_close(state);
    store_close(store);
    effects_free(effects);
}

static void a_snapshot_that_was_received_but_not_installed_is_installed_by_the_next_start(void **state)
{
    struct world *w = *state;
    given_a_node(w);
    given_a_received_snapshot(w, 40);
    assert_int_equal(when_opened(w), STATUS_OK);
    assert_int_equal(state_applied(w->data.state), 40);
    when_closed(w);
}

static void a_peer_keeps_the_incarnation_it_was_first_met_with(void **state)
{
    struct world *w = *state;
    assert_int_equal(when_opened(w), STATUS_OK);
    assert_null(data_admit(&w->data, 2, 77, 0));
    assert_null(data_admit(&w->data, 2, 77, 0));
    assert_non_null(data_admit(&w->data, 2, 78, 0));
    when_closed(w);
    assert_int_equal(when_opened(w), STATUS_OK);
    assert_non_null(strstr(data_admit(&w->data, 2, 78, 0), "lost its data"));
    assert_null(data_admit(&w->data, 2, 77, 0));
    assert_null(data_admit(&w->data, 3, 78, 0));
    assert_non_null(data_admit(&w->data, NODES_MAX, 1, 0));
    when_closed(w);
}

static void a_replacement_takes_the_place_of_a_peer_and_the_former_one_is_refused_for_ever(void **state)
{
    struct world *w = *state;
    assert_int_equal(when_opened(w), STATUS_OK);
    assert_null(data_admit(&w->data, 2, 77, 0));
    assert_null(data_admit(&w->data, 2, 500, 20260131));
    assert_non_null(strstr(data_admit(&w->data, 2, 77, 0), "it has been replaced"));
    when_closed(w);
    assert_int_equal(when_opened(w), STATUS_OK);
    assert_non_null(data_admit(&w->data, 2, 77, 0));
    assert_null(data_admit(&w->data, 2, 500, 20260131));
    assert_non_null(strstr(data_admit(&w->data, 2, 501, 20260131), "used before"));
    assert_null(data_admit(&w->data, 2, 501, 20260201));
    assert_non_null(data_admit(&w->data, 2, 500, 20260131));
    when_closed(w);
}

static void a_wiped_directory_becomes_a_replacement_if_the_operator_gives_a_number(void **state)
{
    struct world *w = *state;
    given_a_node(w);
    struct identity first = w->data.identity;
    given_emptied(w, "*");
    w->config->cluster.bootstrap = false;
    then_refused(w, "--replace NUMBER");
    w->config->cluster.replace = 20260131;
    assert_int_equal(when_opened(w), STATUS_OK);
    struct identity second = w->data.identity;
    assert_true(w->data.replaced);
    assert_int_equal(second.replacement, 20260131);
    assert_int_equal(second.node_id, first.node_id);
    assert_int_not_equal(second.incarnation, first.incarnation);
    when_closed(w);
    assert_int_equal(when_opened(w), STATUS_OK); /* the number may stay: it has done its work */
    assert_false(w->data.replaced);
    assert_true(identity_equal(&second, &w->data.identity));
    when_closed(w);
}

static void a_node_whose_log_was_moved_away_can_be_replaced_but_not_twice_with_one_number(void **state)
{
    struct world *w = *state;
    given_a_node(w);
    w->config->cluster.replace = 7;
    given_emptied(w, "log/*");
    assert_int_equal(when_opened(w), STATUS_OK);
    assert_int_equal(w->data.identity.replacement, 7);
    assert_int_equal(state_applied(w->data.state), 0);
    when_closed(w);
    given_emptied(w, "log/*"); /* say, because its disk is not mounted */
    then_refused(w, "replacement 7 has been made already");
    w->config->cluster.replace = 8;
    assert_int_equal(when_opened(w), STATUS_OK);
    when_closed(w);
}

static void a_replacement_does_not_begin_on_a_log_that_is_there(void **state)
{
    struct world *w = *state;
    given_a_node(w);
    assert_int_equal(when_opened(w), STATUS_OK);
    assert_int_equal(log_set_term(w->data.log, 3, 2), STATUS_OK);
    when_closed(w);
    w->config->cluster.replace = 7;
    given_emptied(w, "identity");
    given_emptied(w, "log/identity");
    then_refused(w, "a replacement begins with nothing");
}

#define WITH_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, given_a_directory, remove_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_DIRECTORY(a_node_is_made_only_when_asked_for),
        WITH_DIRECTORY(the_second_start_finds_the_node_again),
        WITH_DIRECTORY(a_directory_serves_one_process_at_a_time),
        WITH_DIRECTORY(the_data_of_another_cluster_is_refused),
        WITH_DIRECTORY(the_data_of_another_node_is_refused),
        WITH_DIRECTORY(a_wiped_directory_is_not_a_new_node),
        WITH_DIRECTORY(a_log_disk_that_was_emptied_is_noticed),
        WITH_DIRECTORY(a_store_that_is_gone_is_rebuilt_from_the_log),
        WITH_DIRECTORY(a_snapshot_that_was_received_but_not_installed_is_installed_by_the_next_start),
        WITH_DIRECTORY(a_peer_keeps_the_incarnation_it_was_first_met_with),
        WITH_DIRECTORY(a_replacement_takes_the_place_of_a_peer_and_the_former_one_is_refused_for_ever),
        WITH_DIRECTORY(a_wiped_directory_becomes_a_replacement_if_the_operator_gives_a_number),
        WITH_DIRECTORY(a_node_whose_log_was_moved_away_can_be_replaced_but_not_twice_with_one_number),
        WITH_DIRECTORY(a_replacement_does_not_begin_on_a_log_that_is_there),
    };
    log_configure(LOG_ERROR, LOG_KEY_VALUE, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
