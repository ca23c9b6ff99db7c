/* log_private.h — the struct behind log.h, shared by log.c (memory, reading, flushing), log_recovery.c (opening) and
 * log_metadata.c (term and vote).
 *
 *   first ............ placed ............ last
 *   |  in segments         | only in memory |
 *   |------ durable |  a flush is out       |
 *
 * Always: first - 1 <= durable <= last, placed <= last, and every entry above durable is in the ring. "Placed" entries
 * have a place in a segment: written, or part of the flush that is out. */
#ifndef COTERIE_LOG_PRIVATE_H
#define COTERIE_LOG_PRIVATE_H

#include "log.h"
#include "log_format.h"

#define SEGMENT_BYTES_DEFAULT (16u * 1024 * 1024)
#define SEGMENT_BYTES_MAX     (1024u * 1024 * 1024)   /* offsets inside of a segment are 32 bits */
#define CACHE_BYTES_DEFAULT   (64u * 1024 * 1024)
#define FLUSH_BYTES_MAX       (4u * 1024 * 1024)      /* of one flush, or one larger entry */
#define WINDOW_BYTES          (256u * 1024)           /* read at once from an old segment */
#define TROUBLE_SIZE          512

/* Where one entry lies, and what is known of it without reading. */
struct place {
    uint64_t term;
    uint64_t hash;       /* of its record */
    uint32_t offset;     /* of its record */
    uint32_t size;       /* of its content */
};

/* Where the next record begins. */
static inline uint64_t log_place_end(const struct place *place)
{
    return place->offset + log_record_size(place->size);
}

struct segment {
    struct log_segment_header header;
    struct disk_file *file;
    uint64_t size;            /* of the file */
    uint64_t used;            /* where the next record goes */
    uint64_t last_hash;       /* of the last record written, marks included; the header's if there is none */
    struct place *places;     /* of entries header.first ... */
    size_t count, capacity;
};

/* The one write that may be out. What `run` reads and writes is its own until `done`. */
struct flush {
    struct disk_job job;
    struct log *log;
    bool out;

    struct disk *disk;
    const char *directory;
    struct segment *segment;      /* where `data` goes */
    struct disk_file *file;       /* the segment's; NULL with `begin`: make one */
    bool begin;                   /* the segment is new: give it its name */
    uint64_t file_size;           /* with `begin` */
    struct disk_file *shrink;     /* with `begin`: the segment before, which ends here; NULL = leave it */
    uint64_t shrink_to;
    size_t replaced;              /* with `begin`: so many segments it replaces */
    uint64_t offset;
    struct buffer data;

    uint64_t last;                /* index of the last entry in `data` */
    uint64_t entries;
    uint64_t marked;              /* the highest mark in `data` */
    uint64_t cut;                 /* entries from here on were truncated meanwhile; UINT64_MAX = none */
    bool forgotten;               /* the log was reset meanwhile */

    enum status status;
    char trouble[TROUBLE_SIZE];
};

/* Work that nobody waits for: a segment for later, files that are not needed any more. */
struct care {
    struct disk_job job;
    struct log *log;
    bool out;

    struct disk *disk;
    const char *directory;
    bool prepare;
    uint64_t prepare_size;
    struct disk_file *prepared;   /* result */
    uint64_t *unlink;             /* sequence numbers, the oldest first */
    size_t unlink_count;
    enum status status;
    char trouble[TROUBLE_SIZE];
};

struct log {
    struct log_options options;
    char *directory;

    struct segment **segments;    /* oldest first; all but the last are complete */
    size_t segment_count, segment_capacity;
    struct segment **replaced;    /* their files go once the next segment is begun */
    size_t replaced_count, replaced_capacity;
    struct segment **unneeded;    /* their files may go */
    size_t unneeded_count, unneeded_capacity;
    uint64_t sequence;            /* highest ever used here */
    bool begin_segment;           /* the next entry starts a new segment */
    bool begin_at_once;           /* and does so before there is one: a reset */
    struct disk_file *prepared;   /* "next", made ahead; NULL = not yet */
    bool space_is_low, space_retry;

    uint64_t first, placed, durable, last;
    uint64_t first_previous_term; /* of the entry first - 1 */
    uint64_t first_previous_hash;
    uint64_t marked;              /* highest mark that is durable itself */

    struct log_entry **ring;      /* entries cache_first ... last at index & (capacity - 1) */
    uint64_t cache_first;
    size_t ring_capacity;
    uint64_t cached_bytes;

    struct buffer window;         /* part of an old segment, as read last */
    uint64_t window_sequence, window_offset;

    struct flush flush;
    bool flush_wanted;
    struct care care;

    struct disk_file *metadata_files[2];
    int metadata_weaker;          /* the one to be written first */
    struct log_metadata metadata; /* as last written */
    uint64_t mark_sequence, mark; /* for the next metadata: durable in that segment */

    enum status status;
    char trouble[TROUBLE_SIZE];
    struct log_counts counts;
};

/* log.c */
void log_fail(struct log *log, enum status status, const char *trouble);
struct segment *log_segment_new(const struct log_segment_header *header, struct disk_file *file, uint64_t size);
void log_segment_free(struct segment *segment);
void log_segment_place(struct segment *segment, const struct log_record *record, uint64_t offset);
void log_segments_add(struct log *log, struct segment *segment);
void log_segment_replaced(struct log *log, struct segment *segment);

/* log_metadata.c */
enum status log_metadata_load(struct log *log, struct log_fault *fault);    /* STATUS_NOT_FOUND: no such file */
enum status log_metadata_create(struct log *log);
enum status log_metadata_write(struct log *log);   /* log->metadata, with the present mark; durable twice */

/* log_recovery.c */
enum status log_recover(struct log *log, struct log_fault *fault);

#endif
