/* snapshot_format.h — the bytes of a snapshot file, without the file.
 *
 *   file     = header frame, rows frames, end frame
 *   frame    = u32 kind, u32 payload size, payload, u64 checksum
 *   header   = 8 bytes "CoterieS", u32 format, 16 bytes cluster id, u64 index, u64 term, u64 configuration index,
 *              u64 hash[2], block configuration
 *   rows     = u8 table, then rows: block key, block value; ascending, tables ascending over the frames
 *   end      = u64 number of rows
 *
 * The checksum is XXH3-64 over all of the frame before it, with the checksum of the frame before as seed: so frames that
 * are lost, repeated or exchanged are found as well as changed bytes. */
#ifndef COTERIE_SNAPSHOT_FORMAT_H
#define COTERIE_SNAPSHOT_FORMAT_H

#include "snapshot.h"

#define SNAPSHOT_FORMAT 1
#define FRAME_HEAD_SIZE 8
#define FRAME_CHECKSUM_SIZE 8
#define FRAME_PAYLOAD_MAX (16u << 20)    /* far above what is written; a bound for what is read */
#define ROWS_FRAME_BYTES 65536           /* a rows frame is closed when it has grown beyond */

enum frame_kind {
    FRAME_HEADER = 1,
    FRAME_ROWS = 2,
    FRAME_END = 3,
};

/* One frame at a time is built in `out`: begin, put the payload behind it, finish. `chain` is 0 before the first. */
void frame_begin(struct buffer *out, enum frame_kind kind);
void frame_finish(struct buffer *out, uint64_t *chain);

/* Reads the first FRAME_HEAD_SIZE bytes of a frame. false: no frame begins so. */
bool frame_head(struct bytes head, enum frame_kind *kind, size_t *payload_size);
/* Checks a whole frame; *payload borrows from it. */
bool frame_check(struct bytes frame, uint64_t *chain, struct bytes *payload);

void snapshot_header_encode(const struct snapshot_facts *facts, struct buffer *out);
/* *facts borrows the configuration. STATUS_CORRUPT, STATUS_UNSUPPORTED. */
enum status snapshot_header_decode(struct bytes payload, struct snapshot_facts *facts);

/* What has been seen of the rows so far; zero-initialised at the beginning. */
struct snapshot_rows {
    uint64_t count;
    uint64_t hash[2];
    unsigned table;              /* of the last row */
    struct buffer last_key;
    struct buffer image;
};

void snapshot_rows_release(struct snapshot_rows *rows);

/* The rows of one frame: begin, then take the next until it returns false. */
struct snapshot_chunk {
    enum table table;
    struct reader reader;
};
/* false: not a rows frame of ours. */
bool snapshot_chunk_begin(struct bytes payload, struct snapshot_chunk *chunk);
/* Takes the next row, checks that it lies behind the one before, and adds it to `rows`. false: no more, or
 * chunk->reader.failed. */
bool snapshot_chunk_next(struct snapshot_chunk *chunk, struct snapshot_rows *rows, struct row *row);

#endif
