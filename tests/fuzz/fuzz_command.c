/* fuzz_command.c — arbitrary bytes as commands and as a batch: what decodes is in the one form that encoding gives, and
 * the lists inside can be walked to their end. */
#include "command.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk_filters(struct bytes filters, uint32_t count)
{
    struct reader reader = reader_of(filters);
    struct buffer again = {0};
    struct command_filter filter;
    for (; command_next_filter(&reader, &filter); count--)
        command_put_filter(&again, filter.filter, filter.options);
    assert(reader_done(&reader) && count == 0 && bytes_equal(buffer_bytes(&again), filters));
    buffer_release(&again);
}

static void walk_own(struct bytes own, uint32_t count)
{
    struct reader reader = reader_of(own);
    struct buffer again = {0};
    uint64_t order = 0, previous = 0;
    for (; command_ack_next_own(&reader, &order); count--)
        command_ack_put_own(&again, &previous, order);
    assert(reader_done(&reader) && count == 0 && bytes_equal(buffer_bytes(&again), own));
    buffer_release(&again);
}

static void walk_broadcast(struct bytes broadcast, uint32_t count)
{
    struct reader reader = reader_of(broadcast);
    struct command_ack_broadcast entry;
    for (; command_ack_next_broadcast(&reader, &entry); count--) {
        struct reader except = reader_of(entry.except);
        uint64_t order = 0;
        while (command_ack_next_own(&except, &order))
            assert(order <= entry.upto);
        walk_own(entry.except, entry.except_count);
    }
    assert(reader_done(&reader) && count == 0);
}

static void walk_command(const struct command *command)
{
    if (command->type == COMMAND_SUBSCRIBE) {
        walk_filters(command->subscribe.filters, command->subscribe.count);
    } else if (command->type == COMMAND_UNSUBSCRIBE) {
        walk_filters(command->unsubscribe.filters, command->unsubscribe.count);
    } else if (command->type == COMMAND_ACK) {
        walk_own(command->ack.own, command->ack.own_count);
        walk_broadcast(command->ack.broadcast, command->ack.broadcast_count);
    } else if (command->type == COMMAND_DECLINE) {
        walk_own(command->decline.orders, command->decline.count);
    }
}

static void read_commands(struct bytes commands)
{
    struct reader reader = reader_of(commands);
    struct buffer again = {0};
    while (reader.rest.size > 0 && !reader.failed) {
        const uint8_t *start = reader.rest.data;
        struct command command;
        if (command_decode(&reader, &command) != STATUS_OK)
            continue;
        walk_command(&command);
        buffer_clear(&again);
        command_encode(&command, &again);
        assert(bytes_equal(buffer_bytes(&again), bytes_of(start, (size_t)(reader.rest.data - start))));
    }
    buffer_release(&again);
}

static void read_batch(struct bytes batch)
{
    struct batch_header header;
    struct bytes commands;
    struct buffer again = {0};
    if (batch_decode(batch, &header, &commands) != STATUS_OK)
        return;
    batch_begin(&again, header.origin_node, header.origin_epoch, header.number);
    buffer_put_bytes(&again, commands);
    batch_finish(&again, 0, header.count);
    batch_set_stamp(again.data, header.stamp_ms);
    assert(bytes_equal(buffer_bytes(&again), batch));
    read_commands(commands);
    buffer_release(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    read_commands(bytes_of(data, size));
    read_batch(bytes_of(data, size));
    return 0;
}
