/* identity.h — who this node is: made once, stored in two places, checked at every start and in every handshake.
 *
 * A node that comes back with its name but without its memory can vote twice in one term and acknowledge out of an
 * empty log: that loses what a majority had promised to keep. So an identity is never made because a directory happens
 * to be empty. It is made when the operator says so (bootstrap, replacement); afterwards both places must have it, or the node
 * refuses to start and says how to replace it.
 *
 * The order at creation: first the empty log, the empty store and whatever else a node needs, then identity_create().
 * An interrupted creation thus leaves no identity, or one in the second place only, and identity_load() says so.
 *
 * File "identity", 64 bytes, little-endian: see identity.c. */
#ifndef COTERIE_IDENTITY_H
#define COTERIE_IDENTITY_H

#include "disk.h"

#define CLUSTER_ID_SIZE 16

struct identity {
    uint8_t cluster_id[CLUSTER_ID_SIZE];  /* random, the same for all nodes of a cluster, never all zeros */
    uint32_t node_id;                     /* 1 to 63; raft's id too */
    uint64_t incarnation;                 /* of these directories: made anew, it is another one. Random, never 0 */
    uint64_t replacement;                 /* 0: the first life of this node id; else the number that the operator gave
                                           * to this replacement, growing from one to the next */
};

/* The two directories that hold a copy each: the data directory and the log's (often a disk of its own). */
struct identity_places {
    const char *first;
    const char *second;
};

/* A sentence for the operator: what is wrong, and what to do. "" after STATUS_OK. */
struct identity_fault {
    char text[1024];
};

/* Reads and compares both copies. `node_id` is the configured one.
 *   STATUS_NOT_FOUND  neither place has one: this node was never made
 *   STATUS_DAMAGED    only one has: a disk was emptied, exchanged, or is not mounted. *identity is what that one says
 *   STATUS_CORRUPT    a copy is no identity file, or its checksum does not hold
 *   STATUS_INVALID    the copies differ, or name another node id than the configuration
 *   STATUS_UNSUPPORTED, STATUS_IO_ERROR */
enum status identity_load(struct disk *disk, const struct identity_places *places, uint32_t node_id,
                          struct identity *identity, struct identity_fault *fault);

/* Makes an identity durable in both places, the second first: on bootstrap or replacement only.
 * STATUS_EXISTS: one of the places has one already (whatever its state); nothing is changed. */
enum status identity_create(struct disk *disk, const struct identity_places *places, const struct identity *identity,
                            struct identity_fault *fault);

bool identity_equal(const struct identity *a, const struct identity *b);

/* "3f2a…-node-2-9c41…": for logs and messages. */
#define IDENTITY_TEXT_SIZE 80
void identity_text(const struct identity *identity, char text[IDENTITY_TEXT_SIZE]);

#endif
