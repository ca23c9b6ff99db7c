/* worker.c — see worker.h. */
#include "worker.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TICK_MS = 50, PACED_TICK_MS = 1 };

void worker_trouble(struct worker *worker, const char *format, ...)
{
    if (worker->trouble[0] != '\0')
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(worker->trouble, sizeof(worker->trouble), format, arguments);
    va_end(arguments);
}

static void finish_order(struct worker *worker)
{
    atomic_store_explicit(&worker->busy, false, memory_order_release);
}

/* --rate: whether it is time for one more. Those that could not go when it was go as soon as they can. */
static bool churn_is_due(const struct worker *worker)
{
    const struct plan *plan = worker->plan;
    double seconds = (double)(uv_hrtime() - worker->churning_since_ns) / 1e9;
    return plan->rate == 0 || (double)worker->churned < seconds * (double)plan->rate / (double)plan->threads;
}

/* Moves the next clients of a wave, or of the churn. Clients that are there at once call back into
 * worker_client_arrived(), which must not recurse into this loop: `launching` keeps it out. */
static void move_on(struct worker *worker)
{
    if (worker->launching)
        return;
    worker->launching = true;
    while (worker->wave_moving < worker->wave_limit &&
           (worker->churning ? churn_is_due(worker) : worker->wave && worker->wave_next < worker->wave_end)) {
        if (worker->wave_next == worker->wave_end)
            worker->wave_next = worker->wave_begin;
        struct client *client = &worker->clients[worker->wave_next++];
        if (worker->churning && client->goal != GOAL_NONE && !client->arrived)
            continue; /* still on its way since the last round */
        worker->wave_moving++;
        worker->churned++;
        client_set_goal(client, worker->wave ? worker->wave_goal : GOAL_ONLINE);
    }
    worker->launching = false;
    if (worker->wave_moving == 0 && !worker->churning) {
        worker->wave = false;
        finish_order(worker);
    }
}

void worker_client_arrived(struct worker *worker, struct client *client)
{
    if (!worker->wave && client->goal == GOAL_ONLINE) { /* churn: there, and back again */
        client_set_goal(client, GOAL_OFFLINE);
        return;
    }
    worker->wave_moving--;
    move_on(worker);
}

static void begin_moving(struct worker *worker, enum role role)
{
    const struct plan *plan = worker->plan;
    worker->wave_begin = worker->wave_next = worker->role_begin[role];
    worker->wave_end = worker->role_begin[role + 1];
    worker->wave_limit = plan->connecting / plan->threads > 0 ? plan->connecting / plan->threads : 1;
    if (worker->wave_limit > worker->wave_end - worker->wave_begin)
        worker->wave_limit = worker->wave_end - worker->wave_begin;
    assert(worker->wave_moving == 0);
    move_on(worker);
}

static void for_each_publisher(struct worker *worker, void (*visit)(struct client *, uint64_t))
{
    uint64_t now = uv_hrtime();
    for (uint64_t i = worker->role_begin[ROLE_PUBLISHER]; i < worker->role_begin[ROLE_PUBLISHER + 1]; i++)
        visit(&worker->clients[i], now);
}

static void on_tick(uv_timer_t *tick)
{
    for_each_publisher(tick->data, publisher_tick);
}

static void on_churn_tick(uv_timer_t *tick)
{
    move_on(tick->data);
}

static void start_churning(struct worker *worker)
{
    worker->churning = true;
    worker->churned = 0;
    worker->churning_since_ns = uv_hrtime();
    if (worker->plan->rate > 0)
        uv_timer_start(&worker->tick, on_churn_tick, PACED_TICK_MS, PACED_TICK_MS);
    begin_moving(worker, ROLE_OTHER);
}

/* The last client to arrive finishes the order. */
static void stop_churning(struct worker *worker)
{
    worker->churning = false;
    uv_timer_stop(&worker->tick);
    move_on(worker);
}

static void pump(struct client *client, uint64_t now)
{
    publisher_pump(client, now);
    client_flush(client);
}

/* QoS 0, at the end of each turn: deliveries have made room in the windows of publishers, here or in other threads. */
static void on_turn_end(uv_check_t *check)
{
    struct worker *worker = check->data;
    uint64_t wake = worker->wake_others;
    worker->wake_others = 0;
    for (unsigned i = 0; wake != 0 && i < worker->plan->threads; i++) {
        if ((wake >> i & 1) != 0 && i != worker->number)
            uv_async_send(&worker->all[i].wake);
    }
    if (worker->publishing)
        for_each_publisher(worker, pump);
}

/* --coalesce: lets packets gather before the next look at the sockets. */
static void on_turn_begin(uv_prepare_t *prepare)
{
    struct worker *worker = prepare->data;
    uint64_t now = uv_hrtime(), next = worker->turn_ns + worker->plan->coalesce_us * 1000;
    if (now < next) {
        struct timespec rest = {0, (long)(next - now)};
        nanosleep(&rest, NULL);
    }
    worker->turn_ns = uv_hrtime();
}

static void shut_down(struct worker *worker)
{
    worker->exiting = true;
    worker->publishing = false;
    for (uint64_t i = 0; i < worker->client_count; i++)
        client_shut(&worker->clients[i]);
    uv_close((uv_handle_t *)&worker->tick, NULL);
    uv_close((uv_handle_t *)&worker->check, NULL);
    uv_close((uv_handle_t *)&worker->prepare, NULL);
    uv_close((uv_handle_t *)&worker->wake, NULL);
}

static void start_publishing(struct worker *worker)
{
    worker->publishing = true;
    uint64_t period = worker->plan->rate > 0 ? PACED_TICK_MS : TICK_MS;
    uv_timer_start(&worker->tick, on_tick, period, period);
    if (worker->plan->qos == 0)
        uv_check_start(&worker->check, on_turn_end);
    for_each_publisher(worker, publisher_started);
}

static void on_wake(uv_async_t *wake)
{
    struct worker *worker = wake->data;
    switch ((enum order)atomic_exchange(&worker->order, ORDER_NONE)) {
    case ORDER_NONE: /* another worker has made room: on_turn_end() sees to it */ break;
    case ORDER_WAVE:
        worker->wave = true;
        begin_moving(worker, worker->wave_role);
        break;
    case ORDER_CHURN:
        start_churning(worker);
        break;
    case ORDER_START:
        start_publishing(worker);
        finish_order(worker);
        break;
    case ORDER_STOP:
        worker->publishing = false;
        worker->stopped_ns = uv_hrtime();
        for_each_publisher(worker, publisher_stopped);
        if (worker->churning)
            stop_churning(worker);
        else
            finish_order(worker);
        break;
    case ORDER_EXIT: shut_down(worker); break;
    }
}

static uint64_t share_of(const struct worker *worker, uint64_t all)
{
    uint64_t threads = worker->plan->threads;
    return (all + threads - 1 - worker->number) / threads;
}

static void make_clients(struct worker *worker)
{
    const struct plan *plan = worker->plan;
    uint64_t others = plan->workload->clients > 0 ? plan->clients : 0;
    const uint64_t shares[ROLE_COUNT] = {share_of(worker, plan->publishers), share_of(worker, plan->subscribers),
                                         share_of(worker, others)};
    for (int role = 0; role < ROLE_COUNT; role++)
        worker->role_begin[role + 1] = worker->role_begin[role] + shares[role];
    worker->client_count = worker->role_begin[ROLE_COUNT];
    worker->clients = memory_array(worker->client_count, sizeof(struct client));
    for (int role = 0; role < ROLE_COUNT; role++) {
        for (uint64_t i = 0; i < shares[role]; i++)
            client_init(&worker->clients[worker->role_begin[role] + i], worker, (enum role)role,
                        worker->number + i * plan->threads);
    }
}

static void make_template(struct worker *worker)
{
    const struct plan *plan = worker->plan;
    char topic[TOPIC_SIZE_MAX];
    topic_text(plan->run, 0, topic);
    worker->publish =
        publish_template_new((enum protocol)plan->protocol, (unsigned)plan->qos, strlen(topic), plan->payload_size);
    memcpy(worker->publish.bytes + worker->publish.topic_at, topic, strlen(topic));
    uint8_t *payload = worker->publish.bytes + worker->publish.payload_at;
    memcpy(payload, &plan->run, 4);
    for (uint64_t i = PAYLOAD_HEADER_SIZE; i < plan->payload_size; i++)
        payload[i] = (uint8_t)('a' + i % 26);
}

static void run_loop(void *argument)
{
    struct worker *worker = argument;
    uv_run(&worker->loop, UV_RUN_DEFAULT);
}

void worker_start(struct worker *worker, const struct plan *plan, struct worker *all, unsigned number,
                  _Atomic uint64_t *delivered_of)
{
    worker->plan = plan;
    worker->all = all;
    worker->number = number;
    worker->delivered_of = delivered_of;
    worker->ack_slots = memory_array(GAP_SLOTS_MAX, 1);
    buffer_room(&worker->input, 4 * 65536);
    uv_loop_init(&worker->loop);
    uv_async_init(&worker->loop, &worker->wake, on_wake);
    uv_timer_init(&worker->loop, &worker->tick);
    uv_check_init(&worker->loop, &worker->check);
    uv_prepare_init(&worker->loop, &worker->prepare);
    worker->wake.data = worker->tick.data = worker->check.data = worker->prepare.data = worker;
    if (plan->coalesce_us > 0)
        uv_prepare_start(&worker->prepare, on_turn_begin);
    if (plan->tls)
        worker->tls = secure_context_new();
    make_template(worker);
    make_clients(worker);
    uv_thread_create(&worker->thread, run_loop, worker);
}

void worker_join(struct worker *worker)
{
    uv_thread_join(&worker->thread);
}

void worker_release(struct worker *worker)
{
    for (uint64_t i = 0; i < worker->client_count; i++)
        client_release(&worker->clients[i]);
    int still_open = uv_loop_close(&worker->loop);
    assert(still_open == 0);
    (void)still_open;
    free(worker->clients);
    free(worker->publish.bytes);
    free(worker->ack_slots);
    buffer_release(&worker->input);
    buffer_release(&worker->output);
    buffer_release(&worker->sealed_input);
    buffer_release(&worker->sealed_output);
    secure_context_free(worker->tls);
}

void worker_order(struct worker *worker, enum order order)
{
    atomic_store_explicit(&worker->busy, true, memory_order_relaxed);
    atomic_store(&worker->order, order);
    uv_async_send(&worker->wake);
}

void worker_order_wave(struct worker *worker, enum role role, enum goal goal)
{
    worker->wave_role = role;
    worker->wave_goal = goal;
    worker_order(worker, ORDER_WAVE);
}

bool worker_busy(const struct worker *worker)
{
    return atomic_load_explicit(&worker->busy, memory_order_acquire);
}
