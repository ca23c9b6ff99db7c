/* fuzz_node_files.c — the small files that say who a node is and how it voted: two copies of each, changed at will.
 *
 * Each step changes a byte of a file, replaces the file, cuts it, or gives it a right checksum again. If no checksum was
 * made right, what is accepted afterwards must be what had been written: the oracle. */
#include "input.h"
#include "storage/identity.h"
#include "storage/log.h"
#include "tests/sim/world/disk_sim.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECKED 56 /* bytes under the checksum, in each of these files */
#define TERM 7
#define VOTE 3

static const char *const paths[] = {"/data/identity", "/log/identity", "/log/metadata-1", "/log/metadata-2"};
static const struct identity_places places = {"/data", "/log"};
static const struct identity written = {
    .cluster_id = {1, 2, 3}, .node_id = VOTE, .incarnation = 0x123456789abcdef0};

static struct log_options options_for(struct disk_sim *sim)
{
    return (struct log_options){.disk = disk_sim_disk(sim), .directory = "/log", .queue = disk_sim_queue(sim),
                                .create = true, .segment_bytes = 4096};
}

static struct disk_sim *make_node(void)
{
    struct disk_sim *sim = disk_sim_new(&(struct disk_sim_options){.seed = 1});
    struct log_options options = options_for(sim);
    struct identity_fault trouble;
    struct log_fault fault;
    struct log *log;
    if (log_open(&options, &log, &fault) != STATUS_OK || log_set_term(log, TERM, VOTE) != STATUS_OK)
        abort();
    disk_sim_run_all(sim);
    log_close(log);
    if (identity_create(disk_sim_disk(sim), &places, &written, &trouble) != STATUS_OK)
        abort();
    return sim;
}

/* True if the file has a right checksum now that it did not get from us. */
static bool change(struct disk_sim *sim, const char *path, uint8_t kind, struct input *in)
{
    struct bytes content = disk_sim_content(sim, path);
    struct buffer again = {0};
    if (kind < 40) {
        if (content.size > 0)
            disk_sim_flip(sim, path, input_below(in, 72) % content.size, input_u8(in));
    } else if (kind < 48) {
        buffer_put_bytes(&again, input_bytes(in, 80));
        disk_sim_put(sim, path, buffer_bytes(&again));
    } else if (kind < 54) {
        buffer_put_bytes(&again, bytes_of(content.data, content.size * input_u8(in) / 255));
        disk_sim_put(sim, path, buffer_bytes(&again));
    } else if (content.size >= CHECKED + 8) {
        buffer_put_bytes(&again, bytes_of(content.data, CHECKED));
        buffer_put_u64(&again, XXH3_64bits(content.data, CHECKED));
        buffer_put_bytes(&again, bytes_of(content.data + CHECKED + 8, content.size - CHECKED - 8));
        disk_sim_put(sim, path, buffer_bytes(&again));
    }
    buffer_release(&again);
    return kind >= 54;
}

/* Changes one file, or both copies alike. */
static bool step(struct disk_sim *sim, struct input *in)
{
    uint8_t which = input_below(in, 6), kind = input_u8(in) % 64;
    struct input same = *in;
    if (which < 4)
        return change(sim, paths[which], kind, in);
    bool checksum = change(sim, paths[(which - 4) * 2], kind, &same);
    return change(sim, paths[(which - 4) * 2 + 1], kind, in) || checksum;
}

static void load_identity(struct disk_sim *sim, bool oracle)
{
    struct identity identity;
    struct identity_fault fault;
    char text[IDENTITY_TEXT_SIZE];
    enum status status = identity_load(disk_sim_disk(sim), &places, VOTE, &identity, &fault);
    assert((status == STATUS_OK) == (fault.text[0] == '\0'));
    if (status != STATUS_OK)
        return;
    assert(identity.node_id == VOTE && identity.incarnation != 0);
    assert(!oracle || identity_equal(&identity, &written));
    identity_text(&identity, text);
}

static void load_log(struct disk_sim *sim, bool oracle)
{
    struct log_options options = options_for(sim);
    struct log_fault fault;
    struct log *log;
    options.create = false;
    if (log_open(&options, &log, &fault) != STATUS_OK)
        return;
    assert(!oracle || (log_term(log) == TERM && log_vote(log) == VOTE));
    assert(log_last(log) + 1 >= log_first(log));
    log_flush(log);
    disk_sim_run_all(sim);
    log_close(log);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct disk_sim *good;
    if (good == NULL)
        good = make_node();
    struct input in = {data, size};
    struct disk_sim *sim = disk_sim_copy(good, 1);
    bool oracle = true;
    while (!input_done(&in))
        oracle = !step(sim, &in) && oracle;
    load_identity(sim, oracle);
    load_log(sim, oracle);
    disk_sim_free(sim);
    return 0;
}
