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

static void a_peer_keeps_the_incarnation_it_was_first_met_with(void **state)
{
    struct world *w = *state;
    assert_int_equal(when_opened(w), STATUS_OK);
    assert_true(data_admit(&w->data, 2, 77));
    assert_true(data_admit(&w->data, 2, 77));
    assert_false(data_admit(&w->data, 2, 78));
    when_closed(w);
    assert_int_equal(when_opened(w), STATUS_OK);
    assert_false(data_admit(&w->data, 2, 78));
    assert_true(data_admit(&w->data, 2, 77));
    assert_true(data_admit(&w->data, 3, 78));
    assert_false(data_admit(&w->data, NODES_MAX, 1));
    when_closed(w);
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
        WITH_DIRECTORY(a_peer_keeps_the_incarnation_it_was_first_met_with),
    };
    log_configure(LOG_ERROR, LOG_KEY_VALUE, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
