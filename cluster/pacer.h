/* pacer.h — how fast the leader sends entries to one peer.
 *
 * Raft emits "send entries p+1 to p+n to that peer" and from then on believes them sent. The pacer keeps that as a
 * range and sends it in pieces, as the peer acknowledges: below PACER_BYTES_MAX or one entry on the way, so that a
 * heartbeat never stands behind more than that, and a peer that is far behind does not fill our memory. */
#ifndef COTERIE_PACER_H
#define COTERIE_PACER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PACER_BYTES_MAX (4u * 1024 * 1024)   /* unacknowledged entries per peer */
#define PACER_PIECE_BYTES (1024u * 1024)     /* of one message */
#define PACER_PIECES_MAX 256                 /* messages with entries on the way */
#define PACER_RETRY_MS 1000                  /* a probe is not sent again before, on one connection */

struct pacer_piece {
    uint64_t last;                /* index of its last entry */
    size_t bytes;
};

struct pacer {
    uint64_t next;                /* next entry to send */
    uint64_t want;                /* send up to here; next == want + 1: nothing waits */
    uint64_t base;                /* where raft last began anew, */
    uint64_t base_ms;             /* when, */
    bool probing;                 /* and whether that has not been answered yet */
    uint64_t told;                /* the peer can know that all up to here is committed */
    size_t bytes;                 /* on the way */
    unsigned first, count;        /* of the ring */
    struct pacer_piece pieces[PACER_PIECES_MAX];
};

/* Nothing waits, nothing is on the way, nothing is known of the peer: at first, and with a new term or connection. */
void pacer_reset(struct pacer *pacer);
/* Raft says: entries previous+1 to previous+count. false: a repetition of a probe that is still on the way (send a
 * heartbeat instead). */
bool pacer_request(struct pacer *pacer, uint64_t previous, uint32_t count, uint64_t now_ms);
bool pacer_waits(const struct pacer *pacer);        /* there is something to send */
bool pacer_may_send(const struct pacer *pacer);     /* and the window has room */
void pacer_sent(struct pacer *pacer, uint32_t count, size_t bytes);
void pacer_acknowledged(struct pacer *pacer, uint64_t index);   /* the peer has all up to here on its disk */
void pacer_rejected(struct pacer *pacer);           /* raft will begin anew */

#endif
