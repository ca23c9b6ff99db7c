/* status.h — the one error type of this code base. */
#ifndef COTERIE_STATUS_H
#define COTERIE_STATUS_H

enum status {
    STATUS_OK = 0,
    STATUS_NEED_MORE,      /* input is incomplete; call again when more has arrived; not a fault */
    STATUS_NOT_FOUND,      /* no such row, session, file */
    STATUS_EXISTS,         /* there is one already */
    STATUS_INVALID,        /* a value we were given is not allowed (configuration, arguments of an operator) */
    STATUS_MALFORMED,      /* bytes that no correct peer or client sends (MQTT: Malformed Packet) */
    STATUS_PROTOCOL_ERROR, /* well formed, but not allowed here (MQTT: Protocol Error) */
    STATUS_TOO_LARGE,      /* beyond a limit on size */
    STATUS_FULL,           /* beyond a limit on number, or a quota */
    STATUS_UNSUPPORTED,    /* a version or feature that this build does not know */
    STATUS_BUSY,           /* try again later */
    STATUS_NOT_LEADER,     /* only the leader can do this */
    STATUS_CLOSED,         /* the other side has gone, or we are stopping */
    STATUS_IO_ERROR,       /* disk or network said so; errno was logged where it happened */
    STATUS_NO_SPACE,       /* the disk is full */
    STATUS_CORRUPT,        /* a checksum, hash or invariant of stored data does not hold */
    STATUS_DAMAGED,        /* stored data is whole but older than what this node acknowledged */
};

/* A short lower-case description, for example "no space"; never NULL. */
const char *status_text(enum status status);

#endif
