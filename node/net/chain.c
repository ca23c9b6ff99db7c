/* chain.c — see chain.h. */
#include "chain.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

void chain_scratch_release(struct chain_scratch *scratch)
{
    for (size_t i = 0; i < CHAIN_FILTERS_MAX; i++)
        buffer_release(&scratch->up[i]);
    for (size_t i = 0; i < 2; i++)
        buffer_release(&scratch->down[i]);
}

void chain_add(struct chain *chain, struct filter *filter)
{
    assert(chain->count < CHAIN_FILTERS_MAX);
    chain->filters[chain->count++] = filter;
}

void chain_release(struct chain *chain)
{
    for (uint8_t i = 0; i < chain->count; i++)
        chain->filters[i]->class->free(chain->filters[i]);
    chain->count = 0;
}

bool chain_open(const struct chain *chain)
{
    for (uint8_t i = 0; i < chain->count; i++)
        if (!chain->filters[i]->open)
            return false;
    return true;
}

/* Sends `bytes` down through the filters below `level`. */
static enum filter_result send_below(struct chain *chain, struct chain_scratch *scratch, uint8_t level,
                                     struct bytes bytes, struct buffer *wire)
{
    while (level > 0 && bytes.size > 0) {
        struct filter *filter = chain->filters[--level];
        struct buffer *out = level == 0 ? wire : &scratch->down[level % 2];
        if (level > 0)
            buffer_clear(out);
        enum filter_result result = filter->class->send(filter, bytes, out);
        if (result != FILTER_OK)
            return result;
        bytes = buffer_bytes(out);
    }
    return FILTER_OK;
}

/* One filter takes `in`; its answers go down. */
static enum filter_result receive_at(struct chain *chain, struct chain_scratch *scratch, uint8_t level,
                                     struct bytes in, struct buffer *plain, struct buffer *wire)
{
    struct filter *filter = chain->filters[level];
    struct buffer answers = {0};
    enum filter_result result = filter->class->receive(filter, in, plain, level == 0 ? wire : &answers);
    enum filter_result sent = send_below(chain, scratch, level, buffer_bytes(&answers), wire);
    buffer_release(&answers);
    if (result == FILTER_OK)
        result = sent;
    if (result == FILTER_WORK)
        chain->working = level;
    return result;
}

enum filter_result chain_receive(struct chain *chain, struct chain_scratch *scratch, struct bytes in,
                                 struct buffer *plain, struct buffer *wire)
{
    enum filter_result end = FILTER_OK;
    uint8_t level = in.size == 0 ? chain->working : 0; /* nothing new: its work is done */
    for (; level < chain->count; level++) {
        bool last = level + 1 == chain->count;
        struct buffer *out = last ? plain : &scratch->up[level];
        if (!last)
            buffer_clear(out);
        enum filter_result result = receive_at(chain, scratch, level, in, out, wire);
        if (result == FILTER_WORK || result == FILTER_FAULT)
            return result;
        if (result != FILTER_OK)
            end = result; /* what it has let through still counts */
        if (last)
            break;
        in = buffer_bytes(out);
        if (in.size == 0)
            break;
    }
    return end;
}

void chain_work(struct chain *chain)
{
    struct filter *filter = chain->filters[chain->working];
    filter->class->work(filter);
}

enum filter_result chain_send(struct chain *chain, struct chain_scratch *scratch, struct bytes plain,
                              struct buffer *wire)
{
    return send_below(chain, scratch, chain->count, plain, wire);
}

void chain_finish(struct chain *chain, struct chain_scratch *scratch, struct buffer *wire)
{
    for (uint8_t level = chain->count; level-- > 0;) {
        struct filter *filter = chain->filters[level];
        struct buffer answers = {0};
        if (filter->class->finish == NULL)
            continue;
        filter->class->finish(filter, level == 0 ? wire : &answers);
        send_below(chain, scratch, level, buffer_bytes(&answers), wire);
        buffer_release(&answers);
    }
}

void chain_facts(const struct chain *chain, struct filter_facts *facts)
{
    memset(facts, 0, sizeof(*facts));
    for (uint8_t i = 0; i < chain->count; i++)
        if (chain->filters[i]->class->facts != NULL)
            chain->filters[i]->class->facts(chain->filters[i], facts);
}

void chain_fault(const struct chain *chain, char *out, size_t size)
{
    snprintf(out, size, "broken off");
    for (uint8_t i = 0; i < chain->count; i++) {
        const struct filter_class *class = chain->filters[i]->class;
        const char *fault = class->fault != NULL ? class->fault(chain->filters[i]) : NULL;
        if (fault != NULL && fault[0] != '\0') {
            snprintf(out, size, "%s: %s", class->name, fault);
            return;
        }
    }
}
