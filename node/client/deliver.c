/* deliver.c — messages -> PUBLISH frames for the clients that this node holds, and their acknowledgements -> ACK.
 *
 *   EFFECT_MESSAGE ──▶ live: client keeps up ──▶ sent, or waiting in `inflight` (bounded)
 *                        └─ else: client is `behind` ──▶ state_next_queued, whenever there is room
 *
 * Always true for a client: every delivery up to last_order was sent, is waiting, or was skipped and acknowledged; what
 * comes after is in its queue, and is read from there while it is `behind`. So falling behind only means to forget what
 * the effects said. Deliveries go out in their order; a QoS 2 message that the state machine has not admitted stops the
 * queue there until it has (`blocked`).
 *
 * A message is encoded once per form and the frame shared by all who get it. One that a single client gets, at once, is
 * encoded for it alone, with a topic alias if it allows them: what waits may be overtaken, so it has none. Nothing here
 * can fail back into apply. */
#include "core_private.h"

#include "base/buggify.h"
#include "base/memory.h"

#include <assert.h>
#include <string.h>

#define WAITING_MAX         1000         /* deliveries that wait in memory for one client, and */
#define WAITING_BYTES_MAX   (512 * 1024) /* their frames (mostly shared) */
#define OUTPUT_BYTES_MIN    (16 * 1024)  /* for one socket, whatever the others hold */
#define DELIVERIES_MAX      8192         /* in flight or not yet committed as done, of one client */
#define DELIVER_BUDGET      64           /* read from the queue for one client in one turn */
#define ACKS_URGENT         64           /* so many acknowledgements of one client are not kept waiting */
#define RETAINED_MORE_COUNT 100

/* ---- frames of one message ---- */

#define FORMS 12 /* two versions, three QoS, RETAIN or not */

struct forms {
    const struct message *message;
    uint32_t expiry_s;
    uint32_t filled;
    bool single;                /* nobody here shares the frame */
    uint64_t orders[FORMS];
    struct frame *frames[FORMS];
};

static void forms_init(struct forms *forms, const struct message *message, uint32_t count, uint64_t clock_ms)
{
    forms->message = message;
    forms->filled = 0;
    forms->single = count == 1;
    forms->expiry_s = UINT32_MAX;
    if (message->expires_ms != 0) {
        uint64_t left_ms = message->expires_ms > clock_ms ? message->expires_ms - clock_ms : 0;
        uint64_t left_s = (left_ms + 999) / 1000; /* what was received less the whole seconds it has waited */

        forms->expiry_s = left_s < UINT32_MAX ? (uint32_t)left_s : UINT32_MAX - 1;
    }
}

static void forms_release(struct forms *forms)
{
    for (uint32_t i = 0; i < FORMS; i++) {
        if ((forms->filled & (1u << i)) != 0)
            frame_release(forms->frames[i]);
    }
}

static struct mqtt_publish_options options_for(const struct forms *forms, const struct target *target, bool duplicate)
{
    return (struct mqtt_publish_options){
        .qos = target->qos,
        .duplicate = duplicate,
        .retain = target->retain,
        .packet_id = target->qos == 0 ? 0 : packet_id_of(target->order),
        .message_expiry_s = forms->expiry_s,
        .subscription_id_count = target->subscription_id_count,
        .subscription_ids = target->subscription_ids,
    };
}

static struct frame *copy(struct core *core)
{
    core->copies_looks += core->scratch.size / BYTES_PER_LOOK;
    return frame_of(buffer_bytes(&core->scratch));
}

static struct frame *encode(struct core *core, const struct forms *forms, uint8_t level, const struct target *target,
                            bool duplicate)
{
    struct mqtt_publish_options options = options_for(forms, target, duplicate);

    options.packet_id = packet_id_at(core->node.node, options.packet_id);
    buffer_clear(&core->scratch);
    mqtt_encode_publish(level, forms->message, &options, &core->scratch);
    return copy(core);
}

/* The frame for this target; one reference is the caller's. */
static struct frame *form_for(struct core *core, struct forms *forms, const struct client *client,
                              const struct target *target, bool duplicate)
{
    bool level5 = client->peer.level >= MQTT_LEVEL_5;
    uint32_t form = (level5 ? 6u : 0u) + target->qos * 2u + (target->retain ? 1u : 0u);
    uint64_t order = target->qos == 0 ? 0 : target->order;

    if (duplicate || (level5 && target->subscription_id_count > 0))
        return encode(core, forms, client->peer.level, target, duplicate);
    if ((forms->filled & (1u << form)) != 0) {
        if (forms->orders[form] != order)
            return encode(core, forms, client->peer.level, target, false);
        return frame_retain(forms->frames[form]);
    }
    forms->frames[form] = encode(core, forms, client->peer.level, target, false);
    forms->orders[form] = order;
    forms->filled |= 1u << form;
    return frame_retain(forms->frames[form]);
}

/* The frame for a client that gets it now, before anything else: if it allows topic aliases and shares the frame with
 * nobody, with one. */
static struct frame *frame_now(struct core *core, struct forms *forms, struct client *client,
                               const struct target *target, bool duplicate)
{
    struct mqtt_publish_options options;
    struct bytes topic = forms->message->topic;
    struct aliases **aliases;
    size_t size;

    if (client->aliases_sent_max == 0 || !forms->single || topic.size < ALIASES_TOPIC_MIN ||
        topic.size > ALIASES_TOPIC_MAX || core->node.alias_bytes > core->node.limits.memory_bytes_max / ALIASES_MEMORY_PART)
        return form_for(core, forms, client, target, duplicate);
    aliases = &client_extras(client)->aliases_sent;
    if (*aliases == NULL) {
        *aliases = aliases_new(client->aliases_sent_max);
        core->node.alias_bytes += aliases_bytes(*aliases);
    }
    options = options_for(forms, target, duplicate);
    options.packet_id = packet_id_at(core->node.node, options.packet_id);
    options.topic_alias = aliases_choose(*aliases, topic, &options.topic_by_alias);
    size = mqtt_publish_size(client->peer.level, forms->message, &options);
    if (options.topic_alias == 0 || size > client->peer.packet_size_max)
        return form_for(core, forms, client, target, duplicate);
    buffer_clear(&core->scratch);
    mqtt_encode_publish(client->peer.level, forms->message, &options, &core->scratch);
    core->node.alias_bytes -= aliases_bytes(*aliases);
    aliases_set(*aliases, options.topic_alias, topic);
    core->node.alias_bytes += aliases_bytes(*aliases);
    return copy(core);
}

/* ---- room ---- */

/* The socket takes more of what can wait. Half of the limits is left for QoS 0 and answers; a client that has little
 * to take may always have that, so that it goes on when all together have too much. */
static bool socket_has_room(const struct core *core, const struct client *client)
{
    size_t output = client_output(client);
    const struct core_limits *limits = &core->node.limits;

    if (client->inflight.count >= DELIVERIES_MAX || output >= limits->output_bytes_max / 2)
        return false;
    return output < OUTPUT_BYTES_MIN || core->node.stats.output_bytes < limits->memory_bytes_max / 2;
}

static bool window_has_room(const struct client *client)
{
    uint16_t max = client->node->limits.in_flight_max;

    return client->inflight.unacknowledged < (client->receive_maximum < max ? client->receive_maximum : max);
}

/* Whether the delivery with this order could go out now. Remembers since when its packet id is not free. */
static bool has_room(struct core *core, struct client *client, uint64_t order, uint8_t qos)
{
    if (!socket_has_room(core, client))
        return false;
    if (qos == 0)
        return true;
    if (!window_has_room(client))
        return false;
    if (inflight_id_taken(&client->inflight, order)) {
        if (client->collision_ms == 0) {
            client->collision_ms = core->now_ms;
            timers_set(&core->timers, &client->timer, client_deadline(client));
        }
        return false;
    }
    client->collision_ms = 0;
    return true;
}

/* ---- sending ---- */

static void send_publish(struct core *core, struct client *client, struct frame *frame, uint8_t qos)
{
    core->node.stats.messages_out[qos]++;
    core->node.stats.publish_bytes_out += frame->size;
    core->node.stats.packets_out++;
    core_send(core, client, frame);
}

static struct delivery *track(struct client *client, const struct target *target, enum delivery_phase phase,
                              struct frame *frame)
{
    struct delivery *delivery = inflight_add(&client->inflight, target->order, target->qos, phase, frame,
                                             target->broadcast_filters, (uint16_t)target->broadcast_count);

    delivery->own = target->own;
    client->last_order = target->order;
    return delivery;
}

/* Not sent, but dealt with: counts as acknowledged. */
static void skip(struct core *core, struct client *client, const struct target *target, enum core_drop why)
{
    core->node.stats.drops[why]++;
    track(client, target, DELIVERY_ACKED, NULL);
    deliver_note_acks(core, client);
}

/* What the client may not have. If it is what a group gave, and it has not been sent before either (QoS 1 may be repeated
 * to another, 4.8.2), another member gets it. */
static void deny(struct core *core, struct client *client, const struct target *target)
{
    bool perhaps_sent = target->qos == 2 && target->order <= client->sent_before;

    if (!target->shared || perhaps_sent) {
        skip(core, client, target, DROP_NOT_PERMITTED);
        return;
    }
    inflight_declined(&client->inflight, track(client, target, DELIVERY_ACKED, NULL));
    deliver_note_acks(core, client);
    core->acks_urgent = true;
}

static void send_tracked(struct core *core, struct client *client, const struct target *target, struct frame *frame)
{
    track(client, target, target->qos == 0 ? DELIVERY_ACKED : DELIVERY_SENT, NULL);
    send_publish(core, client, frame, target->qos);
    if (target->qos == 0)
        deliver_note_acks(core, client);
}

/* Sends it, unless the client takes no packets as large as that. Takes the frame over. */
static void send_or_skip(struct core *core, struct client *client, const struct target *target, struct frame *frame)
{
    if (frame->size <= client->peer.packet_size_max) {
        send_tracked(core, client, target, frame);
        return;
    }
    frame_release(frame);
    skip(core, client, target, DROP_TOO_LARGE);
}

/* ---- live ---- */

/* Judged at every delivery: rights may have changed since the subscription, and since the publish. */
static bool may_receive(const struct core *core, struct client *client, const struct message *message)
{
    return !access_on(&core->node) || client_may(client, RIGHT_RECEIVE, message->topic);
}

static void deliver_qos0(struct core *core, struct client *client, struct forms *forms, const struct target *target)
{
    struct core_stats *stats = &core->node.stats;
    struct frame *frame;

    if (!may_receive(core, client, forms->message)) {
        stats->drops[DROP_NOT_PERMITTED]++;
        return;
    }
    if (client_output(client) > core->node.limits.output_bytes_max) {
        stats->drops[DROP_SLOW_CONSUMER]++;
        return;
    }
    if (stats->output_bytes + stats->input_bytes > core->node.limits.memory_bytes_max) {
        stats->drops[DROP_MEMORY]++;
        return;
    }
    frame = frame_now(core, forms, client, target, false);
    if (frame->size > client->peer.packet_size_max) {
        stats->drops[DROP_TOO_LARGE]++;
        frame_release(frame);
        return;
    }
    send_publish(core, client, frame, 0);
}

static bool may_wait(const struct core *core, const struct client *client, const struct message *message,
                     const struct frame *frame)
{
    return message->expires_ms == 0 && client->inflight.waiting < WAITING_MAX &&
           client->inflight.waiting_bytes + frame->size <= WAITING_BYTES_MAX &&
           core->waiting_bytes < core->node.limits.memory_bytes_max / 2;
}

static void deliver_stored(struct core *core, struct client *client, struct forms *forms, const struct target *target)
{
    const struct message *message = forms->message;
    bool waiting = client->inflight.waiting > 0;
    struct frame *frame;

    if (client->behind || target->order <= client->last_order)
        return; /* the queue has it, or gave it already */
    if (target->qos == 2 && !target->admitted) {
        client->behind = true;
        client->blocked = true;
        return;
    }
    if (forms->expiry_s == 0 && !waiting && target->qos < 2) {
        skip(core, client, target, DROP_EXPIRED);
        return;
    }
    if (!may_receive(core, client, message)) {
        if (waiting)
            client->behind = true; /* in its turn */
        else
            deny(core, client, target);
        return;
    }
    if (core->copies_looks >= COPIES_LOOKS || buggify(BUGGIFY_FALLS_BEHIND)) {
        client->behind = true;
        core_want_work(core, client);
        return;
    }
    if (!waiting && has_room(core, client, target->order, target->qos)) {
        frame = frame_now(core, forms, client, target, false);
        send_or_skip(core, client, target, frame);
        return;
    }
    frame = form_for(core, forms, client, target, false);
    if (frame->size > client->peer.packet_size_max && !waiting) {
        frame_release(frame);
        skip(core, client, target, DROP_TOO_LARGE);
    } else if (frame->size <= client->peer.packet_size_max && may_wait(core, client, message, frame)) {
        core->waiting_bytes += frame->size;
        track(client, target, DELIVERY_WAITING, frame);
    } else {
        frame_release(frame);
        client->behind = true;
    }
}

void deliver_over(struct core *core)
{
    if (core->forms_of != 0)
        forms_release(core->forms);
    core->forms_of = 0;
}

/* The frames of this message, perhaps those that were made for others. */
static struct forms *forms_of(struct core *core, uint64_t id, const struct message *message, uint32_t count)
{
    if (core->forms == NULL)
        core->forms = memory_allocate(sizeof(*core->forms));
    if (id != 0 && id == core->forms_of) {
        core->forms->message = message;
        core->forms->single = false;
        return core->forms;
    }
    deliver_over(core);
    forms_init(core->forms, message, count, core_clock_ms(core));
    core->forms_of = id;
    return core->forms;
}

void deliver_message(struct core *core, uint64_t id, const struct message *message, const struct target *targets,
                     uint32_t count)
{
    struct forms *forms = forms_of(core, id, message, count);

    for (uint32_t i = 0; i < count; i++) {
        const struct target *target = &targets[i];
        struct client *client = registry_find(&core->registry, target->connection);

        if (client == NULL || client->phase != CLIENT_CONNECTED || client->session_id != target->session_id)
            continue;
        if (target->order == 0)
            deliver_qos0(core, client, forms, target);
        else
            deliver_stored(core, client, forms, target);
    }
    if (id == 0)
        forms_release(forms);
}

/* ---- from the queue ---- */

/* Sends those that wait in memory. False: no room, and some are left. */
static bool send_waiting(struct core *core, struct client *client)
{
    for (;;) {
        struct delivery *delivery = inflight_first_waiting(&client->inflight);
        struct frame *frame;
        uint8_t qos;

        if (delivery == NULL)
            return true;
        if (!has_room(core, client, delivery->order, delivery->qos))
            return false;
        qos = delivery->qos;
        frame = inflight_send_waiting(&client->inflight);
        core->waiting_bytes -= frame->size;
        send_publish(core, client, frame, qos);
        if (qos == 0)
            deliver_note_acks(core, client);
    }
}

/* A QoS 2 delivery whose PUBREC is committed: only PUBREL is sent. */
static void resume_released(struct core *core, struct client *client, const struct target *target)
{
    struct actions *actions = &core->actions;

    track(client, target, DELIVERY_RELEASED, NULL);
    actions_clear(actions);
    client_send_ack(client, MQTT_PUBREL, packet_id_at(client->node->node, packet_id_of(target->order)), REASON_SUCCESS, actions);
    core_carry_out(core, client);
}

/* One delivery out of the queue. False: it has to stay there for now. */
static bool send_queued(struct core *core, struct client *client, const struct queued *queued)
{
    const struct target *target = &queued->target;
    bool duplicate = target->qos > 0 && target->order <= client->sent_before;
    struct forms forms;
    struct frame *frame;

    assert(target->order > client->last_order);
    if (!has_room(core, client, target->order, target->qos))
        return false;
    if (queued->released) {
        resume_released(core, client, target);
        return true;
    }
    if (target->qos == 2 && !target->admitted) {
        client->blocked = true;
        return false;
    }
    forms_init(&forms, &queued->message, 1, core_clock_ms(core));
    if (forms.expiry_s == 0 && target->qos < 2) {
        skip(core, client, target, DROP_EXPIRED);
        return true;
    }
    if (!may_receive(core, client, &queued->message)) {
        deny(core, client, target);
        return true;
    }
    frame = frame_now(core, &forms, client, target, duplicate);
    forms_release(&forms);
    core->node.stats.redelivered += duplicate && frame->size <= client->peer.packet_size_max;
    send_or_skip(core, client, target, frame);
    return true;
}

/* The queue is empty: if a large retained set is being read, ask for its next part. */
static void ask_for_retained(struct core *core, struct client *client)
{
    struct command command = {.type = COMMAND_RETAINED_MORE};
    uint64_t position;

    if (client->scan_asked || !state_retained_scan(core->state, client->session_id, &position))
        return;
    client->scan_asked = true;
    command.retained_more.owner = client_owner(client);
    command.retained_more.subscribe_position = position;
    command.retained_more.count = RETAINED_MORE_COUNT;
    proposer_add(core->proposer, &command, client->number << TAG_BITS | TAG_RETAINED_MORE);
}

void deliver_more(struct core *core, struct client *client)
{
    if (client->phase != CLIENT_CONNECTED || !send_waiting(core, client))
        return;
    for (int budget = DELIVER_BUDGET; client->behind && !client->blocked; budget--) {
        struct queued queued;
        enum status status;
        uint64_t worked, copies;
        bool sent;

        if (!socket_has_room(core, client) || !window_has_room(client))
            return;
        if (budget == 0) {
            core_want_work(core, client); /* others have their turn first */
            return;
        }
        if (core->queues_looks >= QUEUES_LOOKS || state_amid_command(core->state)) {
            core_want_work(core, client);
            return;
        }
        effects_clear(core->arena);
        worked = state_worked(core->state);
        status = state_next_queued(core->state, client->session_id, client->last_order, core->arena, &queued);
        core->queues_looks += state_worked(core->state) - worked + PACKET_LOOKS;
        if (status == STATUS_NEED_MORE)
            continue; /* as long as there are looks */
        if (status == STATUS_NOT_FOUND) {
            client->behind = false;
            ask_for_retained(core, client);
            return;
        }
        if (status != STATUS_OK) {
            core_trouble(core, status, "a queue cannot be read");
            return;
        }
        copies = core->copies_looks;
        sent = send_queued(core, client, &queued);
        core->queues_looks += core->copies_looks - copies;
        core->copies_looks = copies;
        if (!sent)
            return;
    }
}

/* ---- acknowledgements ---- */

void deliver_note_acks(struct core *core, struct client *client)
{
    uint64_t due_ms = core->now_ms + core->node.limits.acknowledge_ms;

    if (client->inflight.acks == 0)
        return;
    if (client->inflight.acks >= ACKS_URGENT || !window_has_room(client))
        core->acks_urgent = true;
    if (client->in_acks)
        return;
    client->in_acks = true;
    work_list_add(&core->acks, client);
    if (due_ms < core->acks_ms)
        core->acks_ms = due_ms;
}

static void decline(struct core *core, struct client *client)
{
    struct command command = {.type = COMMAND_DECLINE};

    buffer_clear(&core->own);
    if (!inflight_decline(&client->inflight, &core->own, &command.decline.count))
        return;
    command.decline.owner = client_owner(client);
    command.decline.orders = buffer_bytes(&core->own);
    core_propose(core, client, &command, 0);
}

void deliver_acknowledge(struct core *core, struct client *client)
{
    struct command command = {.type = COMMAND_ACK};

    decline(core, client);

    buffer_clear(&core->own);
    buffer_clear(&core->broadcast);
    if (!inflight_acknowledge(&client->inflight, &core->own, &command.ack.own_count, &core->broadcast,
                              &command.ack.broadcast_count))
        return;
    command.ack.owner = client_owner(client);
    command.ack.own = buffer_bytes(&core->own);
    command.ack.broadcast = buffer_bytes(&core->broadcast);
    core_propose(core, client, &command, 0);
}

void deliver_acknowledgements(struct core *core)
{
    uint32_t count = core->acks.count < ACKS_MAX ? core->acks.count : ACKS_MAX;

    if (!core->acks_urgent && core->acks_ms > core->now_ms)
        return;
    for (uint32_t i = 0; i < count; i++) {
        struct client *client = registry_find(&core->registry, core->acks.numbers[i]);

        if (client == NULL)
            continue;
        client->in_acks = false;
        if (client->phase == CLIENT_CONNECTED)
            deliver_acknowledge(core, client);
    }
    core->other_looks += count * PACKET_LOOKS;
    if (later_list_drop(&core->acks, count))
        return; /* the others are due as well */
    core->acks_ms = UINT64_MAX;
    core->acks_urgent = false;
}
