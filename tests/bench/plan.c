/* plan.c — the tables of workloads and options, and the manual that --help prints from them. See plan.h. */
#include "plan.h"

#include "codec.h"

#include <errno.h>
#include <netdb.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static const struct workload workloads[] = {
    {"fan-in", "50 publishers, each to one of 5 subscribers", WORKLOAD_TRAFFIC, 50, 5, 20, 0, 0, false},
    {"pairs", "20 publishers, each to a subscriber of its own", WORKLOAD_TRAFFIC, 20, 20, 20, 0, 0, false},
    {"fan-out", "one publisher, every message to 50 subscribers", WORKLOAD_TRAFFIC, 1, 50, 20, 0, 0, false},
    {"latency", "one message at a time: how long PUBACK and delivery take", WORKLOAD_TRAFFIC, 1, 1, 1, 0, 0, false},
    {"backlog", "2,000 offline sessions get 20 messages each, then come back", WORKLOAD_OFFLINE, 10, 2000, 20, 4000, 0,
     true},
    {"broadcast", "10 messages to a topic of 10,000 offline sessions, which then come back", WORKLOAD_OFFLINE, 1, 10000,
     10, 10, 0, false},
    {"connect", "CONNECT, CONNACK, DISCONNECT, with 10,000 client ids in turn", WORKLOAD_CONNECT, 0, 0, 0, 0, 10000,
     false},
    {"idle", "10,000 connections that do nothing; memory of the --pid processes", WORKLOAD_IDLE, 0, 0, 0, 0, 10000,
     false},
    {"disk", "no broker: bare pwrite + fdatasync in --directory, for comparison", WORKLOAD_DISK, 0, 0, 0, 0, 0, false},
};

enum option_kind { OPTION_COUNT, OPTION_SECONDS, OPTION_FLAG, OPTION_TEXT, OPTION_CHOICE, OPTION_HOSTS, OPTION_PIDS };

struct choice {
    const char *name;
    uint64_t value;
};

static const struct choice protocols[] = {{"3.1.1", PROTOCOL_3_1_1}, {"5", PROTOCOL_5}, {0}};
static const struct choice sessions[] = {{"clean", 0}, {"persistent", 1}, {0}};

struct option_row {
    const char *name, *argument;
    enum option_kind kind;
    size_t offset;
    uint64_t min, max;
    const struct choice *choices;
    const char *help;
};

#define FIELD(name) offsetof(struct plan, name)

static const struct option_row options[] = {
    {"hosts", "HOST:PORT,...", OPTION_HOSTS, FIELD(hosts), 0, 0, NULL,
     "addresses of the broker, or of the nodes of a cluster; clients are spread over\n"
     "them in turn, and go to the next when a connection breaks (127.0.0.1:1883)"},
    {"subscriber-hosts", "HOST:PORT,...", OPTION_HOSTS, FIELD(subscriber_hosts), 0, 0, NULL,
     "other addresses for the subscribers"},
    {"subscriber-shift", "N", OPTION_COUNT, FIELD(subscriber_shift), 0, HOSTS_MAX, NULL,
     "start subscribers N addresses further: 1 makes every pair cross nodes (0)"},
    {"protocol", "3.1.1|5", OPTION_CHOICE, FIELD(protocol), 0, 0, protocols, "MQTT version (3.1.1)"},
    {"tls", NULL, OPTION_FLAG, FIELD(tls), 0, 0, NULL,
     "TLS 1.3 to all addresses: full handshakes, X25519, AES-256-GCM; the certificate is\n"
     "not verified"},
    {"username", "NAME", OPTION_TEXT, FIELD(username), 0, 0, NULL, "for CONNECT (none)"},
    {"password", "TEXT", OPTION_TEXT, FIELD(password), 0, 0, NULL,
     "for CONNECT (none); visible to others in the list of processes"},
    {"publishers", "N", OPTION_COUNT, FIELD(publishers), 0, 1000000, NULL,
     "client number k writes to topic k modulo the number of topics"},
    {"subscribers", "N", OPTION_COUNT, FIELD(subscribers), 0, 1000000, NULL,
     "for backlog and broadcast: the offline sessions"},
    {"clients", "N", OPTION_COUNT, FIELD(clients), 1, 1000000, NULL,
     "idle: connections; connect: client ids, used in turn"},
    {"qos", "0|1|2", OPTION_COUNT, FIELD(qos), 0, 2, NULL, "of messages and subscriptions (1)"},
    {"payload", "BYTES", OPTION_COUNT, FIELD(payload_size), PAYLOAD_HEADER_SIZE, PAYLOAD_SIZE_MAX, NULL,
     "size of a message (64)"},
    {"in-flight", "N", OPTION_COUNT, FIELD(in_flight), 1, 65535, NULL,
     "per publisher: messages not yet acknowledged; at QoS 0, not yet delivered (20)"},
    {"receive-maximum", "N", OPTION_COUNT, FIELD(receive_maximum), 0, 65535, NULL, "of subscribers, MQTT 5 (not sent)"},
    {"rate", "N", OPTION_COUNT, FIELD(rate), 0, 100000000, NULL,
     "messages of all publishers, or CONNECTs, per second (0: as fast as it goes)"},
    {"seconds", "S", OPTION_SECONDS, FIELD(seconds), 0, 86400, NULL, "measured time (10)"},
    {"warmup", "S", OPTION_SECONDS, FIELD(warmup), 0, 3600, NULL,
     "load before the measured time; checked, but not timed (1)"},
    {"messages", "N", OPTION_COUNT, FIELD(messages), 0, 100000000, NULL,
     "per publisher, instead of a time; no warm-up then"},
    {"drain", "S", OPTION_SECONDS, FIELD(drain), 0, 3600, NULL,
     "how long nothing may arrive before what is missing counts as lost (5)"},
    {"session", "clean|persistent", OPTION_CHOICE, FIELD(persistent), 0, 0, sessions,
     "of subscribers, and of connect (persistent; removed again at the end)"},
    {"failover", NULL, OPTION_FLAG, FIELD(failover), 0, 0, NULL,
     "publishers keep their sessions as well; break the broker while this runs, and read\n"
     "\"longest gap\": the longest time without any acknowledgement"},
    {"ack-timeout", "S", OPTION_SECONDS, FIELD(ack_timeout), 0, 3600, NULL,
     "leave a node that has not answered a message or a CONNECT for so long (0: wait for\n"
     "ever for messages, 5 s for CONNECT)"},
    {"threads", "N", OPTION_COUNT, FIELD(threads), 1, 64, NULL, "threads of this program (1)"},
    {"connecting", "N", OPTION_COUNT, FIELD(connecting), 1, 100000, NULL, "clients that connect at the same time (64)"},
    {"coalesce", "US", OPTION_COUNT, FIELD(coalesce_us), 0, 100000, NULL,
     "look at the sockets only every US microseconds: larger reads and writes, which\n"
     "spares CPU here and at the broker, and adds as much latency (0: react at once)"},
    {"pid", "PID,...", OPTION_PIDS, FIELD(pids), 0, 0, NULL,
     "processes of the broker, on this machine: CPU time and memory"},
    {"directory", "DIR", OPTION_TEXT, FIELD(directory), 0, 0, NULL, "disk: where to write (.)"},
    {"block", "BYTES", OPTION_COUNT, FIELD(block), 1, 1048576, NULL, "disk: bytes per write (512)"},
    {"json", NULL, OPTION_FLAG, FIELD(json), 0, 0, NULL, "print one JSON object instead of text"},
};

enum {
    WORKLOAD_COUNT = sizeof(workloads) / sizeof(workloads[0]),
    OPTION_ROW_COUNT = sizeof(options) / sizeof(options[0])
};

static const char help_head[] =
    "coterie-bench: load for an MQTT broker or a cluster of them, checked to the message.\n"
    "\n"
    "  coterie-bench WORKLOAD [--OPTION VALUE]...\n"
    "\n"
    "Every message carries its publisher, a number and the time it was sent. The report says how many were\n"
    "acknowledged and delivered per second, and then, when all is drained, exactly how many were\n"
    "  lost           acknowledged (PUBACK, or PUBREC), and not delivered to a subscriber of its topic\n"
    "  duplicated     delivered to a subscriber that had it already\n"
    "  out of order   first deliveries behind a later message of the same publisher on the same topic\n"
    "with percentiles of the time to the acknowledgement (PUBACK, or PUBREC) and to the delivery.\n"
    "Exit status: 0 all is well; 1 messages were lost, out of order or (QoS 2) duplicated, or Session Present was\n"
    "wrong; 2 the command line is; 3 it could not be measured. QoS 0 loss is reported, but not held against it.\n"
    "\n"
    "Workloads (the numbers are defaults):\n";

static const char help_tail[] =
    "\n"
    "Examples:\n"
    "  coterie-bench fan-in --hosts 127.0.0.1:1883,127.0.0.1:1884,127.0.0.1:1885 --seconds 30\n"
    "  coterie-bench pairs --qos 2 --subscriber-shift 1 --hosts ...       publisher and subscriber at different nodes\n"
    "  coterie-bench latency --hosts 127.0.0.1:1884 --messages 5000       one message at a time\n"
    "  coterie-bench pairs --qos 0 --in-flight 100 --pid \"$(pidof mosquitto)\"    CPU time of the broker per "
    "delivery\n"
    "  coterie-bench fan-in --failover --seconds 60 --hosts ...           then kill a node\n"
    "\n"
    "What the figures mean, and what to mind:\n"
    "  - The load is closed-loop: a publisher sends on when it gets an answer. --rate makes it open-loop.\n"
    "  - This program shares the machine with the broker: \"CPU of this tool\" says how much it took.\n"
    "    A broker that writes every packet by itself costs the clients most, as it would cost real ones; see "
    "--coalesce.\n"
    "  - QoS 0 has no acknowledgement: a publisher holds back --in-flight messages that have not been delivered, so "
    "that\n"
    "    nothing overflows; what has not arrived after 0.2 s without any delivery is given up, and counted as lost.\n"
    "  - A PUBREC is an acknowledgement: from then on the message is the broker's. Its place in the window is free at "
    "PUBCOMP.\n"
    "  - After a broken connection unacknowledged messages are sent again with DUP. If the broker has forgotten the\n"
    "    publisher's session, it may then deliver a message twice; \"sent again\" says how many could be.\n"
    "  - backlog and broadcast: the time to drain includes connecting again. \"net of connecting\" subtracts the time\n"
    "    that the same sessions took to connect just before, when nothing was waiting for them.\n"
    "  - idle: the open files of this process and of the broker (ulimit -n) bound the number of connections.\n";

static void print_help(void)
{
    fputs(help_head, stdout);
    for (unsigned i = 0; i < WORKLOAD_COUNT; i++)
        printf("  %-10s %s\n", workloads[i].name, workloads[i].summary);
    puts("\nOptions (and their defaults):");
    for (unsigned i = 0; i < OPTION_ROW_COUNT; i++) {
        const struct option_row *row = &options[i];
        char head[64];
        snprintf(head, sizeof(head), "--%s %s", row->name, row->argument != NULL ? row->argument : "");
        printf("  %-33s ", head);
        for (const char *c = row->help; *c != '\0'; c++)
            *c == '\n' ? printf("\n%36s", "") : putchar(*c);
        putchar('\n');
    }
    fputs(help_tail, stdout);
}

static _Noreturn void refuse(const char *what, const char *value, const char *expected)
{
    fprintf(stderr, "coterie-bench: %s '%s': expected %s; see --help\n", what, value, expected);
    exit(2);
}

static void parse_address(struct address *address, char *text)
{
    snprintf(address->text, sizeof(address->text), "%s", text);
    char *colon = strrchr(text, ':');
    if (colon == NULL || colon == text || colon[1] == '\0')
        refuse("address", text, "HOST:PORT");
    *colon = '\0';
    if (text[0] == '[' && colon[-1] == ']') { /* [::1]:1883 */
        colon[-1] = '\0';
        text++;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    int failed = getaddrinfo(text, colon + 1, &hints, &found);
    if (failed != 0)
        refuse("address", address->text, gai_strerror(failed));
    memcpy(&address->socket, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
}

static void parse_hosts(struct hosts *hosts, const char *text)
{
    char *copy = strdup(text), *save = NULL;
    hosts->count = 0;
    for (char *part = strtok_r(copy, ",", &save); part != NULL; part = strtok_r(NULL, ",", &save)) {
        if (hosts->count == HOSTS_MAX)
            refuse("--hosts", text, "at most 64 addresses");
        parse_address(&hosts->list[hosts->count++], part);
    }
    free(copy);
    if (hosts->count == 0)
        refuse("--hosts", text, "HOST:PORT,...");
}

static void parse_pids(struct pids *pids, const char *text)
{
    char *copy = strdup(text), *save = NULL;
    for (char *part = strtok_r(copy, ", \n", &save); part != NULL; part = strtok_r(NULL, ", \n", &save)) {
        int pid = atoi(part);
        if (pid <= 0 || pids->count == PIDS_MAX)
            refuse("--pid", text, "up to 64 process ids");
        pids->list[pids->count++] = pid;
    }
    free(copy);
}

static void parse_count(const struct option_row *row, uint64_t *field, const char *text)
{
    char *end, expected[64];
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    snprintf(expected, sizeof(expected), "a number from %llu to %llu", (unsigned long long)row->min,
             (unsigned long long)row->max);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || value < row->min || value > row->max)
        refuse(row->name, text, expected);
    *field = value;
}

static void parse_choice(const struct option_row *row, uint64_t *field, const char *text)
{
    for (const struct choice *choice = row->choices; choice->name != NULL; choice++) {
        if (strcmp(choice->name, text) == 0) {
            *field = choice->value;
            return;
        }
    }
    refuse(row->name, text, row->argument);
}

static void parse_value(struct plan *plan, const struct option_row *row, const char *text)
{
    void *field = (char *)plan + row->offset;
    char *end;
    switch (row->kind) {
    case OPTION_COUNT: parse_count(row, field, text); break;
    case OPTION_SECONDS: {
        double value = strtod(text, &end);
        if (end == text || *end != '\0' || !(value >= 0 && value <= (double)row->max))
            refuse(row->name, text, "seconds");
        *(double *)field = value;
        break;
    }
    case OPTION_FLAG: *(bool *)field = true; break;
    case OPTION_TEXT:
        if (strlen(text) > CODEC_TEXT_MAX && row->offset != FIELD(directory))
            refuse(row->name, text, "at most 255 bytes");
        *(const char **)field = text;
        break;
    case OPTION_CHOICE: parse_choice(row, field, text); break;
    case OPTION_HOSTS: parse_hosts(field, text); break;
    case OPTION_PIDS: parse_pids(field, text); break;
    }
}

static const struct option_row *find_option(const char *word)
{
    for (unsigned i = 0; i < OPTION_ROW_COUNT; i++) {
        if (strncmp(word, "--", 2) == 0 && strcmp(word + 2, options[i].name) == 0)
            return &options[i];
    }
    refuse("option", word, "one of those in the manual");
}

static const struct workload *find_workload(const char *word)
{
    for (unsigned i = 0; i < WORKLOAD_COUNT; i++) {
        if (strcmp(word, workloads[i].name) == 0)
            return &workloads[i];
    }
    refuse("workload", word, "fan-in, pairs, fan-out, latency, backlog, broadcast, connect, idle or disk");
}

static void set_defaults(struct plan *plan, const struct workload *workload)
{
    *plan = (struct plan){
        .workload = workload,
        .protocol = PROTOCOL_3_1_1,
        .publishers = workload->publishers,
        .subscribers = workload->subscribers,
        .clients = workload->clients,
        .qos = 1,
        .payload_size = 64,
        .in_flight = workload->in_flight,
        .messages = workload->messages,
        .seconds = 10,
        .warmup = 1,
        .drain = 5,
        .persistent = 1,
        .threads = 1,
        .connecting = 64,
        .directory = ".",
        .block = 512,
    };
    parse_hosts(&plan->hosts, "127.0.0.1:1883");
}

static void derive(struct plan *plan)
{
    if (plan->subscriber_hosts.count == 0)
        plan->subscriber_hosts = plan->hosts;
    uint64_t fewer = plan->publishers < plan->subscribers ? plan->publishers : plan->subscribers;
    plan->topics = plan->workload->topic_each ? plan->subscribers : fewer;
    if (plan->topics == 0)
        plan->topics = 1;
    plan->stride = 1;
    if (plan->publishers > 0 && plan->publishers < plan->topics) {
        while (plan->topics % plan->publishers != 0) /* every publisher has as many topics as the others */
            plan->publishers--;
        plan->stride = plan->topics / plan->publishers;
    }
    if (plan->workload->kind == WORKLOAD_OFFLINE) {
        if (plan->publishers == 0 || plan->subscribers == 0 || plan->messages == 0)
            refuse("workload", plan->workload->name, "publishers, subscribers and messages");
        if (plan->qos == 0)
            refuse("--qos", "0", "1 or 2: nobody keeps QoS 0 for an offline session");
        plan->persistent = 1;
    }
    if (plan->workload->kind == WORKLOAD_TRAFFIC && plan->publishers == 0)
        refuse("--publishers", "0", "at least 1");
    if (getrandom(&plan->run, sizeof(plan->run), 0) != sizeof(plan->run))
        abort();
}

void plan_parse(struct plan *plan, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help();
            exit(0);
        }
    }
    if (argc < 2) {
        print_help();
        exit(2);
    }
    set_defaults(plan, find_workload(argv[1]));
    for (int i = 2; i < argc; i++) {
        const struct option_row *row = find_option(argv[i]);
        if (row->argument != NULL && i + 1 == argc)
            refuse("option", argv[i], "a value");
        parse_value(plan, row, row->argument != NULL ? argv[++i] : "");
    }
    derive(plan);
}

uint64_t plan_topic(const struct plan *plan, uint64_t publisher, uint64_t sequence)
{
    if (plan->stride == 1)
        return publisher % plan->topics;
    return publisher + sequence % plan->stride * plan->publishers;
}

uint64_t plan_subscribers_of(const struct plan *plan, uint64_t topic)
{
    return (plan->subscribers + plan->topics - 1 - topic) / plan->topics;
}

uint64_t plan_publishers_of(const struct plan *plan, uint64_t topic)
{
    if (plan->stride > 1)
        return 1;
    return (plan->publishers + plan->topics - 1 - topic) / plan->topics;
}

bool plan_track(const struct plan *plan, uint64_t topic, uint64_t publisher, uint64_t *track)
{
    uint64_t first = plan->stride > 1 ? topic % plan->publishers : topic;
    uint64_t step = plan->stride > 1 ? plan->publishers : plan->topics;
    if (publisher >= plan->publishers || publisher % step != first % step)
        return false;
    *track = plan->stride > 1 ? 0 : publisher / plan->topics;
    return true;
}

uint64_t plan_track_publisher(const struct plan *plan, uint64_t topic, uint64_t track)
{
    return plan->stride > 1 ? topic % plan->publishers : topic + track * plan->topics;
}
