"""G15: how long clients had to wait, per fault, against the goals.

For each fault and its end:

    interruption  longest wait for an acknowledgement of a publisher at a node that was neither hit nor cut off
    moved         until a client of a node that was hit has a connection elsewhere, without the time before it tried
    recovery      from the fault's end (all is started, connected, thawed) to the next acknowledgement, for every publisher

Each is the value that 99 % of the clients stay within. Waits that a client brought upon itself, by leaving in the middle, do
not count; those that a node brought about, by closing, do. Goals are data: those of the fault event (matrix.py), or
facts["goals"], {fault: {what: seconds}}, in which "*" stands for any. What has no goal is shown and not judged.
"""

from bisect import bisect_left
from collections import defaultdict
from itertools import islice

from .faults import cut_off, node_names
from .model import NEVER, SECOND
from .verdict import Verdict

SHARE = 0.99
WATCHED = 15 * SECOND       # after a fault, or its end, at most
LONGEST = 60 * SECOND       # that a publish was ever seen to wait


def check_availability(model):
    verdict = Verdict("recovery in time", "G15", "clients wait no longer than the goals say, fault by fault")
    verdict.rows = []
    acknowledged = by_publisher(model)
    nodes = node_names(model)
    goals = model.settings.get("goals") or {}
    moments = sorted([fault.start for fault in model.faults] + [fault.stop for fault in model.faults if fault.stop != NEVER])
    for fault in model.faults:
        row = measure(model, fault, acknowledged, nodes, moments)
        row["goals"] = dict(goals.get("*") or {}, **(goals.get(fault.name) or {}), **(fault.value.get("goals") or {}))
        verdict.rows.append(row)
        verdict.judged()
        verdict.count("faults")
        for what, limit in row["goals"].items():
            value = row.get(what)
            if value is not None and limit is not None and value > limit:
                verdict.violate(what, f"{fault.name} of {', '.join(fault.nodes) or 'the network'} at {fault.start / 1e9:.1f} s: "
                                f"{what} {value:.2f} s, the goal is {limit:g} s", fault.index)
    return verdict


def by_publisher(model):
    """client -> its acknowledged publishes, in the order of their sending; those left out that the client delayed itself, or
    another device that took its session over."""
    found = defaultdict(list)
    for publish in model.publishes.values():
        connection = model.by_conn.get(publish.conn)
        if publish.outcome != "ok" or connection is None:
            continue
        alone = len(model.sessions[connection.id].devices) == 1
        if publish.end_conn == publish.conn or (connection.cause == "closed" and alone):
            found[publish.publisher].append(publish)
    return found


def measure(model, fault, acknowledged, nodes, moments):
    hit = set(fault.nodes) | (cut_off(fault.cut, nodes) if fault.cut else set())
    row = {"fault": fault.name, "index": fault.index, "nodes": sorted(hit or fault.nodes), "start": fault.start,
           "stop": fault.stop if fault.stop != NEVER else None, "stopped": fault.stopped if fault.stopped != NEVER else None,
           "describe": fault.value.get("describe", "")}
    until = next_moment(moments, fault.start, model.end)
    if hit != set(nodes):
        row["interruption"] = percentile(interruptions(acknowledged, hit, fault.start, until))
        row["moved"] = percentile(moves(model, hit, fault, until))
    if fault.stopped != NEVER:
        row["recovery"] = percentile(waits(acknowledged, fault.stopped, next_moment(moments, fault.stopped, model.end)))
    return row


def next_moment(moments, since, end):
    later = [moment for moment in moments if moment > since]
    return min(later[0] if later else end, end, since + WATCHED)


def interruptions(acknowledged, hit, begin, until):
    """Per publisher at a healthy node: the longest that one of its publishes waited, while the fault was in force."""
    found = []
    for publishes in acknowledged.values():
        waits = [one.returned - max(one.invoked, begin) for one in since(publishes, begin, until)
                 if one.node not in hit and one.returned > begin]
        if waits:
            found.append(max(waits))
    return found


def since(publishes, begin, until):
    """Those that may have been under way at `begin`, or were sent before `until`."""
    first = bisect_left(publishes, begin - LONGEST, key=lambda one: one.invoked)
    last = len(publishes) if until == NEVER else bisect_left(publishes, until, key=lambda one: one.invoked)
    return islice(publishes, first, last)


def moves(model, hit, fault, until):
    """Per connection to a node that was hit, and that broke or fell silent: until its client had another."""
    found = []
    for session in model.sessions.values():
        for place, connection in enumerate(session.connections):
            held = connection.outcome == "ok" and connection.returned < fault.start < connection.ended <= until
            if not held or connection.node not in hit or connection.cause not in ("closed", "silence"):
                continue
            attempts = [one for one in session.connections[place + 1:] if one.node not in hit or one.returned > fault.stop]
            following = [one.returned for one in attempts if one.outcome == "ok"]
            if following:    # what the client took its time for, or tried at the node that was hit, is not the cluster's
                found.append(connection.ended - fault.start + following[0] - attempts[0].invoked)
    return found


def waits(acknowledged, begin, until):
    """Per publisher: how long the first publish waited that was under way then, or sent after but before the next fault."""
    found = []
    for publishes in acknowledged.values():
        following = [one for one in publishes if one.returned > begin and one.invoked < until]
        if following:
            found.append(following[0].returned - max(following[0].invoked, begin))
    return found


def percentile(values, share=SHARE):
    """In seconds; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] / 1e9, 3)


def check_served(model):
    """Liveness, and that there was something to judge: after the last fault everybody is served, and every queue runs dry."""
    verdict = Verdict("served in the end", "G15", "when all is healed, clients are served and every queue runs dry in time")
    for name in ("connect", "publish"):
        tried = [completion for invocation, completion in model.operations if invocation["f"] == name]
        done = sum(1 for one in tried if one is not None and one["type"] == "ok")
        verdict.count(f"{name}es" if name.endswith("sh") else f"{name}s", done)
        if tried:
            verdict.judged()
        if tried and not done:
            verdict.violate("nothing", f"of {len(tried)} times {name} none was answered")
    for invocation, completion in model.operations:
        if invocation["f"] != "drain":
            continue
        verdict.count("drained")
        if completion is None or completion["type"] != "ok" or not completion["value"].get("quiet"):
            verdict.violate("not-drained", f"{invocation['value']['session']} was still receiving, or had no node, at the deadline",
                            invocation["index"], completion and completion["index"])
    return verdict
