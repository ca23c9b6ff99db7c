/* members.c — see members.h. */
#include "members.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VOTERS_MIN 2

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
    if (!node_life_equal(life_of(server), life))
        return MEMBER_OTHER;
    return server->role == RAFT_VOTER ? MEMBER_VOTING : MEMBER_LEARNING;
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
