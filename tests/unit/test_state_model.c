/* The queues against a model that anybody can check by eye: each session has a list of subscriptions and a list of what it
 * is owed; a publish is matched with topic_matches() against each subscription of each session. (No limits, no expiry of
 * messages; retained messages and wills come on top and are left out of the comparison.) */
#include "state_world.h"

#include "base/topic.h"
#include "state_private.h"

#include <stdio.h>
#include <string.h>

#define CLIENTS 20
#define OWED_MAX 4096
#define SEEDS 4

struct model_session {
    char name[8];
    uint64_t session_id;
    struct {
        const char *filter;
        uint8_t options;
    } subscriptions[16];
    unsigned subscription_count;
    struct {
        uint64_t order;
        uint8_t qos;
    } owed[OWED_MAX];
    unsigned owed_count;
};

static struct model_session model[CLIENTS];
static const char *const topics[] = {"a", "a/b", "a/b/c", "all", "all/x", "b//c", "$x/a"};
static const char *const filters[] = {"all/#", "all/#", "all/#", "all", "a/#", "+/b", "#", "a/+/c", "+", "b/+/#", "$x/#"};

/* Sessions that have ended lose what the model knew of them. */
static void follow_sessions(struct world *w)
{
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct session_facts facts;
        if (!state_session_by_client_id(w->states[0], bytes_text(model[i].name), &facts))
            facts.session_id = 0;
        if (facts.session_id != model[i].session_id)
            model[i].subscription_count = model[i].owed_count = 0;
        model[i].session_id = facts.session_id;
    }
}

static void model_unsubscribe(struct model_session *session, const char *filter)
{
    for (unsigned i = 0; i < session->subscription_count; i++) {
        if (strcmp(session->subscriptions[i].filter, filter) == 0) {
            session->subscriptions[i] = session->subscriptions[--session->subscription_count];
            return;
        }
    }
}

static void subscribe_to(struct world *w, struct model_session *session, const char *filter)
{
    uint8_t options = (uint8_t)(draw(3) | (draw(5) == 0 ? SUBSCRIPTION_NO_LOCAL : 0) | 2 << 4);
    if (world_subscribe(w, session->name, filter, options) > 2)
        return;
    model_unsubscribe(session, filter);
    session->subscriptions[session->subscription_count].filter = filter;
    session->subscriptions[session->subscription_count++].options = options;
}

static void subscribe(struct world *w, struct model_session *session)
{
    subscribe_to(w, session, filters[draw(11)]);
}

static void model_publish(uint64_t publisher, const char *topic, uint8_t message_qos, uint64_t order)
{
    for (unsigned c = 0; c < CLIENTS; c++) {
        struct model_session *session = &model[c];
        uint8_t best = 0;
        for (unsigned i = 0; i < session->subscription_count; i++) {
            uint8_t options = session->subscriptions[i].options, qos = SUBSCRIPTION_QOS(options);
            bool own = (options & SUBSCRIPTION_NO_LOCAL) != 0 && publisher == session->session_id;
            if (!own && topic_matches(bytes_text(session->subscriptions[i].filter), bytes_text(topic)))
                best = qos > best ? qos : best;
        }
        if (best == 0)
            continue;
        assert_true(session->owed_count < OWED_MAX);
        session->owed[session->owed_count].order = order;
        session->owed[session->owed_count++].qos = best < message_qos ? best : message_qos;
    }
}

static void publish(struct world *w, struct model_session *session)
{
    static uint16_t packet_id;
    const char *topic = topics[draw(7)];
    uint8_t qos = (uint8_t)(1 + draw(2));
    packet_id = (uint16_t)(packet_id % 60000 + 1);
    enum outcome outcome =
        world_publish(w, session->name, topic, "m", (struct publish_options){.qos = qos, .packet_id = packet_id});
    if (outcome == OUTCOME_DONE)
        model_publish(session->session_id, topic, qos, w->states[0]->next_message_id - 1);
}

/* Several in one batch, so that what one of them leaves to be done at its end meets the next. */
static void publish_burst(struct world *w)
{
    struct model_session *publishers[6];
    const char *chosen[6];
    uint8_t qos[6];
    uint64_t first = w->states[0]->next_message_id;
    uint32_t node = 1 + (uint32_t)draw(2);
    world_begin(w, node);
    for (unsigned i = 0; i < 6; i++) {
        static uint16_t packet_id;
        publishers[i] = &model[draw(CLIENTS)];
        chosen[i] = topics[draw(7)];
        qos[i] = (uint8_t)(1 + draw(2));
        packet_id = (uint16_t)(packet_id % 5000 + 60001);
        struct command command = {
            .type = COMMAND_PUBLISH,
            .publish = {.owner = world_client(w, publishers[i]->name)->owner,
                        .packet_id = packet_id,
                        .message_expiry_s = UINT32_MAX,
                        .message = {.topic = bytes_text(chosen[i]), .payload = bytes_text("m"), .qos = qos[i]}},
        };
        world_add(w, &command);
    }
    world_apply(w);
    for (uint32_t i = 0; i < 6; i++) {
        if (world_effect(w, 1, EFFECT_PUBLISHED, i)->outcome == OUTCOME_DONE)
            model_publish(publishers[i]->session_id, chosen[i], qos[i], first);
        if (world_effect(w, 1, EFFECT_PUBLISHED, i)->outcome != OUTCOME_FENCED &&
            world_effect(w, 1, EFFECT_PUBLISHED, i)->outcome != OUTCOME_DUPLICATE)
            first++;
    }
}

static void complete_first(struct world *w, struct model_session *session)
{
    struct queued queued;
    if (state_next_queued(w->states[0], session->session_id, 0, w->effects[0], &queued) != STATUS_OK)
        return;
    struct session_facts facts;
    if (!state_session(w->states[0], session->session_id, &facts) || !facts.connected)
        return;
    assert_true(session->owed_count > 0);
    assert_int_equal(session->owed[0].order, queued.target.order);
    world_complete(w, session->name, &queued);
    memmove(session->owed, session->owed + 1, --session->owed_count * sizeof session->owed[0]);
}

static void then_the_queue_is_what_is_owed(struct world *w, const struct model_session *session)
{
    uint64_t after = 0;
    struct queued queued;
    for (unsigned i = 0; i < session->owed_count; i++) {
        assert_int_equal(state_next_queued(w->states[0], session->session_id, after, w->effects[0], &queued),
                         STATUS_OK);
        assert_int_equal(queued.target.order, session->owed[i].order);
        assert_int_equal(queued.target.qos, session->owed[i].qos);
        after = queued.target.order;
    }
    if (session->session_id != 0)
        assert_int_equal(state_next_queued(w->states[0], session->session_id, after, w->effects[0], &queued),
                         STATUS_NOT_FOUND);
}

static void connect(struct world *w, struct model_session *session)
{
    struct connect_options options = {.node = 1 + (uint32_t)draw(2),
                                      .clean_start = draw(10) == 0,
                                      .expiry_s = draw(5) == 0 ? 0 : NEVER,
                                      .receive_maximum = (uint16_t)(1 + draw(4))};
    world_connect(w, session->name, options);
}

static void run(unsigned steps)
{
    void *state;
    world_setup(&state);
    struct world *w = state;
    memset(model, 0, sizeof model);
    for (unsigned i = 0; i < CLIENTS; i++) {
        snprintf(model[i].name, sizeof model[i].name, "c%u", i);
        connect(w, &model[i]);
    }
    follow_sessions(w);
    for (unsigned i = 0; i < CLIENTS; i++)
        subscribe_to(w, &model[i], "all/#");
    for (unsigned step = 0; step < steps; step++) {
        struct model_session *session = &model[draw(CLIENTS)];
        uint64_t kind = draw(100);
        w->reopen = draw(8) == 0;
        follow_sessions(w);
        if (kind < 6)
            connect(w, session);
        else if (kind < 9)
            world_end(w, session->name, END_WITH_WILL);
        else if (kind < 22)
            subscribe(w, session);
        else if (kind < 28 && draw(2) == 0) {
            const char *filter = filters[draw(11)];
            if (world_unsubscribe(w, session->name, filter) == 0)
                model_unsubscribe(session, filter);
        } else if (kind < 32)
            publish_burst(w);
        else if (kind < 50)
            publish(w, session);
        else
            complete_first(w, session);
        follow_sessions(w);
        then_the_queue_is_what_is_owed(w, &model[draw(CLIENTS)]);
    }
    world_teardown(&state);
}

static void every_queue_holds_what_a_naive_model_says(void **state)
{
    (void)state;
    world_run_seeds(run, SEEDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_queue_holds_what_a_naive_model_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
