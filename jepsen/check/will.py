"""G7: a will is published exactly once if its connection ends badly, never if it ends well.

Per connection with a will: how often may a QoS 2 observer have seen it? {0} after a DISCONNECT that the node took, or if the
session was resumed before the delay was over; {1} after any other end; {0, 1} where the two raced, where the end is too late
in the history to tell, where a fault hides which came first, or where the node sent all its clients away at that moment (its own end
is one of its clients as well). More than one is always wrong, and so is one that comes before the end of its connection plus the delay.
"""

from .faults import ELECTION, NODE_TIMEOUT, any_fault
from .model import NEVER, SECOND, matches
from .queue import is_group, own_sessions, seconds
from .verdict import Verdict

FOR_EVER = 0xFFFFFFFF
DISCONNECT_WITH_WILL = 0x04
NOTICED = NODE_TIMEOUT + ELECTION + 2 * SECOND      # latest, from the end of a connection to the node's or the leader's notice
GIVEN_UP = 60 * SECOND                              # oldest CONNECT without an answer that may still be on its way
SENT_AWAY = (0x89, 0x9C)                            # reasons with which a node that cannot serve them closes clients that asked for nothing
AT_ONCE = 500_000_000                               # how long that takes, as the clients see it
CLOCK_SLACK = 50_000_000                            # a stamp may be this much ahead of what we measured


def check_wills(model):
    verdict = Verdict("wills", "G7", "a will is published exactly once after a bad end, never after a good one, not too early")
    observed = {}
    observers = [session for session in own_sessions(model) if session.drained and session.drained["type"] == "ok"]
    for session in observers:
        observed[session.id] = _seen_by(session)
    for session in model.sessions.values():
        for connection in session.connections:
            if connection.will:
                _judge_will(verdict, model, session, connection, observers, observed)
    return verdict


def _seen_by(observer):
    seen = {}
    for delivery in observer.deliveries:
        if delivery.app and not delivery.retain:
            seen.setdefault(delivery.mid, []).append(delivery)
    return seen


def _judge_will(verdict, model, session, connection, observers, observed):
    will = connection.will
    expected, earliest, why = expectation(model, session, connection)
    for observer in observers:
        if not any(matches(one.pattern, will["topic"]) and one.granted < connection.invoked and one.qos == 2
                   for one in observer.subscriptions if not is_group(one.pattern)) or will["qos"] != 2:
            continue
        seen = observed[observer.id].get(will["mid"], [])
        verdict.judged()
        verdict.count("wills")
        verdict.count("published", len(seen))
        if len(expected) > 1:
            verdict.count("either_way")
        events = [connection.index, connection.end_event and connection.end_event["index"], *[one.index for one in seen[:3]]]
        if len(seen) not in expected:
            wanted = " or ".join(str(number) for number in sorted(expected))
            verdict.violate("count", f"will {will['mid']} of connection {connection.conn} ({why}) came {len(seen)} times to "
                            f"{observer.id}, expected {wanted}", *events)
        elif seen and seen[0].time < earliest:
            verdict.violate("early", f"will {will['mid']} came at {seconds(seen[0].time)}, not to be before "
                            f"{seconds(earliest)} ({why}, delay {will.get('delay', 0)} s)", *events)


def expectation(model, session, connection):
    """(how often the will may have been published, not before when, why)."""
    if connection.outcome == "fail":
        return {0}, NEVER, "the CONNECT was refused"
    if connection.outcome == "info":
        return {0, 1}, connection.invoked, "whether it was connected is unknown"
    heard = connection.heard if connection.heard != NEVER else connection.returned
    superseding = [one for one in session.connections if one is not connection and one.outcome != "fail" and
                   one.invoked > connection.invoked]
    following = superseding[0] if superseding else None
    ended = connection.ended
    if following and following.invoked < ended:
        ended = following.returned if following.returned != NEVER else ended
    hidden = any_fault(model, heard - NODE_TIMEOUT, min(ended, model.end) + NODE_TIMEOUT)
    if ended == NEVER:
        return ({0, 1} if hidden else {0}), heard, "still open at the end"
    goodbye = connection.goodbye
    if goodbye and goodbye["value"]["reason"] != DISCONNECT_WITH_WILL:
        certain = (connection.goodbye_end is not None and connection.goodbye_end["type"] == "ok" and not hidden and
                   not sent_others_away(model, connection.node, goodbye["time"] - AT_ONCE, ended + AT_ONCE))
        taken_over = following is not None and following.invoked < ended
        return ({0} if certain and not taken_over else {0, 1}), heard, "disconnected in order"
    if any(may_come_late(one, connection, ended) for one in session.connections):
        return {0, 1}, heard, "a CONNECT given up before may have taken its place, or ended its session"
    begin = min(heard if hidden else ended, following.invoked if following else NEVER, goodbye["time"] if goodbye else NEVER)
    return _after_bad_end(model, connection, following, begin, ended)


def sent_others_away(model, node, begin, end):
    """Whether a client of this node was closed between two times though it had asked for nothing."""
    return any(one.node == node and one.close_reason in SENT_AWAY and begin <= one.ended <= end for one in model.by_conn.values())


def may_come_late(one, connection, ended):
    """Nobody knows what became of `one`; it may have been committed while `connection` was the owner, or soon after its end."""
    return one is not connection and one.outcome == "info" and ended - GIVEN_UP < one.invoked < ended + NOTICED


def _after_bad_end(model, connection, following, begin, ended):
    delay = connection.will.get("delay", 0) if connection.level == 5 else 0
    delay = min(delay, connection.expiry) * SECOND
    earliest = begin + delay * 9 // 10 - CLOCK_SLACK
    latest = ended + delay * 11 // 10 + NOTICED
    why = "it ended without DISCONNECT"
    if delay and following is not None and not following.clean and following.invoked <= latest:
        why = "it ended without DISCONNECT and was resumed"
        in_time = following.outcome == "ok" and following.session_present and following.returned < earliest
        return ({0} if in_time else {0, 1}), earliest, why
    if following is not None and following.clean and delay and following.invoked <= latest:
        return {1}, min(earliest, following.invoked), "its session was ended by a clean start"
    if latest > model.end:
        return {0, 1}, earliest, why + ", too late to tell"
    return {1}, earliest, why
