/* replica_world.h — the raft library by itself, and the same behind replica.h: node 1 of three, its log on a simulated
 * disk, and whatever the test wants its peers to say.
 *
 * Tests show first what the bare library does (in a child process where it aborts), then that the same events do no harm
 * behind replica.h. If a test fails in its first half, the library has changed: look whether we still need ours. */
#ifndef COTERIE_REPLICA_WORLD_H
#define COTERIE_REPLICA_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cluster/replica.h"
#include "log.h"
#include "tests/sim/world/disk_sim.h"

#define SELF 1
#define MESSAGES 64

/* The first `count` of nodes 1 to 5 as members. Replaces what `out` holds. */
void configuration_of(uint32_t count, struct buffer *out);

/* ---- messages ---- */
struct raft_message append_of(uint64_t term, uint64_t previous, uint64_t previous_term, uint64_t commit);
struct raft_message append_result(uint64_t term, uint64_t rejected, uint64_t last);
struct raft_message vote_result(uint64_t term, bool pre_vote);

/* ---- the bare library ---- */

struct bare {
    struct raft raft;
    struct raft_update update;
    raft_time now;
};

/* Three members; entry 1 and `commands` more, all of term 1; or a snapshot up to `snapshot_index`, if that is not 0. */
void bare_start(struct bare *bare, unsigned commands, uint64_t snapshot_index);
void bare_stop(struct bare *bare);
int bare_step(struct bare *bare, struct raft_event *event);   /* the library's error, 0: none; so do those below */
int bare_receive(struct bare *bare, uint32_t from, struct raft_message message);
int bare_receive_entries(struct bare *bare, struct raft_message message, struct raft_entry *entries, unsigned n);
int bare_submit(struct bare *bare, int type, struct bytes data);   /* one entry of term 2 */
void bare_timeout(struct bare *bare);
void bare_elect(struct bare *bare);   /* in term 2 */
/* Whether `scene` ends in an assertion of the library. In a child, with its last words muted. */
bool it_aborts(void (*scene)(void));

/* ---- behind replica.h ---- */

struct world {
    struct disk_sim *disk;
    struct log *log;
    struct replica *replica;
    struct node_life life;
    bool five;                /* members, instead of three; set it before given_replica() */
    uint64_t now;
    struct raft_message sent[MESSAGES];
    uint32_t sent_entries[MESSAGES];
    unsigned sent_count;
    unsigned snapshots_needed, installs, fatals;
    enum status fatal;
};

int setup(void **state);
int teardown(void **state);

/* A follower of term 1, with what bare_start() has. */
void given_replica(struct world *w, unsigned commands, uint64_t snapshot_index);
/* One with nothing at all, in a later life. */
void given_replacement(struct world *w);
/* The replica is elected, in term 2. */
void given_leader(struct world *w);

/* What it answers is in w->sent, without what was there before. */
void receive(struct world *w, uint32_t from, struct raft_message message);
/* The same of node 2, with entries, which are released. */
void receive_entries(struct world *w, struct raft_message message, struct log_entry **entries, uint32_t count);
void when_flushed(struct world *w);   /* the end of a turn, and the disk has done it */
const struct raft_message *sent_of(const struct world *w, enum raft_message_type type);   /* the first; NULL: none */

#endif
