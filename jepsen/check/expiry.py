"""G11: a message is not delivered after its expiry, and not dropped before.

Cluster time runs at 0.9 to 1.1 times the speed of ours while there is a leader, and stands still at most while there is none. For a
message with an interval E, sent at `invoked` and acknowledged at `returned`, and a session that it was owed:

    early   it never came, though at T < invoked + E / 1.1 - LAG the session got a later message of the same publisher (first
            deliveries come in order: it had been left out by then), or was drained
    aged    it came with less of its interval left than E - 1.1 * (now - invoked) - LAG, rounded up to a second
    grown   it came with more left than E
    late    it came for the first time (without DUP) after returned + E / 0.9, and the time that faults were in force, and GRACE

What was given to a session before it expired stays with it: a repetition (DUP) may come at any time. A gap in which no node ran is
bridged by the wall clock: where a fault had set that as well, nothing is judged.
"""

from .model import NEVER, SECOND, matches
from .queue import is_group, own_sessions, owed_subscriptions, seconds
from .verdict import Verdict

SPEED_MAX, SPEED_MIN = 1.1, 0.9
GRACE = 5 * SECOND          # an election, and what is on its way to a client or waits for a processor
ROUNDED = SECOND            # what is left travels in whole seconds
# A follower's clock is behind by as long as its leader's word took to be heard, which on a busy machine is some 100 ms. If it leads
# next, the cluster's is behind, until another leader makes up for it, which shortens what was published meanwhile; after many leaders,
# the wall clock does, when it bridges a gap in which no node ran.
LAG = SECOND
LAG_OF_MANY = 5 * SECOND
ELECTION = 5 * SECOND       # a gap is bridged by the first leader behind it


def check_expiry(model):
    verdict = Verdict("message expiry", "G11", "nothing expires early by more than a tenth and a second, and nothing is delivered after it has expired")
    expiring = [one for one in model.publishes.values() if one.expiry is not None and one.qos]
    for session in own_sessions(model) if expiring else ():
        _judge_deliveries(verdict, model, session)
        if any(matches(one.pattern, publish.topic) for one in session.subscriptions for publish in expiring[:1]):
            _judge_missing(verdict, model, session, expiring)
    return verdict


def _judge_deliveries(verdict, model, session):
    for delivery in session.deliveries:
        publish = model.publishes.get(delivery.mid)
        if publish is None or publish.expiry is None or delivery.retain or unbridged(model, publish.invoked, delivery.time):
            continue
        verdict.judged()
        verdict.count("deliveries")
        _judge_left(verdict, model, session, publish, delivery)
        _judge_late(verdict, model, session, publish, delivery)


def _judge_left(verdict, model, session, publish, delivery):
    """What the node says is left of the interval."""
    if delivery.expiry is None:
        return
    events = [publish.index, delivery.index]
    age = (publish.expiry - delivery.expiry) * SECOND
    if delivery.expiry > publish.expiry:
        verdict.violate("grown", f"{publish.mid} came to {session.id} with {delivery.expiry} s left of {publish.expiry} s", *events)
    elif age > SPEED_MAX * (delivery.time - publish.invoked) + ROUNDED + lag(model, publish.invoked, delivery.time):
        verdict.violate("aged", f"{publish.mid} came to {session.id} with {delivery.expiry} s left of {publish.expiry} s, sent "
                        f"{seconds(delivery.time - publish.invoked)} before", *events)


def _judge_late(verdict, model, session, publish, delivery):
    repeated = delivery.dup or (publish.qos == 1 and publish.sends > 1)
    if repeated or publish.returned == NEVER:
        return
    latest = publish.returned + publish.expiry * SECOND / SPEED_MIN + GRACE
    if delivery.time > latest and delivery.time > latest + under_faults(model, publish.invoked, delivery.time):
        verdict.violate("late", f"{publish.mid} came to {session.id} {seconds(delivery.time - publish.returned)} after it was "
                        f"acknowledged, and lived {publish.expiry} s", publish.index, publish.end_index, delivery.index)


def _judge_missing(verdict, model, session, expiring):
    """Those that it was owed and never got: by when had they been left out?"""
    got = {delivery.mid for delivery in session.deliveries if delivery.app and not delivery.retain}
    proofs = passed_by(model, session)
    for subscription in owed_subscriptions(session):
        if is_group(subscription.pattern):
            continue
        for publish in expiring:
            if publish.mid in got or publish.outcome != "ok" or not matches(subscription.pattern, publish.topic) or not (
                    subscription.granted < publish.invoked and publish.returned < subscription.ending):
                continue
            verdict.count("expired")
            by, event = proofs(publish)
            earliest = publish.invoked + publish.expiry * SECOND / SPEED_MAX - lag(model, publish.invoked, by)
            if by < earliest and not unbridged(model, publish.invoked, by):
                verdict.violate("early", f"{publish.mid}, sent at {seconds(publish.invoked)}, lived {publish.expiry} s, and had been "
                                f"left out for {session.id} by {seconds(by)}", publish.index, publish.end_index, event)


def passed_by(model, session):
    """A function of a publish: by when the session had certainly passed it by, and the event that shows it."""
    later = {}      # publisher -> [(place of the publish, time, event)] of first deliveries; both grow
    for delivery in session.deliveries:
        publish = model.publishes.get(delivery.mid)
        if publish and delivery.qos and not delivery.retain and not (publish.qos == 1 and publish.sends > 1):
            later.setdefault(publish.publisher, []).append((publish.index, delivery.time, delivery.index))
    drained = session.drained
    end = (drained["time"], drained["index"]) if drained and drained["type"] == "ok" and drained["value"].get("quiet") else (NEVER, None)

    def found(publish):
        times = [(time, event) for place, time, event in later.get(publish.publisher, ()) if place > publish.index]
        return min([*times[:1], end])
    return found


def under_faults(model, begin, end):
    """How long faults were in force between two times; overlapping ones count each."""
    return sum(max(0, min(fault.stopped, end) - max(fault.start, begin)) for fault in model.faults)


def of_all_nodes(model, begin, end):
    """Faults, of those between two times, in which perhaps no node ran."""
    nodes = set(model.settings.get("nodes") or [])
    return [fault for fault in model.faults if fault.start <= end and fault.stopped >= begin and
            not fault.name.startswith("clock-") and nodes <= set(fault.nodes)]


def lag(model, begin, end):
    """How much time the cluster may have had to make up for."""
    return LAG_OF_MANY if of_all_nodes(model, begin, end) else LAG


def unbridged(model, begin, end):
    """Whether no node may have run while a wall clock was wrong, or until the clock of who leads next was wrong."""
    wrong = [fault for fault in model.faults if fault.start <= end and fault.stopped >= begin and fault.name.startswith("clock-")]
    down = of_all_nodes(model, begin, end)
    return any(one.start <= other.stopped + ELECTION and other.start <= one.stopped for one in wrong for other in down)
