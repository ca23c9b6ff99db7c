/* golden.h — encodings kept for ever, as hex in tests/golden/: what a released version wrote, every later one reads.
 *
 * A test that finds a difference has found a changed format: give it a new number, keep reading the old one. New files
 * are written by running the test once with GOLDEN_WRITE=1; look at what was written. */
#ifndef COTERIE_TEST_GOLDEN_H
#define COTERIE_TEST_GOLDEN_H

#include "storage/base/bytes.h"

#include <stdio.h>
#include <stdlib.h>

static inline FILE *golden_open(const char *kind, const char *name, const char *mode)
{
    char path[512];
    snprintf(path, sizeof path, COTERIE_SOURCE_DIR "/tests/golden/%s-%s.hex", kind, name);
    FILE *file = fopen(path, mode);
    if (file == NULL)
        fail_msg("%s is missing", path);
    return file;
}

static inline void golden_read(const char *kind, const char *name, struct buffer *out)
{
    unsigned byte;
    FILE *file = golden_open(kind, name, "r");
    while (fscanf(file, "%2x", &byte) == 1)
        buffer_put_u8(out, (uint8_t)byte);
    fclose(file);
}

static inline void golden_write(const char *kind, const char *name, struct bytes bytes)
{
    FILE *file = golden_open(kind, name, "w");
    for (size_t i = 0; i < bytes.size; i++)
        fprintf(file, "%02x%s", bytes.data[i], i + 1 == bytes.size || i % 32 == 31 ? "\n" : " ");
    fclose(file);
}

/* Whether `bytes` are what the file tests/golden/<kind>-<name>.hex holds. */
static inline bool golden_is(const char *kind, const char *name, struct bytes bytes)
{
    struct buffer golden = {0};
    if (getenv("GOLDEN_WRITE") != NULL)
        golden_write(kind, name, bytes);
    golden_read(kind, name, &golden);
    bool same = bytes_equal(bytes, buffer_bytes(&golden));
    buffer_release(&golden);
    return same;
}

#endif
