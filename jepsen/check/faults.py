"""What the faults of a history meant: who was cut off, and when."""

from .model import SECOND

NODE_TIMEOUT = 2 * SECOND           # of silence, until the others give a node up
ELECTION = 1 * SECOND               # with room: measured 0.5 s


def node_names(model):
    names = set(model.settings.get("nodes") or [])
    names |= {event["node"] for event in model.events if event.get("node")}
    return sorted(names)


def cut_off(cut, nodes):
    """The nodes which `cut` (directed pairs: what a sends never reaches b) leaves unable to commit: not in touch, both ways, with any
    node that is itself in touch with a majority."""
    cut = set(cut)

    def touch(a):
        return {b for b in nodes if b == a or ((a, b) not in cut and (b, a) not in cut)}

    majority = len(nodes) // 2 + 1
    able = {node for node in nodes if len(touch(node)) >= majority}
    return {node for node in nodes if not touch(node) & able}


def overlaps(fault, begin, end):
    return fault.start <= end and fault.stopped >= begin


def any_fault(model, begin, end):
    """Whether a fault was, or may have been, in force between two times."""
    return any(overlaps(fault, begin, end) for fault in model.faults)
