"""Shared subscriptions (5.0): $share/group/filter."""

import select

import pytest

from mqtt import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, Closed, encode_ack
from statements import V5, corner, statement


def member(world, name, at=0, qos=2, group="g", filter="t", **options):
    client = world.connect(name, at, **options)
    assert client.subscribe((f"$share/{group}/{world.topic(filter)}", qos)) == [qos]
    return client


def ready(members):
    """Those that have something to receive; waits for it."""
    buffered = [one for one in members if one.buffer]
    if buffered:
        return buffered
    sockets = select.select([one.socket for one in members], [], [], 5)[0]
    assert sockets, "nothing within the time"
    return [one for one in members if one.socket in sockets]


def collect_all(members, count):
    """Takes messages until `count` came in all; returns [[payloads] per member]."""
    while sum(len(one.received) for one in members) < count:
        for one in ready(members):
            found = one.receive()
            if found.type == PUBREL:
                one.answer_pubrel(found)
            elif found.type == PUBLISH:
                one.take(found)
    return [[m.payload for m in one.received] for one in members]


@statement("MQTT-4.8.2-3", level=V5)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_each_message_goes_to_one_member(world, qos):
    members = [member(world, f"m{n}", n) for n in range(3)]
    plain = world.subscriber((world.topic("t"), 2), name="plain")
    publisher = world.publisher()
    for number in range(30):
        publisher.publish(world.topic("t"), str(number), qos=qos)
    collect_all(members, 30)
    for one in members:
        one.ping()
    got = [[m.payload for m in one.received] for one in members]
    assert sorted(int(p) for one in got for p in one) == list(range(30))
    assert all(got), got
    assert [int(plain.expect_message().payload) for _ in range(30)] == list(range(30))


@statement("MQTT-4.8.2-3", "MQTT-3.8.4-8", level=V5)
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_a_members_own_qos_limits_what_it_gets(world, granted):
    only = member(world, "m", 0, granted)
    publisher = world.publisher()
    for qos in (0, 1, 2):
        publisher.publish(world.topic("t"), str(qos), qos=qos)
        assert only.expect_message(payload=str(qos)).qos == min(qos, granted)


@statement("MQTT-4.8.2-4", level=V5)
@corner(91, level=V5)
def test_qos_2_begun_with_a_member_is_completed_with_it(world, resume_at):
    first = member(world, "first", 0, clean=False)
    publisher = world.publisher()
    publisher.publish(world.topic("t"), "begun", qos=2)
    begun = first.receive()
    second = member(world, "second", 1, clean=False)
    first.close()
    second.ping()
    first.open(world.port(resume_at), clean=False)
    again = first.receive()
    assert (again.type, again.packet_id, again.payload, again.dup) == (PUBLISH, begun.packet_id, b"begun", True)
    first.send(encode_ack(PUBREC, again.packet_id, 5))
    assert first.receive().type == PUBREL
    first.send(encode_ack(PUBCOMP, again.packet_id, 5))
    first.ping()
    second.ping()
    assert second.received == []


@statement("MQTT-4.8.2-5", level=V5)
@corner(91, level=V5)
def test_qos_2_begun_with_a_member_whose_session_ends_goes_to_nobody(world):
    first = member(world, "first", 0, clean=True)
    publisher = world.publisher()
    publisher.publish(world.topic("t"), "begun", qos=2)
    assert first.receive().payload == b"begun"
    second = member(world, "second", 1)
    first.disconnect()
    publisher.publish(world.topic("t"), "end", qos=2)
    second.expect_message(payload="end")


@corner(91, level=V5)
def test_qos_1_that_a_member_did_not_acknowledge_goes_to_another_when_it_ends(world):
    if world.target.name != "cluster":
        pytest.skip("allowed, not required")
    first = member(world, "first", 0, qos=1, clean=True)
    publisher = world.publisher()
    publisher.publish(world.topic("t"), "handed on", qos=1)
    assert first.receive().payload == b"handed on"
    second = member(world, "second", 1, qos=1)
    first.disconnect()
    second.expect_message(payload="handed on")


@statement("MQTT-4.8.2-6", level=V5)
@corner(92, level=V5)
@pytest.mark.parametrize("qos", [1, 2])
def test_a_refused_message_is_dropped(world, qos):
    first, second = member(world, "first", 0, qos), member(world, "second", 1, qos)
    publisher = world.publisher()
    for number in range(4):
        publisher.publish(world.topic("t"), str(number), qos=qos)
    refused = []
    while len(refused) < 4:
        for one in ready([first, second]):
            found = one.receive()
            refused.append(found.payload)
            one.send(encode_ack(PUBACK if qos == 1 else PUBREC, found.packet_id, 5, 0x80))
    assert sorted(refused) == [b"0", b"1", b"2", b"3"]
    first.expect_nothing()
    second.expect_nothing()
    publisher.publish(world.topic("t"), "end", qos=qos)
    ends = collect_all([first, second], 1)
    assert sorted(p for one in ends for p in one) == [b"end"]


@corner(87, level=V5)
def test_a_shared_wildcard_does_not_match_dollar_topics(world):
    client = world.connect("s", 1)
    assert client.subscribe(("$share/g/#", 1)) == [1]
    publisher = world.publisher()
    try:
        publisher.publish("$dollar/x", world.unique, qos=1)
    except Closed:
        publisher = world.connect("again", 2)
    publisher.publish(world.topic("x"), "fence", qos=1)
    assert [m for m in world.until(client) if m.topic.startswith("$")] == []


@corner(88, level=V5)
def test_no_retained_messages_come_to_a_shared_subscription(world):
    publisher = world.publisher()
    publisher.publish(world.topic("t"), "retained", qos=1, retain=True)
    client = member(world, "m", 0, qos=1)
    publisher.publish(world.topic("t"), "live", qos=1)
    client.expect_message(payload="live")


@corner(90, level=V5)
def test_nothing_is_lost_while_members_are_offline(world, resume_at):
    if world.target.name != "cluster":
        pytest.skip("our own policy")
    first = member(world, "first", 0, qos=1, clean=False)
    second = member(world, "second", 1, qos=1, clean=False)
    second.disconnect()
    publisher = world.publisher()
    for number in range(6):
        publisher.publish(world.topic("t"), str(number), qos=1)
    assert [m.payload for m in first.collect(6)] == [str(n).encode() for n in range(6)]
    first.disconnect()
    for number in range(6, 10):
        publisher.publish(world.topic("t"), str(number), qos=1)
    second.open(world.port(1 + resume_at), clean=False)
    assert sorted(m.payload for m in second.collect(4)) == [b"6", b"7", b"8", b"9"]


@corner(93, level=V5)
def test_a_member_whose_window_is_full_does_not_stop_the_others(world):
    full = member(world, "full", 0, qos=1, properties={"receive_maximum": 1})
    publisher = world.publisher()
    publisher.publish(world.topic("t"), "0", qos=1)
    held = full.receive()
    other = member(world, "other", 1, qos=1)
    for number in range(1, 8):
        publisher.publish(world.topic("t"), str(number), qos=1)
    assert sorted(m.payload for m in other.collect(7)) == [str(n).encode() for n in range(1, 8)]
    other.disconnect()
    full.send(encode_ack(PUBACK, held.packet_id, 5))
    publisher.publish(world.topic("t"), "again", qos=1)
    full.expect_message(payload="again")


@corner(85, level=4)
def test_share_is_a_plain_filter_or_refused_in_3_1_1(world):
    client = world.connect("s", 1)
    for name in ("$share", "$share/g", "$share//t"):
        try:
            assert client.subscribe((name, 1)) in ([1], [0x80])
        except Closed:
            client = world.connect("s", 1)
    client.ping()


@statement("MQTT-4.8.2-3", level=V5)
def test_the_groups_of_one_filter_get_a_copy_each(world, resume_at):
    groups = [member(world, f"m{n}", n, group=f"g{n}", clean=False) for n in range(2)]
    groups[0].disconnect()
    groups[0].open(world.port(resume_at), clean=False)
    publisher = world.publisher()
    for number in range(5):
        publisher.publish(world.topic("t"), str(number), qos=2)
    for one in groups:
        assert [one.expect_message().payload for _ in range(5)] == [str(n).encode() for n in range(5)]
