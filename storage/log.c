/* log.c — the log in memory, its reads, and the flush.
 *
 *   log_append ──> ring of entries ──> start_flush: encode into one buffer, give each a place in a segment
 *                                          │ job
 *                                      flush_run: (make the segment) one write, one sync, (name the segment)
 *                                          │
 *                                      flush_done: durable moves, the owner hears of it, the next flush starts
 *
 * Encoding happens when a flush starts and not when an entry is appended: so entries that a conflict takes back before
 * they were written are gone without a trace, and nothing needs undoing in a buffer.
 *
 * A second job, "care", makes the next segment ahead of time and removes old files. It runs beside flushes; only a
 * flush that needs a new segment waits for it. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "log_private.h"

static void start_flush(struct log *log);
static void start_care(struct log *log);

/* ---- entries ---- */

struct log_entry *log_entry_new(uint64_t term, enum log_entry_type type, const void *data, size_t size)
{
    assert(size <= LOG_ENTRY_BYTES_MAX);
    struct log_entry *entry = memory_allocate(sizeof *entry + size);
    entry->term = term;
    entry->type = type;
    atomic_init(&entry->references, 1);
    entry->size = (uint32_t)size;
    if (data != NULL && size > 0)
        memcpy(entry->data, data, size);
    return entry;
}

struct log_entry *log_entry_keep(struct log_entry *entry)
{
    atomic_fetch_add_explicit(&entry->references, 1, memory_order_relaxed);
    return entry;
}

void log_entry_release(struct log_entry *entry)
{
    if (entry != NULL && atomic_fetch_sub_explicit(&entry->references, 1, memory_order_acq_rel) == 1)
        free(entry);
}

/* ---- the ring of recent entries ---- */

static struct log_entry **ring_slot(struct log *log, uint64_t index)
{
    return &log->ring[index & (log->ring_capacity - 1)];
}

static uint64_t cached_size(const struct log_entry *entry)
{
    return sizeof *entry + entry->size;
}

static void ring_drop(struct log *log, uint64_t index)
{
    struct log_entry **slot = ring_slot(log, index);
    log->cached_bytes -= cached_size(*slot);
    log_entry_release(*slot);
    *slot = NULL;
}

static void ring_grow(struct log *log)
{
    struct log_entry **old = log->ring;
    size_t old_capacity = log->ring_capacity;
    log->ring_capacity = old_capacity > 0 ? 2 * old_capacity : 256;
    log->ring = memory_zeroed(log->ring_capacity, sizeof *log->ring);
    for (uint64_t i = log->cache_first; i <= log->last; i++)
        *ring_slot(log, i) = old[i & (old_capacity - 1)];
    free(old);
}

/* Keeps the newest entries, and all that are not durable. */
static void ring_trim(struct log *log)
{
    while (log->cached_bytes > log->options.cache_bytes && log->cache_first <= log->durable)
        ring_drop(log, log->cache_first++);
}

/* ---- segments ---- */

struct segment *log_segment_new(const struct log_segment_header *header, struct disk_file *file, uint64_t size)
{
    struct segment *segment = memory_zeroed(1, sizeof *segment);
    segment->header = *header;
    segment->file = file;
    segment->size = size;
    segment->used = LOG_SEGMENT_HEADER_SIZE;
    segment->last_hash = header->hash;
    return segment;
}

void log_segment_free(struct segment *segment)
{
    disk_close(segment->file);
    free(segment->places);
    free(segment);
}

/* Notes that `record` lies at `offset`, the present end. */
void log_segment_place(struct segment *segment, const struct log_record *record, uint64_t offset)
{
    segment->last_hash = record->hash;
    segment->used = offset + log_record_size(record->content.size);
    if (record->type == LOG_TYPE_MARK)
        return;
    assert(record->index == segment->header.first + segment->count);
    if (segment->count == segment->capacity) {
        segment->capacity = segment->capacity > 0 ? 2 * segment->capacity : 64;
        segment->places = memory_resize(segment->places, segment->capacity * sizeof *segment->places);
    }
    segment->places[segment->count++] = (struct place){
        .term = record->term,
        .hash = record->hash,
        .offset = (uint32_t)offset,
        .size = (uint32_t)record->content.size,
    };
}

static void segment_list_add(struct segment ***list, size_t *count, size_t *capacity, struct segment *segment)
{
    if (*count == *capacity) {
        *capacity = *capacity > 0 ? 2 * *capacity : 8;
        *list = memory_resize(*list, *capacity * sizeof **list);
    }
    (*list)[(*count)++] = segment;
}

void log_segments_add(struct log *log, struct segment *segment)
{
    segment_list_add(&log->segments, &log->segment_count, &log->segment_capacity, segment);
}

/* Its file goes once the segment that takes its place is durable. */
void log_segment_replaced(struct log *log, struct segment *segment)
{
    segment_list_add(&log->replaced, &log->replaced_count, &log->replaced_capacity, segment);
}

/* Its file may go. */
static void segment_unneeded(struct log *log, struct segment *segment)
{
    segment_list_add(&log->unneeded, &log->unneeded_count, &log->unneeded_capacity, segment);
}

static struct segment *last_segment(const struct log *log)
{
    return log->segment_count > 0 ? log->segments[log->segment_count - 1] : NULL;
}

/* The segment and place of a placed entry. */
static const struct place *place_of(const struct log *log, uint64_t index, struct segment **segment)
{
    assert(index >= log->first && index <= log->placed);
    size_t low = 0, high = log->segment_count;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (log->segments[middle]->header.first <= index)
            low = middle;
        else
            high = middle;
    }
    struct segment *found = log->segments[low];
    assert(index - found->header.first < found->count);
    if (segment != NULL)
        *segment = found;
    return &found->places[index - found->header.first];
}

/* Where the entries of a segment end; marks behind them do not count. */
static uint64_t segment_end(const struct segment *segment)
{
    return segment->count > 0 ? log_place_end(&segment->places[segment->count - 1]) : LOG_SEGMENT_HEADER_SIZE;
}

/* ---- opening and closing ---- */

enum status log_open(const struct log_options *options, struct log **result, struct log_fault *fault)
{
    struct log *log = memory_zeroed(1, sizeof *log);
    log->options = *options;
    log->directory = memory_text(options->directory);
    if (log->options.segment_bytes == 0)
        log->options.segment_bytes = SEGMENT_BYTES_DEFAULT;
    if (log->options.cache_bytes == 0)
        log->options.cache_bytes = CACHE_BYTES_DEFAULT;
    assert(log->options.segment_bytes >= 1024 && log->options.segment_bytes <= SEGMENT_BYTES_MAX);
    log->flush.log = log;
    log->care.log = log;
    fault->text[0] = '\0';
    fault->index = 0;

    enum status status = log_recover(log, fault);
    if (status != STATUS_OK) {
        log_close(log);
        return status;
    }
    *result = log;
    return STATUS_OK;
}

static void free_segments(struct segment **segments, size_t count)
{
    for (size_t i = 0; i < count; i++)
        log_segment_free(segments[i]);
    free(segments);
}

void log_close(struct log *log)
{
    for (uint64_t i = log->cache_first; i <= log->last && log->ring != NULL; i++)
        ring_drop(log, i);
    free(log->ring);
    if (log->flush.out && log->flush.begin)
        disk_close(log->flush.file); /* not yet its segment's */
    free_segments(log->segments, log->segment_count);
    free_segments(log->replaced, log->replaced_count);
    free_segments(log->unneeded, log->unneeded_count);
    disk_close(log->prepared);
    disk_close(log->care.prepared);
    free(log->care.unlink);
    for (int i = 0; i < 2; i++)
        disk_close(log->metadata_files[i]);
    buffer_release(&log->flush.data);
    buffer_release(&log->window);
    free(log->directory);
    free(log);
}

void log_fail(struct log *log, enum status status, const char *trouble)
{
    assert(status != STATUS_OK);
    if (log->status != STATUS_OK)
        return;
    /* A file of ours that is not there, or already there, is the disk's fault, not an answer. */
    log->status = status == STATUS_NOT_FOUND || status == STATUS_EXISTS ? STATUS_IO_ERROR : status;
    snprintf(log->trouble, sizeof log->trouble, "%s", trouble);
}

enum status log_status(const struct log *log)
{
    return log->status;
}

const char *log_trouble(const struct log *log)
{
    return log->trouble;
}

bool log_space_is_low(const struct log *log)
{
    return log->space_is_low;
}

/* ---- reading ---- */

uint64_t log_first(const struct log *log)
{
    return log->first;
}

uint64_t log_last(const struct log *log)
{
    return log->last;
}

uint64_t log_durable(const struct log *log)
{
    return log->durable;
}

uint64_t log_marked(const struct log *log)
{
    return log->marked;
}

uint64_t log_term_of(const struct log *log, uint64_t index)
{
    if (index + 1 == log->first)
        return log->first_previous_term;
    if (index < log->first || index > log->last)
        return 0;
    if (index >= log->cache_first)
        return log->ring[index & (log->ring_capacity - 1)]->term;
    return place_of(log, index, NULL)->term;
}

/* Makes [offset, offset + size) of the segment readable at *data. Reads ahead, but nothing that is not durable yet. */
static enum status read_range(struct log *log, struct segment *segment, uint64_t offset, uint64_t size,
                              const uint8_t **data)
{
    bool held = log->window_sequence == segment->header.sequence && offset >= log->window_offset &&
                offset + size <= log->window_offset + log->window.size;
    if (!held) {
        uint64_t last = segment->header.first + segment->count - 1;
        if (last > log->durable)
            last = log->durable;
        uint64_t end = log_place_end(&segment->places[last - segment->header.first]);
        uint64_t want = size > WINDOW_BYTES ? size : WINDOW_BYTES;
        if (want > end - offset)
            want = end - offset;
        buffer_clear(&log->window);
        log->window_sequence = 0;
        buffer_reserve(&log->window, want);
        enum status status = disk_read(segment->file, offset, log->window.data, want);
        if (status != STATUS_OK)
            return status;
        log->counts.reads_from_disk++;
        log->window.size = want;
        log->window_sequence = segment->header.sequence;
        log->window_offset = offset;
    }
    *data = log->window.data + (offset - log->window_offset);
    return STATUS_OK;
}

static enum status read_entry(struct log *log, uint64_t index, struct log_entry **entry)
{
    struct segment *segment;
    const struct place *place = place_of(log, index, &segment);
    uint64_t size = log_record_size(place->size);
    const uint8_t *data;
    enum status status = read_range(log, segment, place->offset, size, &data);
    if (status != STATUS_OK) {
        log_fail(log, status, disk_trouble());
        return log->status;
    }

    struct log_record record;
    status = log_record_decode(bytes_of(data, size), 0, segment->header.hash, &record, &size);
    if (status != STATUS_OK || record.index != index || record.hash != place->hash) {
        char text[TROUBLE_SIZE], name[LOG_SEGMENT_NAME_SIZE];
        log_segment_name(segment->header.sequence, name);
        snprintf(text, sizeof text, "%.400s/%s: entry %llu at offset %u does not read back as it was written",
                 log->directory, name, (unsigned long long)index, place->offset);
        log_fail(log, STATUS_CORRUPT, text);
        return log->status;
    }
    *entry = log_entry_new(record.term, (enum log_entry_type)record.type, record.content.data, record.content.size);
    return STATUS_OK;
}

enum status log_get(struct log *log, uint64_t index, struct log_entry **entry)
{
    if (index < log->first || index > log->last)
        return STATUS_NOT_FOUND;
    if (index >= log->cache_first) {
        *entry = log_entry_keep(*ring_slot(log, index));
        return STATUS_OK;
    }
    return read_entry(log, index, entry);
}

enum status log_get_many(struct log *log, uint64_t first, size_t count_max, size_t bytes_max,
                         struct log_entry **entries, size_t *count)
{
    size_t bytes = 0;
    *count = 0;
    while (*count < count_max && first + *count <= log->last) {
        struct log_entry *entry;
        enum status status = log_get(log, first + *count, &entry);
        if (status != STATUS_OK) {
            while (*count > 0)
                log_entry_release(entries[--*count]);
            return status;
        }
        if (*count > 0 && bytes + entry->size > bytes_max) {
            log_entry_release(entry);
            break;
        }
        bytes += entry->size;
        entries[(*count)++] = entry;
    }
    return *count > 0 || count_max == 0 ? STATUS_OK : STATUS_NOT_FOUND;
}

/* ---- changing what is in memory ---- */

enum status log_append(struct log *log, struct log_entry *const entries[], size_t count)
{
    if (log->status != STATUS_OK)
        return log->status;
    for (size_t i = 0; i < count; i++) {
        struct log_entry *entry = entries[i];
        assert(entry->term >= log_term_of(log, log->last) && entry->term <= log->metadata.term);
        if (log->last + 1 - log->cache_first == log->ring_capacity)
            ring_grow(log);
        *ring_slot(log, log->last + 1) = log_entry_keep(entry);
        log->last++;
        log->cached_bytes += cached_size(entry);
    }
    return STATUS_OK;
}

enum status log_truncate(struct log *log, uint64_t from)
{
    assert(from >= log->first);
    if (log->status != STATUS_OK || from > log->last)
        return log->status;
    uint64_t drop = from > log->cache_first ? from : log->cache_first;
    for (uint64_t i = drop; i <= log->last; i++)
        ring_drop(log, i);
    log->last = from - 1;
    if (log->cache_first > from)
        log->cache_first = from;
    if (log->placed < from)
        return STATUS_OK; /* the disk never heard of them */

    while (log->segment_count > 0 && last_segment(log)->header.first >= from)
        log_segment_replaced(log, log->segments[--log->segment_count]);
    if (log->segment_count > 0)
        last_segment(log)->count = from - last_segment(log)->header.first;
    log->placed = from - 1;
    if (log->durable > log->placed)
        log->durable = log->placed;
    log->begin_segment = true;
    if (log->flush.out && log->flush.cut > from)
        log->flush.cut = from;
    return STATUS_OK;
}

enum status log_reset(struct log *log, uint64_t index, uint64_t term)
{
    if (log->status != STATUS_OK)
        return log->status;
    for (uint64_t i = log->cache_first; i <= log->last; i++)
        ring_drop(log, i);
    while (log->segment_count > 0)
        log_segment_replaced(log, log->segments[--log->segment_count]);
    log->first = index + 1;
    log->placed = log->durable = log->last = index;
    log->cache_first = index + 1;
    log->first_previous_term = term;
    log->first_previous_hash = 0;
    log->begin_segment = log->begin_at_once = true;
    log->flush.forgotten = true;
    return log_flush(log);
}

void log_trim(struct log *log, uint64_t index)
{
    if (log->status != STATUS_OK)
        return;
    size_t count = 0;
    while (count + 1 < log->segment_count && log->segments[count + 1]->header.first <= index + 1 &&
           log->segments[count + 1]->file != NULL) /* that one is on the disk already */
        segment_unneeded(log, log->segments[count++]);
    if (count == 0)
        return;
    log->segment_count -= count;
    memmove(log->segments, log->segments + count, log->segment_count * sizeof *log->segments);
    const struct log_segment_header *header = &log->segments[0]->header;
    log->first = header->first;
    log->first_previous_term = header->previous_term;
    log->first_previous_hash = header->previous_hash;
    while (log->cache_first < log->first && log->cache_first <= log->last)
        ring_drop(log, log->cache_first++);
    log->space_is_low = false; /* worth another try */
    start_care(log);
}

void log_forget(struct log *log, uint64_t index)
{
    while (log->cache_first <= index && log->cache_first <= log->durable)
        ring_drop(log, log->cache_first++);
}

/* ---- the flush ---- */

static void flush_run(struct disk_job *job)
{
    struct flush *flush = (struct flush *)job;
    char path[DISK_PATH_MAX], made[DISK_PATH_MAX], name[LOG_SEGMENT_NAME_SIZE];
    enum status status = STATUS_OK;
    disk_path(made, flush->directory, flush->file != NULL ? "next" : "new");
    if (flush->begin && flush->file == NULL) {
        disk_unlink(flush->disk, made);
        status = disk_create(flush->disk, made, flush->file_size, &flush->file);
    }
    if (status == STATUS_OK)
        status = disk_write(flush->file, flush->offset, flush->data.data, flush->data.size);
    if (status == STATUS_OK)
        status = disk_sync(flush->file);
    if (status == STATUS_OK && flush->begin) {
        log_segment_name(flush->segment->header.sequence, name);
        disk_path(path, flush->directory, name);
        status = disk_rename(flush->disk, made, path);
        if (status == STATUS_OK)
            status = disk_sync_directory(flush->disk, flush->directory);
        if (status == STATUS_OK && flush->shrink != NULL)
            status = disk_resize(flush->shrink, flush->shrink_to);
    }
    flush->status = status;
    if (status != STATUS_OK)
        snprintf(flush->trouble, sizeof flush->trouble, "%s", disk_trouble());
}

/* The segments that the one just begun replaces may go. */
static void release_replaced(struct log *log, size_t count)
{
    if (count == 0)
        return;
    for (size_t i = 0; i < count; i++)
        segment_unneeded(log, log->replaced[i]);
    log->replaced_count -= count;
    memmove(log->replaced, log->replaced + count, log->replaced_count * sizeof *log->replaced);
}

static void account_flush(struct log *log)
{
    struct flush *flush = &log->flush;
    log->counts.flushes++;
    log->counts.flushed_bytes += flush->data.size;
    log->counts.flushed_entries += flush->entries;
    log->mark_sequence = flush->segment->header.sequence;
    log->mark = flush->last;
    if (flush->begin) {
        release_replaced(log, flush->replaced);
        log->space_is_low = false; /* there was space for this one: try again to be ahead */
    }
    if (!flush->forgotten) {
        uint64_t durable = flush->last < flush->cut ? flush->last : flush->cut - 1;
        if (durable > log->durable)
            log->durable = durable;
        log->marked = flush->marked;
    }
    if (log->metadata.owed > 0 && log->mark_sequence == log->sequence && log->durable >= log->metadata.owed) {
        log->metadata.owed = 0;
        log_metadata_write(log);
    }
    if (flush->data.capacity > 2 * FLUSH_BYTES_MAX)
        buffer_release(&flush->data);
    ring_trim(log);
}

static void flush_done(struct disk_job *job)
{
    struct flush *flush = (struct flush *)job;
    struct log *log = flush->log;
    flush->out = false;
    if (flush->begin)
        flush->segment->file = flush->file;
    if (flush->status == STATUS_OK)
        account_flush(log);
    else
        log_fail(log, flush->status, flush->trouble);
    start_care(log);
    if (log->options.flushed != NULL)
        log->options.flushed(log->options.context, log->status, log->durable);
    if (log->flush_wanted)
        start_flush(log);
}

static uint64_t hash_of_placed(const struct log *log)
{
    return log->placed < log->first ? log->first_previous_hash : place_of(log, log->placed, NULL)->hash;
}

/* Turns the flush into one that begins a segment with room for a record of `record_size`. */
static void begin_segment(struct log *log, uint64_t record_size)
{
    struct flush *flush = &log->flush;
    struct segment *before = last_segment(log);
    uint64_t size = LOG_SEGMENT_HEADER_SIZE + record_size;
    if (size < log->options.segment_bytes)
        size = log->options.segment_bytes;
    struct log_segment_header header = {
        .sequence = ++log->sequence,
        .first = log->placed + 1,
        .previous_term = log_term_of(log, log->placed),
        .previous_hash = hash_of_placed(log),
        .continues = before != NULL ? before->header.sequence : 0,
        .salt = log->options.salt,
    };
    flush->begin = true;
    flush->file = NULL;
    flush->file_size = size;
    flush->shrink = NULL;
    flush->replaced = log->replaced_count;
    if (log->prepared != NULL && size == log->options.segment_bytes) {
        flush->file = log->prepared;
        log->prepared = NULL;
    }
    if (before != NULL && before->size - segment_end(before) > log->options.segment_bytes / 16) {
        flush->shrink = before->file;
        flush->shrink_to = before->size = segment_end(before);
    }
    buffer_reserve(&flush->data, LOG_SEGMENT_HEADER_SIZE);
    log_segment_header_encode(&header, flush->data.data);
    flush->data.size = LOG_SEGMENT_HEADER_SIZE;
    flush->segment = log_segment_new(&header, NULL, size);
    log_segments_add(log, flush->segment);
    log->begin_segment = log->begin_at_once = false;
}

static void encode(struct log *log, uint64_t index, uint64_t term, uint8_t type, struct bytes content)
{
    struct flush *flush = &log->flush;
    struct log_record record = {
        .index = index,
        .term = term,
        .mark = log->durable,
        .previous = flush->segment->last_hash,
        .type = type,
        .content = content,
    };
    log_record_encode(&record, flush->segment->header.hash, &flush->data);
    log_segment_place(flush->segment, &record, flush->segment->used);
    flush->marked = log->durable;
}

/* Encodes buffered entries while they fit into the segment and into one flush. */
static void encode_entries(struct log *log)
{
    struct flush *flush = &log->flush;
    while (log->placed < log->last) {
        struct log_entry *entry = *ring_slot(log, log->placed + 1);
        uint64_t size = log_record_size(entry->size);
        if (flush->segment->used + size > flush->segment->size)
            break;
        if (flush->entries > 0 && flush->data.size + size > FLUSH_BYTES_MAX)
            break;
        log->placed++;
        encode(log, log->placed, entry->term, (uint8_t)entry->type, log_entry_bytes(entry));
        flush->entries++;
    }
}

static void prepare_flush(struct log *log)
{
    struct flush *flush = &log->flush;
    buffer_clear(&flush->data);
    flush->disk = log->options.disk;
    flush->directory = log->directory;
    flush->begin = false;
    flush->segment = last_segment(log);
    flush->file = flush->segment != NULL ? flush->segment->file : NULL;
    flush->offset = flush->segment != NULL ? flush->segment->used : 0;
    flush->entries = 0;
    flush->marked = log->marked;
    flush->cut = UINT64_MAX;
    flush->forgotten = false;
}

static void submit_flush(struct log *log)
{
    struct flush *flush = &log->flush;
    flush->last = log->placed;
    flush->job = (struct disk_job){.run = flush_run, .done = flush_done};
    flush->out = true;
    log->options.queue.submit(log->options.queue.context, &flush->job);
}

static void start_flush(struct log *log)
{
    log->flush_wanted = true;
    if (log->flush.out || log->status != STATUS_OK)
        return;
    uint64_t size = 0; /* of the next record */
    if (log->placed < log->last)
        size = log_record_size((*ring_slot(log, log->placed + 1))->size);
    struct segment *segment = last_segment(log);
    bool begin = log->begin_at_once ||
                 (size > 0 && (log->begin_segment || segment == NULL || segment->used + size > segment->size));
    if (begin && log->care.out && log->care.prepare)
        return; /* care_done goes on here */
    log->flush_wanted = false;
    if (size == 0 && !begin)
        return;
    prepare_flush(log);
    if (begin) {
        begin_segment(log, size);
        log->flush.offset = 0;
    }
    encode_entries(log);
    log->flush_wanted = log->placed < log->last;
    submit_flush(log);
}

enum status log_flush(struct log *log)
{
    start_flush(log);
    return log->status;
}

enum status log_flush_mark(struct log *log)
{
    struct segment *segment = last_segment(log);
    bool under_way = log->flush.out || log->placed < log->last;
    if (log->status != STATUS_OK || under_way || log->marked >= log->durable || log->begin_segment ||
        segment == NULL || segment->used + LOG_RECORD_OVERHEAD > segment->size)
        return log_flush(log);
    prepare_flush(log);
    encode(log, log->placed, 0, LOG_TYPE_MARK, bytes_of(NULL, 0));
    submit_flush(log);
    return STATUS_OK;
}

/* ---- care ---- */

static void care_run(struct disk_job *job)
{
    struct care *care = (struct care *)job;
    char path[DISK_PATH_MAX], name[LOG_SEGMENT_NAME_SIZE];
    care->status = STATUS_OK;
    for (size_t i = 0; i < care->unlink_count && care->status == STATUS_OK; i++) {
        log_segment_name(care->unlink[i], name);
        disk_path(path, care->directory, name);
        enum status status = disk_unlink(care->disk, path);
        if (status != STATUS_OK && status != STATUS_NOT_FOUND)
            care->status = status;
    }
    if (care->status == STATUS_OK && care->prepare) {
        disk_path(path, care->directory, "next");
        disk_unlink(care->disk, path);
        care->status = disk_create(care->disk, path, care->prepare_size, &care->prepared);
    }
    if (care->status != STATUS_OK)
        snprintf(care->trouble, sizeof care->trouble, "%s", disk_trouble());
}

static void care_done(struct disk_job *job)
{
    struct care *care = (struct care *)job;
    struct log *log = care->log;
    care->out = false;
    log->prepared = care->prepare ? care->prepared : log->prepared;
    care->prepared = NULL;
    if (care->status == STATUS_NO_SPACE)
        log->space_is_low = true; /* the present segment may last until something is trimmed */
    else if (care->status != STATUS_OK)
        log_fail(log, care->status, care->trouble);
    else if (care->prepare)
        log->space_is_low = false;
    if (log->flush_wanted)
        start_flush(log);
    if (!log->flush.out)
        start_care(log);
}

/* Starts the job if there is something to do. Not while a flush is out: that one may be using a file we would close. */
static void start_care(struct log *log)
{
    struct care *care = &log->care;
    if (log->status != STATUS_OK || care->out || log->flush.out)
        return;
    care->prepare = log->prepared == NULL && (!log->space_is_low || log->space_retry);
    if (!care->prepare && log->unneeded_count == 0)
        return;
    care->unlink = memory_resize(care->unlink, (log->unneeded_count + 1) * sizeof *care->unlink);
    care->unlink_count = log->unneeded_count;
    for (size_t i = 0; i < log->unneeded_count; i++) {
        care->unlink[i] = log->unneeded[i]->header.sequence;
        log_segment_free(log->unneeded[i]);
    }
    log->unneeded_count = 0;
    log->space_retry = false;
    care->disk = log->options.disk;
    care->directory = log->directory;
    care->prepare_size = log->options.segment_bytes;
    care->job = (struct disk_job){.run = care_run, .done = care_done};
    care->out = true;
    log->options.queue.submit(log->options.queue.context, &care->job);
}

void log_retry_space(struct log *log)
{
    log->space_retry = log->space_is_low;
    start_care(log);
}

/* Bytes of the entries of a segment up to `index`. */
static uint64_t bytes_up_to(const struct segment *segment, uint64_t index)
{
    if (index < segment->header.first || segment->count == 0)
        return 0;
    uint64_t end = index - segment->header.first < segment->count
                       ? log_place_end(&segment->places[index - segment->header.first])
                       : segment_end(segment);
    return end - LOG_SEGMENT_HEADER_SIZE;
}

uint64_t log_bytes_between(const struct log *log, uint64_t after, uint64_t last)
{
    uint64_t bytes = 0;
    for (size_t i = log->segment_count; i > 0 && last > after; i--)
        bytes += bytes_up_to(log->segments[i - 1], last) - bytes_up_to(log->segments[i - 1], after);
    return bytes;
}

uint64_t log_first_within(const struct log *log, uint64_t bytes)
{
    size_t i = log->segment_count;
    while (i > 0 && log->segments[i - 1]->size <= bytes)
        bytes -= log->segments[--i]->size;
    return i < log->segment_count ? log->segments[i]->header.first : log->last + 1;
}

void log_counts(const struct log *log, struct log_counts *counts)
{
    *counts = log->counts;
    counts->segments = log->segment_count;
    counts->disk_bytes = 0;
    for (size_t i = 0; i < log->segment_count; i++)
        counts->disk_bytes += log->segments[i]->size;
    counts->cached_bytes = log->cached_bytes;
    counts->cached_entries = log->last + 1 - log->cache_first;
}
