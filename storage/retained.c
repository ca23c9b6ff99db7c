/* retained.c — see retained.h for the rows and for what a scan is.
 *
 * How a scan moves. In a key, levels are separated by 0x00, the least byte, so keys sort like lists of levels, and what
 * lies below the levels P is exactly [P, P 0x01). Given the key K that was passed last, the levels of K and of the filter
 * are walked side by side up to where they part:
 *
 *   '#'                      all that lies below matches: step to the next row
 *   '+'                      matches any level: walk on
 *   K's level too small      seek to: the levels before, and the filter's level
 *   K's level too large      no more below the levels before; seek behind the last '+' level: P 0x01; no '+': end
 *   K ends first             seek to: K and the filter's next level (step, if that is '+')
 *   the filter ends first    as "too large": no other match below here
 *
 * The rule needs nothing but K and the filter, which is why a cursor is all that a scan has to remember.
 *
 * A key of TOPIC_KEY_MAX bytes is the first TOPIC_KEY_PREFIX bytes of a topic and a hash, so below such a prefix keys are in
 * no order of levels, those of shorter topics among them. A K that is longer is therefore taken for its prefix, which is
 * a place that was passed as well, and a longer target is cut to it. A target that does not lie behind K then means: step. */
#include "retained.h"

#include "base/topic.h"

#include <assert.h>
#include <string.h>

#define TOTALS_KEY "retained"

_Static_assert(TOPIC_KEY_MAX == STORE_KEY_MAX, "topics are keys");

/* ---- totals ---- */

enum status retained_init(struct retained *retained, struct store *store)
{
    struct bytes row;

    *retained = (struct retained){.store = store};
    if (!store_get(store, TABLE_META, bytes_text(TOTALS_KEY), &row))
        return store_status(store);
    struct reader reader = reader_of(row);
    retained->count = retained->stored_count = reader_u64(&reader);
    retained->payload_bytes = retained->stored_payload_bytes = reader_u64(&reader);
    return reader_done(&reader) ? STATUS_OK : STATUS_CORRUPT;
}

void retained_release_memory(struct retained *retained)
{
    buffer_release(&retained->scratch);
}

void retained_write_back(struct retained *retained)
{
    if (retained->count == retained->stored_count && retained->payload_bytes == retained->stored_payload_bytes)
        return;
    buffer_clear(&retained->scratch);
    buffer_put_u64(&retained->scratch, retained->count);
    buffer_put_u64(&retained->scratch, retained->payload_bytes);
    if (retained->count > 0)
        store_put(retained->store, TABLE_META, bytes_text(TOTALS_KEY), buffer_bytes(&retained->scratch));
    else /* as if there had never been one: the hash may not depend on when we write back */
        store_delete(retained->store, TABLE_META, bytes_text(TOTALS_KEY));
    retained->stored_count = retained->count;
    retained->stored_payload_bytes = retained->payload_bytes;
}

/* ---- the register ---- */

/* Reads a value; *topic is what follows: the topic, if its key is hashed. */
static bool decode(struct retained *retained, struct bytes value, struct retained_entry *entry, struct bytes *topic)
{
    struct reader reader = reader_of(value);

    entry->message_id = reader_varint(&reader);
    entry->payload_bytes = reader_varint(&reader);
    *topic = reader.rest;
    if (!reader.failed)
        return true;
    store_poison(retained->store, STATUS_CORRUPT, "a retained topic cannot be read");
    return false;
}

static bool get(struct retained *retained, struct bytes key, struct retained_entry *entry)
{
    struct bytes value, topic;

    return store_get(retained->store, TABLE_RETAINED, key, &value) && decode(retained, value, entry, &topic);
}

bool retained_get(struct retained *retained, struct bytes topic, struct retained_entry *entry)
{
    uint8_t key[TOPIC_KEY_MAX];

    return get(retained, bytes_of(key, topic_key(topic, key)), entry);
}

struct retained_entry retained_set(struct retained *retained, struct bytes topic, struct retained_entry entry)
{
    uint8_t data[TOPIC_KEY_MAX];
    struct bytes key = bytes_of(data, topic_key(topic, data));
    struct retained_entry old = {0};

    assert(entry.message_id != 0);
    if (get(retained, key, &old)) {
        retained->payload_bytes -= old.payload_bytes;
        retained->count--;
    }
    buffer_clear(&retained->scratch);
    buffer_put_varint(&retained->scratch, entry.message_id);
    buffer_put_varint(&retained->scratch, entry.payload_bytes);
    if (key.size == TOPIC_KEY_MAX)
        buffer_put_bytes(&retained->scratch, topic);
    store_put(retained->store, TABLE_RETAINED, key, buffer_bytes(&retained->scratch));
    retained->payload_bytes += entry.payload_bytes;
    retained->count++;
    return old;
}

struct retained_entry retained_clear(struct retained *retained, struct bytes topic)
{
    uint8_t data[TOPIC_KEY_MAX];
    struct bytes key = bytes_of(data, topic_key(topic, data));
    struct retained_entry old = {0};

    if (!get(retained, key, &old))
        return old;
    store_delete(retained->store, TABLE_RETAINED, key);
    retained->payload_bytes -= old.payload_bytes;
    retained->count--;
    return old;
}

bool retained_passed(struct bytes cursor, struct bytes topic)
{
    uint8_t key[TOPIC_KEY_MAX];

    return bytes_compare(bytes_of(key, topic_key(topic, key)), cursor) <= 0;
}

/* ---- scanning ---- */

/* Where to go from the key that was passed last. */
struct move {
    enum { MOVE_STEP, MOVE_SEEK, MOVE_END } how;
    uint8_t target[TOPIC_KEY_PREFIX]; /* MOVE_SEEK: the first key >= this */
    size_t target_size;
};

/* Takes the next level off the front of a key. */
static bool next_key_level(struct bytes *rest, bool *done, struct bytes *level)
{
    const uint8_t *end;

    if (*done)
        return false;
    end = rest->size == 0 ? NULL : memchr(rest->data, 0x00, rest->size);
    *done = end == NULL;
    level->data = rest->data;
    level->size = end == NULL ? rest->size : (size_t)(end - rest->data);
    if (end != NULL)
        *rest = bytes_of(end + 1, rest->size - level->size - 1);
    return true;
}

/* Adds to the target what fits before a hash would begin; a shorter target only means to look at more rows. */
static void move_append(struct move *move, struct bytes bytes)
{
    size_t room = sizeof move->target - move->target_size;
    size_t size = bytes.size < room ? bytes.size : room;

    if (size > 0)
        memcpy(move->target + move->target_size, bytes.data, size);
    move->target_size += size;
}

/* Seeks to `before` (levels already joined), this level of the filter, and those that follow up to a wildcard. */
static void move_to_literal(struct move *move, struct bytes before, bool separate, struct bytes level,
                            struct topic_levels levels)
{
    static const uint8_t separator = 0x00;

    *move = (struct move){.how = MOVE_SEEK};
    move_append(move, before);
    if (separate)
        move_append(move, bytes_of(&separator, 1));
    move_append(move, level);
    while (topic_next_level(&levels, &level)) {
        if (bytes_equal(level, bytes_text("#")) || bytes_equal(level, bytes_text("+")))
            return;
        move_append(move, bytes_of(&separator, 1));
        move_append(move, level);
    }
}

/* Nothing more below: seeks behind the levels that the last '+' let through. */
static void move_behind(struct move *move, struct bytes passed, bool has_plus)
{
    static const uint8_t behind = 0x01;

    *move = (struct move){.how = has_plus ? MOVE_SEEK : MOVE_END};
    move_append(move, passed);
    move_append(move, bytes_of(&behind, 1));
}

/* The table in the comment at the top. */
static void find_move(struct bytes filter, struct bytes key, struct move *move)
{
    struct topic_levels levels = topic_levels_of(filter);
    struct bytes whole = key.size > TOPIC_KEY_PREFIX ? bytes_of(key.data, TOPIC_KEY_PREFIX) : key;
    struct bytes rest = whole, plus_end = {0}, wanted, level;
    bool done = false, has_plus = false;

    *move = (struct move){.how = MOVE_STEP};
    while (topic_next_level(&levels, &wanted)) {
        struct bytes before = bytes_of(whole.data, whole.size - rest.size);
        if (bytes_equal(wanted, bytes_text("#")))
            return;
        if (!next_key_level(&rest, &done, &level)) {
            if (!bytes_equal(wanted, bytes_text("+")))
                move_to_literal(move, whole, true, wanted, levels);
            return;
        }
        if (bytes_equal(wanted, bytes_text("+"))) {
            has_plus = true;
            plus_end = bytes_of(whole.data, before.size + level.size);
            continue;
        }
        int order = bytes_compare(level, wanted);
        if (order < 0)
            move_to_literal(move, before, false, wanted, levels); /* `before` ends with its separator */
        if (order > 0)
            move_behind(move, plus_end, has_plus);
        if (order != 0)
            return;
    }
    move_behind(move, plus_end, has_plus);
}

/* Finds the next row that may match. */
static bool next_row(struct retained *retained, struct bytes filter, struct bytes cursor, struct row *row)
{
    struct move move;
    struct bytes target;

    find_move(filter, cursor, &move);
    target = bytes_of(move.target, move.target_size);
    if (move.how == MOVE_END)
        return false;
    if (move.how == MOVE_STEP || bytes_compare(target, cursor) <= 0)
        return store_first_after(retained->store, TABLE_RETAINED, cursor, row);
    return store_first_at(retained->store, TABLE_RETAINED, target, row);
}

/* A filter that begins with a wildcard does not match topics that begin with '$': they lie together. */
static bool is_hidden(struct bytes filter, struct bytes key)
{
    return key.data[0] == '$' && (filter.data[0] == '+' || filter.data[0] == '#');
}

static bool row_matches(struct bytes filter, struct bytes key, struct bytes topic)
{
    uint8_t text[TOPIC_KEY_PLAIN_MAX];

    if (key.size == TOPIC_KEY_MAX)
        return topic_matches(filter, topic);
    for (size_t i = 0; i < key.size; i++)
        text[i] = key.data[i] == 0x00 ? '/' : key.data[i];
    return topic_matches(filter, bytes_of(text, key.size));
}

static void move_cursor(struct buffer *cursor, struct bytes key)
{
    buffer_clear(cursor);
    buffer_put_bytes(cursor, key);
}

enum status retained_next(struct retained *retained, struct bytes filter, struct buffer *cursor, uint32_t *budget,
                          struct retained_entry *entry)
{
    static const uint8_t behind_hidden[] = {'$', 0xff}; /* 0xff occurs in no UTF-8 */
    struct bytes topic;
    struct row row;

    while (*budget > 0) {
        (*budget)--;
        if (!next_row(retained, filter, buffer_bytes(cursor), &row))
            return STATUS_NOT_FOUND;
        if (is_hidden(filter, row.key)) {
            move_cursor(cursor, bytes_of(behind_hidden, sizeof behind_hidden));
            continue;
        }
        move_cursor(cursor, row.key);
        if (!decode(retained, row.value, entry, &topic))
            return STATUS_NOT_FOUND;
        if (row_matches(filter, row.key, topic))
            return STATUS_OK;
    }
    return STATUS_BUSY;
}
