"""Corner cases that belong to no single statement: many of something, slow readers, floods."""

import time

import pytest

from mqtt import PING, PUBACK, PUBLISH, Closed, encode_publish, encode_subscribe
from statements import BOTH, corner, statement


@statement("MQTT-3.12.4-1", level=BOTH)
@corner(12)
def test_pingreq_is_answered(world):
    client = world.connect()
    for _ in range(3):
        client.ping()
    client.send(PING * 100)
    for _ in range(100):
        assert client.receive().flags == 0


@corner(43)
def test_sessions_beyond_the_limit_are_refused(world):
    port = world.special("few-sessions")
    accepted, refused = 0, 0
    for number in range(20):
        client = world.client(f"s{number}")
        try:
            reason = client.open(port, clean=False, expect=None).reason
        except Closed:
            reason = 3
        if reason == 0:
            accepted += 1
            client.disconnect()
        else:
            assert reason == (0x97 if world.level == 5 else 3), reason
            refused += 1
    assert accepted <= 10 and refused >= 10
    for number in range(10):  # room again for the tests that follow
        client = world.client(f"s{number}")
        if client.open(port, clean=True, expect=None).reason == 0:
            client.disconnect()


@corner(77)
@pytest.mark.parametrize("total", [2000, pytest.param(100000, marks=pytest.mark.slow)])
def test_many_retained_messages_come_to_a_slow_reader_and_block_nobody(world, total):
    publisher = world.publisher()
    publisher.timeout = 10 + total // 1000
    for start in range(0, total, 50):
        publisher.send(b"".join(encode_publish(world.topic(f"{start + n}"), f"{start + n}", 1, n + 1, retain=True,
                                               level=world.level) for n in range(50)))
        for _ in range(50):
            assert publisher.expect(PUBACK)
    slow = world.connect("slow", 1)
    slow.send(encode_subscribe(1, [(world.topic("#"), 1)], world.level))
    other = world.connect("other", 1)
    other.subscribe((world.unique + "o", 1))
    start = time.monotonic()
    publisher.publish(world.unique + "o", "quick", qos=1)
    other.expect_message(payload="quick")
    assert time.monotonic() - start < 5
    slow.next_id = 1
    got = set()
    while len(got) < total:
        found = slow.receive()
        if found.type == PUBLISH:
            assert found.retain
            got.add(int(slow.take(found).payload))
    publisher.send(b"".join(encode_publish(world.topic(f"{n}"), b"", 0, retain=True, level=world.level)
                            for n in range(total)))
    publisher.ping()


@corner(113)
@pytest.mark.parametrize("qos", [0, 1])
def test_a_subscriber_that_does_not_read_stops_nobody(world, qos):
    lazy = world.subscriber((world.topic("#"), qos), name="lazy", at=1)
    other = world.subscriber((world.topic("#"), qos), name="other", at=1)
    publisher = world.publisher()
    payload = bytes(20000)
    for number in range(500):    # each step within the patience of a client, else it raises Timeout
        publisher.publish(world.topic("x"), payload, qos=qos)
        if number % 10 == 0 or qos:
            other.next_message()
        if qos == 0 and number % 10 == 0:
            publisher.ping()
    publisher.ping()
    other.ping()
    try:
        lazy.ping()
    except Closed:
        pass


@corner(114)
def test_a_client_that_asks_without_reading_is_bounded(world):
    client = world.connect("flood", 1)
    client.socket.settimeout(1)
    try:
        for _ in range(60):
            client.socket.sendall(PING * 20000)
    except OSError:
        pass
    other = world.connect("other", 1)
    other.ping()
    other.publish(world.topic("x"), "x", qos=1)


@corner(126)
def test_a_retained_message_is_seen_once_by_a_subscription_at_another_node(world):
    publisher = world.publisher()
    for number in range(30):
        topic = world.topic(f"r{number}")
        reader = world.connect(f"s{number}", number % 2)
        publisher.start_publish(topic, "value", qos=1, retain=True)
        reader.subscribe((topic, 1), (world.topic(f"fence{number}"), 1))
        publisher.expect(PUBACK)
        publisher.unacknowledged.clear()
        before = world.fence(reader, world.topic(f"fence{number}"), publisher)
        assert [m.payload for m in before] == [b"value"], number
