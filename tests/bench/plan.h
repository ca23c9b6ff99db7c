/* plan.h — what one run of coterie-bench is to do: the workload, and every option with its value.
 *
 * Workloads and options are tables in plan.c; --help is printed from them. To add an option: a field here, a row there.
 */
#ifndef BENCH_PLAN_H
#define BENCH_PLAN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

enum { HOSTS_MAX = 64, PIDS_MAX = 64, PAYLOAD_HEADER_SIZE = 24, PAYLOAD_SIZE_MAX = 256 * 1024 };

struct address {
    struct sockaddr_storage socket;
    char text[80];
};

struct hosts {
    struct address list[HOSTS_MAX];
    unsigned count;
};

struct pids {
    int list[PIDS_MAX];
    unsigned count;
};

enum workload_kind {
    WORKLOAD_TRAFFIC, /* publishers and subscribers, all connected */
    WORKLOAD_OFFLINE, /* subscribers are away while messages are published; then all come back at once */
    WORKLOAD_CONNECT,
    WORKLOAD_IDLE,
    WORKLOAD_DISK,
};

/* A row of the table of workloads; numbers are defaults of the options of the same name. */
struct workload {
    const char *name;
    const char *summary;
    enum workload_kind kind;
    uint64_t publishers, subscribers, in_flight, messages, clients;
    bool topic_each; /* each subscriber has a topic of its own, even if publishers are fewer */
};

struct plan {
    const struct workload *workload;

    struct hosts hosts;            /* client number k starts at address k modulo their count */
    struct hosts subscriber_hosts; /* for subscribers; the same list unless given */
    uint64_t subscriber_shift;     /* subscriber j starts at address j + this */
    const char *username, *password;
    uint64_t protocol; /* enum protocol */
    bool tls;          /* at all addresses */

    uint64_t publishers, subscribers, clients;
    uint64_t qos, payload_size, in_flight, receive_maximum;
    uint64_t rate;     /* messages/s, or connects/s, of all together; 0: as fast as the windows allow */
    uint64_t messages; /* per publisher; 0: for `seconds` */
    double seconds, warmup, drain;
    uint64_t persistent; /* subscribers, and `connect`, keep their sessions */
    bool failover;
    double ack_timeout; /* seconds; 0: wait for ever */
    uint64_t threads, connecting;
    uint64_t coalesce_us; /* a turn of the loop takes at least so long; 0: react at once */

    struct pids pids;
    const char *directory;
    uint64_t block;
    bool json;

    /* Derived. */
    uint64_t topics;
    uint64_t stride; /* topics per publisher */
    uint32_t run;    /* random: tells this run's messages and sessions from those of others */
};

/* Fills *plan from the command line. On a mistake prints what is wrong and ends the program with status 2;
 * --help ends it with 0. */
void plan_parse(struct plan *plan, int argc, char **argv);

/* Who talks to whom. With at least as many publishers as topics, publisher p writes to topic p % topics. With fewer, it
 * writes to topics p, p + publishers, ... in turn. Subscriber s reads topic s % topics. */
uint64_t plan_topic(const struct plan *plan, uint64_t publisher, uint64_t sequence);
uint64_t plan_subscribers_of(const struct plan *plan, uint64_t topic);
uint64_t plan_publishers_of(const struct plan *plan, uint64_t topic);

/* The track of `publisher` among those of a subscriber of `topic`; false if it does not write there. */
bool plan_track(const struct plan *plan, uint64_t topic, uint64_t publisher, uint64_t *track);
uint64_t plan_track_publisher(const struct plan *plan, uint64_t topic, uint64_t track);

#endif
