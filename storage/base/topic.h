/* topic.h — topic names and topic filters: checking, matching, levels, and their form as keys of the store.
 *
 * A topic is compared byte by byte; levels are what stands between '/' and may be empty. Nothing here allocates or
 * recurses: time grows with the length of the text (and, for matching, with nothing else). */
#ifndef COTERIE_TOPIC_H
#define COTERIE_TOPIC_H

#include "bytes.h"
#include "status.h"

#define TOPIC_BYTES_MAX 65535 /* what a length of two bytes can say */

/* Levels of a topic or filter, `a/b` has 2; more is refused. The standard sets no limit, but a topic of 65,535 slashes
 * costs the subscription index as many steps and nodes, and serves nobody. (FlashMQ: 128, mosquitto: 200.) */
#define TOPIC_LEVELS_MAX 128

/* Whether clients may publish to `name`. STATUS_MALFORMED: empty, too long, not UTF-8, or with U+0000;
 * STATUS_INVALID: contains a wildcard; STATUS_TOO_LARGE: more than TOPIC_LEVELS_MAX levels. */
enum status topic_name_check(struct bytes name);

enum topic_filter_kind {
    TOPIC_FILTER_INVALID = 0, /* no filter: empty, wildcards misplaced, too deep, not UTF-8, no proper $share */
    TOPIC_FILTER_PLAIN,
    TOPIC_FILTER_SHARED,      /* $share/group/filter */
};

/* A filter taken apart; both borrow from the text. */
struct topic_filter {
    struct bytes filter;      /* what is matched against topics */
    struct bytes group;       /* the share name; empty unless TOPIC_FILTER_SHARED */
};

/* Checks the filter of a SUBSCRIBE or UNSUBSCRIBE; *parts is set unless it is invalid. */
enum topic_filter_kind topic_filter_parse(struct bytes text, struct topic_filter *parts);

/* True if the plain, valid `filter` contains + or #. */
bool topic_filter_has_wildcard(struct bytes filter);

/* True if `filter` (plain, valid) matches `topic` (valid). A filter that begins with a wildcard does not match a topic
 * that begins with '$' (4.7.2); "a/#" also matches "a". */
bool topic_matches(struct bytes filter, struct bytes topic);

/* Walks over levels:
 *     struct topic_levels levels = topic_levels_of(topic);
 *     while (topic_next_level(&levels, &level)) ... */
struct topic_levels {
    struct bytes rest;
    bool done;
};

static inline struct topic_levels topic_levels_of(struct bytes text)
{
    return (struct topic_levels){text, false};
}

/* Takes the next level; false at the end. "a//b" has levels "a", "", "b"; the empty text has one, "". */
bool topic_next_level(struct topic_levels *levels, struct bytes *level);

size_t topic_level_count(struct bytes text);

/* The key of a topic or filter in the store. '/' becomes 0x00, which occurs in no valid topic, so that keys sort level
 * by level: "a" and all under "a/" are neighbours, before "a b" and "ab". A text of more than TOPIC_KEY_PLAIN_MAX bytes
 * becomes its first TOPIC_KEY_PREFIX bytes (encoded likewise) and the SHA-256 of the whole text, which makes
 * TOPIC_KEY_MAX bytes: no plain key has that length, so the two kinds cannot meet. */
#define TOPIC_KEY_MAX 511       /* where LMDB's keys end */
#define TOPIC_KEY_PLAIN_MAX 510
#define TOPIC_KEY_PREFIX 479

/* Writes the key of `text` into `key` and returns its length. */
size_t topic_key(struct bytes text, uint8_t key[TOPIC_KEY_MAX]);

#endif
