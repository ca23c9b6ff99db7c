"""Differences that are no finding: what the standard leaves to servers, and what mosquitto 2.0.11 is known to do wrong.

Each row has a name, the section, why, whether the two brokers are in different states afterwards, so that the rest of the sequence
says nothing, and a test: which differences of which step. A row that excuses more than it says is worse than none, so each looks
at what was sent; and the output says how often each was used.

  Difference    judge.py: connection, kind, what, ours, theirs
  Step          steps.py; of several that are compared together, the last"""

from collections import namedtuple

Allowance = namedtuple("Allowance", "name section why parts matches")

NO_LOCAL, RETAIN_AS_PUBLISHED, RETAIN_HANDLING = 0x04, 0x08, 0x30
NO_MATCHING_SUBSCRIBERS, NO_SUBSCRIPTION_EXISTED = 0x10, 0x11
NOT_AUTHORIZED, TAKEN_OVER, PACKET_ID_NOT_FOUND = 0x87, 0x8E, 0x92
RESERVED = "$x/a"
TOLERATED_BY_MOSQUITTO = {    # wrong packets, and the statement that it breaks
    "UNSUBACK from a client": "4.13.1-1",
    "flags of PINGREQ": "2.1.3-1",
    "flags of PUBACK": "2.1.3-1",
    "flags of PUBREC": "2.1.3-1",
    "flags of PUBCOMP": "2.1.3-1",
    "PINGRESP from a client": "4.13.1-1",
    "SUBACK from a client": "4.13.1-1",
    "reason of PUBREL that it has not": "3.6.2-1",
    "no local in a group": "3.8.3-4",
    "reason of PUBACK that it has not": "3.4.2-1",
    "wildcard in a response topic": "3.3.2-14",
    "DUP with QoS 0": "3.3.1-2",
    "PINGREQ with a body": "3.12.1",
    "payload format 2": "3.3.2.3.2",
    "PUBACK with a body": "3.4.3",
    "authentication data without a method": "3.1.2.11.10",
}


def is_answer(difference, *kinds):
    return difference.kind == "answer" and difference.what in kinds


def plain(answers, reason):
    """The same answers, had the server said 0 instead of this reason."""
    return [(packet_id, 0 if value == reason else value) for packet_id, value in answers]


def filters_of(step, topic):
    return [options for name, options in step.fields.get("filters", []) if covers(name, topic)]


def covers(name, topic):
    levels, parts = name.split("/"), topic.split("/")
    for number, level in enumerate(levels):
        if level == "#":
            return True
        if number == len(parts) or level not in ("+", parts[number]):
            return False
    return len(levels) == len(parts)


def before(step, steps):
    """What was done before this step, and itself; steps that look alike are not the same."""
    return steps[:next(number for number, one in enumerate(steps) if one is step) + 1]


def will_of(steps, payload):
    """The CONNECT that left the will with this payload."""
    wills = (step for step in steps if step.fields.get("will"))
    return next((step for step in wills if step.fields["will"]["payload"].rstrip("_") == payload), None)


# -- what the rows ask ----------------------------------------------------------------------------------------------


def copies_by_subscriptions(difference, step, steps):
    """One for all has RETAIN if one of the subscriptions wants it, and the ids of all; of those for each, one may not have come."""
    if difference.kind == "subscription ids":
        return set(difference.theirs) < set(difference.ours)
    if difference.kind != "RETAIN":
        return difference.kind == "copies"
    asked = [options for one in steps if one.action == "subscribe" and one.client == difference.connection
             for options in filters_of(one, difference.what[0])]
    return len({options & RETAIN_AS_PUBLISHED for options in asked}) > 1


def nobody_to_get_it(difference, step, steps):
    return is_answer(difference, "PUBACK", "PUBREC") and plain(difference.ours, NO_MATCHING_SUBSCRIBERS) == plain(
        difference.theirs, NO_MATCHING_SUBSCRIBERS)


def released_nothing(difference, step, steps):
    return is_answer(difference, "PUBCOMP") and difference.theirs == plain(difference.ours, PACKET_ID_NOT_FOUND)


def refused_with_a_word(difference, step, steps):
    return (step.action == "wrong_first" and is_answer(difference, "CONNACK") and
            all(value for side in (difference.ours, difference.theirs) for _, value in side))


def ended_with_a_word(difference, step, steps):
    return difference.kind == "goodbye" and (step.action in ("wrong", "wrong_first"))


def taken_over_without_a_word(difference, step, steps):
    return difference.kind == "goodbye" and step.action == "connect" and difference.ours == [(None, TAKEN_OVER)] and not difference.theirs


def will_outlives_its_session(difference, step, steps):
    will = will_of(steps, difference.what[1]) if difference.kind == "extra" else None
    return bool(will) and will.fields["will"].get("properties", {}).get("will_delay", 0) > 0


def was_taken_over(connect, steps):
    later = steps[len(before(connect, steps)):]
    ends = (one.action for one in later if one.client == connect.client and one.action in ("connect", "cut", "disconnect", "wrong"))
    return next(ends, None) == "connect"


def will_of_who_was_taken_over(difference, step, steps):
    """Its session went on, or the one who was taken over was still there to get it."""
    if difference.kind not in ("extra", "lost", "copies to groups"):
        return False
    will = will_of(steps, difference.what[1])
    if not will or difference.kind == "copies to groups":
        return bool(will) and difference.theirs == 0
    return was_taken_over(will, steps) and (difference.kind == "extra" or difference.connection == f"{step.client} before")


def reserved_topic(difference, step, steps):
    if is_answer(difference, "PUBCOMP"):
        return step.fields.get("topic") == RESERVED and not difference.ours
    if is_answer(difference, "PUBACK", "PUBREC"):
        topics = [fields.get("topic") for fields in [step.fields, *step.fields.get("messages", [])]]
        return RESERVED in topics and difference.ours == [(packet_id, NOT_AUTHORIZED) for packet_id, _ in difference.theirs]
    return difference.kind == "lost" and difference.what[0] == RESERVED


def options_of_a_renewed_subscription(difference, step, steps):
    """The client has subscribed to a filter that matches more than once, with No Local or Retain As Published and without."""
    if difference.kind not in ("RETAIN", "extra", "lost", "QoS", "subscription ids"):
        return False
    asked = {}
    for one in steps:
        if one.action == "subscribe" and one.client == difference.connection:
            for name, options in one.fields["filters"]:
                asked.setdefault(name, set()).add(options & (NO_LOCAL | RETAIN_AS_PUBLISHED))
    return any(len(found) > 1 and covers(name, difference.what[0]) for name, found in asked.items())


def asked_for(name, what, step, steps):
    """Whether this client has connected with this property by now."""
    return any(what in one.fields.get("properties", {}) for one in before(step, steps) if one.client == name and one.action == "connect")


def copy_waits_for_the_window(difference, step, steps):
    """A client with a Receive Maximum, that is slow to answer, and has several subscriptions, or withholds PUBCOMP."""
    name = difference.connection
    if difference.kind not in ("lost", "extra", "PUBREL", "QoS", "DUP") or not asked_for(name, "receive_maximum", step, steps):
        return False
    did = [one for one in before(step, steps) if one.client == name]
    slow = {one.fields["how"] for one in did if one.action == "answers"} - {"always"}
    if "half" in slow and difference.kind == "lost":
        return True    # with mosquitto, QoS 2 counts until PUBREC instead of PUBCOMP
    return bool(slow) and len({asked for one in did if one.action == "subscribe" for asked, _ in one.fields["filters"]}) > 1


def too_large_for_the_window(difference, step, steps):
    return difference.kind == "extra" and all(asked_for(difference.connection, what, step, steps)
                                              for what in ("receive_maximum", "maximum_packet_size"))


def second_connect_undoes_the_session(difference, step, steps):
    will = will_of(steps, difference.what[1]) if difference.kind == "extra" else None
    if not will and not (is_answer(difference, "CONNACK") and step.action == "connect"):
        return False
    client = will.client if will else step.client
    return any(one.fields.get("what") == "second CONNECT" for one in before(step, steps) if one.client == client)


def will_after_a_wrong_farewell(difference, step, steps):
    will = will_of(steps, difference.what[1]) if difference.kind == "extra" else None
    return bool(will) and any(one.fields.get("what") == "reason of DISCONNECT that it has not"
                              for one in before(step, steps) if one.client == will.client)


def unsubscribed_from_nothing(difference, step, steps):
    if not is_answer(difference, "UNSUBACK") or len(difference.ours) != 1 or len(difference.theirs) != 1:
        return False
    (_, ours), (_, theirs) = difference.ours[0], difference.theirs[0]
    filters = step.fields.get("filters", [])
    return len(ours) == len(theirs) == len(filters) and all(
        one == other or (one, other) == (NO_SUBSCRIPTION_EXISTED, 0) and name.startswith("$")
        for name, one, other in zip(filters, ours, theirs))


def pubrec_of_nothing(difference, step, steps):
    return step.fields.get("what") == "PUBREC of nothing" and difference.kind == "PUBREL"


def filter_refused_alone(difference, step, steps):
    if step.fields.get("what") not in ("invalid filter", "invalid group", "empty filter", "invalid filter to UNSUBSCRIBE"):
        return False
    return difference.kind == "end" and difference.theirs or is_answer(difference, "SUBACK", "UNSUBACK") and all(
        code >= 0x80 for _, codes in difference.ours for code in codes)


def unwise_characters(difference, step, steps):
    return step.fields.get("what") in ("noncharacter in a topic", "control character in a topic") and difference.kind in ("end", "extra")


def mosquitto_goes_on(difference, step, steps):
    if step.fields.get("what") not in TOLERATED_BY_MOSQUITTO:
        return False
    return (difference.kind == "end" and difference.ours or difference.kind == "PUBREL" and not difference.ours or
            difference.kind in ("answer", "lost") and not difference.ours or
            step.action == "wrong_first" and is_answer(difference, "CONNACK"))


def own_retained_message(difference, step, steps):
    if difference.kind != "lost" or step.action != "subscribe":
        return False
    topic, payload = difference.what
    matching = [options for options in filters_of(step, topic) if options & RETAIN_HANDLING != 0x20]
    return payload.startswith(step.client) and all(options & NO_LOCAL for options in matching)


ALLOWANCES = [
    Allowance("copies", "3.3.4", "who has several subscriptions that match gets a message once, or once for each of them",
              False, copies_by_subscriptions),
    Allowance("no subscribers", "3.4.2.1, 3.5.2.1", "reason code 0x10 is a server's choice; mosquitto has it for QoS 1 only",
              False, nobody_to_get_it),
    Allowance("released nothing", "3.7.2.1", "mosquitto answers the PUBREL of a packet id that it does not know with 0 instead of 0x92",
              False, released_nothing),
    Allowance("word of refusal", "3.1.4, 4.13.1", "a server may send a CONNACK before it closes a connection that never began, or none",
              False, refused_with_a_word),
    Allowance("word of farewell", "4.13.1", "a server may send a DISCONNECT with a reason before it closes; there are several that fit",
              False, ended_with_a_word),
    Allowance("taken over", "3.1.4-3", "mosquitto does not tell a client that was taken over if its session is not kept",
              False, taken_over_without_a_word),
    Allowance("will of a session that ended", "3.1.3.2.2", "a will is published when its delay or its session ends, whichever is "
              "first; mosquitto waits for the delay", True, will_outlives_its_session),
    Allowance("will of who was taken over", "3.1.2-8", "mosquitto publishes none if the session goes on; and if not, it sends it to "
              "the old connection, too", True, will_of_who_was_taken_over),
    Allowance("reserved topic", "4.7.2", "a server should not let clients publish below $: ours refuses, mosquitto does not",
              False, reserved_topic),
    Allowance("options of a renewed subscription", "3.8.4-3", "mosquitto keeps No Local and Retain As Published of the old one",
              True, options_of_a_renewed_subscription),
    Allowance("copy waits for the window", "3.3.4, 4.9", "one copy for each subscription fills a Receive Maximum otherwise than one "
              "for all", True, copy_waits_for_the_window),
    Allowance("too large for the window", "3.1.2-25", "with mosquitto, a message above the client's Maximum Packet Size takes its "
              "place in the Receive Maximum for ever", True, too_large_for_the_window),
    Allowance("will after a wrong farewell", "3.14.2-1", "mosquitto takes a DISCONNECT with a reason code that it cannot have for a "
              "good one, and forgets the will", True, will_after_a_wrong_farewell),
    Allowance("unsubscribed from nothing", "3.11.3", "mosquitto says 0 instead of 0x11 if it never saw a filter below that $ name",
              False, unsubscribed_from_nothing),
    Allowance("PUBREC of nothing", "3.6.2.1", "mosquitto sends PUBREL for it with 0 instead of 0x92, and for 3.1.1, where ours does not",
              False, pubrec_of_nothing),
    Allowance("session after a second CONNECT", "3.1.0-2", "mosquitto takes Clean Session from the CONNECT that it refuses, "
              "and publishes no will",
              True, second_connect_undoes_the_session),
    Allowance("filter refused alone", "3.8.4, 4.13.1", "a filter that is wrong is refused in SUBACK by us; mosquitto closes",
              False, filter_refused_alone),
    Allowance("unwise characters", "1.5.4", "a server may close for control characters and noncharacters: mosquitto does",
              True, unwise_characters),
    Allowance("wrong packet goes unnoticed", "4.13.1", "mosquitto goes on after it: see TOLERATED_BY_MOSQUITTO",
              True, mosquitto_goes_on),
    Allowance("own retained message", "3.8.3-3", "mosquitto sends a retained message to the No Local subscription of its publisher",
              True, own_retained_message),
]


def allowance_for(difference, step, steps):
    return next((row for row in ALLOWANCES if row.matches(difference, step, steps)), None)
