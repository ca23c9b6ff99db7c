"""G3: a client id's session is one object, and a connection that lost it has no effect any more.

check_session   per client id, the session is a sequential object (exists, owner, filters); CONNECT answers whether it
                existed, SUBSCRIBE and UNSUBSCRIBE work on it while their connection owns it. By the general search.
check_fencing   once a newer connection has its CONNACK, nothing that is sent on an older one is acknowledged or delivered; and
                nothing of an older one comes into the order behind what a newer one published
"""

from .model import earliest_expiry
from .queue import in_group
from .verdict import Verdict
from .wgl import UNKNOWN, TooHard, search

OPERATIONS_MAX = 300
FOR_EVER = 0xFFFFFFFF
NO_SUBSCRIPTION_EXISTED = 0x11


def check_session(model):
    verdict = Verdict("sessions", "G3", "Session Present and the subscriptions are those of one sequential object")
    operations = _operations_by_session(model)
    for session in model.sessions.values():
        calls = session_calls(session, operations.get(session.id, []))
        if not calls:
            continue
        verdict.judged()
        verdict.count("client_ids")
        verdict.count("operations", len(calls))
        if len(calls) > OPERATIONS_MAX:
            verdict.count("client_ids_cut_short")
            calls = cut_short(calls, OPERATIONS_MAX)
        _judge_session(verdict, session, calls)
    return verdict


def _operations_by_session(model):
    found = {}
    for invocation, completion in model.operations:
        if invocation["f"] in ("subscribe", "unsubscribe") and invocation["conn"] in model.by_conn:
            found.setdefault(model.session_of(invocation).id, []).append((invocation, completion))
    return found


def _judge_session(verdict, session, calls):
    try:
        stuck = search(calls, initial(), step, states_max=300_000, repeatable=is_end)
    except TooHard as error:
        verdict.count("client_ids_too_hard")
        verdict.notes.append(f"{session.id}: {error}")
        return
    if stuck is not None:
        blocked = [call for call in stuck[1] if call[1] is not None]
        what = "; ".join(f"{call[2][0]} on connection {call[2][1]} answered {call[3]}" for call in blocked[:3])
        verdict.violate("session", f"{session.id}: no order explains: {what}", *[call[4] for call in blocked[:5]])


def session_calls(session, operations):
    """The operations on one session as calls for the search: (invoked, returned, argument, result, index)."""
    calls = []
    for connection in session.connections:
        if connection.outcome == "fail":
            continue
        ok = connection.outcome == "ok"
        argument = ("connect", connection.conn, connection.clean, connection.expiry)
        calls.append((connection.invoked, connection.returned if ok else None, argument,
                      connection.session_present if ok else UNKNOWN, connection.index))
        calls += _ends(connection)
    for invocation, completion in operations:
        kind = completion["type"] if completion else "info"
        if kind == "fail":
            continue
        names = invocation["value"]["filters"]
        filters = tuple(one[0] for one in names) if invocation["f"] == "subscribe" else tuple(names)
        calls.append((invocation["time"], completion["time"] if kind == "ok" else None,
                      (invocation["f"], invocation["conn"], filters),
                      tuple(completion["value"]["codes"]) if kind == "ok" else UNKNOWN, invocation["index"]))
    return sorted(calls, key=lambda call: call[0])


def _ends(connection):
    """The end of a connection, and of its session: noticed at any time since the CONNECT, or not yet. (A node that is cut off may
    be given up while its clients are still there; that a socket was closed in answer to DISCONNECT, and not by the death of
    its node, the client cannot know.)"""
    calls = [(connection.invoked, None, ("end", connection.conn), UNKNOWN, connection.index)]
    if 0 < connection.expiry < FOR_EVER:
        calls.append((earliest_expiry([connection]), None, ("expire", connection.conn), UNKNOWN, connection.index))
    return calls


def cut_short(calls, count):
    """The first calls; what ended after the last of them began has not ended yet, for all that is judged."""
    kept = calls[:count]
    until = kept[-1][0]
    return [call if call[1] is not None and call[1] <= until else (call[0], None, call[2], UNKNOWN, call[4])
            for call in kept]


# ---- the object: (exists, owner, owner is connected, expiry, filters)

def initial():
    return (False, None, False, 0, frozenset())


def is_end(argument):
    return argument[0] in ("end", "expire")


def step(state, argument, result):
    exists, owner, connected, expiry, filters = state
    kind, conn = argument[0], argument[1]
    if kind == "connect":
        present = exists and not argument[2]
        if result is not UNKNOWN and result != present:
            return []
        return [(True, conn, True, argument[3], filters if present else frozenset())]
    if kind in ("end", "expire"):
        if owner != conn or not exists or (kind == "expire" and connected):
            return [state]
        if kind == "expire" or expiry == 0:
            return [(False, owner, False, 0, frozenset())]
        return [(exists, owner, False, expiry, filters)]
    if owner != conn or not exists:
        return [] if result is not UNKNOWN else [state]
    if kind == "subscribe":
        granted = argument[2] if result is UNKNOWN else [name for name, code in zip(argument[2], result) if code < 0x80]
        return [(exists, owner, connected, expiry, filters | frozenset(granted))]
    for name, code in zip(argument[2], () if result is UNKNOWN else result):
        if (code == NO_SUBSCRIPTION_EXISTED) != (name not in filters):
            return []
    return [(exists, owner, connected, expiry, filters - frozenset(argument[2]))]


# ---- fencing

def check_fencing(model):
    verdict = Verdict("fencing", "G3", "nothing that is sent on a connection has an effect once a newer one has its CONNACK")
    newer = _superseded(model, verdict)
    for invocation, completion in model.operations:
        moment = newer.get(invocation["conn"])
        if moment is None or invocation["time"] <= moment[0] or completion is None:
            continue
        if invocation["f"] in ("publish", "subscribe", "unsubscribe", "read") and completion["type"] == "ok" and (
                completion["conn"] == invocation["conn"]):
            verdict.violate("fenced", f"{invocation['f']} on connection {invocation['conn']} of {invocation['client']} was "
                            f"acknowledged, though connection {moment[1].conn} had the session before it was sent",
                            moment[1].end_index, invocation["index"], completion["index"])
    _judge_fenced_effects(model, verdict, newer)
    for session in model.sessions.values():
        _judge_late_effects(model, verdict, session)
    return verdict


def _superseded(model, verdict):
    """connection -> (when, the newer connection): the first CONNACK of one that was asked for after it had its own."""
    newer = {}
    for session in model.sessions.values():
        owners = [one for one in session.connections if one.outcome == "ok"]
        for place, connection in enumerate(owners):
            later = [one for one in owners[place + 1:] if one.invoked > connection.returned]
            if later:
                first = min(later, key=lambda one: one.returned)
                newer[connection.conn] = (first.returned, first)
                verdict.judged()
                verdict.count("take-overs" if connection.ended > first.invoked else "resumptions")
    return newer


def _judge_fenced_effects(model, verdict, newer):
    suspects = {one.mid: one for one in model.publishes.values() if one.conn in newer and one.sends == 1 and
                one.invoked > newer[one.conn][0] and one.end_conn == one.conn}
    verdict.count("sent_by_the_fenced", len(suspects))
    for session in model.sessions.values():
        for delivery in session.deliveries if suspects else ():
            if delivery.mid in suspects:
                publish = suspects[delivery.mid]
                verdict.violate("effect", f"{publish.mid} was sent on connection {publish.conn} after "
                                f"{newer[publish.conn][1].conn} had the session, and reached {session.id}",
                                newer[publish.conn][1].end_index, publish.index, delivery.index)


def _judge_late_effects(model, verdict, observer):
    """What an observer got from one client id: after a message of one connection none of an older one, since that lost the session
    before the newer one got it. (A message that was sent again counts for neither, and members of groups get them back.)"""
    if in_group(observer):
        return
    last, seen = {}, set()
    for delivery in observer.deliveries:
        publish = model.publishes.get(delivery.mid)
        connection = model.by_conn.get(publish.conn) if publish else None
        if connection is None or delivery.retain or delivery.mid in seen or publish.sends > 1 or publish.end_conn != publish.conn:
            continue
        seen.add(delivery.mid)
        before = last.get(connection.id)
        if before is not None and before[0].invoked > connection.returned:
            verdict.violate("late", f"{delivery.mid} of connection {connection.conn} reached {observer.id} after {before[1].mid} of "
                            f"connection {before[0].conn}, which had taken over", publish.index, before[0].end_index,
                            before[1].index, delivery.index)
        elif before is None or connection.invoked > before[0].invoked:
            last[connection.id] = connection, delivery
