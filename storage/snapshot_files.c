#include "snapshot_files.h"

#include "base/logger.h"
#include "base/memory.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEPT 2

enum status snapshot_report(const char *path, const char *what)
{
    int error = errno;
    enum status status = error == ENOSPC || error == EDQUOT ? STATUS_NO_SPACE : STATUS_IO_ERROR;

    log_event(LOG_ERROR, "snapshot-failed", log_text("path", path), log_text("what", what), log_errno(error));
    return status;
}

void snapshot_path(char out[SNAPSHOT_PATH_SIZE], const char *directory, const char *name)
{
    int size = snprintf(out, SNAPSHOT_PATH_SIZE, "%s/%s", directory, name);
    assert(size > 0 && size < SNAPSHOT_PATH_SIZE);
}

void snapshot_path_of(char out[SNAPSHOT_PATH_SIZE], const char *directory, struct snapshot_name name)
{
    int size = snprintf(out, SNAPSHOT_PATH_SIZE, "%s/snapshot-%020" PRIu64 "-%020" PRIu64, directory, name.index,
                        name.term);
    assert(size > 0 && size < SNAPSHOT_PATH_SIZE);
}

/* ---- the directory ---- */

static bool parse_name(const char *text, struct snapshot_name *name)
{
    char again[80];

    if (sscanf(text, "snapshot-%20" SCNu64 "-%20" SCNu64, &name->index, &name->term) != 2)
        return false;
    snprintf(again, sizeof again, "snapshot-%020" PRIu64 "-%020" PRIu64, name->index, name->term);
    return strcmp(text, again) == 0;
}

static int newest_first(const void *a, const void *b)
{
    const struct snapshot_name *x = a, *y = b;

    if (x->index != y->index)
        return x->index < y->index ? 1 : -1;
    return x->term < y->term ? 1 : x->term > y->term ? -1 : 0;
}

enum status snapshot_list(const char *directory, struct snapshot_name **names, size_t *count)
{
    DIR *dir = opendir(directory);
    struct dirent *entry;
    struct snapshot_name name;

    *names = NULL;
    *count = 0;
    if (dir == NULL)
        return errno == ENOENT ? STATUS_OK : snapshot_report(directory, "listing snapshots");
    while ((entry = readdir(dir)) != NULL) {
        if (!parse_name(entry->d_name, &name))
            continue;
        *names = memory_resize(*names, (*count + 1) * sizeof name);
        (*names)[(*count)++] = name;
    }
    closedir(dir);
    if (*count > 0)
        qsort(*names, *count, sizeof name, newest_first);
    return STATUS_OK;
}

static enum status sync_directory(const char *directory)
{
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum status status = fd >= 0 && fsync(fd) == 0 ? STATUS_OK : snapshot_report(directory, "flushing the directory");

    if (fd >= 0)
        close(fd);
    return status;
}

/* All but the newest, and the one that has just come: a new leader may send one that is older than those which its predecessor sent,
 * and which were never installed. What cannot be deleted now will be next time. */
static void delete_old(const char *directory, struct snapshot_name published)
{
    struct snapshot_name *names;
    size_t count;
    char path[SNAPSHOT_PATH_SIZE];

    if (snapshot_list(directory, &names, &count) != STATUS_OK)
        return;
    for (size_t i = KEPT; i < count; i++) {
        if (names[i].index == published.index && names[i].term == published.term)
            continue;
        snapshot_path_of(path, directory, names[i]);
        if (unlink(path) != 0)
            snapshot_report(path, "deleting an old snapshot");
    }
    free(names);
}

enum status snapshot_publish(const char *directory, const char *temporary, struct snapshot_name name)
{
    char from[SNAPSHOT_PATH_SIZE], to[SNAPSHOT_PATH_SIZE];
    enum status status;

    snapshot_path(from, directory, temporary);
    snapshot_path_of(to, directory, name);
    if (rename(from, to) != 0)
        return snapshot_report(to, "renaming a finished snapshot");
    status = sync_directory(directory);
    if (status == STATUS_OK)
        delete_old(directory, name);
    return status;
}

/* ---- one file ---- */

enum status snapshot_create(const char *directory, const char *name, int *fd)
{
    char path[SNAPSHOT_PATH_SIZE];

    if (mkdir(directory, 0700) != 0 && errno != EEXIST)
        return snapshot_report(directory, "making the directory");
    snapshot_path(path, directory, name);
    *fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    return *fd >= 0 ? STATUS_OK : snapshot_report(path, "making a file");
}

enum status snapshot_flush(int fd, const char *path)
{
    if (fsync(fd) != 0)
        return snapshot_report(path, "flushing a snapshot");
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* a hint: nothing depends on it */
    return STATUS_OK;
}
