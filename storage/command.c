/* command.c — commands and batches <-> bytes of the log.
 *
 *   batch:    header (command.h), then commands
 *   command:  u8 type, varint body length, body
 *   body:     per type, the fields of its struct in the order of encode_body(); numbers are varints, texts are blocks
 *             (varint length, bytes), flags share a byte
 *
 * An encoding has one form: what command_decode accepts, command_encode would write again byte for byte. So a value out
 * of range, an unknown flag or a byte too many is malformed, and it is so on every node. Texts that a client chose
 * (topics, filters, client ids) were checked where they came in; here only their lengths are. */
#include "command.h"

#include "rights.h"

#include <assert.h>
#include <string.h>

#define TEXT_MAX 65535

enum message_flag {
    MESSAGE_QOS = 0x03,
    MESSAGE_RETAIN = 0x04,
};

enum connect_flag {
    CONNECT_CLEAN_START = 0x01,
    CONNECT_WILL = 0x02,
    CONNECT_WILL_ALLOWED = 0x04,
    CONNECT_BY_USER = 0x08, /* credential_epoch follows */
    CONNECT_ADOPTS = 0x10,
};

/* ---- writing ---- */

static void put_owner(struct buffer *out, const struct command_owner *owner)
{
    buffer_put_varint(out, owner->session_id);
    buffer_put_varint(out, owner->client_epoch);
}

static void put_message(struct buffer *out, const struct message *message)
{
    assert(message->qos <= 2);
    buffer_put_u8(out, (uint8_t)(message->qos | (message->retain ? MESSAGE_RETAIN : 0)));
    buffer_put_block(out, message->topic);
    buffer_put_block(out, message->payload);
    buffer_put_block(out, message->properties);
}

static void put_settings(struct buffer *out, const struct command_settings *settings)
{
    buffer_put_varint(out, settings->queue_messages_max);
    buffer_put_varint(out, settings->queue_bytes_max);
    buffer_put_varint(out, settings->subscriptions_max);
    buffer_put_varint(out, settings->sessions_max);
    buffer_put_varint(out, settings->retained_messages_max);
    buffer_put_varint(out, settings->retained_bytes_max);
    buffer_put_varint(out, settings->store_bytes_max);
    buffer_put_varint(out, settings->session_expiry_max_s);
    buffer_put_varint(out, settings->in_flight_max);
}

static void put_connect(struct buffer *out, const struct command_connect *connect)
{
    assert(connect->client_id.size > 0 && connect->receive_maximum > 0);
    buffer_put_varint(out, connect->connection);
    buffer_put_block(out, connect->client_id);
    buffer_put_block(out, connect->user_name);
    buffer_put_u8(out, connect->protocol_level);
    buffer_put_u8(out, (uint8_t)((connect->clean_start ? CONNECT_CLEAN_START : 0) |
                                 (connect->has_will ? CONNECT_WILL : 0) |
                                 (connect->will_allowed ? CONNECT_WILL_ALLOWED : 0) |
                                 (connect->credential_epoch != 0 ? CONNECT_BY_USER : 0) |
                                 (connect->adopts ? CONNECT_ADOPTS : 0)));
    if (connect->credential_epoch != 0)
        buffer_put_varint(out, connect->credential_epoch);
    buffer_put_varint(out, connect->receive_maximum);
    buffer_put_varint(out, connect->session_expiry_s);
    if (connect->has_will) {
        put_message(out, &connect->will.message);
        buffer_put_varint(out, connect->will.delay_s);
        buffer_put_varint(out, connect->will.message_expiry_s);
    }
}

static void put_publish(struct buffer *out, const struct command_publish *publish)
{
    put_owner(out, &publish->owner);
    buffer_put_varint(out, publish->packet_id);
    buffer_put_u8(out, publish->register_only);
    buffer_put_varint(out, publish->message_expiry_s);
    put_message(out, &publish->message);
}

static void put_end(struct buffer *out, const struct command_end *end)
{
    put_owner(out, &end->owner);
    buffer_put_u8(out, end->cause);
    buffer_put_u8(out, end->has_session_expiry);
    if (end->has_session_expiry)
        buffer_put_varint(out, end->session_expiry_s);
}

static void put_user(struct buffer *out, enum command_type type, const struct command_user *user)
{
    buffer_put_block(out, user->actor);
    buffer_put_block(out, user->name);
    if (type == COMMAND_USER_ADD || type == COMMAND_USER_PASSWORD)
        buffer_put_block(out, user->credential);
    if (type == COMMAND_USER_ENABLE)
        buffer_put_u8(out, user->enabled);
    if (type == COMMAND_USER_QUOTA) {
        buffer_put_varint(out, user->quota.connections);
        buffer_put_varint(out, user->quota.messages_per_s);
        buffer_put_varint(out, user->quota.bytes_per_s);
        buffer_put_varint(out, user->quota.subscriptions);
        buffer_put_varint(out, user->quota.queued_bytes);
    }
}

static void put_role(struct buffer *out, enum command_type type, const struct command_role *role)
{
    buffer_put_block(out, role->actor);
    buffer_put_block(out, role->name);
    if (type == COMMAND_ROLE_GRANT) {
        buffer_put_block(out, role->user);
        buffer_put_u8(out, role->granted);
    }
    if (type == COMMAND_ROLE_RULE) {
        buffer_put_u8(out, role->change);
        buffer_put_u8(out, role->rights);
        buffer_put_u32(out, (uint32_t)role->priority);
        buffer_put_block(out, role->filter);
    }
}

static void put_ban(struct buffer *out, const struct command_ban *ban)
{
    buffer_put_block(out, ban->actor);
    buffer_put_u8(out, ban->kind);
    buffer_put_u8(out, ban->lifted);
    buffer_put_varint(out, ban->seconds);
    buffer_put_block(out, ban->subject);
    buffer_put_block(out, ban->reason);
}

static void encode_body(const struct command *command, struct buffer *out)
{
    switch (command->type) { /* no default: the compiler names the case we forgot */
    case COMMAND_NODE_UP:
        buffer_put_varint(out, command->node_up.node);
        buffer_put(out, command->node_up.boot_nonce, sizeof command->node_up.boot_nonce);
        buffer_put_block(out, command->node_up.client_address);
        buffer_put_block(out, command->node_up.version);
        return;
    case COMMAND_NODE_DOWN:
        buffer_put_varint(out, command->node_down.node);
        buffer_put_varint(out, command->node_down.node_epoch);
        return;
    case COMMAND_CONTINUE:
    case COMMAND_TICK:
    case COMMAND_CHECKPOINT:
        return;
    case COMMAND_SETTINGS:
        put_settings(out, &command->settings);
        return;
    case COMMAND_CONNECT:
        put_connect(out, &command->connect);
        return;
    case COMMAND_END:
        put_end(out, &command->end);
        return;
    case COMMAND_SUBSCRIBE:
        put_owner(out, &command->subscribe.owner);
        buffer_put_varint(out, command->subscribe.subscription_id);
        buffer_put_varint(out, command->subscribe.count);
        buffer_put_block(out, command->subscribe.filters);
        return;
    case COMMAND_UNSUBSCRIBE:
        put_owner(out, &command->unsubscribe.owner);
        buffer_put_varint(out, command->unsubscribe.count);
        buffer_put_block(out, command->unsubscribe.filters);
        return;
    case COMMAND_PUBLISH:
        put_publish(out, &command->publish);
        return;
    case COMMAND_PUBREL:
        put_owner(out, &command->pubrel.owner);
        buffer_put_varint(out, command->pubrel.packet_id);
        return;
    case COMMAND_ACK:
        put_owner(out, &command->ack.owner);
        buffer_put_varint(out, command->ack.own_count);
        buffer_put_block(out, command->ack.own);
        buffer_put_varint(out, command->ack.broadcast_count);
        buffer_put_block(out, command->ack.broadcast);
        return;
    case COMMAND_DECLINE:
        put_owner(out, &command->decline.owner);
        buffer_put_varint(out, command->decline.count);
        buffer_put_block(out, command->decline.orders);
        return;
    case COMMAND_PUBREC:
    case COMMAND_PUBCOMP:
        put_owner(out, &command->delivery.owner);
        buffer_put_varint(out, command->delivery.order);
        return;
    case COMMAND_RETAINED_MORE:
        put_owner(out, &command->retained_more.owner);
        buffer_put_varint(out, command->retained_more.subscribe_position);
        buffer_put_varint(out, command->retained_more.count);
        return;
    case COMMAND_USER_ADD:
    case COMMAND_USER_PASSWORD:
    case COMMAND_USER_ENABLE:
    case COMMAND_USER_REMOVE:
    case COMMAND_USER_QUOTA:
        put_user(out, command->type, &command->user);
        return;
    case COMMAND_ROLE_ADD:
    case COMMAND_ROLE_REMOVE:
    case COMMAND_ROLE_RULE:
    case COMMAND_ROLE_GRANT:
        put_role(out, command->type, &command->role);
        return;
    case COMMAND_BAN:
        put_ban(out, &command->ban);
        return;
    }
    assert(false && "a command type that does not exist");
}

/* The length in front is a varint, so its size is known only after the body: the body is written first, then moved. */
void command_encode(const struct command *command, struct buffer *out)
{
    buffer_put_u8(out, (uint8_t)command->type);
    size_t start = out->size;
    encode_body(command, out);
    size_t length = out->size - start;
    buffer_put_varint(out, length);
    uint8_t prefix[10];
    size_t prefix_size = out->size - start - length;
    memcpy(prefix, out->data + start + length, prefix_size);
    memmove(out->data + start + prefix_size, out->data + start, length);
    memcpy(out->data + start, prefix, prefix_size);
}

/* ---- reading ---- */

/* A varint of at most `max`. */
static uint64_t read_number(struct reader *in, uint64_t max)
{
    uint64_t value = reader_varint(in);
    if (value > max) {
        in->failed = true;
        return 0;
    }
    return value;
}

static bool read_flag(struct reader *in)
{
    uint8_t value = reader_u8(in);
    if (value > 1)
        in->failed = true;
    return value == 1;
}

static struct bytes read_text(struct reader *in, size_t min)
{
    struct bytes text = reader_block(in);
    if (text.size < min || text.size > TEXT_MAX)
        in->failed = true;
    return text;
}

static struct command_owner read_owner(struct reader *in)
{
    struct command_owner owner;
    owner.session_id = reader_varint(in);
    owner.client_epoch = reader_varint(in);
    return owner;
}

static void read_message(struct reader *in, struct message *message)
{
    uint8_t flags = reader_u8(in);
    message->qos = flags & MESSAGE_QOS;
    message->retain = (flags & MESSAGE_RETAIN) != 0;
    if (message->qos > 2 || (flags & ~(MESSAGE_QOS | MESSAGE_RETAIN)) != 0)
        in->failed = true;
    message->topic = read_text(in, 1);
    message->payload = reader_block(in);
    message->properties = reader_block(in);
}

static void read_node_up(struct reader *in, struct command_node_up *node_up)
{
    node_up->node = (uint32_t)read_number(in, UINT32_MAX);
    struct bytes nonce = reader_bytes(in, sizeof node_up->boot_nonce);
    if (!in->failed)
        memcpy(node_up->boot_nonce, nonce.data, nonce.size);
    node_up->client_address = read_text(in, 0);
    node_up->version = read_text(in, 0);
}

static void read_settings(struct reader *in, struct command_settings *settings)
{
    settings->queue_messages_max = reader_varint(in);
    settings->queue_bytes_max = reader_varint(in);
    settings->subscriptions_max = reader_varint(in);
    settings->sessions_max = reader_varint(in);
    settings->retained_messages_max = reader_varint(in);
    settings->retained_bytes_max = reader_varint(in);
    settings->store_bytes_max = reader_varint(in);
    settings->session_expiry_max_s = (uint32_t)read_number(in, UINT32_MAX);
    settings->in_flight_max = (uint32_t)read_number(in, UINT32_MAX);
}

static void read_connect(struct reader *in, struct command_connect *connect)
{
    connect->connection = reader_varint(in);
    connect->client_id = read_text(in, 1);
    connect->user_name = read_text(in, 0);
    connect->protocol_level = reader_u8(in);
    uint8_t flags = reader_u8(in);
    connect->clean_start = (flags & CONNECT_CLEAN_START) != 0;
    connect->has_will = (flags & CONNECT_WILL) != 0;
    connect->will_allowed = (flags & CONNECT_WILL_ALLOWED) != 0;
    bool by_user = (flags & CONNECT_BY_USER) != 0;
    connect->adopts = (flags & CONNECT_ADOPTS) != 0;
    connect->credential_epoch = by_user ? reader_varint(in) : 0;
    if ((flags & ~(CONNECT_CLEAN_START | CONNECT_WILL | CONNECT_WILL_ALLOWED | CONNECT_BY_USER | CONNECT_ADOPTS)) != 0 ||
        (connect->will_allowed && !connect->has_will) || by_user != (connect->credential_epoch != 0))
        in->failed = true;
    connect->receive_maximum = (uint16_t)read_number(in, UINT16_MAX);
    if (connect->receive_maximum == 0)
        in->failed = true;
    connect->session_expiry_s = (uint32_t)read_number(in, UINT32_MAX);
    if (connect->has_will) {
        read_message(in, &connect->will.message);
        connect->will.delay_s = (uint32_t)read_number(in, UINT32_MAX);
        connect->will.message_expiry_s = (uint32_t)read_number(in, UINT32_MAX);
    }
}

static void read_end(struct reader *in, struct command_end *end)
{
    end->owner = read_owner(in);
    end->cause = reader_u8(in);
    if (end->cause > END_WITH_WILL)
        in->failed = true;
    end->has_session_expiry = read_flag(in);
    if (end->has_session_expiry)
        end->session_expiry_s = (uint32_t)read_number(in, UINT32_MAX);
}

static void read_publish(struct reader *in, struct command_publish *publish)
{
    publish->owner = read_owner(in);
    publish->packet_id = (uint16_t)read_number(in, UINT16_MAX);
    publish->register_only = read_flag(in);
    publish->message_expiry_s = (uint32_t)read_number(in, UINT32_MAX);
    read_message(in, &publish->message);
}

/* A list of filters is walked once here, so that apply finds exactly `count` well-formed ones. */
static struct bytes read_filters(struct reader *in, uint32_t *count)
{
    *count = (uint32_t)read_number(in, UINT32_MAX);
    struct bytes list = reader_block(in);
    struct reader filters = reader_of(list);
    struct command_filter filter;
    uint32_t found = 0;
    while (command_next_filter(&filters, &filter))
        found++;
    if (!reader_done(&filters) || found != *count || found == 0)
        in->failed = true;
    return list;
}

/* Whether these are so many orders. */
static void check_orders(struct reader *in, struct bytes orders, uint32_t count)
{
    struct reader list = reader_of(orders);
    uint64_t order = 0;
    uint32_t found = 0;
    while (command_ack_next_own(&list, &order))
        found++;
    if (!reader_done(&list) || found != count)
        in->failed = true;
}

static void read_decline(struct reader *in, struct command_decline *decline)
{
    decline->owner = read_owner(in);
    decline->count = (uint32_t)read_number(in, UINT32_MAX);
    decline->orders = reader_block(in);
    check_orders(in, decline->orders, decline->count);
}

static void read_ack(struct reader *in, struct command_ack *ack)
{
    ack->owner = read_owner(in);
    ack->own_count = (uint32_t)read_number(in, UINT32_MAX);
    ack->own = reader_block(in);
    ack->broadcast_count = (uint32_t)read_number(in, UINT32_MAX);
    ack->broadcast = reader_block(in);

    struct reader broadcast = reader_of(ack->broadcast);
    struct command_ack_broadcast entry;
    uint32_t found = 0;
    check_orders(in, ack->own, ack->own_count);
    for (found = 0; command_ack_next_broadcast(&broadcast, &entry);)
        found++;
    if (!reader_done(&broadcast) || found != ack->broadcast_count)
        in->failed = true;
}

/* A text that goes into keys and lines of the audit log. */
static struct bytes read_name(struct reader *in, size_t min, size_t max)
{
    struct bytes name = read_text(in, min);
    if (name.size > max || (name.size > 0 && memchr(name.data, '\0', name.size) != NULL))
        in->failed = true;
    return name;
}

static void read_user(struct reader *in, enum command_type type, struct command_user *user)
{
    user->actor = read_name(in, 0, SECURITY_NAME_BYTES_MAX);
    user->name = read_name(in, 1, SECURITY_NAME_BYTES_MAX);
    if (type == COMMAND_USER_ADD || type == COMMAND_USER_PASSWORD)
        user->credential = read_name(in, 1, SECURITY_CREDENTIAL_BYTES_MAX);
    if (type == COMMAND_USER_ENABLE)
        user->enabled = read_flag(in);
    if (type == COMMAND_USER_QUOTA) {
        user->quota.connections = reader_varint(in);
        user->quota.messages_per_s = reader_varint(in);
        user->quota.bytes_per_s = reader_varint(in);
        user->quota.subscriptions = reader_varint(in);
        user->quota.queued_bytes = reader_varint(in);
    }
}

static void read_role(struct reader *in, enum command_type type, struct command_role *role)
{
    role->actor = read_name(in, 0, SECURITY_NAME_BYTES_MAX);
    role->name = read_name(in, 1, SECURITY_NAME_BYTES_MAX);
    if (type == COMMAND_ROLE_GRANT) {
        role->user = read_name(in, 1, SECURITY_NAME_BYTES_MAX);
        role->granted = read_flag(in);
    }
    if (type == COMMAND_ROLE_RULE) {
        role->change = reader_u8(in);
        role->rights = reader_u8(in);
        role->priority = (int32_t)reader_u32(in);
        role->filter = read_name(in, 1, RULE_FILTER_BYTES_MAX);
        if (role->change > RULE_CLEAR || role->rights == 0 || (role->rights & ~RIGHTS_ALL) != 0 ||
            !rule_filter_valid(role->filter))
            in->failed = true;
    }
}

static void read_ban(struct reader *in, struct command_ban *ban)
{
    ban->actor = read_name(in, 0, SECURITY_NAME_BYTES_MAX);
    ban->kind = reader_u8(in);
    ban->lifted = read_flag(in);
    ban->seconds = (uint32_t)read_number(in, UINT32_MAX);
    ban->subject = read_name(in, 1, SECURITY_SUBJECT_BYTES_MAX);
    ban->reason = read_name(in, 0, SECURITY_REASON_BYTES_MAX);
    if (ban->kind > BAN_ADDRESS)
        in->failed = true;
}

/* false: a type that this version does not know. */
static bool read_body(struct reader *in, struct command *command)
{
    switch (command->type) {
    case COMMAND_NODE_UP:
        read_node_up(in, &command->node_up);
        return true;
    case COMMAND_NODE_DOWN:
        command->node_down.node = (uint32_t)read_number(in, UINT32_MAX);
        command->node_down.node_epoch = reader_varint(in);
        return true;
    case COMMAND_CONTINUE:
    case COMMAND_TICK:
    case COMMAND_CHECKPOINT:
        return true;
    case COMMAND_SETTINGS:
        read_settings(in, &command->settings);
        return true;
    case COMMAND_CONNECT:
        read_connect(in, &command->connect);
        return true;
    case COMMAND_END:
        read_end(in, &command->end);
        return true;
    case COMMAND_SUBSCRIBE:
        command->subscribe.owner = read_owner(in);
        command->subscribe.subscription_id = (uint32_t)read_number(in, UINT32_MAX);
        command->subscribe.filters = read_filters(in, &command->subscribe.count);
        return true;
    case COMMAND_UNSUBSCRIBE:
        command->unsubscribe.owner = read_owner(in);
        command->unsubscribe.filters = read_filters(in, &command->unsubscribe.count);
        return true;
    case COMMAND_PUBLISH:
        read_publish(in, &command->publish);
        return true;
    case COMMAND_PUBREL:
        command->pubrel.owner = read_owner(in);
        command->pubrel.packet_id = (uint16_t)read_number(in, UINT16_MAX);
        return true;
    case COMMAND_ACK:
        read_ack(in, &command->ack);
        return true;
    case COMMAND_DECLINE:
        read_decline(in, &command->decline);
        return true;
    case COMMAND_PUBREC:
    case COMMAND_PUBCOMP:
        command->delivery.owner = read_owner(in);
        command->delivery.order = reader_varint(in);
        return true;
    case COMMAND_RETAINED_MORE:
        command->retained_more.owner = read_owner(in);
        command->retained_more.subscribe_position = reader_varint(in);
        command->retained_more.count = (uint16_t)read_number(in, RETAINED_MORE_MAX);
        return true;
    case COMMAND_USER_ADD:
    case COMMAND_USER_PASSWORD:
    case COMMAND_USER_ENABLE:
    case COMMAND_USER_REMOVE:
    case COMMAND_USER_QUOTA:
        read_user(in, command->type, &command->user);
        return true;
    case COMMAND_ROLE_ADD:
    case COMMAND_ROLE_REMOVE:
    case COMMAND_ROLE_RULE:
    case COMMAND_ROLE_GRANT:
        read_role(in, command->type, &command->role);
        return true;
    case COMMAND_BAN:
        read_ban(in, &command->ban);
        return true;
    }
    return false;
}

enum status command_decode(struct reader *in, struct command *command)
{
    memset(command, 0, sizeof *command);
    command->type = (enum command_type)reader_u8(in);
    struct reader body = reader_of(reader_block(in));
    if (in->failed)
        return STATUS_MALFORMED;
    if (!read_body(&body, command))
        return STATUS_UNSUPPORTED;
    return reader_done(&body) ? STATUS_OK : STATUS_MALFORMED;
}

/* ---- lists inside commands ---- */

void command_put_filter(struct buffer *filters, struct bytes filter, uint8_t options)
{
    assert(filter.size > 0 && filter.size <= TEXT_MAX);
    buffer_put_u8(filters, options);
    buffer_put_block(filters, filter);
}

bool command_next_filter(struct reader *filters, struct command_filter *filter)
{
    if (filters->failed || filters->rest.size == 0)
        return false;
    filter->options = reader_u8(filters);
    filter->filter = read_text(filters, 1);
    if (SUBSCRIPTION_QOS(filter->options) > 2 || SUBSCRIPTION_RETAIN_HANDLING(filter->options) > 2 ||
        (filter->options & 0xc0) != 0)
        filters->failed = true;
    return !filters->failed;
}

void command_ack_put_own(struct buffer *own, uint64_t *previous, uint64_t order)
{
    assert(order > *previous);
    buffer_put_varint(own, order - *previous);
    *previous = order;
}

/* A sum that wraps, or a step of 0, is not an ascending list. */
static bool read_ascending(struct reader *in, uint64_t *value)
{
    uint64_t step = reader_varint(in);
    if (step == 0 || step > UINT64_MAX - *value)
        in->failed = true;
    *value += step;
    return !in->failed;
}

bool command_ack_next_own(struct reader *own, uint64_t *order)
{
    return !own->failed && own->rest.size > 0 && read_ascending(own, order);
}

void command_ack_put_broadcast(struct buffer *broadcast, uint64_t filter_id, uint64_t upto, uint32_t except_count)
{
    buffer_put_varint(broadcast, filter_id);
    buffer_put_varint(broadcast, upto);
    buffer_put_varint(broadcast, except_count);
}

bool command_ack_next_broadcast(struct reader *broadcast, struct command_ack_broadcast *entry)
{
    if (broadcast->failed || broadcast->rest.size == 0)
        return false;
    entry->filter_id = reader_varint(broadcast);
    entry->upto = reader_varint(broadcast);
    entry->except_count = (uint32_t)read_number(broadcast, ACK_EXCEPT_MAX);
    const uint8_t *start = broadcast->rest.data;
    uint64_t order = 0;
    for (uint32_t i = 0; i < entry->except_count && read_ascending(broadcast, &order);)
        i++;
    if (order > entry->upto)
        broadcast->failed = true;
    if (broadcast->failed)
        return false;
    entry->except = bytes_of(start, (size_t)(broadcast->rest.data - start));
    return true;
}

/* ---- batches ---- */

enum batch_offset {
    BATCH_AT_FORMAT = 0,
    BATCH_AT_COUNT = 4,
    BATCH_AT_STAMP = 8,
    BATCH_AT_LENGTH = 36,
};

static void write_little_endian(uint8_t *at, uint64_t value, size_t width)
{
    for (size_t i = 0; i < width; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

void batch_begin(struct buffer *out, uint32_t origin_node, uint64_t origin_epoch, uint64_t number)
{
    buffer_put_u8(out, BATCH_FORMAT);
    buffer_put_u8(out, 0);
    buffer_put_u16(out, 0);
    buffer_put_u32(out, 0);
    buffer_put_u64(out, 0);
    buffer_put_u64(out, origin_epoch);
    buffer_put_u64(out, number);
    buffer_put_u32(out, origin_node);
    buffer_put_u32(out, 0);
}

void batch_finish(struct buffer *out, size_t first, uint32_t count)
{
    assert(out->size >= first + BATCH_HEADER_SIZE);
    assert(count >= 1 && count <= BATCH_COMMANDS_MAX);
    write_little_endian(out->data + first + BATCH_AT_COUNT, count, 4);
    write_little_endian(out->data + first + BATCH_AT_LENGTH, out->size - first - BATCH_HEADER_SIZE, 4);
}

void batch_set_stamp(uint8_t *batch, uint64_t stamp_ms)
{
    write_little_endian(batch + BATCH_AT_STAMP, stamp_ms, 8);
}

enum status batch_decode(struct bytes batch, struct batch_header *header, struct bytes *commands)
{
    struct reader in = reader_of(batch);
    uint8_t format = reader_u8(&in);
    if (in.failed)
        return STATUS_MALFORMED;
    if (format != BATCH_FORMAT)
        return STATUS_UNSUPPORTED;
    uint8_t reserved_u8 = reader_u8(&in);
    uint16_t reserved_u16 = reader_u16(&in);
    header->count = reader_u32(&in);
    header->stamp_ms = reader_u64(&in);
    header->origin_epoch = reader_u64(&in);
    header->number = reader_u64(&in);
    header->origin_node = reader_u32(&in);
    uint32_t length = reader_u32(&in);
    *commands = reader_bytes(&in, length);
    bool count_fits = header->count >= 1 && header->count <= BATCH_COMMANDS_MAX;
    if (!reader_done(&in) || reserved_u8 != 0 || reserved_u16 != 0 || !count_fits)
        return STATUS_MALFORMED;
    return STATUS_OK;
}
