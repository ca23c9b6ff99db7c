"""G6: each topic's retained message is a linearizable register, and what follows a read has no gap and no overlap.

Written values are unique, so linearizability takes O(n log n) (Gibbons and Korach). The cluster of a value
is its write and all reads of it; f its earliest end, s its latest start. The zone (f, s) is *forward* if f < s: the value
must have been there all that time; else *backward* (s, f): at some instant in it. There is an order iff

    every value read was written, and no read of it ended before its write began;
    no two forward zones overlap;
    no backward zone lies inside a forward one.

A write of unknown outcome ends at infinity if somebody has read it; otherwise it is left out. "Nothing retained" is a write
that ended before everything. Topics that are cleared have a value that is written more than once, as have QoS 1 writes that
were sent again: those go through the general search (check/wgl.py), in 200 operations per topic at most.
"""

from bisect import bisect_left
from collections import defaultdict

from .model import NEVER, matches
from .queue import own_sessions
from .verdict import Verdict
from .wgl import UNKNOWN, TooHard, search

SEARCHED_MAX = 200
BEFORE_ALL = -1


def check_register(model):
    verdict = Verdict("retained messages", "G6", "each topic is a linearizable register")
    writes, reads = register_operations(model)
    for topic in sorted(set(writes) | set(reads)):
        if not reads[topic]:
            continue
        verdict.judged()
        verdict.count("topics")
        verdict.count("reads", len(reads[topic]))
        verdict.count("writes", len(writes[topic]))
        unique = not any(one.clear or (one.sends > 1 and one.qos == 1) for one in writes[topic])
        (_judge_zones if unique else _judge_search)(verdict, topic, writes[topic], reads[topic])
    return verdict


class Read:
    def __init__(self, value, invocation, completion):
        self.value, self.invoked, self.returned = value, invocation["time"], completion["time"]
        self.index, self.end_index = invocation["index"], completion["index"]


def register_operations(model):
    writes, reads = defaultdict(list), defaultdict(list)
    for publish in model.publishes.values():
        if publish.retain and publish.qos and publish.outcome != "fail":
            writes[publish.topic].append(publish)
    for invocation, completion in model.operations:
        if invocation["f"] == "read" and completion is not None and completion["type"] == "ok":
            for topic, value in completion["value"]["values"].items():
                reads[topic].append(Read(value, invocation, completion))
    return writes, reads


# ---- zones

def _judge_zones(verdict, topic, writes, reads):
    problem = zones_problem([(one.mid, one.invoked, one.returned) for one in writes],
                            [(one.value, one.invoked, one.returned) for one in reads])
    if problem is None:
        return
    message, values = problem
    events = [index for write in writes if write.mid in values for index in (write.index, write.end_index)]
    events += [index for read in reads if read.value in values for index in (read.index, read.end_index)][:6]
    verdict.violate("register", f"{topic}: {message}", *events)


def zones_problem(writes, reads):
    """writes: (value, invoked, returned or NEVER); reads: (value or None, invoked, returned). None, or (what is wrong, values)."""
    began = {value: invoked for value, invoked, _ in writes}
    began[None] = BEFORE_ALL
    first_end = {value: returned for value, _, returned in writes}
    first_end[None] = BEFORE_ALL
    last_start = dict(began)
    read = set()
    for value, invoked, returned in reads:
        if value not in began:
            return f"{value} was read and never written", {value}
        if returned < began[value]:
            return f"{value} was read before it was written", {value}
        read.add(value)
        first_end[value] = min(first_end[value], returned)
        last_start[value] = max(last_start[value], invoked)
    forward, backward = [], []
    for value, end in first_end.items():
        if end == NEVER and value not in read:
            continue
        (forward if end < last_start[value] else backward).append((end, last_start[value], value))
    return _zones_clash(sorted(forward, key=lambda zone: zone[:2]), backward)


def _zones_clash(forward, backward):
    for (_, end, value), (start, _, other) in zip(forward, forward[1:]):
        if start < end:
            return f"{value} and {other} were both the value at one time", {value, other}
    starts = [zone[0] for zone in forward]
    for end, start, value in backward:
        place = bisect_left(starts, start) - 1
        if place >= 0 and forward[place][0] < start and end < forward[place][1]:
            other = forward[place][2]
            return f"{value} was written, and gone again, while {other} was the value throughout", {value, other}
    return None


# ---- search

def _judge_search(verdict, topic, writes, reads):
    if len(writes) + len(reads) > SEARCHED_MAX:
        verdict.count("topics_too_long_to_search")
        return
    try:
        stuck = search(register_calls(writes, reads), None, register_step, states_max=300_000)
    except TooHard as error:
        verdict.count("topics_too_hard_to_search")
        verdict.notes.append(f"{topic}: {error}")
        return
    if stuck is not None:
        verdict.violate("register", f"{topic}: no order of the writes explains the reads; blocked at "
                        f"{[call[2:] for call in stuck[1]][:3]}", *[call[4] for call in stuck[1]][:6])


def register_calls(writes, reads):
    """A QoS 1 write that was sent again may be in the log once for each sending; only the first is certain."""
    calls = []
    for write in writes:
        value = None if write.clear else write.mid
        calls.append((write.invoked, None if write.returned == NEVER else write.returned, ("write", value), True,
                      write.index))
        for _ in range(write.sends - 1 if write.qos == 1 else 0):
            calls.append((write.invoked, None, ("write", value), True, write.index))
    return calls + [(read.invoked, read.returned, ("read", None), read.value, read.index) for read in reads]


def register_step(state, argument, result):
    kind, value = argument
    if kind == "write":
        return [value]
    return [state] if result is UNKNOWN or result == state else []


# ---- what follows a read

def check_register_follow(model):
    """A value that a SUBSCRIBE returned is not delivered as a change too (overlap); of the later changes none is missing (gap)."""
    verdict = Verdict("changes after a read", "G6", "a SUBSCRIBE returns the value and then each later change: no gap, no overlap")
    writes, _ = register_operations(model)
    reads = _reads_by_session(model)
    for session in own_sessions(model):
        live, retained = {}, {}
        for delivery in session.deliveries:
            (retained if delivery.retain else live).setdefault(delivery.mid, delivery)
        for mid in retained.keys() & live.keys():
            publish = model.publishes.get(mid)
            if publish is not None and publish.sends == 1 and overlap(session, publish, retained[mid], live[mid]):
                verdict.violate("overlap", f"{session.id} got {mid} as the retained message and as a change",
                                publish.index, retained[mid].index, live[mid].index)
        drained = session.drained is not None and session.drained["type"] == "ok"
        for subscription, operation in _subscriptions_of_reads(session, reads.get(session.id, [])):
            verdict.judged()
            verdict.count("subscriptions")
            if drained and subscription.generation == session.generation:
                _judge_gaps(verdict, model, session, subscription, operation, writes[subscription.pattern], live)
    return verdict


def overlap(session, publish, retained, live):
    """A change after the value it brought is one. So is a change before it, if it is of the very subscription whose SUBSCRIBE
    returned the value: no earlier one was in force, nor was it asked for again."""
    if live.index > retained.index:
        return True
    matching = [one for one in session.subscriptions if matches(one.pattern, publish.topic)]
    if len({one.pattern for one in matching}) != 1:
        return False
    before = [one for one in matching if one.asked <= retained.time]
    return bool(before) and before[-1].asked <= live.time and retained.time < before[-1].again and all(
        one.over < publish.invoked for one in before[:-1])


def _judge_gaps(verdict, model, session, subscription, operation, writes, live):
    """Changes that certainly came after the value that was read, and before the subscription was given up."""
    read, completion = operation
    value = completion["value"]["values"][subscription.pattern]
    base, cleared = model.publishes.get(value), any(one.clear for one in writes)
    if base is not None and base.sends > 1:
        return
    for publish in writes:
        later = base is None or base.returned < publish.invoked
        if publish.outcome != "ok" or publish.mid == value or publish.mid in live or not later:
            continue
        if base is None and (cleared or not read["time"] < publish.returned):
            continue        # it may have been cleared; or it should have been read, which is check_register's matter
        if publish.returned < subscription.ending:
            verdict.violate("gap", f"{session.id} read {value} of {publish.topic} and never got {publish.mid}, which came after it",
                            read["index"], completion["index"], publish.index, publish.end_index)


def _reads_by_session(model):
    found = defaultdict(list)
    for invocation, completion in model.operations:
        if invocation["f"] == "read" and completion is not None and completion["type"] == "ok":
            found[model.session_of(invocation).id].append((invocation, completion))
    return found


def _subscriptions_of_reads(session, reads):
    """Each subscription that the SUBSCRIBE of a read made, with that read."""
    for subscription in session.subscriptions:
        for invocation, completion in reads:
            if subscription.pattern in invocation["value"]["topics"] and (
                    invocation["time"] <= subscription.asked < completion["time"]) and invocation["conn"] is not None:
                yield subscription, (invocation, completion)
                break
