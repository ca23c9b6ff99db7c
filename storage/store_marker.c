#include "store_marker.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define MAGIC "coterie store "

static const char *const state_names[] = {
    [MARKER_OPEN] = "open",
    [MARKER_CLOSED] = "closed",
    [MARKER_POISONED] = "poisoned",
    [MARKER_CHECKING] = "checking",
};

static void make_image(char out[MARKER_SIZE], enum marker_state state, const char *boot_id)
{
    char line[MARKER_SIZE];
    int size = snprintf(line, sizeof line, MAGIC "%d %s %s", STORE_FORMAT, state_names[state], boot_id);

    assert(size > 0 && size < MARKER_SIZE);
    memset(out, ' ', MARKER_SIZE);
    memcpy(out, line, (size_t)size);
    out[MARKER_SIZE - 1] = '\n';
}

static bool read_boot_id(char out[BOOT_ID_SIZE], const char *pretended)
{
    FILE *file;
    bool done;

    if (pretended != NULL) {
        snprintf(out, BOOT_ID_SIZE, "%s", pretended);
        return true;
    }
    file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (file == NULL)
        return false;
    done = fgets(out, BOOT_ID_SIZE, file) != NULL;
    fclose(file);
    if (done)
        out[strcspn(out, "\n")] = '\0';
    return done;
}

enum status store_marker_open(struct store_marker *marker, const char *path, const char *boot_id)
{
    marker->fd = -1;
    if (!read_boot_id(marker->boot_id, boot_id))
        return STATUS_IO_ERROR;
    marker->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (marker->fd < 0)
        return STATUS_IO_ERROR;
    return flock(marker->fd, LOCK_EX | LOCK_NB) == 0 ? STATUS_OK : STATUS_BUSY;
}

void store_marker_close(struct store_marker *marker)
{
    if (marker->fd >= 0)
        close(marker->fd); /* and with it the lock */
    marker->fd = -1;
}

enum store_trust store_marker_judge(const struct store_marker *marker)
{
    char found[MARKER_SIZE], closed[MARKER_SIZE], open_now[MARKER_SIZE];
    size_t magic = strlen(MAGIC), format = magic + 2; /* one digit and a blank */
    size_t closed_size = format + strlen(state_names[MARKER_CLOSED]) + 1;

    if (pread(marker->fd, found, MARKER_SIZE, 0) != MARKER_SIZE || memcmp(found, MAGIC, magic) != 0)
        return TRUST_NONE;
    make_image(closed, MARKER_CLOSED, marker->boot_id);
    make_image(open_now, MARKER_OPEN, marker->boot_id);
    if (memcmp(found, closed, format) != 0)
        return TRUST_OTHER_FORMAT;
    if (memcmp(found, closed, closed_size) == 0)
        return TRUST_WHOLE;
    return memcmp(found, open_now, MARKER_SIZE) == 0 ? TRUST_UNCLEAN : TRUST_NONE;
}

bool store_marker_write(const struct store_marker *marker, enum marker_state state)
{
    char image[MARKER_SIZE];

    make_image(image, state, marker->boot_id);
    return pwrite(marker->fd, image, MARKER_SIZE, 0) == MARKER_SIZE && fdatasync(marker->fd) == 0;
}
