"""G1, G2, G4: what was acknowledged is delivered, nothing else is, and QoS 2 only once.

For a session s, with asked..granted the SUBSCRIBE and ending..over the UNSUBSCRIBE or the session's end:

    must(s)  acknowledged publishes that match a filter, sent after granted, acknowledged before ending
    may(s)   publishes that match a filter, not refused, whose span meets asked..over
    D(s)     what the application got, repetitions left out by the client's own QoS 2 state

Loss is judged for sessions that were drained, in the generation that was alive then: a session that ends takes its queue along.
Sessions that several devices used are left to check/session.py. Retained messages of a SUBSCRIBE belong to check/register.py,
wills to check/will.py, groups to check/shared.py, messages that may have expired to check/expiry.py.
"""

from collections import Counter, defaultdict

from .model import NEVER, matches
from .verdict import Verdict


def topics_of(model):
    """topic -> its publishes at QoS 1 and 2, in the order of their sending."""
    found = defaultdict(list)
    for publish in model.publishes.values():
        if publish.qos:
            found[publish.topic].append(publish)
    return found


def matching(topics, pattern):
    """The publishes of each topic that a filter matches; most filters name one."""
    if "+" not in pattern and "#" not in pattern:
        return [topics[pattern]] if pattern in topics else []
    return [publishes for topic, publishes in topics.items() if matches(pattern, topic)]


def is_group(pattern):
    return pattern.startswith("$share/")


def own_sessions(model):
    return [session for session in model.sessions.values() if len(session.devices) == 1]


def owed_subscriptions(session):
    return [one for one in session.subscriptions if one.generation == session.generation and one.granted != NEVER and
            one.qos > 0 and not is_group(one.pattern)]


def seconds(time):
    return f"{time / 1e9:.3f} s"


# ---- loss

def check_loss(model):
    verdict = Verdict("no loss", "G1", "every acknowledged QoS 1 and 2 message reaches each session that was subscribed")
    topics = topics_of(model)
    for session in own_sessions(model):
        if session.drained is None or session.drained["type"] != "ok":
            if owed_subscriptions(session):
                verdict.count("sessions_not_drained")
            continue
        delivered = {one.mid for one in session.deliveries if one.app and not one.retain}
        for subscription in owed_subscriptions(session):
            verdict.judged()
            verdict.count("sessions_x_filters")
            for publishes in matching(topics, subscription.pattern):
                _judge_loss(verdict, session, subscription, publishes, delivered)
    if model.drops and verdict.counts.get("missing", 0) <= model.drops and verdict.valid is False:
        verdict.notes.append(f"the nodes count {model.drops} messages dropped by a limit: those are not lost")
        verdict.valid, verdict.violations, verdict.violations_total = True, [], 0
    return verdict


def _judge_loss(verdict, session, subscription, publishes, delivered):
    for publish in publishes:
        if publish.outcome != "ok" or not subscription.granted < publish.invoked:
            continue
        if not publish.returned < subscription.ending or publish.expiry is not None:
            continue
        verdict.count("owed")
        if publish.mid not in delivered:
            verdict.count("missing")
            quiet = "" if session.drained["value"].get("quiet", True) else " (the drain ended at its deadline)"
            verdict.violate("loss", f"{publish.mid} on {publish.topic} (QoS {publish.qos}), acknowledged by "
                            f"{publish.end_node} at {seconds(publish.returned)}, never reached {session.id}{quiet}",
                            subscription.index, publish.index, publish.end_index)


# ---- phantoms

def check_phantom(model):
    verdict = Verdict("no phantom", "G2", "nothing is delivered that was not published, was refused, or does not match")
    wills = {one.will["mid"] for session in model.sessions.values() for one in session.connections if one.will}
    for session in model.sessions.values():
        for delivery in session.deliveries:
            if delivery.retain or delivery.mid in wills:
                continue
            verdict.judged()
            verdict.count("deliveries")
            problem = _phantom(model, session, delivery)
            if problem:
                publish = model.publishes.get(delivery.mid)
                verdict.violate(problem[0], f"{delivery.mid} on {delivery.topic} at {session.id}: {problem[1]}",
                                delivery.index, publish and publish.index, publish and publish.end_index)
    return verdict


def _phantom(model, session, delivery):
    publish = model.publishes.get(delivery.mid)
    if publish is None:
        return "phantom", "nobody published this"
    if publish.outcome == "fail":
        return "refused", "its publisher was told that it was refused"
    if delivery.time < publish.invoked:
        return "phantom", "delivered before it was published"
    if delivery.topic != publish.topic:
        return "topic", f"it was published to {publish.topic}"
    if delivery.qos > publish.qos:
        return "qos", f"delivered at QoS {delivery.qos}, published at {publish.qos}"
    for subscription in session.subscriptions:
        pattern = subscription.pattern.split("/", 2)[2] if is_group(subscription.pattern) else subscription.pattern
        if matches(pattern, publish.topic) and publish.returned > subscription.asked and (
                publish.invoked < subscription.over or is_group(subscription.pattern)):
            return None
    return "unmatched", "no subscription of this session was in force while it was published"


# ---- repetitions

def check_exactly_once(model):
    verdict = Verdict("QoS 2 exactly once", "G4", "no QoS 2 message is handed to an application twice")
    for session in own_sessions(model):
        seen = {}
        for delivery in session.deliveries:
            if delivery.qos != 2 or delivery.retain or not delivery.app:
                continue
            verdict.judged()
            verdict.count("deliveries")
            if delivery.mid in seen:
                first, publish = seen[delivery.mid], model.publishes.get(delivery.mid)
                verdict.violate("duplicate", f"{delivery.mid} came to {session.id} as packet {first.pid} at "
                                f"{seconds(first.time)} and again as packet {delivery.pid} at {seconds(delivery.time)}",
                                publish and publish.index, first.index, delivery.index)
            seen.setdefault(delivery.mid, delivery)
    return verdict


def check_repetitions(model):
    """A QoS 1 message may come again: after a reconnect, with DUP; or since its publisher had to send it again, which makes it
    another message. A member of a group may get it back after another member had it, which is no repetition either."""
    verdict = Verdict("repetitions are marked", "G1", "a message comes again only after a reconnect, and with DUP")
    handed = _handed_to_members(model)
    for session in own_sessions(model):
        by_mid = defaultdict(list)
        for delivery in session.deliveries:
            if delivery.qos and not delivery.retain:
                by_mid[delivery.mid].append(delivery)
        for mid, deliveries in by_mid.items():
            verdict.judged()
            verdict.count("messages")
            if len(deliveries) > 1:
                elsewhere = handed[mid] - len(deliveries) if in_group(session) else 0
                _judge_repetition(verdict, model, session, mid, deliveries, elsewhere)
    return verdict


def in_group(session):
    return any(is_group(one.pattern) for one in session.subscriptions)


def _handed_to_members(model):
    """How often each message was delivered to members of groups, all together."""
    handed = Counter()
    for session in own_sessions(model):
        if in_group(session):
            handed.update(delivery.mid for delivery in session.deliveries if delivery.qos and not delivery.retain)
    return handed


def _judge_repetition(verdict, model, session, mid, deliveries, elsewhere):
    publish = model.publishes.get(mid)
    copies = (publish.sends if publish and publish.qos == 1 else 1) + elsewhere
    verdict.count("repeated")
    if copies > 1:
        verdict.count("repeated_since_published_again")
    events = [one.index for one in deliveries[:4]]
    shared = any(is_group(one.pattern) for one in session.subscriptions)
    if sum(1 for one in deliveries if not one.dup) > copies and not (shared and deliveries[0].qos == 1):
        verdict.violate("no-dup", f"{mid} came to {session.id} {len(deliveries)} times, more than once without DUP", *events)
    conn, times = Counter(one.conn for one in deliveries).most_common(1)[0]
    if times > copies:
        verdict.violate("same-connection", f"{mid} came to {session.id} {times} times on connection {conn}, "
                        f"published {copies} times", *events)
