"""G8, G10 and what a run leaves behind: checks of the nodes rather than of the clients."""

from bisect import bisect_right
from collections import defaultdict
from itertools import islice

from .faults import cut_off, node_names
from .model import NEVER
from .queue import seconds
from .verdict import Verdict

DESCRIPTORS_SLACK = 8
MEMORY_GROWTH_MAX = 1.10
MEMORY_SLACK_KIB = 32 << 10     # small processes grow by more than a tenth when an allocator gets one more arena


def check_replicas(model):
    verdict = Verdict("equal replicas", "G10", "nodes that have applied the same index have the same state hash")
    seen, last = {}, {}
    for event in model.statuses + model.hashes:
        value = event["value"]
        index, state = value.get("applied_index"), value.get("state_hash")
        if not index or not state:
            continue
        verdict.judged()
        first = seen.setdefault(index, {}).setdefault(state, event)
        if first is event and len(seen[index]) > 1:
            other = next(one for one in seen[index].values() if one is not event)
            verdict.violate("differ", f"at index {index}, {other['node']} has {other['value']['state_hash'][:12]}…, "
                            f"{event['node']} {state[:12]}…", other["index"], event["index"])
        if event["f"] == "read-hash":
            last[event["node"]] = event
    verdict.count("indexes", len(seen))
    compared = len({event["value"]["applied_index"] for event in last.values()})
    if last:
        verdict.count("nodes_at_the_end", len(last))
    missing = set(model.settings.get("nodes") or []) - set(last)
    if last and (compared > 1 or missing):
        verdict.violate("not-equal", f"at the end, when all was idle: {_last_words(last)}"
                        f"{', nothing from ' + ', '.join(sorted(missing)) if missing else ''}",
                        *[event["index"] for event in last.values()])
    return verdict


def _last_words(last):
    return ", ".join(f"{node} at index {event['value']['applied_index']}" for node, event in sorted(last.items()))


def check_minority(model):
    """What a node without a majority answers: nothing that needs the log. Judged between "surely cut off" and "about to be healed"."""
    verdict = Verdict("minority", "G8", "a node that is cut off from the majority acknowledges nothing")
    nodes = node_names(model)
    for fault in model.faults:
        steady = fault.cut and "period_s" not in fault.value        # a flapping cut lets things through
        alone = cut_off(fault.cut, nodes) if steady else set()
        if not alone or fault.started == NEVER:
            continue
        verdict.judged()
        verdict.count("cuts")
        until = min(fault.stop, model.end)
        begun = bisect_right(model.operations, fault.started, key=lambda pair: pair[0]["time"])
        for invocation, completion in islice(model.operations, begun, None):
            if invocation["time"] >= until:
                break
            if completion is None or completion["node"] not in alone or completion["conn"] is None:
                continue
            if completion["time"] >= until:
                continue
            verdict.count("operations")
            if completion["type"] == "ok" and invocation["f"] in ("publish", "connect", "subscribe", "unsubscribe", "read"):
                verdict.violate("acknowledged", f"{invocation['f']} at {completion['node']}, cut off since "
                                f"{seconds(fault.started)}, answered at {seconds(completion['time'])}",
                                fault.index, invocation["index"], completion["index"])
    return verdict


def check_leaks(model):
    """After heal and drain, with all clients gone: descriptors as before, no session connected, nothing unacknowledged. And over
    the cycles of a run, a fault and its healing each: what a process holds in memory (the store's pages, which are a file's, left
    out) is in the end within a tenth of what it was after its first cycle."""
    verdict = Verdict("nothing left behind", "G15", "after all is drained, descriptors, sessions and memory are as before")
    by_node = defaultdict(list)
    for event in model.resources:
        by_node[event["node"]].append(event)
    for node, seen in sorted(by_node.items()):
        phases = {event["value"]["phase"]: event for event in seen}
        if "after" in phases:
            verdict.judged()
            verdict.count("nodes")
            _judge_left(verdict, node, phases.get("before"), phases["after"])
        _judge_growth(verdict, node, seen)
    return verdict


def _judge_left(verdict, node, before, after):
    value = after["value"]
    for name in ("sessions_connected", "clients", "in_flight", "commands_pending"):
        if value.get(name):
            verdict.violate("left", f"{node}: {name} is {value[name]}, with every client gone and every queue drained",
                            after["index"])
    if before and value.get("descriptors", 0) > before["value"].get("descriptors", 0) + DESCRIPTORS_SLACK:
        verdict.violate("descriptors", f"{node}: {before['value']['descriptors']} before, {value['descriptors']} after",
                        before["index"], after["index"])


def _judge_growth(verdict, node, seen):
    """Of each process of a node that lived for more than one cycle."""
    lives = defaultdict(list)
    for event in seen:
        if event["value"]["phase"] != "before" and memory(event):
            lives[event["value"].get("pid")].append(event)
    for events in lives.values():
        first, last = events[0], events[-1]
        verdict.count("cycles", len(events))
        if memory(last) > memory(first) * MEMORY_GROWTH_MAX + MEMORY_SLACK_KIB:
            verdict.violate("memory", f"{node}: {memory(first)} KiB at {first['value']['phase']}, {memory(last)} KiB at "
                            f"{last['value']['phase']}", first["index"], last["index"])


def memory(event):
    value = event["value"]
    return value.get("anonymous_kib") or value.get("resident_kib") or 0
