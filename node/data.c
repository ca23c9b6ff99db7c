/* data.c — see data.h for what lies where.
 *
 *   lock -> identity (or bootstrap, replacement: log, store, then identity) -> log, recovered -> store, or rebuilt -> state
 *
 * Which trouble ends how:
 *   identity missing, or in one place only    refuse to start, say how to go on
 *   log corrupt or shorter than promised      with peers: go on as a damaged node (no vote, no lead) that they rebuild;
 *                                             alone: refuse to start, because nobody has what is missing
 *   store corrupt, or behind the log's front  throw it away, restore the newest snapshot that verifies
 *   no snapshot that verifies                 if the log begins at 1 an empty store will do, else refuse */
#include "data.h"

#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/random.h>
#include <unistd.h>
#include <xxhash.h>

#define PEERS_FILE        "peers"
#define REBUILD_FILE      "rebuild"
#define RESTORE_DIRECTORY "store.new"

/* What helps when nothing else does: the end of each sentence that needs it. */
#define REPLACE_NODE \
    "replace it: empty its data directory and start it with --replace NUMBER (or cluster.replace in the " \
    "configuration, or COTERIE_CLUSTER_REPLACE), a number greater than at any earlier replacement of this node, such as " \
    "today's date as yyyymmdd"

static enum status failed(char *error, enum status status, const char *what)
{
    snprintf(error, DATA_ERROR_MAX, "%s: %s", what, disk_trouble());
    return status;
}

/* ---- the directory ---- */

enum status data_make_directory(const char *path, char error[DATA_ERROR_MAX])
{
    char part[DISK_PATH_MAX];
    if (snprintf(part, sizeof(part), "%s", path) >= DISK_PATH_MAX - 64) {
        snprintf(error, DATA_ERROR_MAX, "node.data_dir is longer than %d bytes", DISK_PATH_MAX - 64);
        return STATUS_INVALID;
    }
    for (char *slash = strchr(part + 1, '/');; slash = strchr(slash + 1, '/')) {
        if (slash != NULL)
            *slash = '\0';
        if (mkdir(part, 0700) != 0 && errno != EEXIST) {
            snprintf(error, DATA_ERROR_MAX, "cannot make the data directory %.900s: %s", part, strerror(errno));
            return STATUS_INVALID;
        }
        if (slash == NULL)
            return STATUS_OK;
        *slash = '/';
    }
}

static enum status take_lock(struct data *data, char *error)
{
    char path[DISK_PATH_MAX];
    disk_path(path, data->directory, "lock");
    data->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (data->lock < 0) {
        snprintf(error, DATA_ERROR_MAX, "cannot use the data directory %.800s: %s", data->directory, strerror(errno));
        return STATUS_INVALID;
    }
    if (flock(data->lock, LOCK_EX | LOCK_NB) != 0) {
        snprintf(error, DATA_ERROR_MAX, "another process uses the data directory %.800s", data->directory);
        return STATUS_BUSY;
    }
    return STATUS_OK;
}

static enum status make_directories(struct data *data, const struct config *config, char *error)
{
    snprintf(data->directory, sizeof(data->directory), "%s", config->node.data_dir);
    enum status status = data_make_directory(config->node.data_dir, error);
    if (status != STATUS_OK)
        return status;
    disk_path(data->log_path, data->directory, "log");
    disk_path(data->store_path, data->directory, "store");
    disk_path(data->snapshots_path, data->directory, "snapshots");
    status = take_lock(data, error);
    const char *const inside[] = {data->log_path, data->store_path, data->snapshots_path};
    for (size_t i = 0; i < 3 && status == STATUS_OK; i++) {
        status = disk_make_directory(data->disk, inside[i]);
        if (status != STATUS_OK)
            failed(error, status, "cannot prepare the data directory");
    }
    return status;
}

static void empty_directory_name(void *context, const char *name)
{
    char path[DISK_PATH_MAX];
    const struct data *data = ((const void **)context)[0];
    disk_path(path, ((const void **)context)[1], name);
    disk_unlink(data->disk, path);
}

/* Deletes the files in `path`. */
static void empty_directory(const struct data *data, const char *path)
{
    const void *context[] = {data, path};
    disk_list(data->disk, path, empty_directory_name, context);
}

/* ---- identity ---- */

/* All nodes of a new cluster derive its id from the one thing they share: its name. */
static void cluster_id_of(const char *name, uint8_t id[CLUSTER_ID_SIZE])
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_withSeed(name, strlen(name), 0x636f7465726965));
    memcpy(id, canonical.digest, CLUSTER_ID_SIZE);
    id[0] |= 0x80; /* never all zeros */
}

static enum status check_identity(struct data *data, const struct config *config, char *error)
{
    const struct identity_places places = {data->directory, data->log_path};
    struct identity_fault fault = {{0}};
    uint8_t cluster_id[CLUSTER_ID_SIZE];
    enum status status = identity_load(data->disk, &places, config->node.id, &data->identity, &fault);
    cluster_id_of(config->cluster.name, cluster_id);
    if (status == STATUS_NOT_FOUND && !config->cluster.bootstrap) {
        snprintf(
            error, DATA_ERROR_MAX,
            "there is no node in %.400s. To create a new cluster start with cluster.bootstrap: true. If this node had "
            "data there, it is lost: do not bootstrap it again, because it would forget what it has promised to "
            "the others; " REPLACE_NODE,
            data->directory);
    } else if (status != STATUS_OK && status != STATUS_NOT_FOUND) {
        snprintf(error, DATA_ERROR_MAX, "%.1000s", fault.text);
    } else if (status == STATUS_OK && memcmp(cluster_id, data->identity.cluster_id, CLUSTER_ID_SIZE) != 0) {
        snprintf(error, DATA_ERROR_MAX, "the data in %.600s belongs to another cluster than cluster.name '%s'",
                 data->directory, config->cluster.name);
        return STATUS_INVALID;
    }
    return status;
}

static enum status create_identity(struct data *data, const struct config *config, char *error)
{
    const struct identity_places places = {data->directory, data->log_path};
    struct identity_fault fault = {{0}};
    cluster_id_of(config->cluster.name, data->identity.cluster_id);
    data->identity.node_id = config->node.id;
    data->identity.replacement = data->replaced ? config->cluster.replace : 0;
    do {
        if (getrandom(&data->identity.incarnation, sizeof(data->identity.incarnation), 0) < 0)
            return failed(error, STATUS_IO_ERROR, "getrandom");
    } while (data->identity.incarnation == 0);
    enum status status = identity_create(data->disk, &places, &data->identity, &fault);
    if (status != STATUS_OK)
        snprintf(error, DATA_ERROR_MAX, "%.1000s", fault.text);
    return status;
}

/* ---- replacement ---- */

/* Whether this start makes a replacement: asked for, nothing of a log is there, and the number was not used by what else
 * is there. */
static bool is_replacement(const struct data *data, const struct config *config, enum status identity, char *error)
{
    uint64_t number = config->cluster.replace;
    if (number == 0 || (identity != STATUS_NOT_FOUND && identity != STATUS_DAMAGED))
        return false;
    if (identity == STATUS_DAMAGED && data->identity.replacement >= number) {
        snprintf(error, DATA_ERROR_MAX,
                 "one of the copies of the identity in %.500s is missing, and replacement %llu has been made already: a "
                 "disk was emptied, exchanged, or is not mounted. If its content is lost, " REPLACE_NODE,
                 data->directory, (unsigned long long)data->identity.replacement);
        return false;
    }
    error[0] = '\0';
    return true;
}

/* The log is new. What is left beside it is of another life: a directory whose log alone was lost, or moved away. */
static enum status clear_leftovers(struct data *data, char *error)
{
    char path[DISK_PATH_MAX];
    if (log_last(data->log) > 0 || log_term(data->log) > 0) {
        snprintf(error, DATA_ERROR_MAX,
                 "a replacement begins with nothing, but there is a log in %.600s: move it away, or start this node "
                 "without asking for a replacement", data->log_path);
        return STATUS_INVALID;
    }
    empty_directory(data, data->store_path);
    empty_directory(data, data->snapshots_path);
    disk_path(path, data->directory, "identity");
    enum status status = disk_unlink(data->disk, path);
    if (status == STATUS_OK || status == STATUS_NOT_FOUND)
        status = disk_sync_directory(data->disk, data->directory);
    return status == STATUS_OK ? STATUS_OK : failed(error, status, "cannot prepare the data directory");
}

/* ---- the other nodes' incarnations ---- */

static void load_peers(struct data *data)
{
    char path[DISK_PATH_MAX];
    struct buffer text = {0};
    disk_path(path, data->directory, PEERS_FILE);
    if (disk_read_file(data->disk, path, 64 * 1024, &text) == STATUS_OK) {
        buffer_put_u8(&text, 0);
        for (char *line = (char *)text.data, *rest; line != NULL && *line != '\0'; line = rest) {
            unsigned node;
            unsigned long long incarnation, replacement = 0;
            rest = strchr(line, '\n');
            rest = rest != NULL ? rest + 1 : NULL;
            if (sscanf(line, "%u %llx %llu", &node, &incarnation, &replacement) >= 2 && node < NODES_MAX) {
                data->incarnations[node] = incarnation;
                data->replacements[node] = replacement;
            }
        }
    }
    buffer_release(&text);
}

static void save_peers(struct data *data)
{
    struct buffer text = {0};
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        char line[64];
        snprintf(line, sizeof(line), "%u %llx %llu\n", i, (unsigned long long)data->incarnations[i],
                 (unsigned long long)data->replacements[i]);
        if (data->incarnations[i] != 0)
            buffer_put(&text, line, strlen(line));
    }
    if (disk_replace_file(data->disk, data->directory, PEERS_FILE, buffer_bytes(&text)) != STATUS_OK)
        log_event(LOG_WARNING, "peers-not-saved", log_text("why", disk_trouble()));
    buffer_release(&text);
}

const char *data_admit(struct data *data, uint32_t node, uint64_t incarnation, uint64_t replacement)
{
    if (node >= NODES_MAX || incarnation == 0)
        return "it has no identity";
    uint64_t *known = &data->incarnations[node], *number = &data->replacements[node];
    if (*known == incarnation && *number == replacement)
        return NULL;
    if (*known != 0 && replacement < *number)
        return "it has been replaced: this is what was lost then, and must not come back";
    if (*known != 0 && replacement == *number)
        return replacement == 0
                   ? "it has lost its data (its incarnation is not the one we knew): " REPLACE_NODE
                   : "it has lost its data again, the number of its replacement was used before: " REPLACE_NODE;
    if (*known != 0)
        log_event(LOG_WARNING, "peer-replaced", log_u64("peer", node), log_u64("replacement", replacement));
    *known = incarnation;
    *number = replacement;
    save_peers(data);
    return NULL;
}

/* ---- log ---- */

static uint64_t random_salt(void)
{
    uint64_t salt;
    if (getrandom(&salt, sizeof(salt), 0) < 0)
        abort(); /* a salt that clients can guess is none */
    return salt;
}

static enum status open_log(struct data *data, const struct config *config, const struct data_log *calls, char *error)
{
    struct log_options options = {.disk = data->disk,
                                  .directory = data->log_path,
                                  .queue = calls->queue,
                                  .flushed = calls->flushed,
                                  .context = calls->context,
                                  .create = data->created,
                                  .covered = data->newest != NULL ? snapshot_facts(data->newest)->index : 0,
                                  .salt = random_salt()};
    struct log_fault fault = {{0}, 0};
    enum status status = log_open(&options, &data->log, &fault);
    bool broken = status == STATUS_CORRUPT || status == STATUS_DAMAGED;
    if (broken && config->cluster.member_count > 1) {
        log_event(LOG_ERROR, "log-damaged", log_result(status), log_text("why", fault.text),
                  log_u64("index", fault.index),
                  log_text("consequence", "this node neither votes nor leads until its peers have rebuilt it"));
        options.repair = true;
        status = log_open(&options, &data->log, &fault);
    }
    if (status == STATUS_NOT_FOUND)
        snprintf(error, DATA_ERROR_MAX, "the log in %.600s is missing: this disk was emptied or exchanged",
                 data->log_path);
    else if (status != STATUS_OK)
        snprintf(error, DATA_ERROR_MAX, "%.500s%s", fault.text[0] != '\0' ? fault.text : disk_trouble(),
                 !broken                            ? ""
                 : config->cluster.member_count > 1 ? "; " REPLACE_NODE
                                                    : ". No other node has what is missing; restore a backup");
    return status;
}

/* ---- store ---- */

struct store_options data_store_options(const struct config *config, const char *path)
{
    return (struct store_options){.path = path, .map_bytes_max = config->limits.store_map_bytes};
}

static enum status try_store(struct data *data, const struct config *config)
{
    const struct store_options options = data_store_options(config, data->store_path);
    enum status status = store_open(&options, &data->store);
    if (status != STATUS_OK)
        return status;
    status = state_open(data->store, config->node.id, &data->state);
    if (status != STATUS_OK) {
        store_close(data->store);
        data->store = NULL;
    }
    return status;
}

static void close_store(struct data *data)
{
    if (data->state != NULL)
        state_close(data->state);
    if (data->store != NULL)
        store_close(data->store);
    data->state = NULL;
    data->store = NULL;
}

/* Puts the newest snapshot that verifies into the place of the store; without one, an empty store. */
static enum status rebuild_store(struct data *data, const struct config *config, const char *why, char *error)
{
    const struct store_options options = data_store_options(config, data->store_path);
    struct snapshot *snapshot = NULL;
    unsigned refused = 0;
    uint64_t index = 0;
    log_event(LOG_WARNING, "store-rebuilding", log_text("why", why));
    empty_directory(data, data->store_path);
    enum status status = snapshot_open_verified(data->snapshots_path, NULL, &snapshot, &refused);
    if (refused > 0)
        log_event(LOG_ERROR, "snapshots-refused", log_u64("count", refused));
    if (status == STATUS_OK) {
        index = snapshot_facts(snapshot)->index;
        status = snapshot_restore(snapshot, &options, NULL);
        snapshot_close(snapshot);
    } else if (status == STATUS_NOT_FOUND && log_first(data->log) == 1) {
        status = STATUS_OK;
    }
    if (status == STATUS_OK)
        status = try_store(data, config);
    if (status != STATUS_OK)
        snprintf(error, DATA_ERROR_MAX,
                 "cannot rebuild the store in %.500s from snapshots and log (%s); " REPLACE_NODE,
                 data->store_path, status_text(status));
    else
        log_event(LOG_INFO, "store-rebuilt", log_u64("snapshot_index", index),
                  log_u64("log_last", log_last(data->log)));
    return status;
}

/* Where the entries begin that consensus will hand out. A snapshot that the log does not contain, because this node died
 * between receiving and installing it, takes the place of all of the log (replica_start). */
static uint64_t first_entry(const struct data *data)
{
    const struct snapshot_facts *newest = data->newest != NULL ? snapshot_facts(data->newest) : NULL;
    bool replaces = newest != NULL && log_term_of(data->log, newest->index) != newest->term;
    return replaces ? newest->index + 1 : log_first(data->log);
}

static enum status open_store(struct data *data, const struct config *config, char *error)
{
    char marker[DISK_PATH_MAX], why[128];
    disk_path(marker, data->directory, REBUILD_FILE);
    enum status status = STATUS_CORRUPT;
    snprintf(why, sizeof(why), "asked for when this node last stopped");
    if (access(marker, F_OK) != 0) {
        status = try_store(data, config);
        snprintf(why, sizeof(why), "the store cannot be read: %s", status_text(status));
        if (status == STATUS_OK && state_applied(data->state) + 1 < first_entry(data)) {
            snprintf(why, sizeof(why), "the store is at %llu, the log begins at %llu",
                     (unsigned long long)state_applied(data->state), (unsigned long long)first_entry(data));
            close_store(data);
            status = STATUS_CORRUPT;
        }
    }
    if (status == STATUS_NO_SPACE || status == STATUS_IO_ERROR)
        snprintf(error, DATA_ERROR_MAX, "cannot open the store in %.600s: %s", data->store_path, status_text(status));
    else if (status != STATUS_OK)
        status = rebuild_store(data, config, why, error);
    if (status == STATUS_OK)
        disk_unlink(data->disk, marker);
    return status;
}

void data_mark_rebuild(const char *directory)
{
    char path[DISK_PATH_MAX];
    disk_path(path, directory, REBUILD_FILE);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
}

void data_restore_path(const struct data *data, char path[DISK_PATH_MAX])
{
    disk_path(path, data->directory, RESTORE_DIRECTORY);
}

/* A crash in the middle leaves no store, which the next start rebuilds from the same snapshot. */
enum status data_swap_store(struct data *data, const struct config *config, char error[DATA_ERROR_MAX])
{
    char fresh[DISK_PATH_MAX];
    data_restore_path(data, fresh);
    close_store(data);
    empty_directory(data, data->store_path);
    rmdir(data->store_path);
    if (disk_rename(data->disk, fresh, data->store_path) != STATUS_OK ||
        disk_sync_directory(data->disk, data->directory) != STATUS_OK)
        return failed(error, STATUS_IO_ERROR, "cannot put the restored store in its place");
    enum status status = try_store(data, config);
    if (status != STATUS_OK)
        snprintf(error, DATA_ERROR_MAX, "cannot open the restored store: %s", status_text(status));
    return status;
}

/* ---- open and close ---- */

static void data_release(struct data *data)
{
    close_store(data);
    if (data->newest != NULL)
        snapshot_close(data->newest);
    if (data->log != NULL)
        log_close(data->log);
    if (data->lock >= 0)
        close(data->lock);
    data->newest = NULL;
    data->log = NULL;
    data->lock = -1;
}

enum status data_open(const struct config *config, const struct data_log *log, struct data *data,
                      char error[DATA_ERROR_MAX])
{
    *data = (struct data){.disk = disk_posix(), .lock = -1};
    error[0] = '\0';
    enum status status = make_directories(data, config, error);
    if (status == STATUS_OK) {
        status = check_identity(data, config, error);
        data->replaced = is_replacement(data, config, status, error);
        data->created = data->replaced || (status == STATUS_NOT_FOUND && config->cluster.bootstrap);
        if (data->created)
            status = STATUS_OK;
    }
    if (status == STATUS_OK && !data->replaced && snapshot_open(data->snapshots_path, 0, &data->newest) != STATUS_OK)
        data->newest = NULL;
    if (status == STATUS_OK)
        status = open_log(data, config, log, error);
    if (status == STATUS_OK && data->replaced)
        status = clear_leftovers(data, error);
    if (status == STATUS_OK)
        status = open_store(data, config, error);
    if (status == STATUS_OK && data->created)
        status = create_identity(data, config, error);
    if (status != STATUS_OK) {
        data_release(data);
        return status;
    }
    load_peers(data);
    log_event(LOG_INFO, "data-opened", log_text("directory", data->directory), log_bool("created", data->created),
              log_u64("replacement", data->identity.replacement),
              log_u64("log_first", log_first(data->log)), log_u64("log_last", log_last(data->log)),
              log_u64("applied", state_applied(data->state)));
    return STATUS_OK;
}

void data_close(struct data *data)
{
    if (data->state != NULL && !state_applying(data->state) && state_commit(data->state) != STATUS_OK)
        log_event(LOG_ERROR, "store-not-committed", log_text("why", store_trouble(data->store)));
    data_release(data);
}
