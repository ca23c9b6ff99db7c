/* identity.c — two small files that must agree.
 *
 *   offset  0  u32  magic "CIDN"   4  u16  format   6  u16  0
 *           8       cluster id, 16 bytes
 *          24  u32  node id       28  u32  0
 *          32  u64  incarnation   40  u64  replacement   48  u64  0
 *          56  u64  XXH3-64 of the 56 bytes above */
#include "identity.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "state.h"

#define IDENTITY_MAGIC 0x4e444943u
#define IDENTITY_FORMAT 1
#define IDENTITY_SIZE 64
#define FILE_NAME "identity"

static void identity_encode(const struct identity *identity, struct buffer *out)
{
    buffer_put_u32(out, IDENTITY_MAGIC);
    buffer_put_u32(out, IDENTITY_FORMAT);
    buffer_put(out, identity->cluster_id, CLUSTER_ID_SIZE);
    buffer_put_u32(out, identity->node_id);
    buffer_put_u32(out, 0);
    buffer_put_u64(out, identity->incarnation);
    buffer_put_u64(out, identity->replacement);
    buffer_put_u64(out, 0);
    buffer_put_u64(out, XXH3_64bits(out->data, out->size));
    assert(out->size == IDENTITY_SIZE);
}

static enum status identity_decode(struct bytes in, struct identity *identity)
{
    if (in.size != IDENTITY_SIZE)
        return STATUS_CORRUPT;
    struct reader tail = reader_of(bytes_of(in.data + IDENTITY_SIZE - 8, 8));
    struct reader reader = reader_of(in);
    if (reader_u64(&tail) != XXH3_64bits(in.data, IDENTITY_SIZE - 8) || reader_u32(&reader) != IDENTITY_MAGIC)
        return STATUS_CORRUPT;
    if (reader_u32(&reader) != IDENTITY_FORMAT)
        return STATUS_UNSUPPORTED;
    memcpy(identity->cluster_id, reader_bytes(&reader, CLUSTER_ID_SIZE).data, CLUSTER_ID_SIZE);
    identity->node_id = reader_u32(&reader);
    reader_u32(&reader);
    identity->incarnation = reader_u64(&reader);
    identity->replacement = reader_u64(&reader);
    return identity->node_id > 0 && identity->incarnation > 0 ? STATUS_OK : STATUS_CORRUPT;
}

bool identity_equal(const struct identity *a, const struct identity *b)
{
    return memcmp(a->cluster_id, b->cluster_id, CLUSTER_ID_SIZE) == 0 && a->node_id == b->node_id &&
           a->incarnation == b->incarnation && a->replacement == b->replacement;
}

void identity_text(const struct identity *identity, char text[IDENTITY_TEXT_SIZE])
{
    size_t at = 0;
    for (int i = 0; i < CLUSTER_ID_SIZE; i++)
        at += (size_t)snprintf(text + at, IDENTITY_TEXT_SIZE - at, "%02x", identity->cluster_id[i]);
    snprintf(text + at, IDENTITY_TEXT_SIZE - at, "-node-%u-%016llx", identity->node_id,
             (unsigned long long)identity->incarnation);
}

/* The copy in one directory; on failure *fault says which file and why. */
static enum status load_copy(struct disk *disk, const char *directory, struct identity *identity,
                             struct identity_fault *fault)
{
    char path[DISK_PATH_MAX];
    struct buffer content = {0};
    disk_path(path, directory, FILE_NAME);
    enum status status = disk_read_file(disk, path, 4096, &content);
    const char *why = disk_trouble();
    if (status == STATUS_TOO_LARGE)
        status = STATUS_CORRUPT;
    if (status == STATUS_OK)
        status = identity_decode(buffer_bytes(&content), identity);
    buffer_release(&content);

    if (status == STATUS_CORRUPT)
        why = "is not a whole identity file; restore it from the copy in the other directory, if that one is whole";
    else if (status == STATUS_UNSUPPORTED)
        why = "was written by a newer version";
    if (status != STATUS_OK)
        snprintf(fault->text, sizeof fault->text, "%.400s: %.500s", path, why);
    return status;
}

static enum status one_is_missing(const char *missing, const char *present, const struct identity *identity,
                                  struct identity_fault *fault)
{
    char text[IDENTITY_TEXT_SIZE];
    identity_text(identity, text);
    snprintf(fault->text, sizeof fault->text,
             "%.200s/identity is missing, but %.200s/identity says that this is %s. A disk was emptied, exchanged, or is "
             "not mounted. Without its log this node must not come back under this identity: mount the disk; or, if its "
             "content is lost, empty both directories and replace the node (coterie --replace NUMBER). "
             "If this node never ran because its creation was interrupted, empty both directories and create it again.",
             missing, present, text);
    return STATUS_DAMAGED;
}

static enum status compare(const struct identity_places *places, uint32_t node_id, const struct identity *first,
                           const struct identity *second, struct identity_fault *fault)
{
    char a[IDENTITY_TEXT_SIZE], b[IDENTITY_TEXT_SIZE];
    identity_text(first, a);
    identity_text(second, b);
    if (!identity_equal(first, second)) {
        snprintf(fault->text, sizeof fault->text,
                 "%.200s/identity says %s, but %.200s/identity says %s: these directories belong to two different "
                 "nodes",
                 places->first, a, places->second, b);
        return STATUS_INVALID;
    }
    if (first->node_id != node_id) {
        snprintf(fault->text, sizeof fault->text,
                 "%.200s belongs to node %u (%s), but the configuration says that this is node %u", places->first,
                 first->node_id, a, node_id);
        return STATUS_INVALID;
    }
    return STATUS_OK;
}

enum status identity_load(struct disk *disk, const struct identity_places *places, uint32_t node_id,
                          struct identity *identity, struct identity_fault *fault)
{
    struct identity first, second;
    struct identity_fault second_fault = {""};
    fault->text[0] = '\0';
    enum status first_status = load_copy(disk, places->first, &first, fault);
    enum status second_status = load_copy(disk, places->second, &second, &second_fault);
    if (first_status == STATUS_NOT_FOUND && second_status == STATUS_NOT_FOUND) {
        snprintf(fault->text, sizeof fault->text,
                 "there is no node in %.200s and %.200s. Bootstrap a new cluster or join one: a node is never made "
                 "because its directories are empty",
                 places->first, places->second);
        return STATUS_NOT_FOUND;
    }
    if (first_status == STATUS_NOT_FOUND && second_status == STATUS_OK) {
        *identity = second;
        return one_is_missing(places->first, places->second, &second, fault);
    }
    if (second_status == STATUS_NOT_FOUND && first_status == STATUS_OK) {
        *identity = first;
        return one_is_missing(places->second, places->first, &first, fault);
    }
    if (first_status != STATUS_OK && first_status != STATUS_NOT_FOUND)
        return first_status;
    if (second_status != STATUS_OK) {
        *fault = second_fault;
        return second_status;
    }
    enum status status = compare(places, node_id, &first, &second, fault);
    if (status == STATUS_OK)
        *identity = first;
    return status;
}

static bool is_there(struct disk *disk, const char *directory)
{
    char path[DISK_PATH_MAX];
    struct disk_file *file;
    disk_path(path, directory, FILE_NAME);
    enum status status = disk_open(disk, path, &file);
    if (status == STATUS_OK)
        disk_close(file);
    return status != STATUS_NOT_FOUND;
}

enum status identity_create(struct disk *disk, const struct identity_places *places, const struct identity *identity,
                            struct identity_fault *fault)
{
    static const uint8_t zeros[CLUSTER_ID_SIZE];
    assert(identity->node_id > 0 && identity->node_id < NODES_MAX && identity->incarnation > 0);
    assert(memcmp(identity->cluster_id, zeros, CLUSTER_ID_SIZE) != 0);
    fault->text[0] = '\0';
    const char *directories[] = {places->second, places->first}; /* the data directory last */
    for (int i = 0; i < 2; i++) {
        if (is_there(disk, directories[i])) {
            snprintf(fault->text, sizeof fault->text,
                     "%.400s/identity exists: this node was made before. Start it without asking for bootstrap or join",
                     directories[i]);
            return STATUS_EXISTS;
        }
    }
    struct buffer content = {0};
    identity_encode(identity, &content);
    enum status status = STATUS_OK;
    for (int i = 0; i < 2 && status == STATUS_OK; i++)
        status = disk_replace_file(disk, directories[i], FILE_NAME, buffer_bytes(&content));
    buffer_release(&content);
    if (status != STATUS_OK)
        snprintf(fault->text, sizeof fault->text, "%s", disk_trouble());
    return status;
}
