/* disk_posix.c — the real file system.
 *
 * disk_create writes real zeros instead of only reserving space: a reserved but never written block is turned into a
 * written one by a change of metadata, and fdatasync then has to wait for the file system's journal. Overwriting zeros
 * costs one write to the disk. */
#include "disk.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"

struct posix_file {
    struct disk_file base; /* first */
    int fd;
    char *path;
};

static struct posix_file *posix_of(struct disk_file *file)
{
    return (struct posix_file *)file;
}

static enum status posix_make_directory(struct disk *disk, const char *path)
{
    (void)disk;
    if (mkdir(path, 0700) == 0 || errno == EEXIST)
        return STATUS_OK;
    return disk_failed("make directory", path, errno);
}

static enum status posix_list(struct disk *disk, const char *directory, disk_name_callback *callback, void *context)
{
    (void)disk;
    DIR *stream = opendir(directory);
    if (stream == NULL)
        return disk_failed("list", directory, errno);
    struct dirent *entry;
    while (errno = 0, (entry = readdir(stream)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            callback(context, entry->d_name);
    }
    int error = errno;
    closedir(stream);
    return error == 0 ? STATUS_OK : disk_failed("list", directory, error);
}

static enum status open_file(struct disk *disk, const char *path, int flags, struct disk_file **file)
{
    int fd = open(path, flags | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return disk_failed((flags & O_CREAT) != 0 ? "create" : "open", path, errno);
    struct posix_file *posix = memory_zeroed(1, sizeof *posix);
    posix->base.disk = disk;
    posix->fd = fd;
    posix->path = memory_text(path);
    *file = &posix->base;
    return STATUS_OK;
}

static enum status posix_open(struct disk *disk, const char *path, struct disk_file **file)
{
    return open_file(disk, path, 0, file);
}

static uint64_t posix_size(struct disk_file *file)
{
    struct stat facts;
    return fstat(posix_of(file)->fd, &facts) == 0 ? (uint64_t)facts.st_size : 0;
}

static enum status posix_read(struct disk_file *file, uint64_t offset, void *data, size_t size)
{
    struct posix_file *posix = posix_of(file);
    uint8_t *to = data;
    while (size > 0) {
        ssize_t got = pread(posix->fd, to, size, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return disk_failed("read", posix->path, errno);
        if (got == 0)
            return disk_failed("read beyond the end of", posix->path, EIO);
        to += got;
        offset += (uint64_t)got;
        size -= (size_t)got;
    }
    return STATUS_OK;
}

static enum status posix_write(struct disk_file *file, uint64_t offset, const void *data, size_t size)
{
    struct posix_file *posix = posix_of(file);
    const uint8_t *from = data;
    while (size > 0) {
        ssize_t put = pwrite(posix->fd, from, size, (off_t)offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return disk_failed("write", posix->path, errno);
        from += put;
        offset += (uint64_t)put;
        size -= (size_t)put;
    }
    return STATUS_OK;
}

static enum status posix_resize(struct disk_file *file, uint64_t size)
{
    struct posix_file *posix = posix_of(file);
    if (ftruncate(posix->fd, (off_t)size) != 0)
        return disk_failed("resize", posix->path, errno);
    return STATUS_OK;
}

static enum status posix_sync(struct disk_file *file)
{
    struct posix_file *posix = posix_of(file);
    if (fdatasync(posix->fd) != 0)
        return disk_failed("sync", posix->path, errno);
    return STATUS_OK;
}

static void posix_close(struct disk_file *file)
{
    struct posix_file *posix = posix_of(file);
    close(posix->fd);
    free(posix->path);
    free(posix);
}

static enum status write_zeros(struct disk_file *file, uint64_t size)
{
    static const uint8_t zeros[256 * 1024];
    for (uint64_t offset = 0; offset < size;) {
        uint64_t part = size - offset < sizeof zeros ? size - offset : sizeof zeros;
        enum status status = posix_write(file, offset, zeros, part);
        if (status != STATUS_OK)
            return status;
        offset += part;
    }
    return posix_sync(file);
}

static enum status posix_create(struct disk *disk, const char *path, uint64_t size, struct disk_file **file)
{
    enum status status = open_file(disk, path, O_CREAT | O_EXCL, file);
    if (status != STATUS_OK)
        return status;
    if (size > 0) { /* one piece of the disk if the file system can; if not, zeros do */
        int error = posix_fallocate(posix_of(*file)->fd, 0, (off_t)size);
        status = error == ENOSPC ? disk_failed("reserve space for", path, error) : write_zeros(*file, size);
    }
    if (status != STATUS_OK) {
        posix_close(*file);
        *file = NULL;
        unlink(path);
    }
    return status;
}

static enum status posix_rename(struct disk *disk, const char *from, const char *to)
{
    (void)disk;
    return rename(from, to) == 0 ? STATUS_OK : disk_failed("rename", from, errno);
}

static enum status posix_unlink(struct disk *disk, const char *path)
{
    (void)disk;
    return unlink(path) == 0 ? STATUS_OK : disk_failed("remove", path, errno);
}

static enum status posix_sync_directory(struct disk *disk, const char *path)
{
    (void)disk;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return disk_failed("open directory", path, errno);
    enum status status = fsync(fd) == 0 ? STATUS_OK : disk_failed("sync directory", path, errno);
    close(fd);
    return status;
}

static const struct disk_calls posix_calls = {
    .make_directory = posix_make_directory,
    .list = posix_list,
    .open = posix_open,
    .create = posix_create,
    .rename = posix_rename,
    .unlink = posix_unlink,
    .sync_directory = posix_sync_directory,
    .size = posix_size,
    .read = posix_read,
    .write = posix_write,
    .resize = posix_resize,
    .sync = posix_sync,
    .close = posix_close,
};

struct disk *disk_posix(void)
{
    static struct disk posix = {&posix_calls};
    return &posix;
}
