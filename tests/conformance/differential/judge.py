"""What two brokers have answered to one step, compared: differences(ours, theirs) -> [Difference].

Compared are, for each connection:

    answers    CONNACK, PUBACK, PUBREC, PUBCOMP, SUBACK, UNSUBACK: those of each kind, in order, with reason codes
    the end    whether the connection is still there; with which DISCONNECT it ended
    messages   which came; of each: QoS, RETAIN, DUP, all properties, and whether PUBREL came; the order of those of one
               publisher to one topic with one QoS

and not: packet ids that the server chose, aliases, what CONNACK says of the server's abilities, the order of other messages (4.6
leaves it open), seconds that a message expiry has lost on the way. Copies of a message that came by several subscriptions are
taken together, as if they were the one that 3.3.4 allows instead: the highest QoS, all subscription ids."""

from collections import namedtuple

from play import Answer, Message, Released

Difference = namedtuple("Difference", "connection kind what ours theirs")

MANY_S = 100    # message expiry: what has been lost since is less, and what is drawn differs by more


class Merged:
    """The copies of one message."""

    def __init__(self, first):
        self.qos, self.retain, self.dup, self.copies = first.qos, first.retain, first.dup, 1
        self.properties, self.ids = plain_properties(first.properties), set(first.properties.get("subscription_id", []))

    def add(self, other):
        self.copies += 1
        self.qos, self.retain, self.dup = max(self.qos, other.qos), self.retain or other.retain, self.dup or other.dup
        self.ids |= set(other.properties.get("subscription_id", []))

    def facts(self):
        return {"QoS": self.qos, "RETAIN": self.retain, "DUP": self.dup, "properties": self.properties,
                "subscription ids": sorted(self.ids), "copies": self.copies}


def plain_properties(properties):
    out = {name: value for name, value in properties.items() if name != "subscription_id"}
    if "message_expiry" in out:
        out["message_expiry"] = (out["message_expiry"] + MANY_S - 1) // MANY_S * MANY_S
    return out


def differences(ours, theirs, published):
    """`published` is the QoS that each payload was published with."""
    found = []
    for name in sorted(set(ours) | set(theirs)):
        found += of_connection(name, ours.get(name, []), theirs.get(name, []), published)
    return found


def of_connection(name, ours, theirs, published):
    def differ(kind, what, one, other):
        return [Difference(name, kind, what, one, other)] if one != other else []

    found = []
    mine, others = by_kind(ours), by_kind(theirs)
    for kind in sorted((set(mine) | set(others)) - {"END", "DISCONNECT", "TOLERATED"}):
        found += differ("answer", kind, mine.get(kind, []), others.get(kind, []))
    found += differ("end", "", "END" in mine, "END" in others)
    found += differ("goodbye", "", mine.get("DISCONNECT"), others.get("DISCONNECT"))
    found += of_messages(name, merged(ours), merged(theirs), differ, published)
    return found + of_releases(merged(ours), merged(theirs), releases(ours), releases(theirs), differ)


def by_kind(items):
    out = {}
    for item in items:
        if isinstance(item, Answer):
            out.setdefault(item.kind, []).append((item.id, item.value))
    return out


def merged(items):
    """{(topic, payload): Merged}, in order of arrival."""
    out = {}
    for item in items:
        if isinstance(item, Message):
            key = (item.topic, item.payload.rstrip("_"))
            if key in out:
                out[key].add(item)
            else:
                out[key] = Merged(item)
    return out


def releases(items):
    """{(topic, payload): reason}, for each PUBREL; a second one, for another copy, is no other."""
    return {(item.topic, item.payload.rstrip("_")): item.reason for item in items if isinstance(item, Released)}


def of_releases(ours, theirs, mine, others, differ):
    """Those of messages that came with the same QoS, now or before; a message with another one is a difference of its own."""
    found = []
    for key in sorted(set(mine) | set(others)):
        if (key in ours) == (key in theirs) and (key not in ours or ours[key].qos == theirs[key].qos):
            found += differ("PUBREL", key, mine.get(key), others.get(key))
    return found


def of_messages(name, ours, theirs, differ, published):
    found = [Difference(name, "lost", key, None, theirs[key].facts()) for key in theirs if key not in ours]
    found += [Difference(name, "extra", key, ours[key].facts(), None) for key in ours if key not in theirs]
    both = [key for key in ours if key in theirs]
    for key in both:
        mine, others = ours[key].facts(), theirs[key].facts()
        for fact in mine:
            found += differ(fact, key, mine[fact], others[fact])
    mine, others = by_stream(both, published), by_stream([key for key in theirs if key in ours], published)
    for stream in mine:
        found += differ("order", stream, mine[stream], others[stream])
    return found


def by_stream(keys, published):
    """The payloads of one publisher to one topic with one QoS: those that have an order. Empty ones are nobody's."""
    out = {}
    for topic, payload in keys:
        if payload:
            out.setdefault((topic, payload.partition(".")[0], published.get(payload)), []).append(payload)
    return out


# -- messages to groups, whose receivers the server chooses ---------------------------------------------------------


def take_out_groups(answers):
    """Removes what came to topics below s/ from the answers of a step, and returns those messages."""
    out = []
    for items in answers.values():
        out += [item for item in items if isinstance(item, Message) and of_group(item)]
        items[:] = [item for item in items if not of_group(item)]
    return out


def of_group(item):
    return isinstance(item, (Message, Released)) and item.topic.startswith("s/")


def group_counts(messages):
    out = {}
    for message in messages:
        key = (message.topic, message.payload.rstrip("_"))
        out[key] = out.get(key, 0) + 1
    return out
