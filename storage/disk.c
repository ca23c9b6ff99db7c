/* disk.c — the plain calls through the table of an implementation, and what is made of them. */
#include "disk.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char trouble[512];

const char *disk_trouble(void)
{
    return trouble;
}

enum status disk_failed(const char *what, const char *path, int error)
{
    snprintf(trouble, sizeof trouble, "%s %s: %s", what, path, strerror(error));
    switch (error) {
    case ENOENT: return STATUS_NOT_FOUND;
    case EEXIST: return STATUS_EXISTS;
    case ENOSPC:
    case EDQUOT: return STATUS_NO_SPACE;
    }
    return STATUS_IO_ERROR;
}

enum status disk_make_directory(struct disk *disk, const char *path)
{
    return disk->calls->make_directory(disk, path);
}

enum status disk_list(struct disk *disk, const char *directory, disk_name_callback *callback, void *context)
{
    return disk->calls->list(disk, directory, callback, context);
}

enum status disk_open(struct disk *disk, const char *path, struct disk_file **file)
{
    return disk->calls->open(disk, path, file);
}

enum status disk_create(struct disk *disk, const char *path, uint64_t size, struct disk_file **file)
{
    return disk->calls->create(disk, path, size, file);
}

enum status disk_rename(struct disk *disk, const char *from, const char *to)
{
    return disk->calls->rename(disk, from, to);
}

enum status disk_unlink(struct disk *disk, const char *path)
{
    return disk->calls->unlink(disk, path);
}

enum status disk_sync_directory(struct disk *disk, const char *path)
{
    return disk->calls->sync_directory(disk, path);
}

uint64_t disk_size(struct disk_file *file)
{
    return file->disk->calls->size(file);
}

enum status disk_read(struct disk_file *file, uint64_t offset, void *data, size_t size)
{
    return file->disk->calls->read(file, offset, data, size);
}

enum status disk_write(struct disk_file *file, uint64_t offset, const void *data, size_t size)
{
    return file->disk->calls->write(file, offset, data, size);
}

enum status disk_resize(struct disk_file *file, uint64_t size)
{
    return file->disk->calls->resize(file, size);
}

enum status disk_sync(struct disk_file *file)
{
    return file->disk->calls->sync(file);
}

void disk_close(struct disk_file *file)
{
    if (file != NULL)
        file->disk->calls->close(file);
}

enum status disk_read_file(struct disk *disk, const char *path, size_t size_max, struct buffer *out)
{
    struct disk_file *file;
    enum status status = disk_open(disk, path, &file);
    if (status != STATUS_OK)
        return status;
    uint64_t size = disk_size(file);
    if (size > size_max) {
        status = STATUS_TOO_LARGE;
    } else if (size > 0) {
        buffer_reserve(out, size);
        status = disk_read(file, 0, out->data + out->size, size);
        if (status == STATUS_OK)
            out->size += size;
    }
    disk_close(file);
    return status;
}

enum status disk_replace_file(struct disk *disk, const char *directory, const char *name, struct bytes content)
{
    char path[DISK_PATH_MAX], fresh_name[256], fresh[DISK_PATH_MAX];
    snprintf(fresh_name, sizeof fresh_name, "%s.new", name);
    disk_path(path, directory, name);
    disk_path(fresh, directory, fresh_name);

    enum status status = disk_unlink(disk, fresh); /* what an interrupted call left */
    if (status != STATUS_OK && status != STATUS_NOT_FOUND)
        return status;
    struct disk_file *file;
    status = disk_create(disk, fresh, content.size, &file);
    if (status != STATUS_OK)
        return status;
    status = disk_write(file, 0, content.data, content.size);
    if (status == STATUS_OK)
        status = disk_sync(file);
    disk_close(file);
    if (status == STATUS_OK)
        status = disk_rename(disk, fresh, path);
    if (status == STATUS_OK)
        status = disk_sync_directory(disk, directory);
    return status;
}

void disk_path(char path[DISK_PATH_MAX], const char *directory, const char *name)
{
    int length = snprintf(path, DISK_PATH_MAX, "%s/%s", directory, name);
    assert(length > 0 && length < DISK_PATH_MAX);
    (void)length;
}
