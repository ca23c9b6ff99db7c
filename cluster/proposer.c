/* proposer.c — see proposer.h.
 *
 * One list of batches, oldest first:
 *
 *   [ in flight: numbered ]       [ waiting: full or open, not numbered ]
 *     0 ... in_flight - 1           in_flight ... count - 1
 *
 * `handed_out` counts, from the front of the list, how many of those in flight have been sent since the last
 * reason to send all again. Applied batches leave at the front only, because the state machine applies them in order. */
#include "proposer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/bug.h"
#include "base/buggify.h"
#include "base/memory.h"

#define IN_FLIGHT_MAX 4
#define BYTES_MAX (16u * 1024 * 1024)
#define COMMANDS_MAX 100000
#define RESEND_MS 3000
#define RESEND_DOUBLINGS_MAX 4

struct batch {
    struct buffer bytes;       /* header, then commands */
    uint64_t number;           /* once in flight; NODE_UP: 0 */
    uint64_t *cookies;
    uint32_t count, capacity;
};

struct proposer {
    struct proposer_settings settings;
    struct batch *batches;
    size_t count, capacity;
    size_t in_flight;          /* how many of them are numbered */
    size_t handed_out;         /* how many of those went out since the last resend */
    bool started;              /* proposer_start was called */
    struct batch up;           /* NODE_UP; count 0: it has been applied, or never proposed */
    bool up_handed_out;
    uint64_t epoch;
    uint64_t next_number;
    uint64_t filling;          /* the gap that has been answered already; each batch behind it reports it too */
    size_t pending_bytes, pending_commands;
    uint32_t leader;
    uint64_t term, connection;
    uint64_t progress_ms;      /* last time something was handed out or applied */
    uint64_t now;
    unsigned doublings;
    struct batch done;         /* the last one that was applied: its cookies are lent out */
};

static void batch_release(struct batch *batch)
{
    buffer_release(&batch->bytes);
    free(batch->cookies);
    *batch = (struct batch){0};
}

struct proposer *proposer_new(const struct proposer_settings *settings)
{
    struct proposer *proposer = memory_zeroed(1, sizeof *proposer);
    struct proposer_settings *own = &proposer->settings;
    *own = *settings;
    own->in_flight_max = own->in_flight_max != 0 ? own->in_flight_max : IN_FLIGHT_MAX;
    own->bytes_max = own->bytes_max != 0 ? own->bytes_max : BYTES_MAX;
    own->commands_max = own->commands_max != 0 ? own->commands_max : COMMANDS_MAX;
    own->batch_bytes_max = own->batch_bytes_max != 0 ? own->batch_bytes_max : BATCH_BYTES_MAX;
    own->resend_ms = own->resend_ms != 0 ? own->resend_ms : RESEND_MS;
    proposer->next_number = 1;
    return proposer;
}

void proposer_reset(struct proposer *proposer)
{
    for (size_t i = 0; i < proposer->count; i++)
        batch_release(&proposer->batches[i]);
    batch_release(&proposer->up);
    batch_release(&proposer->done);
    proposer->count = proposer->in_flight = proposer->handed_out = 0;
    proposer->pending_bytes = proposer->pending_commands = 0;
    proposer->started = proposer->up_handed_out = false;
    proposer->epoch = 0;
    proposer->next_number = 1;
    proposer->filling = 0;
    proposer->doublings = 0;
}

void proposer_free(struct proposer *proposer)
{
    if (proposer == NULL)
        return;
    proposer_reset(proposer);
    free(proposer->batches);
    free(proposer);
}

void proposer_start(struct proposer *proposer, const struct command_node_up *up)
{
    struct command command = {.type = COMMAND_NODE_UP, .node_up = *up};
    assert(!proposer->started); /* one life at a time: proposer_reset first */
    proposer->started = true;
    batch_begin(&proposer->up.bytes, proposer->settings.node, 0, 0);
    command_encode(&command, &proposer->up.bytes);
    batch_finish(&proposer->up.bytes, 0, 1);
    proposer->up.count = 1;
}

/* ---- filling ---- */

static struct batch *new_batch(struct proposer *proposer)
{
    if (proposer->count == proposer->capacity) {
        proposer->capacity = proposer->capacity == 0 ? 8 : 2 * proposer->capacity;
        proposer->batches = memory_resize(proposer->batches, proposer->capacity * sizeof *proposer->batches);
    }
    struct batch *batch = &proposer->batches[proposer->count++];
    *batch = (struct batch){0};
    batch_begin(&batch->bytes, proposer->settings.node, 0, 0); /* written again when it is numbered */
    return batch;
}

static void add_cookie(struct batch *batch, uint64_t cookie)
{
    if (batch->count == batch->capacity) {
        batch->capacity = batch->capacity == 0 ? 16 : 2 * batch->capacity;
        batch->cookies = memory_resize(batch->cookies, batch->capacity * sizeof *batch->cookies);
    }
    batch->cookies[batch->count++] = cookie;
}

void proposer_add(struct proposer *proposer, const struct command *command, uint64_t cookie)
{
    struct batch *open =
        proposer->count > proposer->in_flight ? &proposer->batches[proposer->count - 1] : new_batch(proposer);
    if ((open->count == BATCH_COMMANDS_MAX && !bug(BUG_V30_BATCH_UNBOUNDED)) || (open->count > 0 && buggify(BUGGIFY_BATCH_ENDS)))
        open = new_batch(proposer);
    size_t before = open->bytes.size;
    command_encode(command, &open->bytes);
    size_t size = open->bytes.size - before;

    if (open->count > 0 && open->bytes.size > proposer->settings.batch_bytes_max && !bug(BUG_V30_BATCH_UNBOUNDED)) {
        struct batch *next = new_batch(proposer); /* moves the array */
        open = &proposer->batches[proposer->count - 2];
        buffer_put(&next->bytes, open->bytes.data + before, size);
        open->bytes.size = before;
        open = next;
    }
    add_cookie(open, cookie);
    proposer->pending_bytes += size;
    proposer->pending_commands++;
}

bool proposer_full(const struct proposer *proposer)
{
    return proposer->pending_bytes >= proposer->settings.bytes_max ||
           proposer->pending_commands >= proposer->settings.commands_max;
}

size_t proposer_pending_bytes(const struct proposer *proposer)
{
    return proposer->pending_bytes;
}

size_t proposer_pending_commands(const struct proposer *proposer)
{
    return proposer->pending_commands;
}

uint64_t proposer_epoch(const struct proposer *proposer)
{
    return proposer->epoch;
}

/* ---- sending ---- */

static void send_all_again(struct proposer *proposer)
{
    proposer->handed_out = 0;
    proposer->up_handed_out = false;
    proposer->filling = 0;
}

void proposer_route(struct proposer *proposer, uint32_t leader, uint64_t term, uint64_t connection)
{
    if (leader == proposer->leader && term == proposer->term && connection == proposer->connection)
        return;
    proposer->leader = leader;
    proposer->term = term;
    proposer->connection = connection;
    proposer->doublings = 0;
    send_all_again(proposer);
    if (bug(BUG_V05_RETRY_AS_NEW))
        proposer->in_flight = 0;
}

/* Gives the next waiting batch its place in this life. */
static void seal(struct proposer *proposer)
{
    struct batch *batch = &proposer->batches[proposer->in_flight++];
    struct buffer header = {0};
    assert(batch->count > 0);
    batch->number = proposer->next_number++;
    batch_begin(&header, proposer->settings.node, proposer->epoch, batch->number);
    assert(header.size == BATCH_HEADER_SIZE);
    memcpy(batch->bytes.data, header.data, header.size);
    buffer_release(&header);
    batch_finish(&batch->bytes, 0, batch->count);
}

static bool is_waiting_for_answer(const struct proposer *proposer)
{
    return proposer->epoch == 0 ? proposer->up_handed_out : proposer->handed_out > 0;
}

static uint64_t resend_at(const struct proposer *proposer)
{
    return proposer->progress_ms + (proposer->settings.resend_ms << proposer->doublings);
}

uint64_t proposer_deadline(const struct proposer *proposer)
{
    return proposer->leader != 0 && is_waiting_for_answer(proposer) ? resend_at(proposer) : UINT64_MAX;
}

bool proposer_next(struct proposer *proposer, uint64_t now_ms, struct bytes *batch)
{
    proposer->now = now_ms;
    if (proposer->leader == 0 || !proposer->started)
        return false;
    if (is_waiting_for_answer(proposer) && now_ms >= resend_at(proposer)) {
        send_all_again(proposer);
        if (proposer->doublings < RESEND_DOUBLINGS_MAX)
            proposer->doublings++;
    }
    if (proposer->epoch == 0) {
        if (proposer->up_handed_out)
            return false;
        proposer->up_handed_out = true;
        proposer->progress_ms = now_ms;
        *batch = buffer_bytes(&proposer->up.bytes);
        return true;
    }
    if (proposer->handed_out == proposer->in_flight) {
        if (proposer->in_flight == proposer->count || proposer->in_flight >= proposer->settings.in_flight_max)
            return false;
        seal(proposer);
    }
    proposer->progress_ms = now_ms;
    *batch = buffer_bytes(&proposer->batches[proposer->handed_out++].bytes);
    return true;
}

/* ---- coming back ---- */

/* Whether `entry` is our NODE_UP of this life. Its header has changed (the stamp), so the command is compared. */
static bool is_our_start(const struct proposer *proposer, struct bytes entry)
{
    struct batch_header header;
    struct bytes commands, own;
    if (proposer->epoch != 0 || proposer->up.count == 0 ||
        batch_decode(entry, &header, &commands) != STATUS_OK ||
        batch_decode(buffer_bytes(&proposer->up.bytes), &header, &own) != STATUS_OK)
        return false;
    return bytes_equal(commands, own);
}

/* For a bug (V08): of the nonce in NODE_UP. */
static uint64_t drawn_epoch(const struct proposer *proposer)
{
    struct batch_header header;
    struct bytes commands;
    struct command up;
    batch_decode(buffer_bytes(&proposer->up.bytes), &header, &commands);
    struct reader in = reader_of(commands);
    return command_decode(&in, &up) == STATUS_OK ? 1 + up.node_up.boot_nonce[0] % 4 : 0;
}

static enum proposer_event started(struct proposer *proposer, uint64_t index)
{
    proposer->epoch = bug(BUG_V08_RANDOM_NODE_EPOCH) ? drawn_epoch(proposer) : POSITION(index, 0);
    proposer->doublings = 0;
    batch_release(&proposer->up);
    return PROPOSER_STARTED;
}

/* The oldest one in flight is through. */
static void finish_first(struct proposer *proposer)
{
    batch_release(&proposer->done);
    proposer->done = proposer->batches[0];
    proposer->count--;
    proposer->in_flight--;
    proposer->handed_out -= proposer->handed_out > 0; /* it may be waiting to be sent again */
    memmove(proposer->batches, proposer->batches + 1, proposer->count * sizeof *proposer->batches);
    proposer->pending_bytes -= proposer->done.bytes.size - BATCH_HEADER_SIZE;
    proposer->pending_commands -= proposer->done.count;
    proposer->progress_ms = proposer->now;
    proposer->doublings = 0;
}

/* For a bug (V06): the one with this number becomes the oldest. */
static void put_first(struct proposer *proposer, uint64_t number)
{
    for (size_t i = 1; i < proposer->in_flight; i++) {
        struct batch batch = proposer->batches[i];
        if (batch.number != number)
            continue;
        memmove(proposer->batches + 1, proposer->batches, i * sizeof batch);
        proposer->batches[0] = batch;
        if (proposer->handed_out <= i)
            proposer->handed_out++;
    }
}

/* The state machine wants `expected` next: what was sent before it got there has been lost. */
static void resend_from(struct proposer *proposer, uint64_t expected)
{
    if (expected == proposer->filling)
        return;
    proposer->filling = expected;
    for (size_t i = 0; i < proposer->handed_out; i++)
        if (proposer->batches[i].number == expected)
            proposer->handed_out = i;
}

enum proposer_event proposer_applied(struct proposer *proposer, uint64_t index, struct bytes batch,
                                     const struct effect *effect, const uint64_t **cookies, uint32_t *count)
{
    *cookies = NULL;
    *count = 0;
    assert(effect->type == EFFECT_BATCH);
    if (effect->batch.origin_node != proposer->settings.node || !proposer->started)
        return PROPOSER_OTHER;
    if (effect->batch.origin_epoch == 0)
        return effect->batch.verdict == BATCH_APPLIED && is_our_start(proposer, batch) ? started(proposer, index)
                                                                                       : PROPOSER_OTHER;
    if (proposer->epoch == 0 || effect->batch.origin_epoch != proposer->epoch)
        return PROPOSER_OTHER; /* of an earlier life */

    switch (effect->batch.verdict) {
    case BATCH_APPLIED:
        if (bug(BUG_V06_GAPS_ACCEPTED))
            put_first(proposer, effect->batch.number);
        if (bug(BUG_V05_RETRY_AS_NEW) &&
            (proposer->in_flight == 0 || proposer->batches[0].number != effect->batch.number))
            return PROPOSER_OTHER;
        /* We have not had the answer to what came before: it went into a state that we were given as a whole. */
        if (proposer->in_flight == 0 || proposer->batches[0].number != effect->batch.number)
            return PROPOSER_FENCED;
        finish_first(proposer);
        *cookies = proposer->done.cookies;
        *count = proposer->done.count;
        return PROPOSER_DONE;
    case BATCH_SEEN:
        if (proposer->in_flight > 0 && effect->batch.number >= proposer->batches[0].number)
            return PROPOSER_FENCED;
        return PROPOSER_OTHER;
    case BATCH_GAP:
        resend_from(proposer, effect->batch.expected);
        return PROPOSER_OTHER;
    case BATCH_STALE:
        return PROPOSER_FENCED;
    }
    return PROPOSER_OTHER;
}
