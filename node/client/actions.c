/* actions.c — see actions.h. */
#include "actions.h"

#include <assert.h>
#include <string.h>

void actions_clear(struct actions *actions)
{
    buffer_clear(&actions->out);
    buffer_clear(&actions->text);
    buffer_clear(&actions->sys_filters);
    actions->packets_out = 0;
    actions->command_count = 0;
    actions->publish = false;
    actions->proof = PROOF_NONE;
    actions->rest_ms = 0;
    actions->login = false;
    actions->delivered = false;
    actions->refused = false;
    actions->subscribed_index = 0;
    actions->close = CLOSE_NO;
}

void actions_release(struct actions *actions)
{
    buffer_release(&actions->out);
    buffer_release(&actions->text);
    buffer_release(&actions->sys_filters);
}

struct command *actions_propose(struct actions *actions, enum command_type type, uint32_t tag)
{
    struct command *command;

    assert(actions->command_count < ACTIONS_COMMANDS_MAX);
    command = &actions->commands[actions->command_count];
    memset(command, 0, sizeof(*command));
    command->type = type;
    actions->tags[actions->command_count] = tag;
    actions->command_count++;
    return command;
}
