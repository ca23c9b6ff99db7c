/* core_private.h — the struct behind core.h, shared by the files that make up the core:
 *
 *   core.c          events in, turns, callbacks out        core_effects.c   committed entries -> effects -> clients
 *   core_input.c    bytes -> packets -> actions            core_health.c    G8, the node's lives, stopping
 *   deliver.c       messages -> frames; acknowledgements   core_qos0.c      routing of QoS 0
 *   core_sys.c      $SYS                                   core_logins.c    passwords that are being checked
 *   core_security.c operators' commands; what their changes mean for clients that are connected */
#ifndef COTERIE_CORE_PRIVATE_H
#define COTERIE_CORE_PRIVATE_H

#include "client_private.h"
#include "cluster/duties.h"
#include "cluster/proposer.h"
#include "rates.h"
#include "registry.h"

/* Connections to come back to later, by number: those that have gone meanwhile are passed over. */
struct later_list {
    uint64_t *numbers;
    uint32_t count, capacity;
};

/* A SUBACK that waits until the other nodes have applied its SUBSCRIBE. */
struct held_answer {
    struct held_answer *next;
    uint64_t number;             /* of the connection */
    uint64_t index;
    uint64_t until_ms;
    uint32_t size;
    uint8_t bytes[];
};

struct peer_node {
    uint64_t applied;            /* as it told */
    struct buffer messages;      /* QoS 0 for its clients, of this turn */
    struct buffer arrived;       /* QoS 0 from it, behind what is being delivered */
    size_t taken;                /* of that */
};

#define SYS_LOADS   9                               /* rates, each over */
#define SYS_WINDOWS 3
#define SYS_VALUES  (30 + SYS_LOADS * SYS_WINDOWS)

/* What core_sys.c remembers. */
struct core_sys {
    uint64_t started_ms, last_ms;
    uint64_t next_ms;                          /* UINT64_MAX = $SYS is off */
    uint64_t clients, clients_max;             /* connected now, and at most, as counted each time */
    uint64_t counted[SYS_LOADS];
    uint64_t loads[SYS_LOADS * SYS_WINDOWS];   /* per minute, in hundredths */
    uint64_t told[SYS_VALUES];
    uint64_t values[SYS_VALUES];               /* being told, from `next` on */
    uint32_t next;
};

/* A hash to be reported. */
struct checkpoint {
    uint64_t index;
    uint64_t hash[2];
};

/* Logins that have to wait; see core_logins.c. */
struct waiting_login {
    uint64_t number;             /* of the connection */
    uint64_t due_ms;
    bool proof;                  /* not a login: AUTH goes on then */
};
struct login_queue {
    struct waiting_login *waiting;
    uint32_t count, capacity;
    uint32_t running;            /* on other threads */
    uint64_t told_ms;            /* no line about guesses before */
};

/* An operator's command that is on its way. */
struct administration {
    uint32_t tag;
    core_administered done;
    void *context;
};

/* ---- how much is done in one turn, in looks: some 100 ns each (state_worked) ----
 *
 * Whoever is outside can make any list here long, and any message match much. So each kind of work has its share of a turn,
 * and goes on in the next one where it stopped. */
#define INPUT_LOOKS   20000      /* packets, and what QoS 0 among them matches */
#define APPLY_LOOKS   40000      /* committed entries */
#define QUEUES_LOOKS  20000      /* read from queues for clients that are behind */
#define PACKET_LOOKS  5          /* to decode and handle one, */
#define BYTES_PER_LOOK 256       /* and to check or copy what is in it */
#define COPIES_LOOKS  16000      /* of committed messages, for clients that cannot share a frame */
#define TARGET_LOOKS  2          /* to give a client a frame that others share */
#define END_LOOKS     20         /* to end a client */
#define WRITE_LOOKS   150        /* to hand frames to the kernel, */
#define WRITTEN_BYTES_PER_LOOK 50 /* and what is in them, perhaps encrypted */
#define WRITTEN_LOOKS 20         /* to write a page of the store out */
#define TURN_LOOKS    60000      /* all of them together; what is left of it goes into writing to connections, or closing them, */
#define WRITES_MIN    100        /* but for so many of few bytes in any case */
#define ENDS_MAX      500        /* clients ended because all are, */
#define TIMERS_MAX    1000       /* clients whose time is over, */
#define ACKS_MAX      2000       /* clients whose acknowledgements are collected, */
#define WAKES_MAX     4000       /* clients that are looked at again, in one turn */

/* A QoS 0 message that is being matched and delivered. */
struct live_message {
    bool open;
    bool copied;                     /* it came from another node, which has told the others */
    struct message message;
    struct buffer text;              /* what it points at */
    struct buffer groups;            /* uint64_t each */
    uint64_t number;                 /* names its frames; larger than any message id */
};

/* All clients are being ended; see core_health.c. */
struct core_ending {
    bool open;
    enum client_end why;
    uint32_t slot;                       /* those before it are done */
};

struct forms;

struct core {
    struct client_node node;             /* what clients see of it: limits, counters */
    struct core_callbacks out;
    struct state *state;
    struct proposer *proposer;
    struct duties duties;
    struct effects *effects;             /* of the step of the entry being applied */
    struct bytes entry;                  /* being applied; the driver's */
    uint64_t entry_index;
    uint64_t *cookies;                   /* of its commands, if it is our own */
    uint32_t cookie_count;
    struct live_message live;
    struct core_ending ending;
    struct forms *forms;                 /* of the message that is being delivered */
    uint64_t forms_of;                   /* its id; 0: none is */
    uint64_t input_looks, apply_looks, copies_looks, queues_looks, other_looks;   /* done in this turn */
    bool breather;                       /* a QoS 0 message took long: entries come first now */
    struct effects *arena;               /* of reads: queues, QoS 0 matches */
    struct actions actions;              /* of the packet or outcome at hand */
    struct buffer scratch;               /* a PUBLISH being encoded */
    struct buffer frames;                /* a write being gathered */
    struct buffer own, broadcast;        /* an ACK command being gathered */

    struct registry registry;
    struct timers timers;
    struct outbox_pool pool;
    struct later_list work;               /* has input to decode, or deliveries to send */
    struct later_list stalled;            /* has input that waits for the pressure to go */
    struct later_list dirty;              /* has something to write, or to close */
    struct later_list acks;               /* has acknowledgements to collect */
    uint64_t acks_ms;                    /* when they are due; UINT64_MAX = none */
    bool acks_urgent;
    size_t waiting_bytes;                /* of frames that wait for room, in all clients; shared ones count for each */
    struct held_answer *held_first, *held_last;
    struct peer_node peers[NODES_MAX];
    struct checkpoint *checkpoints;
    uint32_t checkpoint_count;

    struct core_sys sys;
    struct login_queue logins;
    struct administration *administrations;
    uint32_t administration_count, administration_tag;
    struct doorstep *doorstep;           /* who is not let in yet */
    struct rates *rates;                 /* of CONNECTs; NULL = no limit */
    uint64_t limits_told_ms;             /* no line about limits before */
    uint64_t limits_told[LIMIT_COUNT];
    uint64_t queues_dropped;             /* messages, as the state counted them when last seen */

    struct consensus_status health;
    bool cut_off;                        /* no leader heard for so long that clients were dropped */
    uint64_t cut_off_ms;                 /* since when */
    bool life_over;                      /* this life of the node has ended: begin another */
    struct command_node_up up;
    char *client_address;

    uint64_t now_ms;                     /* of the latest event */
    uint64_t applied_ms;                 /* when state_clock_ms() was last read, for the clock between batches */
    uint64_t applied_told;               /* index of the last `applied` callback */
    bool applied_awaited;                /* since then, a SUBSCRIBE of another node was applied */
    uint64_t uncommitted_ms;             /* since when the store's transaction has something; UINT64_MAX = nothing */
    uint64_t uncommitted_commands;
    uint64_t committed_work;             /* state_worked() as of the last commit */
    bool spilled;                        /* the store, since then */

    enum status trouble;                 /* not OK: the node cannot go on */
    const char *trouble_text;
    bool trouble_told;
};

/* ---- core.c ---- */
void work_list_add(struct later_list *list, const struct client *client);
bool later_list_drop(struct later_list *list, uint32_t count);   /* the first so many; false: none is left */
void later_list_join(struct later_list *list, struct later_list *more);   /* behind the others; frees `more` */
void core_want_work(struct core *core, struct client *client);
void core_want_flush(struct core *core, struct client *client);
/* Carries out core->actions, which `client` caused. The client may be gone afterwards. */
void core_carry_out(struct core *core, struct client *client);
void core_propose(struct core *core, struct client *client, const struct command *command, uint32_t tag);
void core_send(struct core *core, struct client *client, struct frame *frame);   /* takes one reference over */
void core_send_bytes(struct core *core, struct client *client, struct bytes bytes);
void core_end(struct core *core, struct client *client, enum client_end why);
/* Moves the client's timer forward if need be; one that is set too early finds out when it fires. */
void core_arm(struct core *core, struct client *client);
/* Frees a client that nothing refers to any more: no socket, no CONNECT on its way. */
void core_forget_if_over(struct core *core, struct client *client);
void core_trouble(struct core *core, enum status status, const char *text);
void core_note(struct core *core, int level, const char *text);
uint64_t core_clock_ms(const struct core *core);   /* cluster time, as far as this node can tell */

/* What is under way has to be finished before anything else may read or change the state. */
static inline bool core_busy(const struct core *core)
{
    return core->live.open || core->ending.open || state_applying(core->state);
}

/* ---- core_input.c ---- */
void core_take_input(struct core *core, struct client *client, struct bytes fresh);
void core_decide_reading(struct core *core, struct client *client);
void core_refuse_stalled(struct core *core, struct client *client);
bool core_pressed(const struct core *core);        /* nothing new is to be taken from any client */

/* ---- core_logins.c ---- */
/* Runs its login, or goes on with its AUTH, when it is its turn. */
void core_login(struct core *core, struct client *client);
/* Authentication by AUTH: how it went; whether another try comes too soon; whether its proof is not looked at yet. */
void core_note_proof(struct core *core, const struct client *client, bool right);
bool core_guesses_too_soon(struct core *core, const struct client *client);
bool core_holds_proof(const struct core *core, const struct client *client);
void core_logins_turn(struct core *core);
uint64_t core_logins_deadline(const struct core *core);
/* Where the client comes from, without a port; empty: not known. */
struct bytes core_address(const struct core *core, const struct client *client, char text[CORE_ADDRESS_MAX]);

/* ---- core_security.c ---- */
bool core_bans_address(const struct core *core, const struct client *client);
/* Users, roles or bans have changed. */
void core_security_changed(struct core *core, const struct effect *effect);
void core_rules_changed(struct core *core);
/* The outcome of an operator's command. */
void core_administration_done(struct core *core, uint32_t tag, enum outcome outcome);
void core_forget_administrations(struct core *core);

/* ---- core_health.c ---- */
void core_check_health(struct core *core);
bool core_turns_away(const struct core *core);     /* CONNECTs are not even held */
void core_new_life(struct core *core);
void core_end_more(struct core *core);             /* goes on with ending all clients */

/* ---- core_effects.c ---- */
void core_release_held(struct core *core);         /* SUBACKs that need not wait longer */
void core_hold(struct core *core, struct client *client, uint64_t index);

/* ---- limits.c ---- */
void core_tell_limits(struct core *core);
/* Its CONNECT waits so long, because its id is taken over too often. */
void core_tell_contested(struct core *core, const struct client *client, uint32_t rest_ms);
void core_forget_queues(struct core *core);        /* what a state counted before it was ours is not told */

/* ---- core_sys.c ---- */
void core_sys_start(struct core *core, uint64_t now_ms);
void core_sys_turn(struct core *core);
/* The client has subscribed to these filters, which begin with $SYS. */
void core_sys_answer(struct core *core, struct client *client, struct bytes filters, uint32_t subscription_id);

/* ---- core_effects.c ---- */
void core_apply_more(struct core *core, uint64_t looks);
void core_forget_entry(struct core *core);

/* ---- core_qos0.c ---- */
/* Delivers to the clients of this node, and of each group that matches to one member here; as core_route_qos0(). */
void core_deliver_here(struct core *core, const struct message *message);
/* Goes on with the message under way. */
void core_live_more(struct core *core, uint64_t looks);
/* Takes what other nodes have sent. */
void core_take_arrived(struct core *core);
/* Begins, and ends if that is no more than this turn may do. None is under way. */
void core_route_qos0(struct core *core, struct message *message, uint32_t expiry_s);
void core_flush_qos0(struct core *core);

/* ---- deliver.c ---- */
/* `id` is that of the message: its frames are kept for more targets of the same, until deliver_over(). */
void deliver_message(struct core *core, uint64_t id, const struct message *message, const struct target *targets,
                     uint32_t count);
void deliver_over(struct core *core);
void deliver_more(struct core *core, struct client *client);
void deliver_acknowledgements(struct core *core);                       /* of all clients, if due */
void deliver_acknowledge(struct core *core, struct client *client);     /* now: its END is next */
void deliver_note_acks(struct core *core, struct client *client);

#endif
