#include "history.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

struct publish {
    uint64_t sent_us, acknowledged_us;   /* acknowledged: HISTORY_NEVER until then */
    uint64_t connection;                 /* of the publisher, when it was first sent */
    uint32_t topic;
    uint8_t qos;
    bool refused, resent, committed, expires, fenced;
    bool is_will;
    enum history_fate fate;              /* of a will */
};

struct interval {
    uint32_t topic;
    uint8_t qos;
    uint64_t subscribe_us, suback_us;     /* SUBSCRIBE sent, SUBACK received */
    uint64_t unsubscribe_us, unsuback_us; /* HISTORY_NEVER while it lasts */
};

struct seen {
    uint32_t times;
    uint64_t connection;    /* of the last delivery */
};

/* Order is promised on each path by itself: QoS 0 published; published with more, but subscribed with QoS 0; the rest. */
enum { PATH_LIVE, PATH_LOG_LIVE, PATH_QUEUE, PATHS };

/* What one session got from one publisher: indexed by the publish's number. */
struct stream {
    struct seen *seen;
    size_t capacity;
    int64_t newest[PATHS];  /* the last first delivery; -1: none */
    uint64_t newest_connection[PATHS];   /* on which connection of the session */
};

struct client_history {
    struct publish *publishes;
    size_t publish_count, publish_capacity;
    struct interval *intervals;
    size_t interval_count, interval_capacity;
    struct stream *streams; /* by publisher */
};

struct history {
    uint32_t clients, sessions;   /* sessions: clients, then groups */
    uint32_t publishers;          /* clients, then their wills */
    uint32_t entries;             /* in `client`: as many as there are sessions or publishers */
    struct client_history *client;
    bool queues_are_limited;
    struct history_counts counts;
    char text[512];
};

static const char *verdict(struct history *history, const char *format, ...) __attribute__((format(printf, 2, 3)));
static const char *verdict(struct history *history, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(history->text, sizeof history->text, format, arguments);
    va_end(arguments);
    return history->text;
}

struct history *history_new(uint32_t clients, uint32_t groups)
{
    struct history *history = memory_zeroed(1, sizeof *history);
    history->clients = clients;
    history->sessions = clients + groups;
    history->publishers = 2 * clients;
    history->entries = history->sessions > history->publishers ? history->sessions : history->publishers;
    history->client = memory_zeroed(history->entries, sizeof *history->client);
    for (uint32_t i = 0; i < history->sessions; i++) {
        history->client[i].streams = memory_zeroed(history->publishers, sizeof(struct stream));
        for (uint32_t j = 0; j < history->publishers; j++)
            for (int path = 0; path < PATHS; path++)
                history->client[i].streams[j].newest[path] = -1;
    }
    return history;
}

void history_queues_are_limited(struct history *history)
{
    history->queues_are_limited = true;
}

void history_free(struct history *history)
{
    for (uint32_t i = 0; i < history->entries; i++) {
        for (uint32_t j = 0; i < history->sessions && j < history->publishers; j++)
            free(history->client[i].streams[j].seen);
        free(history->client[i].streams);
        free(history->client[i].publishes);
        free(history->client[i].intervals);
    }
    free(history->client);
    free(history);
}

uint32_t history_publish(struct history *history, uint32_t publisher, uint32_t topic, uint8_t qos, uint64_t connection,
                         uint64_t now_us)
{
    struct client_history *client = &history->client[publisher];
    if (client->publish_count == client->publish_capacity) {
        client->publish_capacity = client->publish_capacity > 0 ? 2 * client->publish_capacity : 64;
        client->publishes = memory_resize(client->publishes, client->publish_capacity * sizeof *client->publishes);
    }
    client->publishes[client->publish_count] = (struct publish){
        .sent_us = now_us, .acknowledged_us = HISTORY_NEVER, .connection = connection, .topic = topic, .qos = qos};
    history->counts.published++;
    return (uint32_t)client->publish_count++;
}

void history_resent(struct history *history, uint32_t publisher, uint32_t number)
{
    history->client[publisher].publishes[number].resent = true;
}

const char *history_acknowledged(struct history *history, uint32_t publisher, uint32_t number, bool refused,
                                 uint64_t now_us)
{
    struct publish *publish = &history->client[publisher].publishes[number];
    if (publish->fenced)
        return verdict(history, "%u-%u was acknowledged on a connection that another had taken the place of", publisher,
                       number);
    if (!refused && !publish->committed)
        return verdict(history, "%u-%u was acknowledged before any node committed it", publisher, number);
    if (publish->acknowledged_us != HISTORY_NEVER)
        return NULL;
    publish->acknowledged_us = now_us;
    publish->refused = refused;
    if (!refused)
        history->counts.acknowledged++;
    return NULL;
}

static struct publish *publish_of(struct history *history, uint32_t publisher, uint32_t number)
{
    bool known = publisher < history->publishers && number < history->client[publisher].publish_count;
    return known ? &history->client[publisher].publishes[number] : NULL;
}

void history_committed(struct history *history, uint32_t publisher, uint32_t number)
{
    struct publish *publish = publish_of(history, publisher, number);
    if (publish != NULL)
        publish->committed = true;
}

void history_expires(struct history *history, uint32_t publisher, uint32_t number)
{
    history->client[publisher].publishes[number].expires = true;
}

void history_fenced(struct history *history, uint32_t publisher, uint32_t number)
{
    history->client[publisher].publishes[number].fenced = true;
}

uint32_t history_will_publisher(const struct history *history, uint32_t client)
{
    return history->clients + client;
}

uint32_t history_will(struct history *history, uint32_t client, uint32_t topic, uint8_t qos, uint64_t now_us)
{
    uint32_t publisher = history_will_publisher(history, client);
    uint32_t number = history_publish(history, publisher, topic, qos, 0, now_us);
    history->client[publisher].publishes[number].is_will = true;
    return number;
}

void history_will_fate(struct history *history, uint32_t client, uint32_t number, enum history_fate fate, uint64_t now_us)
{
    struct publish *will = publish_of(history, history_will_publisher(history, client), number);
    will->fate = fate;
    will->acknowledged_us = fate == FATE_FIRES ? now_us : HISTORY_NEVER;
}

static struct interval *open_interval(struct client_history *client, uint32_t topic)
{
    for (size_t i = client->interval_count; i-- > 0;)
        if (client->intervals[i].topic == topic && client->intervals[i].unsubscribe_us == HISTORY_NEVER)
            return &client->intervals[i];
    return NULL;
}

void history_subscribing(struct history *history, uint32_t session, uint32_t topic, uint8_t qos, uint64_t now_us)
{
    struct client_history *client = &history->client[session];
    if (session >= history->clients && open_interval(client, topic) != NULL)
        return; /* another member was first */
    if (client->interval_count == client->interval_capacity) {
        client->interval_capacity = client->interval_capacity > 0 ? 2 * client->interval_capacity : 8;
        client->intervals = memory_resize(client->intervals, client->interval_capacity * sizeof *client->intervals);
    }
    client->intervals[client->interval_count++] =
        (struct interval){topic, qos, now_us, HISTORY_NEVER, HISTORY_NEVER, HISTORY_NEVER};
}

void history_subscribed(struct history *history, uint32_t session, uint32_t topic, uint64_t now_us)
{
    struct interval *interval = open_interval(&history->client[session], topic);
    if (interval != NULL && interval->suback_us == HISTORY_NEVER)
        interval->suback_us = now_us;
}

void history_unsubscribed(struct history *history, uint32_t session, uint32_t topic, uint64_t sent_us, uint64_t now_us)
{
    struct interval *interval = open_interval(&history->client[session], topic);
    if (interval == NULL)
        return;
    interval->unsubscribe_us = sent_us;
    interval->unsuback_us = now_us;
}

void history_session_ended(struct history *history, uint32_t session, uint64_t now_us)
{
    struct client_history *client = &history->client[session];
    for (size_t i = 0; i < client->interval_count; i++) {
        struct interval *interval = &client->intervals[i];
        interval->suback_us = HISTORY_NEVER; /* what is owed to it is gone, also of subscriptions that ended before */
        if (interval->unsuback_us == HISTORY_NEVER)
            interval->unsubscribe_us = interval->unsuback_us = now_us;
    }
}

static bool may_be_delivered(const struct client_history *client, const struct publish *publish)
{
    for (size_t i = 0; i < client->interval_count; i++) {
        const struct interval *interval = &client->intervals[i];
        bool begun = publish->acknowledged_us > interval->subscribe_us || publish->is_will;   /* wills may come late */
        if (interval->topic == publish->topic && begun && publish->sent_us < interval->unsuback_us)
            return true;
    }
    return false;
}

static bool must_be_delivered(const struct client_history *client, const struct publish *publish)
{
    if (publish->acknowledged_us == HISTORY_NEVER || publish->refused || publish->qos == 0 || publish->expires)
        return false;
    for (size_t i = 0; i < client->interval_count; i++) {
        const struct interval *interval = &client->intervals[i];
        if (interval->topic == publish->topic && interval->qos > 0 && publish->sent_us > interval->suback_us &&
            publish->acknowledged_us < interval->unsubscribe_us)
            return true;
    }
    return false;
}

static struct seen *seen_of(struct stream *stream, uint32_t number)
{
    if (number >= stream->capacity) {
        size_t capacity = stream->capacity > 0 ? stream->capacity : 64;
        while (capacity <= number)
            capacity *= 2;
        stream->seen = memory_resize(stream->seen, capacity * sizeof *stream->seen);
        for (size_t i = stream->capacity; i < capacity; i++)
            stream->seen[i] = (struct seen){0};
        stream->capacity = capacity;
    }
    return &stream->seen[number];
}

static bool entered_twice(const struct publish *publish)
{
    return publish->qos == 1 && publish->resent;
}

static const char *judge_repetition(struct history *history, uint32_t session, uint32_t publisher, uint32_t number,
                                    uint8_t qos, bool dup, bool same_connection)
{
    const struct publish *publish = &history->client[publisher].publishes[number];
    if (entered_twice(publish))
        return NULL;
    if (qos == 2)
        return verdict(history, "session %u got QoS 2 message %u-%u twice", session, publisher, number);
    if (qos == 1 && (same_connection || !dup))
        return verdict(history, "session %u got %u-%u (published with QoS %u) again, on %s connection, %s DUP", session,
                       publisher, number, publish->qos, same_connection ? "the same" : "another", dup ? "with" : "without");
    if (qos == 0 && same_connection)
        return verdict(history, "session %u got %u-%u with QoS 0 twice on one connection", session, publisher, number);
    return NULL;
}

/* A group got the same message again: another member, or the same one later, which had it taken away meanwhile. That one
 * gets it as a new packet, so nothing is asked of DUP, which speaks of the packet and not of the message (3.3.1.1). But
 * while a connection lasts, nothing is taken away from it. */
static const char *judge_second_member(struct history *history, uint32_t session, uint32_t publisher, uint32_t number,
                                       uint8_t qos, bool same_connection)
{
    const struct publish *publish = &history->client[publisher].publishes[number];
    if (same_connection && !entered_twice(publish))
        return verdict(history, "group %u got %u-%u (published with QoS %u) twice on one connection",
                       session - history->clients, publisher, number, publish->qos);
    if (entered_twice(publish) || (publish->qos > 0 && qos < 2))
        return NULL;
    return verdict(history, "group %u got %u-%u (published with QoS %u) twice, with QoS %u", session - history->clients,
                   publisher, number, publish->qos, qos);
}

/* Whether the first delivery of a message may come late: a second copy, made by the publisher's own retry, that was the
 * first to meet the subscription, or of which the first had expired or been dropped. */
static bool second_copy_came_first(const struct history *history, const struct client_history *client,
                                   const struct publish *publish, uint8_t qos)
{
    if (!entered_twice(publish))
        return false;
    if (qos == 0 || publish->expires || history->queues_are_limited)
        return true;
    for (size_t i = 0; i < client->interval_count; i++)
        if (client->intervals[i].topic == publish->topic && client->intervals[i].subscribe_us <= publish->sent_us &&
            client->intervals[i].suback_us <= publish->sent_us && client->intervals[i].unsubscribe_us == HISTORY_NEVER)
            return false;
    return true;
}

/* First deliveries come in the order published: across everything for what is queued, on one connection of both for
 * what is live. */
static const char *judge_order(struct history *history, uint32_t session, uint32_t publisher, uint32_t number,
                               uint8_t qos, uint64_t connection)
{
    const struct publish *publishes = history->client[publisher].publishes;
    const struct publish *publish = &publishes[number];
    struct stream *stream = &history->client[session].streams[publisher];
    int path = publish->qos == 0 ? PATH_LIVE : qos == 0 ? PATH_LOG_LIVE : PATH_QUEUE;
    int64_t newest = stream->newest[path];
    bool late = (int64_t)number < newest && !second_copy_came_first(history, &history->client[session], publish, qos);
    if (path != PATH_QUEUE && stream->newest_connection[path] != connection)
        late = false;
    if (path == PATH_LIVE && late && publishes[newest].connection != publish->connection)
        late = false;
    if (late)
        return verdict(history, "session %u got %u-%u (published with QoS %u) for the first time after %u-%lld (QoS %u)", session,
                       publisher, number, publish->qos, publisher, (long long)newest, qos);
    stream->newest[path] = (int64_t)number > newest ? (int64_t)number : newest;
    stream->newest_connection[path] = connection;
    return NULL;
}

const char *history_delivered(struct history *history, uint32_t session, uint32_t publisher, uint32_t number,
                              uint8_t qos, bool dup, uint64_t connection, uint64_t now_us)
{
    (void)now_us;
    if (publish_of(history, publisher, number) == NULL)
        return verdict(history, "session %u got message %u-%u, which nobody published", session, publisher, number);
    const struct publish *publish = &history->client[publisher].publishes[number];
    if (!may_be_delivered(&history->client[session], publish))
        return verdict(history, "session %u got %u-%u on topic %u, to which it was not subscribed then", session, publisher,
                       number, publish->topic);
    if (publish->refused || publish->fenced)
        return verdict(history, "session %u got %u-%u, which was %s", session, publisher, number,
                       publish->refused ? "refused" : "sent on a connection that another had taken the place of");

    struct stream *stream = &history->client[session].streams[publisher];
    struct seen *seen = seen_of(stream, number);
    const char *wrong = NULL;
    history->counts.delivered++;
    if (seen->times++ > 0) {
        history->counts.repeated++;
        wrong = session >= history->clients
                    ? judge_second_member(history, session, publisher, number, qos, seen->connection == connection)
                    : judge_repetition(history, session, publisher, number, qos, dup, seen->connection == connection);
    } else if (session < history->clients && !publish->is_will) {
        wrong = judge_order(history, session, publisher, number, qos, connection);
    }
    seen->connection = connection;
    return wrong;
}

/* How many deliveries `session` should have got from `publisher` and did not; the first one is put into words. */
static uint64_t count_lost(struct history *history, uint32_t session, uint32_t publisher)
{
    const struct client_history *from = &history->client[publisher];
    const struct stream *stream = &history->client[session].streams[publisher];
    uint64_t lost = 0;
    for (size_t number = 0; number < from->publish_count; number++) {
        const struct publish *publish = &from->publishes[number];
        bool seen = number < stream->capacity && stream->seen[number].times > 0;
        if (seen || !must_be_delivered(&history->client[session], publish))
            continue;
        if (lost++ == 0)
            verdict(history, "%s %u never got %u-%zu (%sQoS %u on topic %u, sent at %llu us, acknowledged at %llu)",
                    session < history->clients ? "session" : "group", session, publisher, number,
                    publish->is_will ? "a will, " : "", publish->qos, publish->topic,
                    (unsigned long long)publish->sent_us, (unsigned long long)publish->acknowledged_us);
    }
    return lost;
}

static const char *check_wills(struct history *history)
{
    for (uint32_t session = 0; session < history->sessions; session++) {
        for (uint32_t publisher = history->clients; publisher < history->publishers; publisher++) {
            const struct stream *stream = &history->client[session].streams[publisher];
            for (size_t number = 0; number < stream->capacity; number++)
                if (stream->seen[number].times > 0 && history->client[publisher].publishes[number].fate == FATE_NONE)
                    return verdict(history, "session %u got will %zu of client %u, which should not have been published",
                                   session, number, publisher - history->clients);
        }
    }
    return NULL;
}

const char *history_check(struct history *history, uint64_t dropped, uint64_t ended_in_groups)
{
    for (uint32_t session = 0; session < history->sessions; session++) {
        uint64_t lost = 0, excused = dropped + (session >= history->clients ? ended_in_groups : 0);
        for (uint32_t publisher = 0; publisher < history->publishers; publisher++)
            lost += count_lost(history, session, publisher);
        if (lost > excused) {
            size_t used = strlen(history->text);
            snprintf(history->text + used, sizeof history->text - used, "; %llu lost for it in all, %llu excused",
                     (unsigned long long)lost, (unsigned long long)excused);
            return history->text;
        }
    }
    return check_wills(history);
}

void history_counts(const struct history *history, struct history_counts *counts)
{
    *counts = history->counts;
}
