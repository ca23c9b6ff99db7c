/* state_private.h — what the state machine holds in memory; shared by the files that apply commands, and by nobody else.
 *
 *   state.c            batches: who may, in which order, once; open, commit, hash
 *   apply_*.c          one file per family of commands
 *   sessions.[ch]      sessions: connecting, disconnecting, ending
 *   subscriptions.[ch] filters, and who subscribes to them with which options
 *   groups.[ch]        shared subscriptions: each message to one of the members
 *   memberships.[ch]   one session's place in one broadcast queue
 *   queues.[ch]        own queues and broadcast queues, and the order in which a session reads them
 *   readings.[ch]      the same, where a session has a place in many broadcast queues
 *   window.[ch]        QoS 2 messages on their way to a session
 *   publish.[ch]       a message meets the subscriptions
 *   scans.[ch]         retained messages that a SUBSCRIBE found
 *   security.[ch]      users, roles, bans; rights.[ch]: what rules mean
 *   wills.[ch]  due.[ch]  work.[ch]      wills; what happens by the clock; what is done in steps
 *
 * Everything whose length an outsider controls is done in steps (state_apply_more): a loop of that kind asks
 * state_spent() and remembers in struct entry or struct publication where it is. Nothing else happens to the state before
 * it goes on there, so what is replicated does not depend on how long steps are. What is in `budget` does: it is of the batch.
 *
 * Sessions, subscriptions, filters and memberships live in memory and as rows. Rows that change with every message
 * (counts, cursors) are written back when the store is to be committed or hashed: `dirty` says that one differs from
 * its row. The in-memory form holds nothing that its rows do not say, so it does not matter when that happens. */
#ifndef COTERIE_STATE_PRIVATE_H
#define COTERIE_STATE_PRIVATE_H

#include "id_list.h"
#include "index.h"
#include "keys.h"
#include "messages.h"
#include "retained.h"
#include "session_map.h"
#include "state.h"
#include "store.h"

#include "base/hash.h"
#define HASH_FUNCTION(key, length, hash) ((hash) = (unsigned)hash_bytes(bytes_of(key, length)))
#include <uthash.h>

#define OWN_MEMBERS_MAX 8         /* a filter with more has a broadcast queue */
#define STEP_ROWS_MAX 1000        /* long work: rows per batch */
#define RETAINED_AT_ONCE_MAX 100  /* by a SUBSCRIBE; the rest is a scan */
#define INTERVALS_MAX 100         /* of one membership: how often a subscription may change while it is owed messages */
#define NOT_LISTED UINT32_MAX
#define DIRTY_MAX 512             /* rows of one kind that wait to be written back, while an entry is applied */
#define ROW_LOOKS 10              /* an operation on a row costs as much as so many looks at things in memory, */
#define PAGE_LOOKS 25             /* and the first one on a page as much more: to copy it, and to write it out */
#define MOVED_PER_LOOK 64         /* pointers, in a list that is moved by one */
#define NO_UNTIL UINT64_MAX

/* ---- lists of things that know their slot: those whose rows are to be written back, and others ---- */

struct dirty_list {
    void **things;
    uint32_t count, capacity;
};

/* ---- subscriptions ---- */

struct filter {
    uint64_t id;
    struct bytes text;               /* ours */
    bool broadcast;                  /* it has a queue; until nobody needs that any more */
    uint32_t dirty_slot;
    struct group *group;             /* it is a shared subscription; of the rest, then, only the totals of subscribers and
                                      * of the queue, and who is connected where */
    uint32_t subscribers;            /* subscriptions of any QoS */
    uint32_t member_count;           /* of QoS 1 and 2 */
    uint32_t qos2_count;             /* of QoS 2 */
    uint32_t membership_count;       /* places in the broadcast queue, also of those who unsubscribed but are owed */
    struct subscription *members[OWN_MEMBERS_MAX]; /* QoS 1 and 2, by session id; unless broadcast */
    uint64_t queue_count, queue_bytes;
    uint64_t last_id, last_qos2_id;  /* newest message of the broadcast queue; newest with QoS 2 */
    struct subscription **local;     /* of sessions held by this node, any QoS */
    uint32_t local_count, local_capacity;
    struct node_subscribers {        /* connected subscribers per node, for QoS 0 */
        uint32_t node, count;
    } *nodes;
    uint32_t node_count;
    uint64_t match_mark;             /* serial of the last publication that it matched */
    struct scan *first_scan, *last_scan; /* open ones, in the order of their SUBSCRIBEs */
};

struct subscription {
    struct session *session;
    struct filter *filter;
    uint32_t subscription_id;
    uint8_t options;
    uint32_t local_slot;             /* in filter->local, or NOT_LISTED */
    struct scan *scan;               /* NULL: none is open */
};

/* All sessions that subscribe to one $share/name/filter. */
struct group {
    struct filter *filter;           /* its text is the whole */
    struct bytes matched;            /* the filter in it; borrowed from its text */
    struct subscription **members;   /* of connected sessions, by session id */
    uint32_t member_count, member_capacity;
    uint64_t last_given;             /* session; the next choice begins behind it */
    uint64_t first;                  /* message that waits first; UINT64_MAX: none */
    uint64_t turn;                   /* QoS 0 outside the log: whose turn it is; this node's own, in no row */
};

struct group_list {                  /* the groups that share one filter, by id */
    struct group **groups;
    uint32_t count;
};

/* [since, until): messages that a subscription with these options saw. */
struct interval {
    uint64_t since, until;           /* NO_UNTIL: the present subscription */
    uint32_t subscription_id;
    uint8_t options;
};

struct membership {
    struct session *session;
    struct filter *filter;
    uint64_t cursor;                 /* all up to here is done, but for `exceptions` */
    struct id_list exceptions;       /* <= cursor, not done */
    struct id_list taken;            /* > cursor, done */
    struct interval *intervals;      /* ascending */
    uint32_t interval_count;
    uint32_t dirty_slot;
};

/* ---- sessions ---- */

struct owner {
    uint32_t node;
    uint64_t node_epoch;
    uint64_t client_epoch;           /* 0: not connected */
    uint64_t connection;
};

/* What a session has to do with groups. */
struct sharing {
    struct subscription **subscriptions; /* the shared ones, by filter id */
    uint32_t count;
    uint32_t own_count;              /* rows of the own queue that groups gave */
    uint64_t own_upto;               /* order of the newest of them, at least */
};

struct user_name {
    uint32_t size;
    uint8_t text[];
};

struct session {
    /* What a fan-out reads of each session comes first, so that it lies together. */
    uint64_t id;
    struct owner owner;
    uint64_t own_mark, target_mark;  /* publish_serial of the last message that made a row, or a target */
    bool ended;                      /* what is left of it waits to be cleared */
    uint8_t protocol_level;
    uint16_t receive_maximum;
    uint32_t dirty_slot;

    struct user_name *user_name;     /* NULL if empty */
    uint32_t expiry_s;
    uint16_t in_flight;              /* QoS 2, admitted; at most receive_maximum */
    uint16_t client_id_size;
    uint32_t inbound;                /* QoS 2 packet ids that the client has open */
    struct scan *first_scan, *last_scan; /* open ones, by position, number */
    uint64_t expires_ms;             /* cluster time; 0: connected, or never */
    uint64_t will_epoch;             /* client epoch under which the will is stored; 0: none */
    uint64_t will_due_ms;            /* 0: the connection is up */

    uint64_t own_bytes;              /* rows of the own queue */
    uint32_t own_count;
    uint32_t own_qos2;               /* of them QoS 2: none of those is admitted */
    uint32_t own_qos0;               /* of them QoS 0: retained messages, or given by a group */
    uint32_t subscription_count;     /* room for the next power of two of them */
    uint64_t admitted_upto;          /* no QoS 2 delivery up to here waits for admission */
    uint64_t sent_upto;              /* deliveries up to here may have been sent on an earlier connection */
    struct subscription **subscriptions; /* by filter id */
    struct membership **memberships;     /* by filter id */
    struct reading *readings;            /* NULL: none */
    uint32_t admit_place;                /* in memberships, where window.c begins to look */
    struct sharing *sharing;             /* NULL: nothing so far */
    uint32_t behind_slot;            /* in state->behind, while own_qos0 > 0 */
    uint32_t membership_count;       /* room for the next power of two of them */
    uint8_t client_id[];
};

static inline struct bytes session_user_name(const struct session *session)
{
    return session->user_name != NULL ? bytes_of(session->user_name->text, session->user_name->size) : bytes_of(NULL, 0);
}

static inline struct bytes session_client_id(const struct session *session)
{
    return bytes_of(session->client_id, session->client_id_size);
}

/* ---- retained scans ---- */

struct scan {
    struct session *session;
    struct filter *filter;
    struct subscription *subscription;
    struct scan *next, *previous;    /* of the session */
    struct scan *next_of_filter, *previous_of_filter;
    uint64_t position;               /* of the SUBSCRIBE */
    uint32_t number;                 /* of the filter in it */
    uint32_t subscription_id;
    uint8_t options;
    uint64_t before;                 /* first message id after the SUBSCRIBE: from there on they went live */
    struct buffer cursor;
};

/* ---- nodes ---- */

struct node_record {
    bool known, up;
    bool dirty;
    uint64_t epoch;
    uint64_t last_batch;
    uint8_t boot_nonce[16];
    struct buffer client_address, version;
};

/* ---- a delivery, as the rows of own queues and windows say it, or as merged for reading ---- */

struct delivery {
    uint64_t order;
    uint64_t message_id;
    uint64_t bytes;                  /* of the payload */
    uint8_t qos;
    bool retain;
    bool released;                   /* rows of windows */
    uint64_t group;                  /* filter id of the group that gave it; 0: none */
    uint64_t declined;               /* session that was the first to decline it; 0: none has */
    const uint32_t *subscription_ids;
    uint32_t subscription_id_count;
};

struct number_list {
    uint64_t *items;
    uint32_t count, capacity;
};

struct u32_list {
    uint32_t *items;
    uint32_t count, capacity;
};

struct target_list {
    struct target *items;
    uint32_t count, capacity;
};

struct choice_list {
    struct group_choice *items;
    uint32_t count, capacity;
};

struct session_list {
    struct session **items;
    uint32_t count, capacity;
};

struct subscription_list {
    const struct subscription **items;
    uint32_t count, capacity;
};

/* ---- a message that is being published; see publish.c ---- */

struct publication {
    uint8_t stage;                   /* enum publish_stage; 0: none is under way */
    bool register_only, retained;
    bool matched;                    /* somebody subscribes to it */
    struct message message;          /* what it points at lies in the entry, or in `text` */
    struct buffer text;
    uint64_t serial;                 /* marks the sessions and filters that it has met */
    uint64_t message_id;             /* 0: QoS 0 outside the log */
    struct filter **filters;         /* that matched */
    uint32_t filter_count;
    struct group_list **lists;       /* of groups that matched */
    uint32_t list_count;
    uint64_t references;
    struct retained_entry old;       /* what the topic retains until now */
    const uint64_t *only_filter;     /* if there is one filter and it is broadcast: its id, shared by the targets of a page */
    uint32_t at, within;             /* how far this stage is */
    struct resolution {              /* what it is for one session */
        const struct session *session; /* NULL: none is under way */
        uint32_t at;
        bool wanted;
        bool broadcasts;             /* collect the filters in whose queues it is pending for the session */
        struct delivery delivery;
    } resolution;
    struct scan *scan;
    struct effects *effects;         /* where the copies of what targets borrow are made */
    uint64_t reachable, nodes;       /* QoS 0 outside the log: the nodes whose members count, and those that get a copy */
    const uint64_t *given;           /* a copy from another node: the groups that it is for */
    uint32_t given_count;
};

/* ---- an entry that is being applied; see state.c ---- */

enum entry_stage {
    ENTRY_NONE,
    ENTRY_FIRST,
    ENTRY_COMMANDS,                  /* between two of them */
    ENTRY_COMMAND,                   /* in one of them */
    ENTRY_WORK,
    ENTRY_LAST,
};

struct entry {
    enum entry_stage stage;
    uint64_t index, term;
    struct reader commands;
    struct command command;
    bool begun;                      /* the command: what is below is about it */
    struct session *session;
    struct reader rest, rest2;
    uint32_t number;                 /* of the next filter */
    uint32_t room, rows;             /* of a SUBSCRIBE: retained messages to queue, rows to look at */
    uint64_t order;                  /* of an ACK */
    struct relinking {               /* its subscriptions change lists before anything else is done; see subscriptions.c */
        struct session *session;     /* NULL: none */
        uint32_t from, to;           /* nodes; 0: it was not, or will not be, connected */
        uint32_t at;
    } relinking;
    struct choosing {                /* the member of a group that gets a message; see groups.c */
        const struct group *group;   /* NULL: none is being chosen */
        struct subscription *best;
        uint64_t best_load;
        uint32_t at, compared;
    } choosing;
    struct session *clearing;        /* has ended, and is cleared before anything else is done; NULL: none */
};

struct state {
    struct store *store;             /* borrowed */
    uint32_t self;
    uint64_t self_epoch;             /* of this node's present life; 0: it is down */
    struct messages messages;
    struct retained retained;
    struct index *index;             /* filter -> struct filter */
    struct index *shared;            /* what groups match -> struct group_list */
    struct session_map sessions;     /* by id, ended ones too */
    struct session_map clients;      /* by client id, living ones */
    struct hash_table filters;            /* by id */
    struct hash_table groups;             /* those that are shared, by text */
    struct dirty_list behind;        /* sessions with retained messages of QoS 0 in their queue; in any order */
    uint32_t scan_count;
    struct node_record nodes[NODES_MAX];

    uint64_t applied, applied_term;
    uint64_t clock_ms;
    uint64_t next_message_id, next_filter_id;
    uint64_t work_count;             /* rows of TABLE_GARBAGE */
    uint64_t due_ms;                 /* of the first row of TABLE_DUE; UINT64_MAX = none */
    struct command_settings settings;
    bool settings_dirty;
    struct security *security;       /* users, roles and bans: security_private.h */
    struct state_counts counts;
    struct dirty_list dirty_sessions, dirty_filters, dirty_memberships;

    /* The batch and command being applied. */
    struct effects *effects;
    uint64_t index_now, position;
    uint32_t command_number;
    struct batch_header batch;
    uint32_t budget;                 /* rows of long work that this batch may still do */
    bool checkpoint;
    struct entry entry;
    struct publication publication;  /* of the entry */
    struct publication live;         /* QoS 0 outside the log; never both at once */
    uint64_t looks;                  /* at things in memory, since it was opened */
    uint64_t worked_max;             /* of state_worked(), in this step */

    /* Room that is used again and again. */
    uint64_t publish_serial;
    struct buffer row, assembled, text, codes, existed;
    struct u32_list ids, read_ids;
    struct number_list read_filters;
    struct number_list broadcasts;   /* with `ids` and `matching`: of the resolution that is under way */
    struct subscription_list matching;
    struct session_list hits;
    struct target_list targets;
    struct choice_list choices;
};

/* Rows are written back by whoever owns them; see each header. */
void dirty_list_add(struct dirty_list *list, void *thing, uint32_t *slot);
void dirty_list_remove(struct dirty_list *list, uint32_t *slot);

/* `list` of `count` pointers, with room for one more: there is always room for the next power of two. */
void *list_room(void *list, uint32_t count);

void u32_list_add(struct u32_list *list, uint32_t item);
void number_list_add(struct number_list *list, uint64_t item);

/* ---- work is counted, so that it can be done in steps ---- */

static inline void state_look(struct state *state, uint64_t things)
{
    state->looks += things;
}

/* The step is over: what can wait for the next one does. */
static inline bool state_spent(const struct state *state)
{
    return state_worked(state) >= state->worked_max;
}

/* A new effect that answers the command being applied. */
struct effect *outcome_add(struct state *state, enum effect_type type, enum outcome outcome);

/* The session a command is for; NULL (counted as fenced) unless its client epoch is the owner's. */
struct session *state_owner(struct state *state, const struct command_owner *owner);

static inline uint64_t seconds_from(uint64_t clock_ms, uint32_t seconds)
{
    return clock_ms + (uint64_t)seconds * 1000;
}

/* The row at or behind `from`, or behind `after`, if its key begins with `prefix`. */
static inline bool row_in(struct bytes prefix, bool found, const struct row *row)
{
    return found && bytes_starts_with(row->key, prefix);
}

#endif
