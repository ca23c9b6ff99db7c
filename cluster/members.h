/* members.h — who belongs to the cluster, and in which life of its node id. Pure, over raft's configurations.
 *
 * A node that was wiped has forgotten its votes and what it had acknowledged. Its replacement has the same node id, but
 * to raft it must be another server: so a member is (node id, life), and the log says which life is the member.
 *
 *   configuration    1   2        3        the wiped node 2 is a member, its replacement is nobody
 *                    1            3        step 1: its former life is no member any more
 *                    1  (2/7)     3        step 2: the replacement learns; it neither votes nor counts
 *                    1   2/7      3        step 3: it has caught up and is a member like any other
 *
 * Who is removed for good stays in the configuration as its last life, crossed out: nobody sends it anything, asks it or
 * counts it. (To raft it is one that only learns, as "2/7/9c41/removed". Raft's own word for it, a spare, is none: with one
 * among the servers the library's timer of a leader is always due.) So it does not join again by itself when somebody
 * starts it; a replacement with a greater number does, by the steps above: the first of them makes the leader forget what
 * the former life had.
 *
 * Each step is an ordinary membership change: an entry of the log, one at a time, which adds or removes one voter.
 *
 * WHY THIS IS SAFE. All that is known of raft's membership changes holds as it stands, if lives are never mixed up:
 *
 *   R1  nobody asks a life that is not in its own newest configuration for anything, and nobody counts an answer of one:
 *       neither a vote nor an acknowledgement (replica_send.c, replica_receive.c);
 *   R2  a life that its own newest configuration does not name as a voter neither votes nor stands (replica_may_vote);
 *   R3  one that was never told of a configuration (an empty log) is such a life.
 *
 * What a wiped node can have forgotten, and why it is not missed, for three nodes A, B and R as for five:
 *
 *   A vote. R had voted for B in term 5; A leads in term 4 and has not heard of it. If R's replacement acknowledged A's
 *   entries, A would commit them, and B, elected with R's old vote, would overwrite them: so it is not enough to keep the
 *   replacement from voting, its acknowledgements must not count either. R1 sees to that: to A the replacement is
 *   nobody, until a majority without R has accepted step 1. That majority is A and B: had B been elected in term 5 it
 *   would refuse. (Of five nodes: three of the other four. A fourth one that holds R's vote of a later term lacks step
 *   1, so none of the three elects it.) Once step 1 is committed no configuration in which R's vote counts can win.
 *
 *   An acknowledgement. Entry 10 may have been committed by A and R, and B lacks it. While step 1 is not committed R's
 *   replacement does not vote, so B is not elected without A. Step 1 lies behind entry 10 in the leader's log: once it is
 *   committed, entry 10 is on a majority without R. The replacement then counts only for what it has on its own disk,
 *   as a member of the configuration that the counting leader has.
 *
 *   The leader dies in between: the next one finds one of the four configurations above in its log and goes on from
 *   there, or, before step 1 was committed, begins again.
 *
 *   Two nodes at once: each step needs a majority of what is left, so of five nodes two are replaced one after the
 *   other; of three it never happens, since one node alone is no majority. (members_next refuses to leave less than
 *   two voters in any case: then "acknowledged" would mean one disk.)
 *
 * Lives are told apart by the number that the operator gave to the replacement (config: cluster.replace), growing from
 * one to the next, and by the incarnation, which is random: so the same number given twice makes two lives, of which the
 * peers know the first and refuse the second. In a configuration the life is written behind the id, as "2/7/9c41...": raft
 * calls that the server's address and does not look at it. The first life of a node is just "2". */
#ifndef COTERIE_MEMBERS_H
#define COTERIE_MEMBERS_H

#include <raft.h>

#include "base/bytes.h"
#include "base/status.h"
#include "wire.h"

#define MEMBERS_NAME_SIZE 64
#define MEMBERS_NODE_MAX 63   /* ids are 1 to this; as NODES_MAX in state.h */
#define NODE_BIT(node) ((uint64_t)1 << (node))   /* in sets of nodes */

enum member_role {
    MEMBER_NONE,        /* not in the configuration */
    MEMBER_OTHER,       /* the node is, or was removed, in another life */
    MEMBER_REMOVED,     /* was one, and has been taken out for good */
    MEMBER_LEARNING,    /* gets the log, does not vote */
    MEMBER_VOTING,
};

/* Whether the bytes are a configuration that we could have written: the library's decoder reads what is not there. */
bool members_valid(struct bytes configuration);

/* "2" of a first life, else "2/7/9c41". */
void members_name(uint32_t node, struct node_life life, char name[MEMBERS_NAME_SIZE]);

/* What this life of `node` is there. */
enum member_role members_role(const struct raft_configuration *configuration, uint32_t node, struct node_life life);

/* Whether it is there as one that was removed. */
bool members_is_removed(const struct raft_server *server);

/* The next step on the way of that life of `node` into the cluster: appends the configuration, in raft's encoding, to
 * `out`. false: there is none: it is a voter, a first life (they are members from the beginning, or never), older than the
 * one that is the member, or must wait because too few voters would be left. */
bool members_next(const struct raft_configuration *configuration, uint32_t node, struct node_life life,
                  struct buffer *out);

/* Takes `node` out, in whatever life: appends the configuration to `out`. STATUS_NOT_FOUND: it is no member;
 * STATUS_INVALID: too few voters would be left. */
enum status members_remove(const struct raft_configuration *configuration, uint32_t node, struct buffer *out);

#endif
