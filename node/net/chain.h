/* chain.h — the filters of one connection, in order, as one: wire bytes in, plain bytes out, and back. No sockets.
 *
 *   chain_receive(wire) --> filters[0] --> filters[1] --> ... --> plain     what a filter answers goes down through
 *   chain_send(plain)   <-- filters[0] <-- filters[1] <-- ... <--           those before it, into `wire`
 *
 * Intermediate bytes live in a scratch that all chains of a loop share. */
#ifndef COTERIE_CHAIN_H
#define COTERIE_CHAIN_H

#include "filter.h"

#define CHAIN_FILTERS_MAX 3

/* Zero-initialised is valid; chain_scratch_release() frees. */
struct chain_scratch {
    struct buffer up[CHAIN_FILTERS_MAX], down[2];
};
void chain_scratch_release(struct chain_scratch *scratch);

struct chain {
    struct filter *filters[CHAIN_FILTERS_MAX];
    uint8_t count;
    uint8_t working; /* which filter's work() is wanted or under way */
};

/* Takes the filter over. In the order from the wire up, before the first byte. */
void chain_add(struct chain *chain, struct filter *filter);
void chain_release(struct chain *chain);

/* All filters have opened. */
bool chain_open(const struct chain *chain);

/* FILTER_WORK: call chain_work() on another thread, and nothing else until it returns; then chain_receive() with
 * nothing. FILTER_END and FILTER_FAULT: `plain` still counts; send `wire`, then close. */
enum filter_result chain_receive(struct chain *chain, struct chain_scratch *scratch, struct bytes in,
                                 struct buffer *plain, struct buffer *wire);
void chain_work(struct chain *chain);
/* Only once all are open. */
enum filter_result chain_send(struct chain *chain, struct chain_scratch *scratch, struct bytes plain,
                              struct buffer *wire);
/* Says goodbye, in the order from above. Nothing can be sent afterwards. */
void chain_finish(struct chain *chain, struct chain_scratch *scratch, struct buffer *wire);

void chain_facts(const struct chain *chain, struct filter_facts *facts);
/* Of the first filter that has one: "tls: ..."; `out` gets at most `size` bytes. */
void chain_fault(const struct chain *chain, char *out, size_t size);

#endif
