"""G13: a group of a shared subscription gets each message as one session would, by exactly one member.

The group is subscribed from the first SUBACK that a member got until its last member leaves. A QoS 1 message that a member has not
acknowledged may be given to another when the first one disconnects. What QoS 2 has begun to send never is: when that session
ends, the message ends with it; it counts, but is not lost.
"""

from collections import defaultdict

from .model import NEVER, SECOND, matches
from .queue import is_group, own_sessions, seconds
from .verdict import Verdict


NOTICED = 10 * SECOND       # a node that is cut off may have been given up before its clients saw the end


def check_shared(model):
    verdict = Verdict("shared subscriptions", "G13", "a group gets each message once, by one member")
    groups = defaultdict(list)
    for session in own_sessions(model):
        for subscription in session.subscriptions:
            if is_group(subscription.pattern):
                groups[subscription.pattern].append(subscription)
    for name, subscriptions in groups.items():
        _judge_group(verdict, model, name, subscriptions)
    return verdict


def _judge_group(verdict, model, name, subscriptions):
    pattern = name.split("/", 2)[2]
    members = {one.session.id: one.session for one in subscriptions}
    got = defaultdict(list)
    for session in members.values():
        for delivery in session.deliveries:
            if delivery.app and not delivery.retain and matches(pattern, delivery.topic):
                got[delivery.mid].append((session, delivery))
    ended = any(one.generation > 1 or any(c.expiry == 0 for c in one.connections) for one in members.values())
    verdict.judged()
    verdict.count("groups")
    _judge_given(verdict, model, name, got)
    _judge_group_loss(verdict, model, name, pattern, subscriptions, members, got, ended)


def _judge_given(verdict, model, name, got):
    for mid, taken in got.items():
        publish = model.publishes.get(mid)
        if publish is None:
            continue
        verdict.count("messages")
        taken.sort(key=lambda one: one[1].index)
        sessions = sorted({session.id for session, _ in taken})
        if len(sessions) < 2:
            continue
        events = [publish.index, *[delivery.index for _, delivery in taken[:4]]]
        (first, delivery), (_, second) = taken[0], next(one for one in taken if one[0] is not taken[0][0])
        if delivery.qos == 2:
            verdict.violate("twice", f"{mid} (QoS 2) was given to {len(sessions)} members of {name}: {sessions}", *events)
        elif publish.sends == 1 and not had_left(model, delivery, second.time):
            verdict.violate("twice", f"{mid} (QoS 1) was given to {sessions} of {name}, though {first.id} was still connected",
                            *events)
        else:
            verdict.count("given_to_another")


def had_left(model, delivery, time):
    connection = model.by_conn.get(delivery.conn)
    return connection is None or connection.ended < time + NOTICED


def _judge_group_loss(verdict, model, name, pattern, subscriptions, members, got, ended):
    staying = [one for one in subscriptions if one.ending == NEVER and one.granted != NEVER and one.qos > 0]
    drained = all(one.drained is not None and one.drained["type"] == "ok" for one in members.values()
                  if one.connections and one.connections[-1].expiry > 0)
    if not staying or not drained:
        verdict.count("groups_not_drained")
        return
    since = min(one.granted for one in staying)
    for publish in model.publishes.values():
        if publish.outcome != "ok" or not publish.qos or publish.invoked <= since or not matches(pattern, publish.topic):
            continue
        verdict.count("owed")
        if publish.mid in got:
            continue
        if publish.qos == 2 and ended:
            verdict.count("ended_with_a_member")
            continue
        verdict.violate("loss", f"{publish.mid} (QoS {publish.qos}), acknowledged at {seconds(publish.returned)}, reached no "
                        f"member of {name}", publish.index, publish.end_index)
