/* coverage.h — how often each kind of fault met each phase of the protocol. A pair that is never met is a hole in the
 * simulation: nothing is known about it. Counted over all seeds of a run (in memory that its processes share). */
#ifndef COTERIE_SIM_COVERAGE_H
#define COTERIE_SIM_COVERAGE_H

#include <stdint.h>
#include <stdio.h>

#include "config.h"

/* What was under way on the node, or with its clients, when the fault came. */
enum phase_met {
    PHASE_IDLE,
    PHASE_CONNECTING,      /* CONNECT sent, no CONNACK yet */
    PHASE_SUBSCRIBING,     /* SUBSCRIBE or UNSUBSCRIBE unanswered */
    PHASE_PUBLISH_1,       /* QoS 1: no PUBACK yet */
    PHASE_PUBLISH_2,       /* QoS 2: no PUBREC yet */
    PHASE_RELEASE,         /* PUBREL sent, no PUBCOMP yet */
    PHASE_RECEIVED_2,      /* PUBREC of a delivery sent, no PUBREL yet */
    PHASE_WILL,            /* has a will */
    PHASE_ELECTION,        /* knows no leader */
    PHASE_REPLAY,          /* has not applied yet what was committed when it started */
    PHASE_UNFLUSHED,       /* entries are not on its disk yet */
    PHASE_SNAPSHOT,        /* writes one */
    PHASE_SENDING,         /* sends one to a peer */
    PHASE_RECEIVING,       /* gets one */
    PHASE_INSTALLING,      /* makes one its state */
    PHASE_REPLACEMENT,     /* is no voter yet */
    PHASE_DAMAGED,         /* has lost acknowledged entries, and is being rebuilt */
    PHASE_BEFORE_FRAME,    /* died just before this output of a step */
    PHASE_BEFORE_WRITE,
    PHASE_BEFORE_SUBMIT,
    PHASES_MET,
};

struct coverage {
    uint64_t struck[FAULT_KINDS];                /* faults */
    uint64_t met[FAULT_KINDS][PHASES_MET];
    uint64_t runs, events, simulated_us, published, delivered, repeated, faults, elections, installs;
};

/* Zeroed, and shared with processes that are forked later. */
struct coverage *coverage_new(void);
/* `phases`: a bit for each; none is PHASE_IDLE. */
void coverage_met(struct coverage *coverage, enum fault fault, unsigned phases);
/* A table of all pairs, and the list of those that were never met though both were. */
void coverage_print(const struct coverage *coverage, FILE *out);

#endif
