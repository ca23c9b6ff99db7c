/* switch.c — an Ethernet switch in one process, for networks that are late, lose, repeat, overtake, or are cut.
 *
 *   coterie-switch SEED NAMESPACE:NUMBER...
 *
 *   frame from a TAP --> where to (last byte of the address, or everybody) --> fate on that directed link
 *        --> written to the other TAP at once, or kept in a heap until it is due
 *
 * Each namespace of /run/netns gets a TAP device eth0 with the address 02:00:00:00:00:NUMBER. Nothing else is attached, so
 * no frame can leave. Commands come on stdin, one to a line, and each is answered with "ok" or "error ..."; times are in
 * microseconds and chances in millionths:
 *
 *   link FROM TO DELAY JITTER LOSS DUPLICATE REORDER    fate of the frames that FROM sends to TO
 *   cuts [FROM TO]...                                   exactly these links are cut from now on
 *   heal                                                no cuts; every link as at the start
 *
 * The switch ends when stdin does. Each directed link draws from a generator of its own, seeded by SEED and the two
 * numbers: the n-th frame of a link has the same fate in every run. Frames of a link stay in order, jitter or not; only
 * one that is "reordered" is held back while later ones pass. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define PORTS_MAX      16
#define FRAME_BYTES    2048      /* the MTU is 1500 */
#define WAITING_MAX    65536     /* frames on their way, 128 MiB; more are lost, as at a real switch */
#define LINE_BYTES     4096
#define HELD_BACK_US   5000      /* longest that a reordered frame waits, beyond the delay of its link */
#define REPEAT_US      1000      /* latest that the second copy of a frame comes after the first */
#define MILLION        1000000
#define BURST          64        /* frames taken from one port before the others get their turn */

struct link {
    uint64_t delay_us, jitter_us;
    uint32_t loss, duplicate, reorder; /* millionths */
    bool cut;
    uint64_t last_due_us; /* order: nothing is due before what was sent earlier */
    uint64_t chance;      /* state of its generator */
};

struct port {
    int fd, number;
};

struct frame {
    uint64_t due_us, sequence; /* frames that are due together leave as they came */
    int port;
    size_t size;
    unsigned char bytes[FRAME_BYTES];
};

struct ethernet_switch {
    struct port ports[PORTS_MAX];
    int port_count;
    struct link links[PORTS_MAX][PORTS_MAX];
    struct frame *waiting[WAITING_MAX]; /* a heap: the first is due next */
    size_t waiting_count;
    uint64_t sequence, seed;
    int epoll, timer;
    char line[LINE_BYTES];
    size_t line_size;
};

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * MILLION + (uint64_t)now.tv_nsec / 1000;
}

static void fail(const char *what)
{
    fprintf(stderr, "coterie-switch: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- chance ---- */

static uint64_t draw(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t draw_below(uint64_t *state, uint64_t limit)
{
    return limit > 0 ? draw(state) % limit : 0;
}

static bool happens(uint64_t *state, uint32_t millionths)
{
    return millionths > 0 && draw_below(state, MILLION) < millionths;
}

/* ---- frames that are not due yet ---- */

static bool before(const struct frame *a, const struct frame *b)
{
    return a->due_us != b->due_us ? a->due_us < b->due_us : a->sequence < b->sequence;
}

static void heap_swap(struct ethernet_switch *s, size_t a, size_t b)
{
    struct frame *frame = s->waiting[a];
    s->waiting[a] = s->waiting[b];
    s->waiting[b] = frame;
}

static void wait_until_due(struct ethernet_switch *s, int port, const unsigned char *bytes, size_t size, uint64_t due_us)
{
    if (s->waiting_count == WAITING_MAX)
        return;
    struct frame *frame = malloc(sizeof(*frame));
    if (frame == NULL)
        return;
    assert(size <= FRAME_BYTES);
    frame->due_us = due_us;
    frame->sequence = s->sequence++;
    frame->port = port;
    frame->size = size;
    memcpy(frame->bytes, bytes, size);
    size_t at = s->waiting_count++;
    s->waiting[at] = frame;
    for (; at > 0 && before(s->waiting[at], s->waiting[(at - 1) / 2]); at = (at - 1) / 2)
        heap_swap(s, at, (at - 1) / 2);
}

/* Takes the frame that is due first off the heap; the caller frees it. */
static struct frame *take_first(struct ethernet_switch *s)
{
    struct frame *first = s->waiting[0];
    s->waiting[0] = s->waiting[--s->waiting_count];
    for (size_t at = 0;;) {
        size_t least = at, left = 2 * at + 1, right = left + 1;
        if (left < s->waiting_count && before(s->waiting[left], s->waiting[least]))
            least = left;
        if (right < s->waiting_count && before(s->waiting[right], s->waiting[least]))
            least = right;
        if (least == at)
            return first;
        heap_swap(s, at, least);
        at = least;
    }
}

/* A full or vanished device loses the frame. */
static void transmit(struct ethernet_switch *s, int port, const unsigned char *bytes, size_t size)
{
    if (write(s->ports[port].fd, bytes, size) < 0 && errno != EAGAIN && errno != EIO && errno != ENOBUFS)
        fail("write to a TAP device");
}

static void transmit_due(struct ethernet_switch *s)
{
    while (s->waiting_count > 0 && s->waiting[0]->due_us <= now_us()) {
        struct frame *frame = take_first(s);
        transmit(s, frame->port, frame->bytes, frame->size);
        free(frame);
    }
}

static void set_timer(struct ethernet_switch *s)
{
    struct itimerspec at = {0};
    if (s->waiting_count > 0) {
        at.it_value.tv_sec = (time_t)(s->waiting[0]->due_us / MILLION);
        at.it_value.tv_nsec = (long)(s->waiting[0]->due_us % MILLION) * 1000;
    }
    timerfd_settime(s->timer, TFD_TIMER_ABSTIME, &at, NULL);
}

/* ---- what becomes of a frame ---- */

static uint64_t due_time(struct link *link, uint64_t now)
{
    uint64_t due = now + link->delay_us;
    if (link->jitter_us > 0) {
        uint64_t late = draw_below(&link->chance, 2 * link->jitter_us + 1); /* 0 ... 2 jitter: delay - jitter ... + jitter */
        due = due + late > now + link->jitter_us ? due + late - link->jitter_us : now;
    }
    if (happens(&link->chance, link->reorder))
        return due + 1 + draw_below(&link->chance, link->delay_us + HELD_BACK_US);
    if (due < link->last_due_us)
        due = link->last_due_us;
    link->last_due_us = due;
    return due;
}

static void relay(struct ethernet_switch *s, int from, int to, const unsigned char *bytes, size_t size)
{
    struct link *link = &s->links[from][to];
    if (link->cut || happens(&link->chance, link->loss))
        return;
    uint64_t now = now_us(), due = due_time(link, now);
    if (due <= now)
        transmit(s, to, bytes, size);
    else
        wait_until_due(s, to, bytes, size, due);
    if (happens(&link->chance, link->duplicate))
        wait_until_due(s, to, bytes, size, due + 1 + draw_below(&link->chance, REPEAT_US));
}

static void receive_frames(struct ethernet_switch *s, int from)
{
    unsigned char bytes[FRAME_BYTES];
    for (int i = 0; i < BURST; i++) {
        ssize_t size = read(s->ports[from].fd, bytes, sizeof(bytes));
        if (size < 14)
            return; /* nothing more; shorter than an Ethernet head cannot be */
        bool everybody = (bytes[0] & 1) != 0;
        for (int to = 0; to < s->port_count; to++)
            if (to != from && (everybody || s->ports[to].number == bytes[5]))
                relay(s, from, to, bytes, (size_t)size);
    }
}

/* ---- commands ---- */

static int port_of(const struct ethernet_switch *s, int number)
{
    for (int i = 0; i < s->port_count; i++)
        if (s->ports[i].number == number)
            return i;
    return -1;
}

static void heal(struct ethernet_switch *s)
{
    for (int from = 0; from < s->port_count; from++)
        for (int to = 0; to < s->port_count; to++) {
            struct link *link = &s->links[from][to];
            *link = (struct link){.last_due_us = link->last_due_us, .chance = link->chance};
        }
}

static const char *command_link(struct ethernet_switch *s, const char *text)
{
    int from, to;
    unsigned long long delay, jitter;
    unsigned loss, duplicate, reorder;
    if (sscanf(text, "%d %d %llu %llu %u %u %u", &from, &to, &delay, &jitter, &loss, &duplicate, &reorder) != 7)
        return "error link: expected seven numbers";
    from = port_of(s, from);
    to = port_of(s, to);
    if (from < 0 || to < 0 || loss > MILLION || duplicate > MILLION || reorder > MILLION)
        return "error link: no such port, or a chance above a million";
    struct link *link = &s->links[from][to];
    link->delay_us = delay;
    link->jitter_us = jitter;
    link->loss = loss;
    link->duplicate = duplicate;
    link->reorder = reorder;
    return "ok";
}

static const char *command_cuts(struct ethernet_switch *s, char *text)
{
    for (int from = 0; from < s->port_count; from++)
        for (int to = 0; to < s->port_count; to++)
            s->links[from][to].cut = false;
    char *rest = NULL;
    for (char *word = strtok_r(text, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        char *second = strtok_r(NULL, " ", &rest);
        int from = port_of(s, atoi(word)), to = second != NULL ? port_of(s, atoi(second)) : -1;
        if (from < 0 || to < 0)
            return "error cuts: expected pairs of ports";
        s->links[from][to].cut = true;
    }
    return "ok";
}

static const char *run_command(struct ethernet_switch *s, char *line)
{
    if (strncmp(line, "link ", 5) == 0)
        return command_link(s, line + 5);
    if (strncmp(line, "cuts", 4) == 0)
        return command_cuts(s, line + 4);
    if (strcmp(line, "heal") == 0) {
        heal(s);
        return "ok";
    }
    return "error no such command";
}

/* False at the end of stdin. */
static bool read_commands(struct ethernet_switch *s)
{
    ssize_t got = read(STDIN_FILENO, s->line + s->line_size, sizeof(s->line) - s->line_size);
    if (got <= 0)
        return false;
    s->line_size += (size_t)got;
    char *end;
    while ((end = memchr(s->line, '\n', s->line_size)) != NULL) {
        *end = '\0';
        puts(run_command(s, s->line));
        size_t used = (size_t)(end + 1 - s->line);
        s->line_size -= used;
        memmove(s->line, end + 1, s->line_size);
    }
    return s->line_size < sizeof(s->line); /* a longer line is no command of ours */
}

/* ---- start ---- */

static void enter_namespace(const char *name)
{
    char path[512];
    snprintf(path, sizeof(path), "/run/netns/%s", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET) != 0)
        fail(path);
    close(fd);
}

static int open_tap(int number)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    strcpy(request.ifr_name, "eth0");
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) != 0)
        fail("TAP device");
    request.ifr_hwaddr = (struct sockaddr){.sa_family = ARPHRD_ETHER, .sa_data = {2, 0, 0, 0, 0, (char)number}};
    if (ioctl(fd, SIOCSIFHWADDR, &request) != 0)
        fail("address of a TAP device");
    return fd;
}

static void watch(struct ethernet_switch *s, int fd, int what)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)what};
    if (epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        fail("epoll");
}

static void add_port(struct ethernet_switch *s, char *argument)
{
    char *colon = strrchr(argument, ':');
    if (colon == NULL || s->port_count == PORTS_MAX) {
        fprintf(stderr, "coterie-switch: expected at most %d times NAMESPACE:NUMBER\n", PORTS_MAX);
        exit(2);
    }
    *colon = '\0';
    enter_namespace(argument);
    struct port *port = &s->ports[s->port_count];
    port->number = atoi(colon + 1);
    port->fd = open_tap(port->number);
    watch(s, port->fd, s->port_count++);
}

static void seed_links(struct ethernet_switch *s)
{
    for (int from = 0; from < s->port_count; from++)
        for (int to = 0; to < s->port_count; to++) {
            uint64_t pair = (uint64_t)s->ports[from].number << 32 | (uint64_t)s->ports[to].number;
            s->links[from][to].chance = s->seed ^ draw(&pair);
        }
}

enum { WATCH_STDIN = PORTS_MAX, WATCH_TIMER };

static void run(struct ethernet_switch *s)
{
    struct epoll_event events[PORTS_MAX + 2];
    for (;;) {
        set_timer(s);
        int count = epoll_wait(s->epoll, events, PORTS_MAX + 2, -1);
        for (int i = 0; i < count; i++) {
            uint64_t expirations;
            if (events[i].data.u32 == WATCH_STDIN) {
                if (!read_commands(s))
                    return;
            } else if (events[i].data.u32 != WATCH_TIMER) {
                receive_frames(s, (int)events[i].data.u32);
            } else if (read(s->timer, &expirations, sizeof(expirations)) < 0 && errno != EAGAIN) {
                fail("timer");
            }
        }
        transmit_due(s);
    }
}

int main(int count, char **values)
{
    static struct ethernet_switch s;
    if (count < 3) {
        fprintf(stderr, "usage: coterie-switch SEED NAMESPACE:NUMBER...\n");
        return 2;
    }
    s.seed = strtoull(values[1], NULL, 10);
    s.epoll = epoll_create1(EPOLL_CLOEXEC);
    s.timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (s.epoll < 0 || s.timer < 0)
        fail("epoll or timer");
    for (int i = 2; i < count; i++)
        add_port(&s, values[i]);
    seed_links(&s);
    watch(&s, STDIN_FILENO, WATCH_STDIN);
    watch(&s, s.timer, WATCH_TIMER);
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("ready");
    run(&s);
    return 0;
}
