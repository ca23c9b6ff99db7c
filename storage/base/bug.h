/* bug.h — mistakes that designs of this kind are known to make, made on purpose, so that the tests can be seen to notice.
 *
 *   cmake -DCOTERIE_BUGS=ON           all of them are built in, and the environment says which one is made: COTERIE_BUG=V07
 *   cmake -DCOTERIE_BUG_V07=ON        that one only, and always
 *   otherwise                         none: the question is the constant false, and no code of them is left
 *
 * `tests/run mutants` makes one after the other and shows what it took to catch each. A new one: a line in the enumeration,
 * which says what is wrong with it, a name in bug.c, and the question at the place where the right design does otherwise. */
#ifndef COTERIE_BUG_H
#define COTERIE_BUG_H

#include <stdbool.h>

enum bug {
    BUG_NONE,
    BUG_V01_ACK_BEFORE_COMMIT,        /* the publisher is told yes as soon as its message is proposed */
    BUG_V02_ACK_WITHOUT_APPLY,        /* ... when it is committed, whatever the state machine says to it */
    BUG_V03_LEADER_READS,             /* Session Present is what a leader saw when CONNECT came in */
    BUG_V04_FOLLOWER_READS,           /* ... or a follower */
    BUG_V05_RETRY_AS_NEW,             /* a batch without an answer is sent again under a new number */
    BUG_V06_GAPS_ACCEPTED,            /* batches of one origin are applied in whatever order they come */
    BUG_V07_NO_CLIENT_EPOCH,          /* commands of a former owner of the session have an effect */
    BUG_V08_RANDOM_NODE_EPOCH,        /* a life of a node is told from others by a number that it draws itself */
    BUG_V09_INBOUND_FORGOTTEN,        /* which QoS 2 packet ids are open is forgotten with the connection */
    BUG_V10_NODE_CHOOSES_PACKET_IDS,  /* a message has another packet id at another node */
    BUG_V11_PUBREL_BEFORE_COMMIT,     /* PUBREL goes out when PUBREC has come in */
    BUG_V12_PACKET_ID_FREED_EARLY,    /* a packet id is used again before the log knows that it is free */
    BUG_V13_LOCAL_EXPIRY,             /* each replica expires by a clock of its own */
    BUG_V14_WALL_CLOCK_STAMPS,        /* the leader's wall clock is the cluster's time, only never backwards */
    BUG_V15_ORDER_OF_POINTERS,        /* what is applied depends on where things lie in memory */
    BUG_V16_DAMAGE_IS_TORN,           /* whatever does not hold at the end of the log is taken for an unfinished write */
    BUG_V17_STORE_IS_TRUSTED,         /* a store that was not closed is used as it is */
    BUG_V18_TRIMMED_TO_APPLIED,       /* the log is trimmed up to what is applied, snapshot or not */
    BUG_V19_RESTORED_ON_TOP,          /* a snapshot is loaded over what the store has */
    BUG_V20_APPLIED_INDEX_APART,      /* the applied index is not that of the data beside it */
    BUG_V21_STORE_BEHIND_LOG,         /* the store is believed never to be ahead of its own log */
    BUG_V22_WIPED_IS_THE_SAME,        /* a node without its data counts as the member that it was */
    BUG_V23_WILL_DIES_WITH_NODE,      /* only the node that held the client publishes its will */
    BUG_V24_DOWN_AT_ONCE,             /* one short silence, and a node is declared down */
    BUG_V25_DOWN_IN_ONE_GO,           /* long work is done in one step */
    BUG_V26_CUT_OFF_KEEPS_CLIENTS,    /* a node that hears no leader goes on */
    BUG_V27_LOCAL_QUEUE_LIMIT,        /* each replica has a limit of its own for queues */
    BUG_V28_RETAINED_READ_LATE,       /* retained messages are read some time after the SUBSCRIBE, as they are then */
    BUG_V29_OLD_CONNECTIONS,          /* frames of a former connection between two nodes are taken */
    BUG_V30_BATCH_UNBOUNDED,          /* a batch may be as large as it gets */
    BUG_COUNT,
};

#if defined(COTERIE_BUGS)
/* COTERIE_BUG of the environment, looked at once. An unknown name ends the process. */
enum bug bug_chosen(void);

static inline bool bug(enum bug which)
{
    return bug_chosen() == which;
}
#elif defined(COTERIE_BUG)
static inline bool bug(enum bug which)
{
    return which == COTERIE_BUG;
}
#else
static inline bool bug(enum bug which)
{
    (void)which;
    return false;
}
#endif

#endif
