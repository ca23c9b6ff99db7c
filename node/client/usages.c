/* usages.c — see usages.h. */
#include "usages.h"

#include "client_private.h"
#include "security.h"

#include "base/memory.h"

#include <xxhash.h>
#define HASH_FUNCTION(key, length, hash) ((hash) = (unsigned)XXH3_64bits(key, length))
#include <uthash.h>

#include <assert.h>
#include <stdlib.h>

#define TOKEN 1000 /* tokens are counted in thousandths */

struct bucket {
    uint64_t at_ms, tokens;
};

struct usage {
    struct bytes user; /* ours */
    uint32_t connections;
    uint64_t revision; /* of the security that `quota` was read from */
    struct quota quota;
    struct bucket messages, bytes;
    UT_hash_handle hh;
};

struct listener_usage {
    const struct core_listener *listener;
    struct bucket messages, bytes;
};

struct usages {
    struct usage *all; /* by user */
    struct listener_usage *listeners;
    uint32_t listener_count;
};

struct usages *usages_new(void)
{
    return memory_zeroed(1, sizeof(struct usages));
}

void usages_free(struct usages *usages)
{
    assert(usages->all == NULL);
    free(usages->listeners);
    free(usages);
}

static struct usage *usage_of(struct usages *usages, struct bytes user)
{
    struct usage *usage = NULL;

    HASH_FIND(hh, usages->all, user.data, user.size, usage);
    if (usage != NULL)
        return usage;
    usage = memory_zeroed(1, sizeof(*usage));
    usage->user = bytes_of(memory_copy(user.data, user.size), user.size);
    usage->revision = UINT64_MAX;
    HASH_ADD_KEYPTR(hh, usages->all, usage->user.data, usage->user.size, usage);
    return usage;
}

static const struct quota *quota_of(struct usage *usage, const struct client_node *node)
{
    const struct security *security = state_security(node->state);
    struct security_user user = {0};

    if (usage->revision != security_revision(security)) {
        usage->revision = security_revision(security);
        security_user(security, usage->user, &user);
        usage->quota = user.quota;
    }
    return &usage->quota;
}

/* The former owner of this session is here, and will go. */
static bool takes_over(const struct client *client, struct bytes user)
{
    const struct client_node *node = client->node;
    struct session_facts facts;

    return state_session_by_client_id(node->state, client_id_of(client), &facts) && facts.connected &&
           facts.node == node->node && bytes_equal(facts.user_name, user);
}

bool usage_begin(struct client *client, struct bytes user)
{
    struct usage *usage = usage_of(client->node->usages, user);
    uint64_t max = quota_of(usage, client->node)->connections;
    bool allowed = max == 0 || usage->connections < max || takes_over(client, user);

    assert(client_extras(client)->usage == NULL);
    if (!allowed)
        return false;
    usage->connections++;
    client->extras->usage = usage;
    return true;
}

void usage_end(struct client *client)
{
    struct usages *usages = client->node->usages;
    struct usage *usage = client->extras != NULL ? client->extras->usage : NULL;

    if (usage == NULL)
        return;
    client->extras->usage = NULL;
    if (--usage->connections > 0)
        return;
    HASH_DEL(usages->all, usage);
    free((void *)usage->user.data);
    free(usage);
}

/* Whether the bucket has so much. More than it holds passes when it is full: else it never would. */
static bool bucket_has(struct bucket *bucket, uint64_t rate, uint64_t amount, uint64_t now_ms)
{
    uint64_t full = rate < UINT64_MAX / TOKEN ? rate * TOKEN : UINT64_MAX, passed_ms = now_ms - bucket->at_ms;

    if (rate == 0)
        return true;
    bucket->tokens =
        passed_ms >= 1000 || bucket->tokens + passed_ms * rate > full ? full : bucket->tokens + passed_ms * rate;
    bucket->at_ms = now_ms;
    return bucket->tokens == full || bucket->tokens >= amount * TOKEN;
}

static void bucket_take(struct bucket *bucket, uint64_t amount)
{
    bucket->tokens = bucket->tokens > amount * TOKEN ? bucket->tokens - amount * TOKEN : 0;
}

static bool take(struct bucket *messages, uint64_t rate, struct bucket *bytes, uint64_t bytes_rate, size_t size,
                 uint64_t now_ms)
{
    if (!bucket_has(messages, rate, 1, now_ms) || !bucket_has(bytes, bytes_rate, size, now_ms))
        return false;
    bucket_take(messages, 1);
    bucket_take(bytes, size);
    return true;
}

static struct listener_usage *usage_of_listener(struct usages *usages, const struct core_listener *listener)
{
    uint32_t i = 0;

    while (i < usages->listener_count && usages->listeners[i].listener != listener)
        i++;
    if (i == usages->listener_count) {
        usages->listeners = memory_resize(usages->listeners, (i + 1) * sizeof(*usages->listeners));
        usages->listeners[i] = (struct listener_usage){.listener = listener};
        usages->listener_count++;
    }
    return &usages->listeners[i];
}

static bool listener_allows(struct client *client, size_t size, uint64_t now_ms)
{
    const struct core_listener *listener = client->listener;
    struct listener_usage *usage;

    if (listener->publish_rate_max == 0 && listener->publish_bytes_max == 0)
        return true;
    usage = usage_of_listener(client->node->usages, listener);
    return take(&usage->messages, listener->publish_rate_max, &usage->bytes, listener->publish_bytes_max, size, now_ms);
}

static bool user_allows(struct client *client, size_t size, uint64_t now_ms)
{
    struct usage *usage = client->extras != NULL ? client->extras->usage : NULL;
    const struct quota *quota = usage != NULL ? quota_of(usage, client->node) : NULL;

    return quota == NULL || (quota->messages_per_s == 0 && quota->bytes_per_s == 0) ||
           take(&usage->messages, quota->messages_per_s, &usage->bytes, quota->bytes_per_s, size, now_ms);
}

bool usage_publish(struct client *client, size_t bytes, uint64_t now_ms)
{
    bool user = user_allows(client, bytes, now_ms);

    if (user && listener_allows(client, bytes, now_ms))
        return true;
    client_count_limit(client->node, user ? LIMIT_LISTENER_RATE : LIMIT_USER_RATE);
    return false;
}
