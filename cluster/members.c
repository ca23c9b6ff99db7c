/* members.c — see members.h. */
#include "members.h"

#include "base/bug.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VOTERS_MIN 2
#define REMOVED "/removed"     /* behind the life of who is crossed out */
#define CONFIGURATION_FORMAT 1 /* of raft's encoding: u8 format, u64 count; u64 id, text, NUL, u8 role each; zeros to 8 */

/* Whether what a text of `size` bytes, a NUL at the end, says was taken out. */
static bool says_removed(const char *address, size_t size)
{
    return size > sizeof REMOVED && memcmp(address + size - sizeof REMOVED, REMOVED, sizeof REMOVED) == 0;
}

/* Takes one server off the front: its id and address; false: it is none. */
static bool read_server(struct reader *reader, uint64_t *id, struct bytes *address)
{
    *id = reader_u64(reader);
    const uint8_t *end = reader->rest.size > 0 ? memchr(reader->rest.data, 0, reader->rest.size) : NULL;
    if (end == NULL)
        return false;
    *address = reader_bytes(reader, (size_t)(end - reader->rest.data) + 1);
    uint8_t role = reader_u8(reader);
    return !reader->failed && *id > 0 && *id <= MEMBERS_NODE_MAX && address->size <= MEMBERS_NAME_SIZE &&
           (role == RAFT_STANDBY ||
            (role == RAFT_VOTER && !says_removed((const char *)address->data, address->size)));
}

static bool read_padding(struct reader *reader)
{
    if (reader->rest.size >= 8)
        return false;
    while (reader->rest.size > 0)
        if (reader_u8(reader) != 0)
            return false;
    return true;
}

bool members_valid(struct bytes configuration)
{
    struct reader reader = reader_of(configuration);
    struct bytes addresses[MEMBERS_NODE_MAX];
    uint64_t ids = 0;
    uint8_t format = reader_u8(&reader);
    uint64_t count = reader_u64(&reader);
    if (configuration.size % 8 != 0 || format != CONFIGURATION_FORMAT || count == 0 || count > MEMBERS_NODE_MAX)
        return false;
    for (uint64_t i = 0, id; i < count; i++) {
        if (!read_server(&reader, &id, &addresses[i]) || (ids >> id & 1) != 0)
            return false;
        ids |= (uint64_t)1 << id;
        for (uint64_t other = 0; other < i; other++)
            if (bytes_equal(addresses[i], addresses[other]))
                return false;
    }
    return read_padding(&reader);
}

void members_name(uint32_t node, struct node_life life, char name[MEMBERS_NAME_SIZE])
{
    if (node_life_is_first(life))
        snprintf(name, MEMBERS_NAME_SIZE, "%u", node);
    else
        snprintf(name, MEMBERS_NAME_SIZE, "%u/%llu/%llx", node, (unsigned long long)life.number,
                 (unsigned long long)life.incarnation);
}

/* Asked for each message: most members are in their first life, and cost a look for the slash. */
static struct node_life life_of(const struct raft_server *server)
{
    struct node_life life = {0};
    char *rest = strchr(server->address, '/');
    if (rest != NULL) {
        life.number = strtoull(rest + 1, &rest, 10);
        life.incarnation = *rest == '/' ? strtoull(rest + 1, NULL, 16) : 0;
    }
    return life;
}

bool members_is_removed(const struct raft_server *server)
{
    return says_removed(server->address, strlen(server->address) + 1);
}

static const struct raft_server *server_of(const struct raft_configuration *configuration, uint32_t node)
{
    for (unsigned i = 0; i < configuration->n; i++)
        if (configuration->servers[i].id == node)
            return &configuration->servers[i];
    return NULL;
}

enum member_role members_role(const struct raft_configuration *configuration, uint32_t node, struct node_life life)
{
    const struct raft_server *server = server_of(configuration, node);
    if (server == NULL)
        return MEMBER_NONE;
    if (!node_life_equal(life_of(server), life) && !bug(BUG_V22_WIPED_IS_THE_SAME))
        return MEMBER_OTHER;
    return members_is_removed(server) ? MEMBER_REMOVED : server->role == RAFT_VOTER ? MEMBER_VOTING : MEMBER_LEARNING;
}

/* `configuration` with `node` as `life` in this role; MEMBER_NONE: without it. The others keep their order. */
static void encode_with(const struct raft_configuration *configuration, uint32_t node, struct node_life life,
                        enum member_role role, struct buffer *out)
{
    struct raft_configuration next;
    struct raft_buffer encoded;
    char name[MEMBERS_NAME_SIZE];
    int raft_role = role == MEMBER_VOTING ? RAFT_VOTER : RAFT_STANDBY, error = 0;
    bool done = role == MEMBER_NONE;
    members_name(node, life, name);
    if (role == MEMBER_REMOVED)
        strcat(name, REMOVED);
    raft_configuration_init(&next);
    for (unsigned i = 0; i < configuration->n; i++) {
        const struct raft_server *server = &configuration->servers[i];
        if (server->id != node) {
            error |= raft_configuration_add(&next, server->id, server->address, server->role);
        } else if (!done) {
            error |= raft_configuration_add(&next, node, name, raft_role);
            done = true;
        }
    }
    if (!done)
        error |= raft_configuration_add(&next, node, name, raft_role);
    error |= raft_configuration_encode(&next, &encoded);
    if (error != 0)
        abort(); /* only for want of memory: the ids are different */
    buffer_put(out, encoded.base, encoded.len);
    raft_free(encoded.base);
    raft_configuration_close(&next);
}

static unsigned voters(const struct raft_configuration *configuration)
{
    unsigned count = 0;
    for (unsigned i = 0; i < configuration->n; i++)
        count += configuration->servers[i].role == RAFT_VOTER;
    return count;
}

bool members_next(const struct raft_configuration *configuration, uint32_t node, struct node_life life,
                     struct buffer *out)
{
    const struct raft_server *server = server_of(configuration, node);
    if (node_life_is_first(life))
        return false;
    switch (members_role(configuration, node, life)) {
    case MEMBER_VOTING:
    case MEMBER_REMOVED:
        return false;
    case MEMBER_LEARNING:
        encode_with(configuration, node, life, MEMBER_VOTING, out);
        return true;
    case MEMBER_NONE:
        encode_with(configuration, node, life, MEMBER_LEARNING, out);
        return true;
    case MEMBER_OTHER:
        if (life.number <= life_of(server).number ||
            (server->role == RAFT_VOTER && voters(configuration) <= VOTERS_MIN))
            return false;
        encode_with(configuration, node, life, MEMBER_NONE, out);
        return true;
    }
    return false;
}

enum status members_remove(const struct raft_configuration *configuration, uint32_t node, struct buffer *out)
{
    const struct raft_server *server = server_of(configuration, node);
    if (server == NULL || members_is_removed(server))
        return STATUS_NOT_FOUND;
    if (server->role == RAFT_VOTER && voters(configuration) <= VOTERS_MIN)
        return STATUS_INVALID;
    encode_with(configuration, node, life_of(server), MEMBER_REMOVED, out);
    return STATUS_OK;
}
