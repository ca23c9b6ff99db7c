"""Linearizability of any small object: Wing and Gong's search with Lowe's memo.

An operation is (invoked, returned, argument, result, anything more); `returned` None means that its outcome is unknown: it may have
happened at any time after it was invoked, or never. `step(state, argument, result)` gives the states (hashable) in which
the object may be after the operation, given what it answered; none if it cannot have answered so. The result of an unknown
operation is UNKNOWN.

Exponential in the number of operations that are under way at once, so: few clients per object, a few hundred operations.
`search` returns None if there is an order, else the operations of the longest prefix that it found and what blocks it.
"""

UNKNOWN = object()
INFINITY = float("inf")


class TooHard(Exception):
    """More states than the limit were visited."""


def search(operations, initial, step, states_max=2_000_000, repeatable=lambda argument: False):
    calls = sorted(operations, key=lambda op: op[0])
    ends = [INFINITY if op[1] is None else op[1] for op in calls]
    certain = sum(1 << i for i, op in enumerate(calls) if op[1] is not None)
    seen, best, visited = set(), 0, 0
    stack = [(0, initial)]                  # (set of operations done, as bits; state of the object)
    while stack:
        done, state = stack.pop()
        if done & certain == certain:
            return None
        if (done, state) in seen:
            continue
        seen.add((done, state))
        visited += 1
        if visited > states_max:
            raise TooHard(f"{visited} states for {len(calls)} operations")
        if bin(done & certain).count("1") > bin(best & certain).count("1"):
            best = done
        for index in reversed(next_operations(calls, ends, done)):
            returned, argument, result = calls[index][1:4]
            for after in step(state, argument, result if returned is not None else UNKNOWN):
                if returned is None and after == state:
                    continue        # as if it had not happened, which is allowed
                again = returned is None and repeatable(argument)
                stack.append((done if again else done | 1 << index, after))
    blocked = next_operations(calls, ends, best)
    return [calls[i] for i in range(len(calls)) if best >> i & 1], [calls[i] for i in blocked]


def next_operations(calls, ends, done):
    """Those that may come next: begun before the earliest end of what is not done."""
    found, earliest = [], INFINITY
    for index, call in enumerate(calls):
        if call[0] > earliest:
            break
        if not done >> index & 1:
            found.append(index)
            earliest = min(earliest, ends[index])
    return [index for index in found if calls[index][0] <= earliest]
