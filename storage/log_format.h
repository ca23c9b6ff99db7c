/* log_format.h — the bytes of the log's files, and how recovery reads them. Little-endian throughout.
 *
 * FILES in the log's directory
 *
 *   <sequence, 16 hex digits>.segment   entries; made with all its size as zeros, written from front to back, once
 *   metadata-1, metadata-2              term and vote, the same in both
 *   next, new                           segments in the making; thrown away at start
 *
 * SEGMENT: a header of 64 bytes, then records, then zeros.
 *
 *   offset  0  u32  magic          4  u16  format   6  u16  0
 *           8  u64  sequence number: 1, 2, 3 … in the order in which segments were begun
 *          16  u64  index of its first entry
 *          24  u64  term of the entry before that (of the snapshot's last entry, after a reset)
 *          32  u64  hash of the record of the entry before; 0 if there is none
 *          40  u64  sequence number of the segment that this one continues; 0 = none: the log begins here
 *          48  u64  salt
 *          56  u64  hash of the 56 bytes above
 *
 * RECORD: at a multiple of 8.
 *
 *   offset  0  u32  magic          4  u32  size of the content
 *           8  u64  index         16  u64  term     24  u8 type, 7 × 0
 *          32  u64  mark: index up to which all was durable when this was written
 *          40  u64  previous: hash of the record before, or of the segment's header
 *          48  u64  hash of the 48 bytes above
 *          56       content, then zeros up to a multiple of 8
 *           +  u64  hash of all of the record above
 *
 * Type 0 is a record with no entry: it only carries a mark. Hashes are XXH3-64; those of records are seeded with the hash
 * of their segment's header, so that content chosen by a client cannot pass for a record.
 *
 * A segment gets its name after its header and first records are synced. So the header of a named segment is never torn,
 * and taking back entries (a conflict with the leader) or cutting off a torn tail is one atomic step: begin a segment
 * whose first index says where the one before ends. No byte of a segment is ever changed.
 *
 * RECOVERY starts at the segment with the highest number and follows "continues" back to the beginning. Every segment
 * but the last must be whole up to where the next one begins, and hash to what that one says. The last one ends at its
 * first record that does not hold, at offset X. That is
 *
 *   a torn tail     if the sync of that record may never have returned, and it looks unwritten: at least one of the
 *                   sectors it lies in is still zeros where the record is, or its last byte is. One write + sync is out
 *                   at a time, its sectors arrive in any order, so whole records may follow. Cut off.
 *   rot             if a record behind X, or metadata, has a mark at or above the entry at X (it had been durable), or
 *                   every sector of it was written and the hash still does not hold. STATUS_CORRUPT.
 *
 * What holds behind the last entry that a mark covers is written once more, the same bytes in the same place, and synced
 * before it counts: a sync that failed may have left it in the page cache only, where it looks clean. So after any
 * recovery all that was read is durable, and metadata says so.
 *
 * If the log ends without any remains, but below the highest mark: STATUS_DAMAGED. What rot can hide behind is a tail that
 * looks torn in the very last flush before the crash; log_flush_mark() closes that after a second of rest.
 *
 * METADATA: 64 bytes, in a sector of its own.
 *
 *   offset  0  u32  magic          4  u16  format   6  u16  0
 *           8  u64  version: one more with each change
 *          16  u64  term          24  u64  vote
 *          32  u64  sequence number and
 *          40  u64  index up to which the log was durable then
 *          48  u64  owed, see log_owed()
 *          56  u64  hash of the 56 bytes above
 *
 * Both are written and synced one after the other, then the change counts. So one of them may be torn or rot and the
 * other one is still right: if they differ the newer is a change that was not finished, and as good as the older. */
#ifndef COTERIE_LOG_FORMAT_H
#define COTERIE_LOG_FORMAT_H

#include <stdbool.h>

#include "base/bytes.h"
#include "base/status.h"
#include "disk.h"

#define LOG_FORMAT 1
#define LOG_SEGMENT_HEADER_SIZE 64
#define LOG_RECORD_HEADER_SIZE 56
#define LOG_RECORD_OVERHEAD 64
#define LOG_METADATA_SIZE 64
#define LOG_TYPE_MARK 0

struct log_segment_header {
    uint64_t sequence, first, previous_term, previous_hash, continues, salt;
    uint64_t hash;   /* filled in by encode and decode */
};

struct log_record {
    uint64_t index, term, mark, previous;
    uint8_t type;
    struct bytes content;
    uint64_t hash;   /* filled in by encode and decode */
};

struct log_metadata {
    uint64_t version, term, vote, mark_sequence, mark, owed;
};

void log_segment_header_encode(struct log_segment_header *header, uint8_t out[LOG_SEGMENT_HEADER_SIZE]);
/* STATUS_CORRUPT, or STATUS_UNSUPPORTED if it is whole but of a newer format. */
enum status log_segment_header_decode(const uint8_t in[LOG_SEGMENT_HEADER_SIZE], struct log_segment_header *header);

/* The seed of the records of a segment whose header does not hold, as far as one can tell: the stored hash, and the
 * computed one. */
void log_segment_seeds(const uint8_t in[LOG_SEGMENT_HEADER_SIZE], uint64_t seeds[2]);

/* Bytes that a record with content of this size takes in the file. */
static inline uint64_t log_record_size(size_t content_size)
{
    return LOG_RECORD_OVERHEAD + (((uint64_t)content_size + 7) & ~(uint64_t)7);
}

/* Appends the record to `out`, whose size is a multiple of 8. */
void log_record_encode(struct log_record *record, uint64_t seed, struct buffer *out);

/* Reads the record at `offset` of a whole segment file. Its content borrows from `file`.
 *   STATUS_NOT_FOUND  nothing was written here: zeros up to the end of the record header, or the file ends
 *   STATUS_CORRUPT    it does not hold; *size is how far it reaches as far as one can tell */
enum status log_record_decode(struct bytes file, uint64_t offset, uint64_t seed, struct log_record *record,
                              uint64_t *size);

/* Whether these bytes, in which a record does not hold, can be an interrupted write into zeros. */
bool log_looks_torn(struct bytes file, uint64_t offset, uint64_t size);

void log_metadata_encode(const struct log_metadata *metadata, uint8_t out[LOG_METADATA_SIZE]);
/* STATUS_CORRUPT, STATUS_UNSUPPORTED: as for a segment's header. */
enum status log_metadata_decode(const uint8_t in[LOG_METADATA_SIZE], struct log_metadata *metadata);

/* "0000000000000001.segment" */
#define LOG_SEGMENT_NAME_SIZE 32
void log_segment_name(uint64_t sequence, char name[LOG_SEGMENT_NAME_SIZE]);
/* false: no log would name a segment so. */
bool log_segment_name_parse(const char *name, uint64_t *sequence);

#endif
