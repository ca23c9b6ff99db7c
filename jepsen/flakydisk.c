/* flakydisk.c — a disk that forgets, lies, is slow, hangs, or fails: one file of a FUSE file system, to be put under a
 * loop device and a real file system.
 *
 *   coterie-flakydisk IMAGE MOUNTPOINT       MOUNTPOINT/disk has the size and the content of IMAGE
 *
 *   write --> sector in memory, volatile --FSYNC--> all volatile sectors into IMAGE
 *   power SEED --> each volatile sector is kept or forgotten, by chance: reordered and torn writes
 *
 * Commands come on stdin, one to a line, and each is answered with "ok NUMBER" or "error":
 *
 *   power SEED      the power fails: a random half of what was not flushed is there afterwards (NUMBER: sectors kept).
 *                   Writes and flushes fail from then on, so that nothing of the time before comes after all
 *   cut N           the power will fail like that at the Nth flush from now, before it is done; 0: it will not
 *   left 0          NUMBER: how many flushes there are until then, 0 if it has failed
 *   on 0|1          the power is off or on
 *   lie 0|1         flushes are confirmed and not done
 *   delay MS        each flush takes so much longer
 *   eio_write 0|1   writes fail
 *   eio_flush 0|1   flushes fail, and what they ought to have flushed stays volatile
 *   eio_read 0|1    reads fail
 *   hang 0|1        nothing is answered until 0
 *
 * The file system above sees a block device whose write cache is on; the loop driver turns a flush into FSYNC. The process
 * ends when it is unmounted, or by its stdin's end, which unmounts. */
#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SECTOR     512
#define DISK_PATH  "/disk"
#define LINE_BYTES 256

static struct disk {
    pthread_mutex_t lock;
    pthread_cond_t moved; /* `hang` ended */
    int image;
    uint64_t size, sector_count, volatile_count;
    unsigned char **sectors;   /* NULL: as in the image; else newer, and volatile */
    uint64_t *volatile_numbers; /* of the volatile sectors, in the order of their first write */
    bool on, lie, eio_write, eio_flush, eio_read, hang;
    unsigned delay_ms;
    uint64_t flushes_left, cut_seed; /* until the power fails; 0: it will not */
    struct fuse *fuse;
} disk = {.lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER, .on = true};

/* ---- sectors; the lock is held ---- */

static int sector_read(uint64_t number, unsigned char *out)
{
    if (disk.sectors[number] != NULL) {
        memcpy(out, disk.sectors[number], SECTOR);
        return 0;
    }
    return pread(disk.image, out, SECTOR, (off_t)(number * SECTOR)) == SECTOR ? 0 : -EIO;
}

static int sector_write(uint64_t number, const unsigned char *bytes)
{
    if (disk.sectors[number] == NULL) {
        disk.sectors[number] = malloc(SECTOR);
        if (disk.sectors[number] == NULL)
            return -EIO;
        disk.volatile_numbers[disk.volatile_count++] = number;
    }
    memcpy(disk.sectors[number], bytes, SECTOR);
    return 0;
}

static void sector_forget(uint64_t number)
{
    free(disk.sectors[number]);
    disk.sectors[number] = NULL;
}

static int sector_settle(uint64_t number)
{
    bool written = pwrite(disk.image, disk.sectors[number], SECTOR, (off_t)(number * SECTOR)) == SECTOR;
    sector_forget(number);
    return written ? 0 : -EIO;
}

/* What cannot be settled is lost: its cache has told so once. */
static int settle_all(void)
{
    int status = 0;
    for (uint64_t i = 0; i < disk.volatile_count; i++)
        if (sector_settle(disk.volatile_numbers[i]) != 0)
            status = -EIO;
    disk.volatile_count = 0;
    return status;
}

/* ---- the power ---- */

static uint64_t draw(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static long long power_loss(uint64_t seed)
{
    long long kept = 0;
    for (uint64_t i = 0; i < disk.volatile_count; i++) {
        if ((draw(&seed) & 1) == 0)
            sector_forget(disk.volatile_numbers[i]);
        else if (sector_settle(disk.volatile_numbers[i]) == 0)
            kept++;
    }
    disk.volatile_count = 0;
    disk.on = false;
    return kept;
}

/* The lock is held. */
static int flush(void)
{
    if (disk.flushes_left > 0 && --disk.flushes_left == 0)
        power_loss(disk.cut_seed);
    return disk.eio_flush || !disk.on ? -EIO : disk.lie ? 0 : settle_all();
}

/* ---- the file system's side ---- */

static void wait_while_hung(void)
{
    while (disk.hang)
        pthread_cond_wait(&disk.moved, &disk.lock);
}

static int disk_getattr(const char *path, struct stat *out, struct fuse_file_info *file)
{
    (void)file;
    memset(out, 0, sizeof(*out));
    if (strcmp(path, "/") == 0) {
        out->st_mode = S_IFDIR | 0700;
        out->st_nlink = 2;
        return 0;
    }
    if (strcmp(path, DISK_PATH) != 0)
        return -ENOENT;
    out->st_mode = S_IFREG | 0600;
    out->st_nlink = 1;
    out->st_size = (off_t)disk.size;
    out->st_blocks = (blkcnt_t)disk.sector_count;
    return 0;
}

static int disk_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset, struct fuse_file_info *file,
                        enum fuse_readdir_flags flags)
{
    (void)path, (void)offset, (void)file, (void)flags;
    return fill(buffer, &DISK_PATH[1], NULL, 0, 0) == 0 ? 0 : -ENOMEM;
}

static int disk_open(const char *path, struct fuse_file_info *file)
{
    file->direct_io = 1; /* no second cache above ours */
    return strcmp(path, DISK_PATH) == 0 ? 0 : -ENOENT;
}

/* The part of [offset, offset + left) that lies within one sector. */
static size_t part_of_sector(uint64_t offset, size_t left)
{
    size_t until_end = SECTOR - (size_t)(offset % SECTOR);
    return left < until_end ? left : until_end;
}

static int disk_read(const char *path, char *out, size_t size, off_t at, struct fuse_file_info *file)
{
    (void)path, (void)file;
    uint64_t offset = (uint64_t)at;
    if (offset >= disk.size)
        return 0;
    if (size > disk.size - offset)
        size = (size_t)(disk.size - offset);
    pthread_mutex_lock(&disk.lock);
    wait_while_hung();
    int status = disk.eio_read ? -EIO : 0;
    for (size_t done = 0, part; status == 0 && done < size; done += part) {
        unsigned char sector[SECTOR];
        part = part_of_sector(offset + done, size - done);
        status = sector_read((offset + done) / SECTOR, sector);
        memcpy(out + done, sector + (offset + done) % SECTOR, part);
    }
    pthread_mutex_unlock(&disk.lock);
    return status == 0 ? (int)size : status;
}

static int disk_write(const char *path, const char *bytes, size_t size, off_t at, struct fuse_file_info *file)
{
    (void)path, (void)file;
    uint64_t offset = (uint64_t)at;
    if (offset >= disk.size || size > disk.size - offset)
        return -ENOSPC;
    pthread_mutex_lock(&disk.lock);
    wait_while_hung();
    int status = disk.eio_write || !disk.on ? -EIO : 0;
    for (size_t done = 0, part; status == 0 && done < size; done += part) {
        unsigned char sector[SECTOR];
        uint64_t number = (offset + done) / SECTOR;
        part = part_of_sector(offset + done, size - done);
        if (part < SECTOR)
            status = sector_read(number, sector);
        memcpy(sector + (offset + done) % SECTOR, bytes + done, part);
        if (status == 0)
            status = sector_write(number, sector);
    }
    pthread_mutex_unlock(&disk.lock);
    return status == 0 ? (int)size : status;
}

static int disk_fsync(const char *path, int data_only, struct fuse_file_info *file)
{
    (void)path, (void)data_only, (void)file;
    pthread_mutex_lock(&disk.lock);
    wait_while_hung();
    unsigned delay_ms = disk.delay_ms;
    pthread_mutex_unlock(&disk.lock);
    if (delay_ms > 0) {
        struct timespec pause = {.tv_sec = delay_ms / 1000, .tv_nsec = (long)(delay_ms % 1000) * 1000000};
        nanosleep(&pause, NULL);
    }
    pthread_mutex_lock(&disk.lock);
    wait_while_hung();
    int status = flush();
    pthread_mutex_unlock(&disk.lock);
    return status;
}

/* Discarded blocks keep their bytes: a disk may do so. */
static int disk_fallocate(const char *path, int mode, off_t offset, off_t length, struct fuse_file_info *file)
{
    (void)path, (void)mode, (void)offset, (void)length, (void)file;
    return -EOPNOTSUPP;
}

static const struct fuse_operations operations = {
    .getattr = disk_getattr,
    .readdir = disk_readdir,
    .open = disk_open,
    .read = disk_read,
    .write = disk_write,
    .fsync = disk_fsync,
    .fallocate = disk_fallocate,
};

/* ---- commands ---- */

/* The number to answer with; negative if it is no command. The lock is held. */
static long long run_command(const char *word, unsigned long long value)
{
    const struct {
        const char *name;
        bool *flag;
    } flags[] = {
        {"on", &disk.on},
        {"lie", &disk.lie},
        {"eio_write", &disk.eio_write},
        {"eio_flush", &disk.eio_flush},
        {"eio_read", &disk.eio_read},
        {"hang", &disk.hang},
    };
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
        if (strcmp(word, flags[i].name) == 0) {
            *flags[i].flag = value != 0;
            pthread_cond_broadcast(&disk.moved);
            return (long long)disk.volatile_count;
        }
    if (strcmp(word, "delay") == 0) {
        disk.delay_ms = (unsigned)value;
        return (long long)disk.volatile_count;
    }
    if (strcmp(word, "cut") == 0) {
        disk.flushes_left = disk.cut_seed = value;
        return (long long)disk.volatile_count;
    }
    if (strcmp(word, "left") == 0)
        return (long long)disk.flushes_left;
    return strcmp(word, "power") == 0 ? power_loss(value) : -1;
}

static void *listen_to_commands(void *unused)
{
    char line[LINE_BYTES], word[32];
    unsigned long long value;
    while (fgets(line, sizeof(line), stdin) != NULL) {
        long long answer = -1;
        if (sscanf(line, "%31s %llu", word, &value) == 2) {
            pthread_mutex_lock(&disk.lock);
            answer = run_command(word, value);
            pthread_mutex_unlock(&disk.lock);
        }
        if (answer >= 0)
            printf("ok %lld\n", answer);
        else
            puts("error");
    }
    pthread_mutex_lock(&disk.lock);
    disk.hang = false;
    pthread_cond_broadcast(&disk.moved);
    pthread_mutex_unlock(&disk.lock);
    fuse_exit(disk.fuse);
    fuse_unmount(disk.fuse);
    return unused;
}

static bool open_image(const char *path)
{
    struct stat facts;
    disk.image = open(path, O_RDWR | O_CLOEXEC);
    if (disk.image < 0 || fstat(disk.image, &facts) != 0) {
        fprintf(stderr, "coterie-flakydisk: %s: %s\n", path, strerror(errno));
        return false;
    }
    disk.sector_count = (uint64_t)facts.st_size / SECTOR;
    disk.size = disk.sector_count * SECTOR;
    disk.sectors = calloc(disk.sector_count, sizeof(*disk.sectors));
    disk.volatile_numbers = calloc(disk.sector_count, sizeof(*disk.volatile_numbers));
    return disk.sectors != NULL && disk.volatile_numbers != NULL;
}

int main(int count, char **values)
{
    if (count != 3) {
        fprintf(stderr, "usage: coterie-flakydisk IMAGE MOUNTPOINT\n");
        return 2;
    }
    if (!open_image(values[1]))
        return 1;
    struct fuse_args arguments = FUSE_ARGS_INIT(0, NULL);
    if (fuse_opt_add_arg(&arguments, values[0]) != 0 || fuse_opt_add_arg(&arguments, "-ofsname=coterie-flakydisk") != 0)
        return 1;
    disk.fuse = fuse_new(&arguments, &operations, sizeof(operations), NULL);
    fuse_opt_free_args(&arguments);
    if (disk.fuse == NULL || fuse_mount(disk.fuse, values[2]) != 0)
        return 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("ready");
    pthread_t listener;
    if (pthread_create(&listener, NULL, listen_to_commands, NULL) != 0)
        return 1;
    int status = fuse_loop_mt(disk.fuse, 0);
    fuse_unmount(disk.fuse);
    return status == 0 ? 0 : 1;
}
