/* log_recovery.c — opening a log: what is there, what of it holds, and where it ends. The rules are in log_format.h.
 *
 *   list the files ─> term and vote ─> walk back from the newest segment ─> scan forward from the oldest ─> judge the end
 *
 * Nothing is changed before the judgement is known. A fault is returned as found; with `repair` the entries before it
 * stay, and the node owes what it gave up (log_owed). */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bug.h"
#include "base/memory.h"
#include "log_private.h"

struct recovery {
    struct log *log;
    struct log_fault *fault;
    uint64_t *sequences;      /* of all segment files, ascending */
    size_t count, capacity;
    uint64_t known;           /* the highest mark found in the last segment: so much had been durable */
    uint64_t highest;         /* the highest index seen anywhere, also behind a fault */
    uint64_t end;             /* the last entry that holds */
    bool remains;             /* something lies behind the end of the last segment */
    bool dropped;             /* a repair passed over newer segments: what comes next goes into one that is newer still */
    bool blind;               /* the newest entries left no trace: nobody knows what is owed, so no repair */
};

__attribute__((format(printf, 4, 5)))
static enum status fault(struct recovery *r, enum status status, uint64_t index, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = snprintf(r->fault->text, sizeof r->fault->text, "%.300s: ", r->log->directory);
    vsnprintf(r->fault->text + length, sizeof r->fault->text - (size_t)length, format, arguments);
    va_end(arguments);
    r->fault->index = index;
    return status;
}

static enum status disk_fault(struct recovery *r, enum status status)
{
    enum status shown = status == STATUS_NO_SPACE ? STATUS_NO_SPACE : STATUS_IO_ERROR;
    return fault(r, shown, 0, "%s", disk_trouble());
}

/* ---- what is there ---- */

static void note_name(void *context, const char *name)
{
    struct recovery *r = context;
    uint64_t sequence;
    if (!log_segment_name_parse(name, &sequence))
        return;
    if (r->count == r->capacity) {
        r->capacity = r->capacity > 0 ? 2 * r->capacity : 64;
        r->sequences = memory_resize(r->sequences, r->capacity * sizeof *r->sequences);
    }
    r->sequences[r->count++] = sequence;
}

static int compare_sequences(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static enum status list_segments(struct recovery *r)
{
    struct disk *disk = r->log->options.disk;
    enum status status = disk_list(disk, r->log->directory, note_name, r);
    if (status == STATUS_OK) /* names that a killed process left half confirmed */
        status = disk_sync_directory(disk, r->log->directory);
    if (status != STATUS_OK)
        return disk_fault(r, status);
    if (r->count > 0)
        qsort(r->sequences, r->count, sizeof *r->sequences, compare_sequences);
    return STATUS_OK;
}

static void segment_path(const struct recovery *r, uint64_t sequence, char path[DISK_PATH_MAX])
{
    char name[LOG_SEGMENT_NAME_SIZE];
    log_segment_name(sequence, name);
    disk_path(path, r->log->directory, name);
}

/* Looks through what lies behind a record that does not hold. Returns the highest mark found there. */
static uint64_t search_remains(struct recovery *r, uint64_t seed, struct bytes file, uint64_t from)
{
    uint64_t mark = 0;
    while (from + LOG_RECORD_OVERHEAD <= file.size) {
        struct log_record record;
        uint64_t size;
        bool holds = file.data[from] != 0 &&
                     log_record_decode(file, from, seed, &record, &size) == STATUS_OK;
        if (holds && record.mark > mark)
            mark = record.mark;
        if (holds && record.index > r->highest)
            r->highest = record.index;
        from += holds ? size : 8;
    }
    return mark;
}

/* The header does not hold, but its records may: their seed is its hash, as stored or as computed, if only one of the
 * two is rot. What they say is only used to know what a repaired node owes. */
static void search_headless(struct recovery *r, uint64_t sequence, struct disk_file *file)
{
    uint64_t size = disk_size(file), highest = r->highest;
    struct buffer content = {0};
    buffer_reserve(&content, size);
    r->highest = 0;
    if (size > LOG_SEGMENT_HEADER_SIZE && disk_read(file, 0, content.data, size) == STATUS_OK) {
        uint64_t seeds[2];
        log_segment_seeds(content.data, seeds);
        for (int i = 0; i < 2; i++)
            search_remains(r, seeds[i], bytes_of(content.data, size), LOG_SEGMENT_HEADER_SIZE);
    }
    buffer_release(&content);
    if (r->highest == 0 && sequence == r->sequences[r->count - 1])
        r->blind = true;
    if (highest > r->highest)
        r->highest = highest;
}

static enum status open_segment(struct recovery *r, uint64_t sequence, struct segment **segment)
{
    char path[DISK_PATH_MAX];
    segment_path(r, sequence, path);
    struct disk_file *file;
    enum status status = disk_open(r->log->options.disk, path, &file);
    if (status != STATUS_OK)
        return disk_fault(r, status);

    uint8_t bytes[LOG_SEGMENT_HEADER_SIZE];
    struct log_segment_header header;
    if (disk_size(file) < sizeof bytes) {
        status = STATUS_CORRUPT;
    } else {
        status = disk_read(file, 0, bytes, sizeof bytes);
        if (status == STATUS_OK)
            status = log_segment_header_decode(bytes, &header);
        if (status == STATUS_OK && header.sequence != sequence)
            status = STATUS_CORRUPT;
    }
    if (status == STATUS_OK) {
        *segment = log_segment_new(&header, file, disk_size(file));
        return STATUS_OK;
    }
    if (status == STATUS_CORRUPT)
        search_headless(r, sequence, file);
    if (status == STATUS_CORRUPT)
        fault(r, status, 0, "%016llx.segment: the header at offset 0 does not hold", (unsigned long long)sequence);
    else if (status == STATUS_UNSUPPORTED)
        fault(r, status, 0, "%016llx.segment was written by a newer version", (unsigned long long)sequence);
    else
        status = disk_fault(r, status);
    disk_close(file);
    return status;
}

/* ---- a new log ---- */

/* What an interrupted creation left is one segment without a record; anything else is a log that lost its metadata. */
static bool only_a_false_start(struct recovery *r)
{
    if (r->count == 0)
        return true;
    struct segment *segment;
    if (r->count > 1 || r->sequences[0] != 1 || open_segment(r, 1, &segment) != STATUS_OK)
        return false;
    uint8_t bytes[LOG_RECORD_HEADER_SIZE] = {0}, zeros[LOG_RECORD_HEADER_SIZE] = {0};
    bool read = disk_read(segment->file, LOG_SEGMENT_HEADER_SIZE, bytes, sizeof bytes) == STATUS_OK;
    log_segment_free(segment);
    return read && memcmp(bytes, zeros, sizeof bytes) == 0;
}

static enum status create_first_segment(struct recovery *r)
{
    struct log *log = r->log;
    struct disk *disk = log->options.disk;
    char path[DISK_PATH_MAX];
    disk_path(path, log->directory, "new");
    struct disk_file *file;
    disk_unlink(disk, path);
    enum status status = disk_create(disk, path, log->options.segment_bytes, &file);
    if (status != STATUS_OK)
        return disk_fault(r, status);
    struct log_segment_header header = {.sequence = 1, .first = 1, .salt = log->options.salt};
    uint8_t bytes[LOG_SEGMENT_HEADER_SIZE];
    log_segment_header_encode(&header, bytes);
    status = disk_write(file, 0, bytes, sizeof bytes);
    if (status == STATUS_OK)
        status = disk_sync(file);
    disk_close(file);
    char named[DISK_PATH_MAX];
    segment_path(r, 1, named);
    if (status == STATUS_OK)
        status = disk_rename(disk, path, named);
    if (status == STATUS_OK)
        status = disk_sync_directory(disk, log->directory);
    return status == STATUS_OK ? STATUS_OK : disk_fault(r, status);
}

/* The metadata comes last: with it the log exists. */
static enum status create(struct recovery *r)
{
    if (!only_a_false_start(r))
        return fault(r, STATUS_CORRUPT, 0,
                     "there are segments, but no metadata with term and vote; without them this node must not come "
                     "back: move the log away and replace the node (coterie --replace NUMBER)");
    if (!r->log->options.create)
        return fault(r, STATUS_NOT_FOUND, 0, "there is no log here");
    enum status status = create_first_segment(r);
    if (status != STATUS_OK)
        return status;
    r->count = 0;
    note_name(r, "0000000000000001.segment");
    r->log->metadata = (struct log_metadata){.version = 1, .mark_sequence = 1};
    status = log_metadata_create(r->log);
    return status == STATUS_OK ? STATUS_OK : disk_fault(r, status);
}

/* ---- walking back ---- */

static bool has_sequence(const struct recovery *r, uint64_t sequence)
{
    return bsearch(&sequence, r->sequences, r->count, sizeof sequence, compare_sequences) != NULL;
}

static void drop_segments(struct log *log)
{
    while (log->segment_count > 0)
        log_segment_free(log->segments[--log->segment_count]);
}

/* Collects the segments that make up the log whose newest segment is `head`, oldest first. */
static enum status walk(struct recovery *r, uint64_t head)
{
    struct log *log = r->log;
    for (uint64_t sequence = head; sequence != 0 && has_sequence(r, sequence);) {
        struct segment *segment;
        enum status status = open_segment(r, sequence, &segment);
        if (status != STATUS_OK)
            return status;
        if (log->segment_count > 0 && segment->header.first > log->segments[log->segment_count - 1]->header.first) {
            log_segment_free(segment);
            return fault(r, STATUS_CORRUPT, 0, "%016llx.segment begins after the one that continues it",
                         (unsigned long long)sequence);
        }
        log_segments_add(log, segment);
        sequence = segment->header.continues;
    }
    for (size_t i = 0, j = log->segment_count; i + 1 < j; i++) {
        struct segment *swap = log->segments[i];
        log->segments[i] = log->segments[--j];
        log->segments[j] = swap;
    }
    return STATUS_OK;
}

/* ---- scanning forward ---- */

static bool all_zero(const uint8_t *data, uint64_t size)
{
    return size == 0 || (data[0] == 0 && memcmp(data, data + 1, size - 1) == 0);
}

/* Whether a record that holds by itself also fits behind the ones before. */
static bool record_follows(const struct segment *segment, const struct log_record *record)
{
    uint64_t next = segment->header.first + segment->count;
    if (record->previous != segment->last_hash || record->mark >= next)
        return false;
    if (record->type == LOG_TYPE_MARK)
        return record->index == next - 1 && record->content.size == 0;
    uint64_t term = segment->count > 0 ? segment->places[segment->count - 1].term : segment->header.previous_term;
    return record->index == next && record->term >= term;
}

static bool type_is_known(uint8_t type)
{
    return type == LOG_TYPE_MARK || type == LOG_COMMAND || type == LOG_BARRIER || type == LOG_CHANGE;
}

/* Places all records that hold and follow each other, `count_max` entries at most. Returns what stopped it:
 * STATUS_OK (enough), STATUS_NOT_FOUND (zeros, or the end), STATUS_CORRUPT, STATUS_UNSUPPORTED; *bad_size is how far
 * the record at segment->used reaches then. */
static enum status scan_records(struct recovery *r, struct segment *segment, struct bytes file, uint64_t count_max,
                                uint64_t *bad_size)
{
    while (segment->count < count_max) {
        if (segment->used >= file.size)
            return STATUS_NOT_FOUND;
        struct log_record record;
        enum status status = log_record_decode(file, segment->used, segment->header.hash, &record, bad_size);
        if (status != STATUS_OK)
            return status;
        if (!record_follows(segment, &record))
            return STATUS_CORRUPT;
        if (!type_is_known(record.type))
            return STATUS_UNSUPPORTED;
        if (record.mark > r->known)
            r->known = record.mark;
        log_segment_place(segment, &record, segment->used);
    }
    return STATUS_OK;
}

static enum status segment_fault(struct recovery *r, enum status status, const struct segment *segment,
                                 const char *what)
{
    uint64_t index = segment->header.first + segment->count;
    return fault(r, status, index, "%016llx.segment: the record of entry %llu at offset %llu %s",
                 (unsigned long long)segment->header.sequence, (unsigned long long)index,
                 (unsigned long long)segment->used, what);
}

/* A segment that another one continues: must be whole up to there. */
static enum status judge_complete(struct recovery *r, const struct segment *segment, const struct segment *next,
                                  enum status stopped)
{
    if (stopped == STATUS_UNSUPPORTED)
        return segment_fault(r, stopped, segment, "was written by a newer version");
    if (stopped != STATUS_OK)
        return segment_fault(r, STATUS_CORRUPT, segment, "does not hold, but a later segment continues it");
    uint64_t hash = segment->count > 0 ? segment->places[segment->count - 1].hash : segment->header.previous_hash;
    if (hash != next->header.previous_hash)
        return segment_fault(r, STATUS_CORRUPT, segment, "is continued by a segment that belongs to another log");
    return STATUS_OK;
}

/* The last segment: did a write not finish, or is something gone that had been there? */
static enum status judge_end(struct recovery *r, const struct segment *segment, struct bytes file, enum status stopped,
                             uint64_t bad_size)
{
    uint64_t next = segment->header.first + segment->count;
    if (stopped == STATUS_UNSUPPORTED)
        return segment_fault(r, stopped, segment, "was written by a newer version");
    if (bug(BUG_V16_DAMAGE_IS_TORN))
        return STATUS_OK;
    r->remains = segment->used < file.size && !all_zero(file.data + segment->used, file.size - segment->used);
    uint64_t mark = r->remains ? search_remains(r, segment->header.hash, file, segment->used) : 0;
    if (mark >= next)
        return segment_fault(r, STATUS_CORRUPT, segment,
                             "does not hold, but had been durable when a later one was written");
    if (stopped == STATUS_CORRUPT && !log_looks_torn(file, segment->used, bad_size))
        return segment_fault(r, STATUS_CORRUPT, segment, "was written whole, but does not hold");

    const struct log_metadata *metadata = &r->log->metadata;
    r->blind = metadata->mark_sequence == segment->header.sequence && metadata->mark >= next;
    if (r->blind)
        return fault(r, STATUS_DAMAGED, next,
                     "the log ends at entry %llu, but this node had made durable up to entry %llu",
                     (unsigned long long)(next - 1), (unsigned long long)metadata->mark);
    return STATUS_OK;
}

static enum status read_segment(struct recovery *r, const struct segment *segment, struct buffer *content)
{
    buffer_clear(content);
    buffer_reserve(content, segment->size);
    enum status status = disk_read(segment->file, 0, content->data, segment->size);
    content->size = segment->size;
    return status == STATUS_OK ? STATUS_OK : disk_fault(r, status);
}

/* Scans segment number `i`. */
static enum status scan(struct recovery *r, size_t i, struct buffer *content)
{
    struct log *log = r->log;
    struct segment *segment = log->segments[i];
    enum status status = read_segment(r, segment, content);
    if (status != STATUS_OK)
        return status;
    struct segment *next = i + 1 < log->segment_count ? log->segments[i + 1] : NULL;
    uint64_t count_max = next != NULL ? next->header.first - segment->header.first : UINT64_MAX;
    r->known = 0;
    uint64_t bad_size = 0;
    enum status stopped = scan_records(r, segment, buffer_bytes(content), count_max, &bad_size);
    r->end = segment->header.first + segment->count - 1;
    if (next != NULL)
        return judge_complete(r, segment, next, stopped);
    return judge_end(r, segment, buffer_bytes(content), stopped, bad_size);
}

/* Sums up the newest file: it must not be older than what metadata remembers. */
static enum status judge_whole(struct recovery *r)
{
    struct log *log = r->log;
    uint64_t newest = r->count > 0 ? r->sequences[r->count - 1] : 0;
    r->blind = newest < log->metadata.mark_sequence;
    if (r->blind)
        return fault(r, STATUS_DAMAGED, 0, "%016llx.segment and what followed is gone",
                     (unsigned long long)(newest + 1));
    if (log->segments[0]->header.first > log->options.covered + 1)
        return fault(r, STATUS_DAMAGED, log->options.covered + 1,
                     "the log begins at entry %llu, but the snapshot ends at entry %llu",
                     (unsigned long long)log->segments[0]->header.first, (unsigned long long)log->options.covered);
    return STATUS_OK;
}

/* ---- repair ---- */

/* What lies behind the fault, in the same segment and in later ones, is owed. */
static void note_owed(struct recovery *r, size_t i, struct buffer *content)
{
    struct log *log = r->log;
    for (; i < log->segment_count; i++) {
        struct segment *segment = log->segments[i];
        if (segment->header.first - 1 > r->highest)
            r->highest = segment->header.first - 1;
        if (read_segment(r, segment, content) == STATUS_OK)
            search_remains(r, segment->header.hash, buffer_bytes(content), segment->used);
    }
    uint64_t candidates[] = {log->metadata.mark, r->known, r->fault->index};
    for (size_t k = 0; k < sizeof candidates / sizeof candidates[0]; k++) {
        if (candidates[k] > r->highest)
            r->highest = candidates[k];
    }
    if (r->highest > log->metadata.owed)
        log->metadata.owed = r->highest;
}

/* Keeps the entries before the fault in segment number `i`; the later segments go when the next one is begun. */
static void cut_at(struct recovery *r, size_t i, struct buffer *content)
{
    struct log *log = r->log;
    note_owed(r, i, content);
    while (log->segment_count > i + 1)
        log_segment_replaced(log, log->segments[--log->segment_count]);
    r->remains = true;
}

/* ---- the result ---- */

static void settle(struct recovery *r)
{
    struct log *log = r->log;
    log->sequence = r->count > 0 ? r->sequences[r->count - 1] : 0;
    if (log->metadata.mark_sequence > log->sequence)
        log->sequence = log->metadata.mark_sequence; /* never use a number again */
    if (log->segment_count == 0 || log->segments[0]->header.first > log->options.covered + 1) {
        while (log->segment_count > 0)
            log_segment_replaced(log, log->segments[--log->segment_count]);
        log->first = log->options.covered + 1;
        log->last = log->options.covered;
        log->begin_segment = log->begin_at_once = true;
        log->mark_sequence = log->mark = 0;
    } else {
        const struct segment *last = log->segments[log->segment_count - 1];
        log->first = log->segments[0]->header.first;
        log->first_previous_term = log->segments[0]->header.previous_term;
        log->first_previous_hash = log->segments[0]->header.previous_hash;
        log->last = last->header.first + last->count - 1;
        log->begin_segment = r->remains || r->dropped;
        log->mark_sequence = last->header.sequence;
        log->mark = log->last;
        log->marked = r->known;
    }
    log->placed = log->durable = log->last;
    log->cache_first = log->last + 1;
}

/* Files of segments that are no part of the log any more, and half-made ones. */
static void remove_leftovers(struct recovery *r)
{
    struct log *log = r->log;
    char path[DISK_PATH_MAX];
    for (size_t i = 0; i < r->count; i++) {
        bool used = false;
        for (size_t j = 0; j < log->segment_count; j++)
            used |= log->segments[j]->header.sequence == r->sequences[i];
        for (size_t j = 0; j < log->replaced_count; j++)
            used |= log->replaced[j]->header.sequence == r->sequences[i];
        if (used)
            continue;
        segment_path(r, r->sequences[i], path);
        disk_unlink(log->options.disk, path);
    }
    disk_path(path, log->directory, "next");
    disk_unlink(log->options.disk, path);
    disk_path(path, log->directory, "new");
    disk_unlink(log->options.disk, path);
}

/* What lies behind the last entry that a mark covers, further marks too, was written by a flush whose sync may have
 * failed. Then the page cache shows it, and takes it for clean, but it is not on the disk, and another sync would not bring
 * it there: it is written again. */
static enum status write_tail_again(struct recovery *r, const struct segment *last)
{
    const struct log_metadata *metadata = &r->log->metadata;
    bool remembered = metadata->mark_sequence == last->header.sequence && metadata->mark > r->known;
    uint64_t known = remembered ? metadata->mark : r->known, first = last->header.first;
    uint64_t held = known < first ? 0 : known - first + 1; /* so many of its entries are on the disk for certain */
    if (held > last->count)
        held = last->count; /* a repair cut it */
    uint64_t offset = held > 0 ? log_place_end(&last->places[held - 1]) : LOG_SEGMENT_HEADER_SIZE;
    struct buffer tail = {0};
    buffer_reserve(&tail, last->used - offset);
    enum status status = disk_read(last->file, offset, tail.data, last->used - offset);
    if (status == STATUS_OK)
        status = disk_write(last->file, offset, tail.data, last->used - offset);
    buffer_release(&tail);
    return status;
}

/* What a killed process wrote may be in the page cache only: after this, what we read is durable. */
static enum status make_durable(struct recovery *r)
{
    struct log *log = r->log;
    const struct segment *last = log->segment_count > 0 ? log->segments[log->segment_count - 1] : NULL;
    enum status status = last != NULL ? write_tail_again(r, last) : STATUS_OK;
    if (status == STATUS_OK && last != NULL)
        status = disk_sync(last->file);
    if (status == STATUS_OK)
        status = log_metadata_create(log);
    if (log->metadata.owed > 0 && log->durable >= log->metadata.owed)
        log->metadata.owed = 0;
    if (status == STATUS_OK)
        status = log_metadata_write(log);
    return status == STATUS_OK ? STATUS_OK : disk_fault(r, status);
}

static bool repairable(const struct recovery *r, enum status status)
{
    return r->log->options.repair && !r->blind && (status == STATUS_CORRUPT || status == STATUS_DAMAGED);
}

/* Scans what was collected. With `repair` a fault ends the log there instead. */
static enum status scan_all(struct recovery *r, struct buffer *content)
{
    struct log *log = r->log;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < log->segment_count && status == STATUS_OK; i++) {
        status = scan(r, i, content);
        if (repairable(r, status))
            cut_at(r, i, content);
    }
    if (status == STATUS_OK && log->segment_count > 0)
        status = judge_whole(r);
    if (!repairable(r, status))
        return status;
    if (r->end > r->highest)
        r->highest = r->end;
    note_owed(r, log->segment_count, content);
    return STATUS_OK;
}

/* Collects the segments and scans them. With `repair` a newest segment whose header does not hold is passed over. */
static enum status read_all(struct recovery *r)
{
    struct log *log = r->log;
    struct buffer content = {0};
    enum status status = STATUS_CORRUPT;
    r->blind = r->count == 0;
    if (r->blind)
        status = fault(r, STATUS_DAMAGED, 0, "all segments are gone");
    for (size_t head = r->count; head > 0;) {
        status = walk(r, r->sequences[--head]);
        if (status == STATUS_OK || !repairable(r, status))
            break;
        note_owed(r, 0, &content);
        drop_segments(log);
        r->dropped = true;
    }
    if (status == STATUS_OK || repairable(r, status))
        status = scan_all(r, &content);
    buffer_release(&content);
    return status;
}

/* Term and vote are older than the entries: somebody put back an old copy, and we do not know what was voted since. */
static enum status judge_term(struct recovery *r)
{
    struct log *log = r->log;
    uint64_t term = log_term_of(log, log->last);
    if (term <= log->metadata.term)
        return STATUS_OK;
    return fault(r, STATUS_DAMAGED, log->last,
                 "the last entry is of term %llu, but the metadata knows only term %llu: it is an old copy; this node "
                 "must not come back: move the log away and replace the node (coterie --replace NUMBER)",
                 (unsigned long long)term, (unsigned long long)log->metadata.term);
}

static enum status recover(struct recovery *r)
{
    enum status status = list_segments(r);
    if (status != STATUS_OK)
        return status;
    status = log_metadata_load(r->log, r->fault);
    if (status == STATUS_NOT_FOUND)
        status = create(r);
    if (status == STATUS_OK)
        status = read_all(r);
    if (status != STATUS_OK)
        return status;
    settle(r);
    status = judge_term(r);
    if (status != STATUS_OK)
        return status;
    status = make_durable(r);
    if (status == STATUS_OK)
        remove_leftovers(r);
    return status;
}

enum status log_recover(struct log *log, struct log_fault *log_fault)
{
    struct recovery r = {.log = log, .fault = log_fault};
    enum status status = recover(&r);
    free(r.sequences);
    return status;
}
