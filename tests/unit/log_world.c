#include "log_world.h"

#include <stdlib.h>
#include <string.h>

#include "storage/base/memory.h"

static void note_flushed(void *context, enum status status, uint64_t durable)
{
    struct world *w = context;
    w->flushed = durable;
    w->flushed_status = status;
    w->callbacks++;
}

void world_init(struct world *w, struct disk_sim *sim)
{
    memset(w, 0, sizeof *w);
    w->sim = sim;
    w->options = (struct log_options){
        .disk = disk_sim_disk(sim),
        .directory = "/log",
        .queue = disk_sim_queue(sim),
        .flushed = note_flushed,
        .context = w,
        .create = true,
        .segment_bytes = SEGMENT_BYTES,
    };
}

enum status reopen(struct world *w)
{
    if (w->log != NULL)
        log_close(w->log);
    w->log = NULL;
    return log_open(&w->options, &w->log, &w->fault);
}

void world_release(struct world *w)
{
    if (w->log != NULL)
        log_close(w->log);
    disk_sim_free(w->sim);
}

int setup(void **state)
{
    struct world *w = memory_allocate(sizeof *w);
    world_init(w, disk_sim_new(&(struct disk_sim_options){.seed = 1}));
    assert_int_equal(reopen(w), STATUS_OK);
    w->options.create = false;
    *state = w;
    return 0;
}

int teardown(void **state)
{
    world_release(*state);
    free(*state);
    return 0;
}

/* ---- given, when, then ---- */

static size_t content_of(uint64_t index, uint64_t term, size_t size, uint8_t *out)
{
    for (size_t i = 0; i < size; i++)
        out[i] = (uint8_t)(1 + (index * 31 + term * 17 + i * 7) % 255);
    return size;
}

void append_sized(struct world *w, uint64_t term, size_t size)
{
    uint8_t *content = memory_allocate(size);
    content_of(log_last(w->log) + 1, term, size, content);
    if (log_term(w->log) < term)
        assert_int_equal(log_set_term(w->log, term, 0), STATUS_OK);
    struct log_entry *entry = log_entry_new(term, LOG_COMMAND, content, size);
    log_append(w->log, &entry, 1);
    log_entry_release(entry);
    free(content);
}

size_t usual_size(uint64_t index)
{
    return 40 + index * 13 % 200;
}

void append(struct world *w, uint64_t term, unsigned count)
{
    while (count-- > 0)
        append_sized(w, term, usual_size(log_last(w->log) + 1));
}

void flush(struct world *w)
{
    assert_int_equal(log_flush(w->log), STATUS_OK);
    disk_sim_run_all(w->sim);
}

void append_and_flush(struct world *w, uint64_t term, unsigned count)
{
    append(w, term, count);
    flush(w);
}

void assert_entry(struct world *w, uint64_t index, uint64_t term, size_t size)
{
    struct log_entry *entry;
    assert_int_equal(log_get(w->log, index, &entry), STATUS_OK);
    assert_int_equal(entry->term, term);
    assert_int_equal(entry->type, LOG_COMMAND);
    assert_int_equal(entry->size, size);
    uint8_t *content = memory_allocate(size);
    content_of(index, term, size, content);
    assert_memory_equal(entry->data, content, size);
    free(content);
    log_entry_release(entry);
    assert_int_equal(log_term_of(w->log, index), term);
}

void assert_entries(struct world *w, uint64_t from, uint64_t to, uint64_t term)
{
    for (uint64_t i = from; i <= to; i++)
        assert_entry(w, i, term, usual_size(i));
}

size_t file_size(struct world *w, const char *path)
{
    return disk_sim_content(w->sim, path).size;
}

static void count_name(void *context, const char *name)
{
    (void)name;
    ++*(unsigned *)context;
}

unsigned segment_files(struct world *w)
{
    unsigned count = 0;
    disk_sim_list(w->sim, "/log/0", count_name, &count);
    return count;
}
