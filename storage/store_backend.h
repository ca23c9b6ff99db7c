/* store_backend.h — what a backend does for store.c; nobody else includes this.
 *
 * store.c checks arguments, keeps the hash and stops everything once the store is poisoned. A backend only keeps rows.
 * It meets trouble by calling store_poison() and returning the status; it is not called again after that, but for
 * close, sync and the views. */
#ifndef COTERIE_STORE_BACKEND_H
#define COTERIE_STORE_BACKEND_H

#include "store.h"

enum seek {
    SEEK_AT,     /* the first row with key >= the given one; it may be empty */
    SEEK_AFTER,  /* the first row with key > the given one */
};

struct store_backend {
    /* Each returns STATUS_OK, STATUS_NOT_FOUND, or the trouble with which it poisoned the store. */
    enum status (*find)(struct store *store, enum table table, struct bytes key, struct bytes *value);
    enum status (*seek)(struct store *store, enum table table, enum seek how, struct bytes key, struct row *row);
    enum status (*insert)(struct store *store, enum table table, struct bytes key, struct bytes value);
    /* The row that the call of `find` just before this one has found. */
    enum status (*replace_found)(struct store *store, enum table table, struct bytes key, struct bytes value);
    enum status (*delete_found)(struct store *store, enum table table);

    enum status (*commit)(struct store *store);
    enum status (*spill)(struct store *store);
    enum status (*sync)(struct store *store);               /* any thread */
    void (*poisoned)(struct store *store, enum status status); /* the store has just been poisoned */
    void (*verified)(struct store *store);                  /* it was unclean, and is in order */
    uint64_t (*bytes)(const struct store *store);
    void (*close)(struct store *store);                     /* frees it */

    enum status (*view_open)(struct store *store, struct store_view **view);
    bool (*view_next)(struct store_view *view, enum table table, struct bytes key, struct row *row);
    /* Whether looking for the key of a row that view_next came to leads there. NULL: it always does. */
    bool (*view_finds)(struct store_view *view, enum table table, const struct row *row);
    void (*view_close)(struct store_view *view);            /* frees it */
};

/* The first member of each backend's own struct. */
struct store {
    const struct store_backend *backend;
    uint64_t hash[2];
    uint64_t commits;
    uint64_t operations;
    uint64_t pages, pages_written;   /* `pages`: counted by the backend */
    struct buffer image;        /* the row being written, as it is hashed */
    enum status status;
    bool unclean;
    char trouble[200];
};

struct store_view {
    const struct store_backend *backend;
    uint64_t hash[2];
};

enum status store_lmdb_open(const struct store_options *options, struct store **store);
enum status store_memory_open(const struct store_options *options, struct store **store);
void store_memory_crash(struct store *store);

#endif
