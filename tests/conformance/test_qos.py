"""QoS 1 and 2 in both directions: handshakes, packet ids, what is sent again and when, order, and windows."""

import time

import pytest

from mqtt import (DISCONNECT, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, Closed, encode_ack, encode_publish,
                  encode_subscribe)
from statements import BOTH, V4, V5, corner, statement


def ack(world, kind, packet_id, reason=0):
    return encode_ack(kind, packet_id, world.level, reason)


def receive_publish(client, count=1):
    """The next PUBLISH packets, not acknowledged."""
    got = []
    while len(got) < count:
        found = client.receive()
        assert found.type == PUBLISH, f"{found}, expected PUBLISH"
        got.append(found)
    return got if count > 1 else got[0]


def persistent(world, qos=2, at=0, **options):
    client = world.connect("s", at, clean=False, **options)
    client.subscribe((world.topic("#"), qos))
    return client


# ---- the server as receiver ----

@statement("MQTT-3.3.4-1", "MQTT-2.3.1-6", "MQTT-4.3.2-2", "MQTT-4.3.3-2", "MQTT-4.3.1-1", "MQTT-2.3.1-2", level=V4)
@statement("MQTT-3.3.4-1", "MQTT-2.2.1-5", "MQTT-4.3.2-4", "MQTT-4.3.3-8", "MQTT-4.3.3-11", "MQTT-4.3.3-12",
           "MQTT-3.4.2-1",
           "MQTT-3.5.2-1", "MQTT-3.7.2-1", level=V5)
@pytest.mark.parametrize("packet_id", [1, 256, 65535])
def test_each_qos_has_its_answer(world, packet_id):
    subscriber = world.subscriber()
    client = world.publisher()
    client.send(encode_publish(world.topic("0"), "0", 0, level=world.level))
    client.expect_nothing()
    client.send(encode_publish(world.topic("1"), "1", 1, packet_id, level=world.level))
    found = client.receive()
    assert (found.type, found.packet_id, found.reason) == (PUBACK, packet_id, 0)
    for payload in ("2", "2 again"):
        client.send(encode_publish(world.topic("2"), payload, 2, packet_id, level=world.level))
        found = client.receive()
        assert (found.type, found.packet_id, found.reason) == (PUBREC, packet_id, 0)
        client.send(ack(world, PUBREL, packet_id))
        found = client.receive()
        assert (found.type, found.packet_id, found.reason) == (PUBCOMP, packet_id, 0)
    got = [subscriber.expect_message().payload for _ in range(4)]
    assert sorted(got) == [b"0", b"1", b"2", b"2 again"]


@statement("MQTT-4.3.3-2", "MQTT-2.3.1-3", "MQTT-3.3.1-1", level=V4)
@statement("MQTT-4.3.3-10", "MQTT-4.3.3-12", level=V5)
@corner(69)
@pytest.mark.parametrize("when", ["same-connection", "resumed"])
def test_a_repeated_qos_2_publish_is_delivered_once(world, resume_at, when):
    subscriber = world.subscriber()
    client = world.connect("p", 0, clean=False)
    for number, payload in enumerate(["first"] * (3 if when == "resumed" else 2)):
        client.send(encode_publish(world.topic("x"), payload, 2, 9, dup=number > 0, level=world.level))
        assert client.expect(PUBREC).packet_id == 9
        if when == "resumed":
            client.close()
            assert client.open(world.port(resume_at if number % 2 == 0 else 0), clean=False).session_present
    for _ in range(2):
        client.send(ack(world, PUBREL, 9))
        assert client.expect(PUBCOMP).packet_id == 9
    client.send(encode_publish(world.topic("x"), "new", 2, 9, level=world.level))
    assert client.expect(PUBREC).packet_id == 9
    client.send(ack(world, PUBREL, 9))
    assert client.expect(PUBCOMP).packet_id == 9
    assert [subscriber.expect_message().payload for _ in range(2)] == [b"first", b"new"]
    assert world.fence(subscriber) == []


@corner(71)
def test_another_payload_under_an_open_qos_2_id_is_a_repetition(world):
    subscriber = world.subscriber()
    client = world.publisher()
    for payload in ("first", "other"):
        client.send(encode_publish(world.topic("x"), payload, 2, 9, dup=payload != "first", level=world.level))
        assert client.expect(PUBREC).packet_id == 9
    client.send(ack(world, PUBREL, 9))
    assert client.expect(PUBCOMP).packet_id == 9
    assert [m.payload for m in world.fence(subscriber)] == [b"first"]


@statement("MQTT-4.3.3-2", level=V4)
@statement("MQTT-4.3.3-11", "MQTT-3.6.2-1", "MQTT-3.7.2-1", level=V5)
@corner(105)
def test_pubrel_for_an_unknown_id_is_answered(world):
    client = world.connect()
    client.send(ack(world, PUBREL, 1234))
    found = client.receive()
    assert (found.type, found.packet_id) == (PUBCOMP, 1234)
    assert found.reason in ((0,) if world.level == 4 else (0, 0x92))  # that ours says 0x92 is in test_reasons


@statement("MQTT-4.6.0-2", "MQTT-4.6.0-3", "MQTT-2.3.1-6", level=V4)
@statement("MQTT-2.2.1-5", "MQTT-4.6.0-4", level=V5)
@pytest.mark.parametrize("qos", [1, 2])
def test_acknowledgements_come_in_the_order_of_the_publishes(world, qos):
    client = world.publisher()
    ids = [7, 3, 99, 1, 65535, 50, 2, 60, 4, 5]
    client.send(b"".join(encode_publish(world.topic("x"), "x", qos, one, level=world.level) for one in ids))
    answers = [client.receive() for _ in ids]
    assert [a.packet_id for a in answers] == ids
    assert {a.type for a in answers} == {PUBACK if qos == 1 else PUBREC}
    if qos == 2:
        client.send(b"".join(ack(world, PUBREL, one) for one in reversed(ids)))
        answers = [client.receive() for _ in ids]
        assert sorted(a.packet_id for a in answers) == sorted(ids)
        assert {a.type for a in answers} == {PUBCOMP}


@statement("MQTT-3.3.4-7", "MQTT-3.3.4-8", level=V5)
@corner(67, level=V5)
def test_more_than_the_servers_receive_maximum_closes(world):
    qos = 2
    client = world.publisher()
    maximum = client.connack.properties.get("receive_maximum", 65535)
    if maximum > 5000:
        pytest.skip("the window is too wide to fill")
    first = 20000  # out of the way of the ids of SUBSCRIBE, which have to be free as well
    for number in range(maximum):
        client.send(encode_publish(world.topic("x"), "x", qos, first + number, level=5))
        client.expect(PUBREC)
    client.ping()
    assert client.subscribe((world.topic("y"), 1)) == [1]
    client.publish(world.topic("y"), "qos 0 is not counted", qos=0)
    client.expect_message(world.topic("y"))
    client.send(encode_publish(world.topic("x"), "x", qos, first, dup=True, level=5))
    assert client.expect(PUBREC).packet_id == first  # a repetition is not one more
    client.send(encode_publish(world.topic("x"), "too many", qos, first + maximum, level=5))
    last = client.expect_closed()
    assert last is None or last.reason in (0x93, 0x82), last


@statement("MQTT-3.3.4-7", level=V5)
@corner(67, level=V5)
def test_the_servers_window_opens_again_with_every_completion(world):
    client = world.publisher()
    maximum = client.connack.properties.get("receive_maximum", 65535)
    if maximum > 5000:
        pytest.skip("the window is too wide to fill")
    for round_number in range(3):
        for number in range(maximum):
            client.send(encode_publish(world.topic("x"), "x", 1 + number % 2, number + 1, level=5))
        for number in range(maximum):
            found = client.receive()
            if found.type == PUBREC:
                client.send(ack(world, PUBREL, found.packet_id))
        for number in range(maximum // 2):
            assert client.receive().type == PUBCOMP
    client.ping()


@corner(70)
def test_one_qos_2_id_many_times_without_pubrel(world):
    subscriber = world.subscriber()
    client = world.publisher()
    data = encode_publish(world.topic("x"), "once", 2, 5, level=world.level)
    try:
        for _ in range(40):
            client.send(data * 50)
            for _ in range(50):
                client.expect(PUBREC)
    except (Closed, OSError):
        pass
    got = world.fence(subscriber)
    assert [m.payload for m in got] in ([], [b"once"])  # a server may wait for PUBREL


# ---- the server as sender ----

@statement("MQTT-4.3.2-1", "MQTT-2.3.1-1", "MQTT-2.3.1-4", "MQTT-3.3.1-3", "MQTT-3.3.1-1", "MQTT-4.4.0-1",
           "MQTT-4.5.0-2",
           "MQTT-4.6.0-1", level=V4)
@statement("MQTT-4.3.2-1", "MQTT-4.3.2-2", "MQTT-4.3.2-3", "MQTT-2.2.1-4", "MQTT-3.3.1-1", "MQTT-3.3.1-3",
           "MQTT-4.4.0-1",
           "MQTT-4.5.0-2", "MQTT-4.6.0-1", level=V5)
@corner(124)
@pytest.mark.parametrize("qos", [1, 2])
def test_what_was_not_acknowledged_comes_again_in_order(world, resume_at, qos):
    client = persistent(world, qos)
    publisher = world.publisher()
    for number in range(8):
        publisher.publish(world.topic(f"t{number % 3}"), str(number), qos=qos)
    first = receive_publish(client, 8)
    assert [m.payload for m in first] == [str(n).encode() for n in range(8)]
    assert all(m.qos == qos and not m.dup and m.packet_id for m in first)
    assert len({m.packet_id for m in first}) == 8
    client.expect_nothing()
    client.disconnect()
    publisher.publish(world.topic("t0"), "queued", qos=qos)
    client.open(world.port(resume_at), clean=False)
    again = receive_publish(client, 9)
    assert [(m.packet_id, m.payload, m.topic) for m in again[:8]] == [(m.packet_id, m.payload, m.topic) for m in first]
    assert all(m.dup for m in again[:8])
    assert (again[8].payload, again[8].dup) == (b"queued", False)
    for one in again:
        client.send(ack(world, PUBACK if qos == 1 else PUBREC, one.packet_id))
    if qos == 2:
        for one in again:
            assert client.receive().type == PUBREL
            client.send(ack(world, PUBCOMP, one.packet_id))
    client.disconnect()
    client.open(world.port(0), clean=False)
    assert world.fence(client, publisher=publisher) == []


@statement("MQTT-4.3.3-1", "MQTT-4.4.0-1", "MQTT-2.3.1-4", "MQTT-2.2.2-1", "MQTT-4.6.0-4", level=V4)
@statement("MQTT-4.3.3-1", "MQTT-4.3.3-2", "MQTT-4.3.3-3", "MQTT-4.3.3-4", "MQTT-4.3.3-5", "MQTT-4.3.3-6",
           "MQTT-4.4.0-1",
           "MQTT-3.6.2-1", level=V5)
def test_qos_2_is_resumed_at_every_step(world, resume_at):
    client = persistent(world)
    world.publisher().publish(world.topic("x"), "x", qos=2)
    first = receive_publish(client)
    assert first.qos == 2 and not first.dup
    client.close()
    client.open(world.port(resume_at), clean=False)
    again = receive_publish(client)
    assert (again.packet_id, again.dup) == (first.packet_id, True)
    client.send(ack(world, PUBREC, first.packet_id))
    released = client.receive()
    assert (released.type, released.packet_id, released.flags, released.reason) == (PUBREL, first.packet_id, 2, 0)
    for at in (0, resume_at):
        client.close()
        client.open(world.port(at), clean=False)
        released = client.receive()
        assert (released.type, released.packet_id) == (PUBREL, first.packet_id)
        client.expect_nothing()
    client.send(ack(world, PUBCOMP, first.packet_id))
    client.ping()
    client.close()
    client.open(world.port(0), clean=False)
    client.expect_nothing()


@corner(107)
def test_pubrec_again_after_pubrel_is_answered_again(world):
    client = persistent(world)
    world.publisher().publish(world.topic("x"), "x", qos=2)
    first = receive_publish(client)
    for _ in range(3):
        client.send(ack(world, PUBREC, first.packet_id))
        found = client.receive()
        assert (found.type, found.packet_id) == (PUBREL, first.packet_id)
    client.send(ack(world, PUBCOMP, first.packet_id))
    client.ping()


@statement("MQTT-4.6.0-4", level=V4)
def test_pubrels_come_in_the_order_of_the_pubrecs(world):
    client = persistent(world)
    publisher = world.publisher()
    for number in range(10):
        publisher.publish(world.topic("x"), str(number), qos=2)
    got = receive_publish(client, 10)
    order = [got[n].packet_id for n in (3, 1, 4, 0, 5, 9, 2, 6, 8, 7)]
    client.send(b"".join(ack(world, PUBREC, one) for one in order))
    for packet_id in order:
        client.in_flight[packet_id] = "PUBREL"
        assert client.receive().packet_id == packet_id


@statement("MQTT-4.6.0-2", "MQTT-4.6.0-3", "MQTT-4.6.0-4", level=V5)
@pytest.mark.parametrize("qos", [1, 2])
def test_acknowledgements_in_any_order_are_understood(world, qos):
    client = persistent(world, qos)
    publisher = world.publisher()
    for number in range(10):
        publisher.publish(world.topic("x"), str(number), qos=qos)
    got = receive_publish(client, 10)
    for one in reversed(got):
        client.send(ack(world, PUBACK if qos == 1 else PUBREC, one.packet_id))
    if qos == 2:
        released = [client.receive() for _ in got]
        assert sorted(r.packet_id for r in released) == sorted(m.packet_id for m in got)
        for one in got:
            client.send(ack(world, PUBCOMP, one.packet_id))
    assert world.fence(client, publisher=publisher) == []


@statement("MQTT-4.3.3-4", "MQTT-4.4.0-2", level=V5)
@corner(109, level=V5)
@pytest.mark.parametrize("qos", [1, 2])
def test_a_negative_acknowledgement_ends_a_delivery(world, resume_at, qos):
    client = persistent(world, qos)
    publisher = world.publisher()
    publisher.publish(world.topic("x"), "refused", qos=qos)
    found = receive_publish(client)
    client.send(ack(world, PUBACK if qos == 1 else PUBREC, found.packet_id, 0x80))
    client.expect_nothing()
    client.disconnect()
    client.open(world.port(resume_at), clean=False)
    assert world.fence(client, publisher=publisher) == []


@statement("MQTT-4.3.3-9", level=V5)
def test_after_a_refused_pubrec_the_id_is_free(world):
    client = world.publisher()
    subscriber = world.subscriber()
    for _ in range(3):
        client.send(encode_publish("$SYS/conformance/refused", "x", 2, 5, level=5))
        try:
            found = client.expect(PUBREC)
        except Closed:
            client.open(world.port(2))
            continue
        if found.reason < 0x80:  # this server takes it: then an ordinary exchange must free the id
            client.send(ack(world, PUBREL, 5))
            assert client.expect(PUBCOMP).packet_id == 5
    client.send(encode_publish(world.topic("x"), "new", 2, 5, level=5))
    assert client.expect(PUBREC).reason in (0, 0x10)
    client.send(ack(world, PUBREL, 5))
    client.expect(PUBCOMP)
    subscriber.expect_message(world.topic("x"), "new")


@statement("MQTT-4.3.3-7", "MQTT-4.3.3-13", level=V5)
@corner(55, level=V5)
def test_expiry_does_not_touch_a_message_that_was_sent(world, resume_at):
    client = persistent(world)
    world.publisher().publish(world.topic("x"), "sent", qos=2, properties={"message_expiry": 1})
    first = receive_publish(client)
    client.close()
    time.sleep(1.3)
    client.open(world.port(resume_at), clean=False)
    again = receive_publish(client)
    assert (again.packet_id, again.payload, again.dup) == (first.packet_id, b"sent", True)
    client.send(ack(world, PUBREC, first.packet_id))
    assert client.receive().type == PUBREL
    client.send(ack(world, PUBCOMP, first.packet_id))
    client.ping()


@corner(104)
def test_acknowledgements_of_unknown_ids_do_no_harm(world):
    client = persistent(world, 1, **({"properties": {"receive_maximum": 2}} if world.level == 5 else {}))
    client.send(ack(world, PUBACK, 4321) + ack(world, PUBCOMP, 4322))
    client.expect_nothing()
    client.send(ack(world, PUBREC, 4323))
    if world.level == 5:
        found = client.receive()
        assert (found.type, found.packet_id, found.reason) == (PUBREL, 4323, 0x92)
    publisher = world.publisher()
    client.ping()
    client.in_flight.clear()
    for number in range(5):
        publisher.publish(world.topic("x"), str(number))
    receive_publish(client, 2)  # StrictClient sees to it that there are no more than the Receive Maximum


@corner(106)
def test_an_acknowledgement_of_the_wrong_kind_loses_nothing(world, resume_at):
    client = persistent(world)
    world.publisher().publish(world.topic("x"), "x", qos=2)
    first = receive_publish(client)
    client.send(ack(world, PUBACK, first.packet_id))
    try:
        client.ping()
    except (Closed, AssertionError):
        pass
    client.close()
    client.open(world.port(resume_at), clean=False)
    again = receive_publish(client)
    assert again.packet_id == first.packet_id


# ---- order ----

@statement("MQTT-4.6.0-5", "MQTT-4.6.0-6", level=BOTH)
@statement("MQTT-7.1.1-1", level=V4)
@statement("MQTT-4.2-1", level=V5)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_of_one_topic_arrive_in_the_order_published(world, qos):
    subscribers = [world.subscriber((world.topic("#"), granted), name=f"s{granted}", at=granted)
                   for granted in range(3)]
    publisher = world.publisher(at=1)
    window = 50
    for start in range(0, 500, window):
        data = b""
        for number in range(start, start + window):
            data += encode_publish(world.topic(f"t{number % 5}"), str(number), qos, 1 + number % window,
                                   level=world.level)
        publisher.send(data)
        for _ in range(window if qos else 0):
            found = publisher.receive()
            if found.type == PUBREC:
                publisher.send(ack(world, PUBREL, found.packet_id))
        for _ in range(window if qos == 2 else 0):
            assert publisher.receive().type == PUBCOMP
    for subscriber in subscribers:
        got = {}
        for _ in range(500):
            found = subscriber.next_message(timeout=20)
            got.setdefault(found.topic, []).append(int(found.payload))
        for numbers in got.values():
            assert numbers == sorted(numbers) and len(set(numbers)) == 100


# ---- windows ----

@statement("MQTT-3.3.4-9", "MQTT-4.9.0-1", "MQTT-4.9.0-2", level=V5)
@corner(110, level=V5)
@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("maximum", [1, 3])
def test_no_more_is_in_flight_than_the_client_allows(world, resume_at, qos, maximum):
    client = world.connect("s", 0, clean=False, properties={"receive_maximum": maximum})
    client.subscribe((world.topic("#"), qos))
    publisher = world.publisher()
    for number in range(maximum + 4):
        publisher.publish(world.topic("x"), str(number), qos=qos)
    first = [client.receive() for _ in range(maximum)]
    client.expect_nothing()
    client.close()
    client.open(world.port(resume_at), clean=False, properties={"receive_maximum": maximum})
    first = [client.receive() for _ in range(maximum)]
    client.expect_nothing()
    payloads = [m.payload for m in first]
    waiting = first
    while len(payloads) < maximum + 4:
        one = waiting.pop(0)
        if qos == 1:
            client.send(ack(world, PUBACK, one.packet_id))
        else:
            client.send(ack(world, PUBREC, one.packet_id))
            assert client.receive().type == PUBREL
            client.expect_nothing()
            client.send(ack(world, PUBCOMP, one.packet_id))
        found = receive_publish(client)
        payloads.append(found.payload)
        waiting.append(found)
    assert payloads == [str(n).encode() for n in range(maximum + 4)]


@statement("MQTT-3.3.4-9", level=V5)
def test_a_refusing_pubrec_opens_the_window(world):
    client = world.connect("s", 0, properties={"receive_maximum": 1})
    client.subscribe((world.topic("#"), 2))
    publisher = world.publisher()
    publisher.publish(world.topic("x"), "1", qos=2)
    publisher.publish(world.topic("x"), "2", qos=2)
    client.send(ack(world, PUBREC, receive_publish(client).packet_id, 0x83))
    assert receive_publish(client).payload == b"2"


@statement("MQTT-3.3.4-10", "MQTT-3.3.4-8", "MQTT-4.9.0-3", level=V5)
@corner(110, level=V5)
def test_everything_else_goes_on_while_the_window_is_full(world):
    client = world.connect("s", 0, properties={"receive_maximum": 1})
    client.subscribe((world.topic("#"), 2))
    publisher = world.publisher()
    publisher.publish(world.topic("x"), "first", qos=2)
    publisher.publish(world.topic("x"), "waits", qos=2)
    first = receive_publish(client)
    client.ping()
    assert client.subscribe((world.topic("y"), 0)) == [0]
    client.send(encode_publish(world.unique + "else", "in", 2, 9, level=5))
    assert client.receive().type == PUBREC
    client.send(ack(world, PUBREL, 9))
    assert client.receive().type == PUBCOMP
    publisher.publish(world.topic("z"), "qos 0", qos=0)
    found = receive_publish(client)
    assert (found.payload, found.qos) == (b"qos 0", 0)
    client.send(ack(world, PUBREC, first.packet_id))
    assert client.receive().type == PUBREL
    client.send(ack(world, PUBCOMP, first.packet_id))
    assert receive_publish(client).payload == b"waits"


def publish_many(world, publisher, total, qos=1, batch=50):
    for start in range(0, total, batch):
        ids = range(1, min(batch, total - start) + 1)
        publisher.send(b"".join(encode_publish(world.topic("x"), str(start + n - 1), qos, n, level=world.level)
                                for n in ids))
        for _ in ids:
            assert publisher.receive().type == (PUBACK if qos == 1 else PUBREC)
        if qos == 2:
            publisher.send(b"".join(ack(world, PUBREL, n) for n in ids))
            for _ in ids:
                assert publisher.receive().type == PUBCOMP


@corner(112)
@pytest.mark.parametrize("qos", [1, 2])
def test_with_the_widest_window_full_the_next_message_waits_for_a_free_id(world, qos):
    """65,535 cannot be in flight here: the server's own limit is 1,000 at most, and set to that."""
    client = world.client("s", timeout=20)
    client.open(world.special("wide-window"), clean=False)
    client.subscribe((world.topic("#"), qos))
    publisher = world.client("p", timeout=20)
    publisher.open(world.special("wide-window"))
    total = 1000
    publish_many(world, publisher, total + 3, qos)
    first = receive_publish(client, total)      # StrictClient: no id twice
    client.expect_nothing()
    for one in first[:3]:
        if qos == 2:
            client.send(ack(world, PUBREC, one.packet_id))
            client.expect(PUBREL)
        client.send(ack(world, PUBACK if qos == 1 else PUBCOMP, one.packet_id))
    assert [found.payload for found in receive_publish(client, 3)] == [str(total + n).encode() for n in range(3)]
    client.expect_nothing()
    client.close()
    client.open(world.special("wide-window"), clean=True)


@corner(67, 112, level=V4)
@pytest.mark.slow
def test_a_3_1_1_client_may_open_every_packet_id(world):
    """Nothing tells it of a Receive Maximum: 65,535 QoS 2 exchanges at once, each completed, each delivered once."""
    subscriber, client = world.subscriber(), world.publisher()
    ids = range(1, 65536)
    for start in range(0, len(ids), 500):
        for packet_id in ids[start:start + 500]:
            client.send(encode_publish(world.topic("x"), str(packet_id), 2, packet_id, level=world.level))
        for packet_id in ids[start:start + 500]:
            assert client.expect(PUBREC, 60).packet_id == packet_id
            assert subscriber.expect_message(timeout=60).payload == str(packet_id).encode()
    client.send(encode_publish(world.topic("x"), "other", 2, 1, dup=True, level=world.level))
    assert client.expect(PUBREC).packet_id == 1
    for start in range(0, len(ids), 500):
        client.send(b"".join(ack(world, PUBREL, packet_id) for packet_id in ids[start:start + 500]))
        for packet_id in ids[start:start + 500]:
            assert client.expect(PUBCOMP, 60).packet_id == packet_id
    assert world.fence(subscriber) == []


@statement("MQTT-2.3.1-4", level=V4)
@statement("MQTT-2.2.1-4", level=V5)
@corner(112)
def test_ids_in_flight_are_never_used_again(world):
    client = persistent(world, 1)
    publisher = world.publisher()
    total = 1000
    publish_many(world, publisher, total)
    unanswered, got = [], 0
    while got < total:  # StrictClient sees an id that is in use
        client.send(b"\xc0\0")
        found = client.receive()
        while found.type == PUBLISH:
            got += 1
            unanswered.append(found)
            found = client.receive()
        for one in unanswered[::2]:
            client.send(ack(world, PUBACK, one.packet_id))
        unanswered = unanswered[1::2]
    assert got == total


# ---- sizes ----

@statement("MQTT-3.1.2-24", "MQTT-3.1.2-25", level=V5)
@corner(111, level=V5)
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("way", ["live", "queued"])
def test_what_is_too_large_for_a_client_is_dropped_for_it_alone(world, resume_at, qos, way):
    limits = {"maximum_packet_size": 60, "receive_maximum": 2}
    small = world.connect("small", 0, clean=False, properties=limits)
    small.subscribe((world.topic("#"), qos))
    if way == "queued":
        if qos == 0:
            pytest.skip("QoS 0 is not kept")
        small.disconnect()
    large = world.subscriber((world.topic("#"), qos), name="large", at=1)
    publisher = world.publisher()
    sizes = list(range(20, 60))
    for size in sizes:
        publisher.publish(world.topic("x"), b"x" * size, qos=qos)
    if way == "queued":
        small.open(world.port(resume_at), clean=False, properties=limits)
    head = 2 + 2 + len(world.topic("x")) + (2 if qos else 0) + 1
    fitting = [size for size in sizes if head + size <= 60]
    assert [len(small.expect_message().payload) for _ in fitting] == fitting
    assert [len(large.expect_message().payload) for _ in sizes] == sizes
    publisher.publish(world.topic("x"), "end", qos=qos)
    small.expect_message(payload="end")


@statement("MQTT-3.2.2-19", "MQTT-3.2.2-20", "MQTT-3.4.2-2", "MQTT-3.4.2-3", "MQTT-3.5.2-2", "MQTT-3.5.2-3",
           "MQTT-3.6.2-2",
           "MQTT-3.6.2-3", "MQTT-3.7.2-2", "MQTT-3.7.2-3", "MQTT-3.9.2-1", "MQTT-3.9.2-2", "MQTT-3.11.2-1",
           "MQTT-3.11.2-2",
           "MQTT-3.14.2-3", "MQTT-3.14.2-4", level=V5)
def test_no_answer_is_larger_than_the_client_allows(world):
    """Every kind of answer, with reasons to explain itself, at clients whose limit leaves no room for words;
    StrictClient measures. The limit is the size of the server's own CONNACK, which cannot be shortened."""
    probe = world.connect("probe")
    size = max(probe.connack.size, 20)
    client = world.connect("s", 1, properties={"maximum_packet_size": size})
    topic = world.unique
    client.publish(topic, "nobody", qos=1)
    client.publish(topic, "nobody", qos=2)
    client.send(ack(world, PUBREL, 77))
    assert client.receive().type == PUBCOMP
    client.send(ack(world, PUBREC, 78))
    assert client.receive().type == PUBREL
    client.send(encode_subscribe(5, [(topic, 1), ("a/#/b", 1)], 5))
    try:
        assert client.receive().type in (SUBACK, DISCONNECT)
        client.unsubscribe(topic, "nothing")
        client.subscribe((topic, 1))
        client.publish(topic, "x", qos=1)
        client.next_message()
    except Closed:
        client = world.connect("s", 1, properties={"maximum_packet_size": size})
    client.send(b"\x36\0")
    last = client.expect_closed()
    assert last is None or last.type == DISCONNECT


@statement("MQTT-3.2.2-19", "MQTT-3.2.2-20", level=V5)
def test_a_connack_that_does_not_fit_is_not_sent(world):
    client = world.client()
    try:
        client.open(world.port(), expect=None, properties={"maximum_packet_size": 8})
        client.ping()
    except Closed:
        pass


@statement("MQTT-3.1.2-29", level=V5)
@corner(56, level=V5)
def test_no_reasons_are_given_to_who_does_not_want_them(world):
    client = world.connect("s", 0, properties={"request_problem_info": 0})
    client.publish(world.topic("nobody"), "x", qos=1)
    client.publish(world.topic("nobody"), "x", qos=2)
    client.send(ack(world, PUBREL, 77))
    assert client.receive().type == PUBCOMP
    client.subscribe((world.topic("a"), 1))
    client.unsubscribe(world.topic("b"))
    client.publish(world.topic("a"), "x", qos=1, properties={"user_property": [("kept", "here")]})
    assert client.next_message().properties["user_property"] == [("kept", "here")]


@statement("MQTT-3.1.2-28", level=V5)
@pytest.mark.parametrize("asked", [None, 0, 1])
def test_response_information_only_for_who_asks(world, asked):
    client = world.connect(properties={} if asked is None else {"request_response_info": asked})
    if asked != 1:
        assert "response_info" not in client.connack.properties


@statement("MQTT-2.2.2-1", "MQTT-2.3.1-5", "MQTT-2.3.1-6", "MQTT-2.3.1-7", "MQTT-3.3.2-1", level=V4)
@statement("MQTT-2.1.3-1", "MQTT-1.5.5-1", "MQTT-2.2.1-5", "MQTT-2.2.2-1", level=V5)
def test_every_packet_of_the_server_is_well_formed(world):
    """Makes the server send each kind of packet, of many lengths; mqtt.decode and StrictClient look at every bit."""
    client = world.subscriber(at=0)
    publisher = world.publisher()
    for size in (0, 1, 100, 127, 128, 16383, 16384, 100000):
        for qos in (0, 1, 2):
            publisher.publish(world.topic("x"), b"x" * size, qos=qos)
            assert len(client.expect_message(qos=qos).payload) == size
    client.unsubscribe(world.topic("#"))
    client.ping()
    client.ping()
