/* disk_sim.c — see the header.
 *
 *   name ──> node { seen, platter, which sectors differ }
 *
 * Names change at once for the running system; the changes are also kept in a list, in order, until a directory sync.
 * A crash lets a prefix of that list stand: a file system's journal loses its end, but not its middle. */
#include "disk_sim.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/base/memory.h"

struct node {
    uint8_t *seen, *platter;
    bool *dirty;                       /* per sector */
    uint64_t dirty_from, dirty_to;     /* no sector outside is dirty */
    uint64_t size, platter_size;       /* as seen; as on the platter */
    uint64_t capacity;                 /* of the arrays, a multiple of a sector */
    unsigned references;               /* by names, pending changes and open files */
};

struct name {
    char *path;
    struct node *node;                 /* NULL: not there */
    struct node *platter;
};

struct change {
    char *path[2];                     /* a rename changes two names in one step */
    struct node *node[2];
};

struct sim_job {
    struct disk_job *job;
    uint64_t due_us, number;
};

struct failure {
    bool armed, for_ever;
    uint64_t skip;
    enum status status;
};

struct disk_sim {
    struct disk disk;                  /* first */
    struct disk_sim_options options;
    uint64_t random;
    struct name *names;                /* sorted by path */
    size_t name_count;
    struct change *changes;
    size_t change_count;
    struct sim_job *jobs;
    size_t job_count;
    uint64_t job_number;
    uint64_t now_us;
    bool hung;
    bool power_failing;
    uint64_t power_left;               /* calls until the power is gone */
    struct failure failures[DISK_SIM_CALLS];
    struct disk_sim_counts counts;
};

struct sim_file {
    struct disk_file base;             /* first */
    struct node *node;
    char *path;
};

static struct disk_sim *sim_of(struct disk *disk)
{
    return (struct disk_sim *)disk;
}

static struct sim_file *file_of(struct disk_file *file)
{
    return (struct sim_file *)file;
}

static uint64_t draw(struct disk_sim *sim) /* splitmix64 */
{
    uint64_t z = sim->random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* ---- nodes ---- */

static struct node *node_keep(struct node *node)
{
    if (node != NULL)
        node->references++;
    return node;
}

static void node_release(struct node *node)
{
    if (node == NULL || --node->references > 0)
        return;
    free(node->seen);
    free(node->platter);
    free(node->dirty);
    free(node);
}

static void node_reserve(struct node *node, uint64_t size)
{
    uint64_t capacity = (size + DISK_SECTOR - 1) / DISK_SECTOR * DISK_SECTOR;
    if (capacity <= node->capacity)
        return;
    node->seen = memory_resize(node->seen, capacity);
    node->platter = memory_resize(node->platter, capacity);
    node->dirty = memory_resize(node->dirty, capacity / DISK_SECTOR * sizeof *node->dirty);
    uint64_t more = capacity - node->capacity;
    memset(node->seen + node->capacity, 0, more);
    memset(node->platter + node->capacity, 0, more);
    memset(node->dirty + node->capacity / DISK_SECTOR, 0, more / DISK_SECTOR * sizeof *node->dirty);
    node->capacity = capacity;
}

static void node_soil(struct node *node, uint64_t from, uint64_t to)
{
    for (uint64_t s = from; s < to; s++)
        node->dirty[s] = true;
    bool clean = node->dirty_from == node->dirty_to;
    node->dirty_from = clean || from < node->dirty_from ? from : node->dirty_from;
    node->dirty_to = clean || to > node->dirty_to ? to : node->dirty_to;
}

static void node_write(struct node *node, uint64_t offset, const void *data, uint64_t size)
{
    if (size == 0)
        return;
    node_reserve(node, offset + size);
    memcpy(node->seen + offset, data, size);
    node_soil(node, offset / DISK_SECTOR, (offset + size - 1) / DISK_SECTOR + 1);
    if (offset + size > node->size)
        node->size = offset + size;
}

static void node_resize(struct node *node, uint64_t size)
{
    node_reserve(node, size);
    if (size < node->size) {
        memset(node->seen + size, 0, node->size - size);
        node_soil(node, size / DISK_SECTOR, node->capacity / DISK_SECTOR);
    }
    node->size = size;
}

static void node_sync(struct node *node)
{
    for (uint64_t s = node->dirty_from; s < node->dirty_to; s++) {
        if (node->dirty[s])
            memcpy(node->platter + s * DISK_SECTOR, node->seen + s * DISK_SECTOR, DISK_SECTOR);
        node->dirty[s] = false;
    }
    node->dirty_from = node->dirty_to = 0;
    node->platter_size = node->size;
}

/* A sync that failed: the kernel believes some of the sectors are clean, and they are not on the platter. */
static void node_sync_badly(struct disk_sim *sim, struct node *node)
{
    for (uint64_t s = node->dirty_from; s < node->dirty_to; s++) {
        if (node->dirty[s] && draw(sim) % 2 == 0)
            node->dirty[s] = false;
    }
}

/* What the power loss leaves of a node. */
static void node_crash(struct disk_sim *sim, struct node *node)
{
    for (uint64_t s = node->dirty_from; s < node->dirty_to; s++) {
        if (!node->dirty[s])
            continue;
        uint64_t choice = draw(sim) % 3;
        uint64_t arrived = choice == 0 ? 0 : DISK_SECTOR;
        if (choice == 2 && sim->options.cut_inside_sectors) {
            arrived = draw(sim) % (DISK_SECTOR + 1);
            sim->counts.sectors_cut++;
        }
        if (arrived == 0)
            sim->counts.sectors_lost++;
        memcpy(node->platter + s * DISK_SECTOR, node->seen + s * DISK_SECTOR, arrived);
        node->dirty[s] = false;
    }
    node->dirty_from = node->dirty_to = 0;
    if (node->size != node->platter_size && draw(sim) % 2 == 0)
        node->platter_size = node->size;
    node->size = node->platter_size;
    for (uint64_t i = node->size; i < node->capacity; i++)
        node->platter[i] = 0;
    memcpy(node->seen, node->platter, node->capacity);
}

/* ---- names ---- */

static struct name *name_find(struct disk_sim *sim, const char *path, bool make)
{
    size_t i = 0;
    while (i < sim->name_count && strcmp(sim->names[i].path, path) < 0)
        i++;
    if (i < sim->name_count && strcmp(sim->names[i].path, path) == 0)
        return &sim->names[i];
    if (!make)
        return NULL;
    sim->names = memory_resize(sim->names, (sim->name_count + 1) * sizeof *sim->names);
    memmove(sim->names + i + 1, sim->names + i, (sim->name_count - i) * sizeof *sim->names);
    sim->name_count++;
    sim->names[i] = (struct name){.path = memory_text(path)};
    return &sim->names[i];
}

static struct node *node_at(struct disk_sim *sim, const char *path)
{
    struct name *name = name_find(sim, path, false);
    return name != NULL ? name->node : NULL;
}

static void name_set(struct disk_sim *sim, const char *path, struct node *node)
{
    struct name *name = name_find(sim, path, true);
    struct node *old = name->node;
    name->node = node_keep(node);
    node_release(old);
}

static void remember_change(struct disk_sim *sim, const char *path, struct node *node, const char *other)
{
    sim->changes = memory_resize(sim->changes, (sim->change_count + 1) * sizeof *sim->changes);
    struct change *change = &sim->changes[sim->change_count++];
    *change = (struct change){.path = {memory_text(path), NULL}, .node = {node_keep(node), NULL}};
    if (other != NULL)
        change->path[1] = memory_text(other);
}

/* The first `count` changes of names reach the platter; the others are forgotten. */
static void settle_changes(struct disk_sim *sim, size_t count)
{
    for (size_t i = 0; i < sim->change_count; i++) {
        for (int j = 0; j < 2; j++) {
            if (sim->changes[i].path[j] != NULL && i < count) {
                struct name *name = name_find(sim, sim->changes[i].path[j], true);
                node_release(name->platter);
                name->platter = node_keep(sim->changes[i].node[j]);
            }
            free(sim->changes[i].path[j]);
            node_release(sim->changes[i].node[j]);
        }
    }
    sim->change_count = 0;
}

/* ---- faults ---- */

/* Whether this call goes through. */
static enum status enter(struct disk_sim *sim, enum disk_sim_call call, const char *what, const char *path)
{
    sim->counts.calls[call]++;
    if (sim->power_failing) {
        if (sim->power_left == 0)
            return disk_failed(what, path, EIO);
        sim->power_left--;
    }
    struct failure *failure = &sim->failures[call];
    if (!failure->armed)
        return STATUS_OK;
    if (failure->skip > 0) {
        failure->skip--;
        return STATUS_OK;
    }
    failure->armed = failure->for_ever;
    disk_failed(what, path, failure->status == STATUS_NO_SPACE ? ENOSPC : EIO);
    return failure->status;
}

static uint64_t used_bytes(const struct disk_sim *sim)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < sim->name_count; i++)
        bytes += sim->names[i].node != NULL ? sim->names[i].node->size : 0;
    return bytes;
}

static bool fits(const struct disk_sim *sim, uint64_t more)
{
    return sim->options.capacity == 0 || used_bytes(sim) + more <= sim->options.capacity;
}

/* ---- the calls ---- */

static enum status sim_make_directory(struct disk *disk, const char *path)
{
    (void)disk;
    (void)path;
    return STATUS_OK;
}

static enum status sim_list(struct disk *disk, const char *directory, disk_name_callback *callback, void *context)
{
    struct disk_sim *sim = sim_of(disk);
    size_t length = strlen(directory);
    for (size_t i = 0; i < sim->name_count; i++) {
        const char *path = sim->names[i].path;
        bool inside = strncmp(path, directory, length) == 0 && path[length] == '/' &&
                      strchr(path + length + 1, '/') == NULL;
        if (inside && sim->names[i].node != NULL)
            callback(context, path + length + 1);
    }
    return STATUS_OK;
}

static struct disk_file *open_node(struct disk_sim *sim, const char *path, struct node *node)
{
    struct sim_file *file = memory_zeroed(1, sizeof *file);
    file->base.disk = &sim->disk;
    file->node = node_keep(node);
    file->path = memory_text(path);
    return &file->base;
}

static enum status sim_open(struct disk *disk, const char *path, struct disk_file **file)
{
    struct node *node = node_at(sim_of(disk), path);
    if (node == NULL)
        return disk_failed("open", path, ENOENT);
    *file = open_node(sim_of(disk), path, node);
    return STATUS_OK;
}

static enum status sim_create(struct disk *disk, const char *path, uint64_t size, struct disk_file **file)
{
    struct disk_sim *sim = sim_of(disk);
    enum status status = enter(sim, DISK_SIM_CREATE, "create", path);
    if (status != STATUS_OK)
        return status;
    if (node_at(sim, path) != NULL)
        return disk_failed("create", path, EEXIST);
    if (!fits(sim, size))
        return disk_failed("create", path, ENOSPC);
    struct node *node = memory_zeroed(1, sizeof *node);
    node_resize(node, size);
    node_sync(node);
    name_set(sim, path, node);
    remember_change(sim, path, node, NULL);
    *file = open_node(sim, path, node);
    return STATUS_OK;
}

static enum status sim_rename(struct disk *disk, const char *from, const char *to)
{
    struct disk_sim *sim = sim_of(disk);
    enum status status = enter(sim, DISK_SIM_RENAME, "rename", from);
    if (status != STATUS_OK)
        return status;
    struct node *node = node_at(sim, from);
    if (node == NULL)
        return disk_failed("rename", from, ENOENT);
    name_set(sim, to, node);
    name_set(sim, from, NULL);
    remember_change(sim, to, node, from);
    return STATUS_OK;
}

static enum status sim_unlink(struct disk *disk, const char *path)
{
    struct disk_sim *sim = sim_of(disk);
    enum status status = enter(sim, DISK_SIM_UNLINK, "remove", path);
    if (status != STATUS_OK)
        return status;
    if (node_at(sim, path) == NULL)
        return disk_failed("remove", path, ENOENT);
    name_set(sim, path, NULL);
    remember_change(sim, path, NULL, NULL);
    return STATUS_OK;
}

static enum status sim_sync_directory(struct disk *disk, const char *path)
{
    struct disk_sim *sim = sim_of(disk);
    enum status status = enter(sim, DISK_SIM_SYNC_DIRECTORY, "sync directory", path);
    if (status == STATUS_OK)
        settle_changes(sim, sim->change_count);
    return status;
}

static uint64_t sim_size(struct disk_file *file)
{
    return file_of(file)->node->size;
}

static enum status sim_read(struct disk_file *file, uint64_t offset, void *data, size_t size)
{
    struct sim_file *sim_file = file_of(file);
    enum status status = enter(sim_of(file->disk), DISK_SIM_READ, "read", sim_file->path);
    if (status != STATUS_OK)
        return status;
    if (offset + size > sim_file->node->size)
        return disk_failed("read beyond the end of", sim_file->path, EIO);
    if (size > 0)
        memcpy(data, sim_file->node->seen + offset, size);
    return STATUS_OK;
}

static enum status sim_write(struct disk_file *file, uint64_t offset, const void *data, size_t size)
{
    struct sim_file *sim_file = file_of(file);
    struct disk_sim *sim = sim_of(file->disk);
    enum status status = enter(sim, DISK_SIM_WRITE, "write", sim_file->path);
    if (status == STATUS_OK && offset + size > sim_file->node->size &&
        !fits(sim, offset + size - sim_file->node->size))
        status = disk_failed("write", sim_file->path, ENOSPC);
    if (status != STATUS_OK) {
        uint64_t inside = offset < sim_file->node->size ? sim_file->node->size - offset : 0;
        uint64_t part = size > 0 ? draw(sim) % size : 0;
        node_write(sim_file->node, offset, data, part < inside ? part : inside);
        return status;
    }
    node_write(sim_file->node, offset, data, size);
    sim->counts.bytes_written += size;
    return STATUS_OK;
}

static enum status sim_resize(struct disk_file *file, uint64_t size)
{
    struct sim_file *sim_file = file_of(file);
    struct disk_sim *sim = sim_of(file->disk);
    if (size > sim_file->node->size && !fits(sim, size - sim_file->node->size))
        return disk_failed("resize", sim_file->path, ENOSPC);
    node_resize(sim_file->node, size);
    return STATUS_OK;
}

static enum status sim_sync(struct disk_file *file)
{
    struct sim_file *sim_file = file_of(file);
    struct disk_sim *sim = sim_of(file->disk);
    enum status status = enter(sim, DISK_SIM_SYNC, "sync", sim_file->path);
    if (status == STATUS_OK)
        node_sync(sim_file->node);
    else if (!sim->power_failing)
        node_sync_badly(sim, sim_file->node);
    return status;
}

static void sim_close(struct disk_file *file)
{
    struct sim_file *sim_file = file_of(file);
    node_release(sim_file->node);
    free(sim_file->path);
    free(sim_file);
}

static const struct disk_calls sim_calls = {
    .make_directory = sim_make_directory,
    .list = sim_list,
    .open = sim_open,
    .create = sim_create,
    .rename = sim_rename,
    .unlink = sim_unlink,
    .sync_directory = sim_sync_directory,
    .size = sim_size,
    .read = sim_read,
    .write = sim_write,
    .resize = sim_resize,
    .sync = sim_sync,
    .close = sim_close,
};

/* ---- life ---- */

struct disk_sim *disk_sim_new(const struct disk_sim_options *options)
{
    struct disk_sim *sim = memory_zeroed(1, sizeof *sim);
    sim->disk.calls = &sim_calls;
    sim->options = *options;
    sim->random = options->seed;
    return sim;
}

void disk_sim_free(struct disk_sim *sim)
{
    settle_changes(sim, 0);
    for (size_t i = 0; i < sim->name_count; i++) {
        node_release(sim->names[i].node);
        node_release(sim->names[i].platter);
        free(sim->names[i].path);
    }
    free(sim->names);
    free(sim->changes);
    free(sim->jobs);
    free(sim);
}

struct disk *disk_sim_disk(struct disk_sim *sim)
{
    return &sim->disk;
}

/* ---- jobs ---- */

static void submit(void *context, struct disk_job *job)
{
    struct disk_sim *sim = context;
    uint64_t span = sim->options.job_us_max - sim->options.job_us_min + 1;
    assert(sim->options.job_us_max >= sim->options.job_us_min);
    uint64_t takes = sim->options.job_us_min + draw(sim) % span;
    if (sim->options.tail_permille > 0 && draw(sim) % 1000 < sim->options.tail_permille)
        takes *= 50;
    sim->jobs = memory_resize(sim->jobs, (sim->job_count + 1) * sizeof *sim->jobs);
    sim->jobs[sim->job_count++] = (struct sim_job){
        .job = job,
        .due_us = sim->now_us + takes,
        .number = sim->job_number++,
    };
}

struct disk_queue disk_sim_queue(struct disk_sim *sim)
{
    return (struct disk_queue){.submit = submit, .context = sim};
}

/* The job that ends next, or NULL. */
static struct sim_job *next_job(const struct disk_sim *sim)
{
    struct sim_job *best = NULL;
    for (size_t i = 0; i < sim->job_count && !sim->hung; i++) {
        struct sim_job *job = &sim->jobs[i];
        if (best == NULL || job->due_us < best->due_us ||
            (job->due_us == best->due_us && job->number < best->number))
            best = job;
    }
    return best;
}

uint64_t disk_sim_next_us(const struct disk_sim *sim)
{
    const struct sim_job *job = next_job(sim);
    return job != NULL ? job->due_us : UINT64_MAX;
}

void disk_sim_run(struct disk_sim *sim, uint64_t now_us)
{
    struct sim_job *next;
    while ((next = next_job(sim)) != NULL && next->due_us <= now_us) {
        struct disk_job *job = next->job;
        if (next->due_us > sim->now_us)
            sim->now_us = next->due_us;
        *next = sim->jobs[--sim->job_count];
        disk_job_run(job);
        disk_job_done(job);
    }
    if (now_us > sim->now_us && now_us != UINT64_MAX)
        sim->now_us = now_us;
}

void disk_sim_run_all(struct disk_sim *sim)
{
    disk_sim_run(sim, UINT64_MAX);
}

/* Jobs stop at a random call, in the order in which they were submitted. */
static void interrupt_jobs(struct disk_sim *sim)
{
    sim->power_failing = true;
    while (sim->job_count > 0) {
        size_t first = 0;
        for (size_t i = 1; i < sim->job_count; i++) {
            if (sim->jobs[i].number < sim->jobs[first].number)
                first = i;
        }
        struct disk_job *job = sim->jobs[first].job;
        sim->jobs[first] = sim->jobs[--sim->job_count];
        sim->power_left = draw(sim) % 8;
        disk_job_run(job);
    }
    sim->power_failing = false;
}

void disk_sim_crash(struct disk_sim *sim)
{
    interrupt_jobs(sim);
    settle_changes(sim, draw(sim) % (sim->change_count + 1));
    for (size_t i = 0; i < sim->name_count; i++) {
        struct name *name = &sim->names[i];
        node_release(name->node);
        name->node = node_keep(name->platter);
    }
    for (size_t i = 0; i < sim->name_count; i++) {
        if (sim->names[i].node != NULL)
            node_crash(sim, sim->names[i].node);
    }
}

void disk_sim_kill(struct disk_sim *sim)
{
    interrupt_jobs(sim);
}

/* ---- faults from outside ---- */

void disk_sim_fail(struct disk_sim *sim, enum disk_sim_call call, uint64_t skip, enum status status, bool for_ever)
{
    sim->failures[call] = (struct failure){.armed = true, .for_ever = for_ever, .skip = skip, .status = status};
}

void disk_sim_heal(struct disk_sim *sim)
{
    memset(sim->failures, 0, sizeof sim->failures);
    sim->hung = false;
}

void disk_sim_set_capacity(struct disk_sim *sim, uint64_t capacity)
{
    sim->options.capacity = capacity;
}

void disk_sim_fill(struct disk_sim *sim, uint64_t left)
{
    sim->options.capacity = used_bytes(sim) + left;
}

void disk_sim_set_speed(struct disk_sim *sim, uint64_t job_us_min, uint64_t job_us_max)
{
    sim->options.job_us_min = job_us_min;
    sim->options.job_us_max = job_us_max;
}

void disk_sim_hang(struct disk_sim *sim, bool hung)
{
    sim->hung = hung;
}

void disk_sim_flip(struct disk_sim *sim, const char *path, uint64_t offset, uint8_t mask)
{
    struct node *node = node_at(sim, path);
    assert(node != NULL && offset < node->size);
    node->seen[offset] ^= mask;
    node->platter[offset] ^= mask;
}

static struct node *random_file(struct disk_sim *sim, const char *prefix)
{
    size_t candidates = 0;
    struct node *chosen = NULL;
    for (size_t i = 0; i < sim->name_count; i++) {
        struct name *name = &sim->names[i];
        bool fitting = strncmp(name->path, prefix, strlen(prefix)) == 0 && name->node != NULL && name->node->size > 0;
        if (fitting && draw(sim) % ++candidates == 0)
            chosen = name->node;
    }
    return chosen;
}

bool disk_sim_flip_random(struct disk_sim *sim, const char *prefix)
{
    struct node *node = random_file(sim, prefix);
    if (node == NULL)
        return false;
    uint64_t offset = draw(sim) % node->size;
    uint8_t mask = (uint8_t)(1u << draw(sim) % 8);
    node->seen[offset] ^= mask;
    node->platter[offset] ^= mask;
    return true;
}

bool disk_sim_misdirect_random(struct disk_sim *sim, const char *prefix)
{
    struct node *node = random_file(sim, prefix);
    if (node == NULL || node->size < 2 * DISK_SECTOR)
        return false;
    uint64_t sectors = node->size / DISK_SECTOR;
    uint64_t from = draw(sim) % sectors * DISK_SECTOR, to = draw(sim) % sectors * DISK_SECTOR;
    memmove(node->platter + to, node->platter + from, DISK_SECTOR);
    memmove(node->seen + to, node->platter + to, DISK_SECTOR);
    return from != to;
}

/* ---- looking ---- */

struct bytes disk_sim_content(struct disk_sim *sim, const char *path)
{
    struct node *node = node_at(sim, path);
    return node != NULL ? bytes_of(node->seen, node->size) : bytes_of(NULL, 0);
}

void disk_sim_put(struct disk_sim *sim, const char *path, struct bytes content)
{
    struct node *node = memory_zeroed(1, sizeof *node);
    node_write(node, 0, content.data, content.size);
    node_sync(node);
    name_set(sim, path, node);
    struct name *name = name_find(sim, path, true);
    node_release(name->platter);
    name->platter = node_keep(node);
}

struct disk_sim *disk_sim_copy(const struct disk_sim *sim, uint64_t seed)
{
    struct disk_sim_options options = sim->options;
    options.seed = seed;
    struct disk_sim *copy = disk_sim_new(&options);
    for (size_t i = 0; i < sim->name_count; i++) {
        const struct name *name = &sim->names[i];
        if (name->platter != NULL)
            disk_sim_put(copy, name->path, bytes_of(name->platter->platter, name->platter->platter_size));
    }
    return copy;
}

void disk_sim_list(struct disk_sim *sim, const char *prefix, disk_name_callback *callback, void *context)
{
    for (size_t i = 0; i < sim->name_count; i++) {
        if (sim->names[i].node != NULL && strncmp(sim->names[i].path, prefix, strlen(prefix)) == 0)
            callback(context, sim->names[i].path);
    }
}

void disk_sim_counts(const struct disk_sim *sim, struct disk_sim_counts *counts)
{
    *counts = sim->counts;
}
