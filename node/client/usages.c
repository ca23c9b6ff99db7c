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

struct usages {
    struct usage *all; /* by user */
};

struct usages *usages_new(void)
{
    return memory_zeroed(1, sizeof(struct usages));
}

void usages_free(struct usages *usages)
{
    assert(usages == NULL || usages->all == NULL);
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
    usage->connections++;
    client->extras->usage = usage;
    return allowed;
}

void usage_end(struct usages *usages, struct usage *usage)
{
    if (usage == NULL || --usage->connections > 0)
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
    bucket->tokens = passed_ms >= 1000 || bucket->tokens + passed_ms * rate > full ? full
                                                                                   : bucket->tokens + passed_ms * rate;
    bucket->at_ms = now_ms;
    return bucket->tokens == full || bucket->tokens >= amount * TOKEN;
}

static void bucket_take(struct bucket *bucket, uint64_t amount)
{
    bucket->tokens = bucket->tokens > amount * TOKEN ? bucket->tokens - amount * TOKEN : 0;
}

bool usage_publish(struct client *client, size_t bytes, uint64_t now_ms)
{
    struct usage *usage = client->extras != NULL ? client->extras->usage : NULL;
    const struct quota *quota;

    if (usage == NULL)
        return true;
    quota = quota_of(usage, client->node);
    if (!bucket_has(&usage->messages, quota->messages_per_s, 1, now_ms) ||
        !bucket_has(&usage->bytes, quota->bytes_per_s, bytes, now_ms))
        return false;
    bucket_take(&usage->messages, 1);
    bucket_take(&usage->bytes, bytes);
    return true;
}
