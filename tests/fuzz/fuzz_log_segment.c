/* fuzz_log_segment.c — opens a log whose last segment is any bytes, and one that was mutated.
 *
 * Byte 0 of the input chooses: the rest is the whole segment file, or a list of (offset, xor) on a good one. What is
 * accepted from a mutated log must be a prefix of what had been written: the oracle. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "storage/log.h"
#include "tests/sim/world/disk_sim.h"

#define ENTRIES 12
#define SEGMENT "/log/0000000000000001.segment"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct log_options options_for(struct disk_sim *sim)
{
    return (struct log_options){
        .disk = disk_sim_disk(sim),
        .directory = "/log",
        .queue = disk_sim_queue(sim),
        .create = true,
        .segment_bytes = 4096,
    };
}

static size_t content_of(uint64_t index, uint8_t out[256])
{
    size_t size = index * 37 % 256;
    memset(out, (int)(index + 1), size);
    return size;
}

static struct disk_sim *good_log(void)
{
    struct disk_sim *sim = disk_sim_new(&(struct disk_sim_options){.seed = 1});
    struct log_options options = options_for(sim);
    struct log *log;
    struct log_fault fault;
    uint8_t content[256];
    if (log_open(&options, &log, &fault) != STATUS_OK)
        abort();
    log_set_term(log, 1, 1);
    for (uint64_t i = 1; i <= ENTRIES; i++) {
        struct log_entry *entry = log_entry_new(1, LOG_COMMAND, content, content_of(i, content));
        log_append(log, &entry, 1);
        log_entry_release(entry);
        log_flush(log);
        disk_sim_run_all(sim);
    }
    log_close(log);
    return sim;
}

static void check(struct disk_sim *sim, bool oracle, bool repair)
{
    struct log_options options = options_for(sim);
    options.repair = repair;
    struct log *log;
    struct log_fault fault;
    if (log_open(&options, &log, &fault) != STATUS_OK)
        return;
    assert(!oracle || log_last(log) <= ENTRIES);
    for (uint64_t i = log_first(log); i <= log_last(log); i++) {
        struct log_entry *entry;
        uint8_t content[256];
        if (log_get(log, i, &entry) != STATUS_OK)
            abort();
        if (oracle) {
            size_t size = content_of(i, content);
            assert(entry->size == size && memcmp(entry->data, content, size) == 0);
        }
        log_entry_release(entry);
    }
    log_flush(log);
    disk_sim_run_all(sim);
    log_close(log);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct disk_sim *good;
    if (good == NULL)
        good = good_log();
    if (size < 1)
        return 0;
    struct disk_sim *sim = disk_sim_copy(good, 1);
    bool mutate = (data[0] & 1) != 0;
    if (mutate) {
        for (size_t i = 1; i + 3 <= size; i += 3)
            disk_sim_flip(sim, SEGMENT, (data[i] | data[i + 1] << 8) % 4096, data[i + 2]);
    } else {
        disk_sim_put(sim, SEGMENT, bytes_of(data + 1, size - 1));
    }
    check(sim, mutate, (data[0] & 2) != 0);
    disk_sim_free(sim);
    return 0;
}
