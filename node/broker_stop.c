/* broker_stop.c — how a node ends.
 *
 *   signal  -> leadership handed over, clients told, ENDs committed (broker_turn waits for it) -> close
 *   trouble -> one line, everything closed but the admin HTTP, and a restart of the process where that can help
 *   close   -> connections and jobs end -> the parts are freed, those above first -> the loop is empty */
#include "broker_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>

#define SPACE_BYTES       (32ull * 1024 * 1024) /* two segments: free again, before a node that ran out of it restarts */
#define SPACE_CHECK_MS    2000
#define HEALTHY_MS        (10 * 60000)
#define RESTARTS_VARIABLE "_COTERIE_RESTARTS"

/* ---- asked to stop ---- */

void broker_stop(struct broker *broker)
{
    if (broker->phase == BROKER_FAILED) {
        broker->end = BROKER_END_STOPPED;
        broker_close(broker);
        return;
    }
    if (broker->phase != BROKER_RUNNING)
        return;
    log_event(LOG_INFO, "stopping");
    broker_begin(broker);
    if (!broker_alive(broker))
        return;
    broker->phase = BROKER_STOPPING;
    broker->stop_ms = broker->now_ms + STOP_MS;
    doors_close(broker);
    consensus_transfer(broker->consensus, 0);
    core_stop(broker->core, broker->now_ms);
}

void broker_signal(uv_signal_t *signal, int number)
{
    struct broker *broker = signal->data;
    if (number == SIGHUP)
        broker_reload(broker);
    else if (broker->phase == BROKER_RUNNING || broker->phase == BROKER_FAILED) {
        broker_stop(broker);
    } else {
        log_event(LOG_WARNING, "stopping-at-once", log_i64("signal", number));
        _Exit(1); /* the same as a kill: nothing is lost by it */
    }
}

/* ---- closing ---- */

static void close_handle(uv_handle_t *handle)
{
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

/* Everything that could still call back has ended: take the parts down, those above first. */
static void broker_finish(struct broker *broker)
{
    forget_committed(broker);
    if (broker->core != NULL)
        core_free(broker->core);
    if (broker->consensus != NULL)
        consensus_free(broker->consensus);
    if (broker->snapshots != NULL)
        snapshots_free(broker->snapshots);
    if (broker->checks != NULL)
        store_checks_free(broker->checks);
    broker->core = NULL;
    broker->consensus = NULL;
    broker->snapshots = NULL;
    broker->checks = NULL;
    if (broker->data_open)
        data_close(&broker->data);
    broker->data_open = false;
    if (broker->admin != NULL)
        admin_close(broker->admin);
    broker->admin = NULL;
    conns_free(broker->conns);
    close_handle((uv_handle_t *)&broker->prepare);
    close_handle((uv_handle_t *)&broker->wake);
    close_handle((uv_handle_t *)&broker->patience);
    for (int i = 0; i < BROKER_SIGNALS; i++)
        close_handle((uv_handle_t *)&broker->signals[i]);
}

static void finish_when_quiet(uv_timer_t *timer)
{
    struct broker *broker = timer->data;
    if (conns_count(broker->conns) == 0 && broker->jobs == 0)
        broker_finish(broker);
}

void broker_close(struct broker *broker)
{
    if (broker->phase == BROKER_CLOSING)
        return;
    broker->phase = BROKER_CLOSING;
    doors_close(broker);
    conns_close_all(broker->conns);
    if (broker->links != NULL)
        links_close(broker->links);
    broker->links = NULL;
    if (broker->snapshots != NULL)
        snapshots_stop(broker->snapshots);
    if (broker->checks != NULL)
        store_checks_stop(broker->checks);
    uv_prepare_stop(&broker->prepare);
    uv_timer_stop(&broker->wake);
    uv_timer_start(&broker->patience, finish_when_quiet, 1, 2);
}

/* ---- trouble ---- */

/* Restarts of this process by itself, one soon after the other. */
static unsigned restarts_so_far(const struct broker *broker)
{
    const char *text = getenv(RESTARTS_VARIABLE);
    bool lasted = clock_ms(CLOCK_BOOTTIME) - broker->numbers.started_ms > HEALTHY_MS;
    return text != NULL && !lasted ? (unsigned)atoi(text) : 0;
}

static void restart_now(uv_timer_t *timer)
{
    struct broker *broker = timer->data;
    struct statvfs space;
    char count[16];
    bool want_space = broker->end == BROKER_END_FAILED; /* set below: waiting for space */
    if (want_space && (statvfs(broker->config->node.data_dir, &space) != 0 ||
                       (uint64_t)space.f_bavail * space.f_frsize < SPACE_BYTES))
        return;
    snprintf(count, sizeof(count), "%u", restarts_so_far(broker) + 1);
    setenv(RESTARTS_VARIABLE, count, 1);
    broker->end = BROKER_END_RESTART;
    broker_close(broker);
}

/* A full disk: wait until there is room, then start anew. A store in doubt: rebuild it, at growing intervals. Anything
 * else: end; a supervisor may try again. */
static void restart_if_it_helps(struct broker *broker, enum status status)
{
    unsigned restarts = restarts_so_far(broker);
    broker->end = BROKER_END_FAILED;
    if (status == STATUS_NO_SPACE) {
        uv_timer_start(&broker->patience, restart_now, SPACE_CHECK_MS, SPACE_CHECK_MS);
    } else if (status == STATUS_CORRUPT) {
        data_mark_rebuild(broker->config->node.data_dir);
        broker->end = BROKER_END_RESTART;
        uv_timer_start(&broker->patience, restart_now, 1000ull << (restarts < 6 ? restarts : 6), 0);
    } else {
        broker_close(broker);
    }
}

void broker_fail(struct broker *broker, enum status status, const char *why)
{
    if (!broker_alive(broker))
        return;
    log_event(LOG_ERROR, "node-failed", log_result(status), log_text("why", why),
              log_text("consequence", status == STATUS_NO_SPACE ? "it serves nobody until there is space, then restarts"
                                      : status == STATUS_CORRUPT ? "it restarts and rebuilds its state"
                                                                 : "it stops"));
    snprintf(broker->trouble, sizeof(broker->trouble), "%.200s: %s", why, status_text(status));
    broker->phase = BROKER_FAILED;
    broker->turn_ns = 0;
    doors_close(broker);
    conns_close_all(broker->conns);
    uv_timer_stop(&broker->wake);
    if (broker->links != NULL)
        links_close(broker->links);
    broker->links = NULL;
    restart_if_it_helps(broker, status);
}

enum broker_end broker_free(struct broker *broker)
{
    enum broker_end end = broker->end;
    doors_free(broker);
    security_close(broker);
    free(broker->committed);
    free(broker);
    return end;
}
