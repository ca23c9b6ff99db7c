"""PUBLISH: what is retained, what is forwarded, and how: payload, properties, flags, topic aliases."""

import time

import pytest

from mqtt import PUBACK, PUBLISH, Closed, encode_publish, packet, text
from statements import BOTH, V4, V5, corner, statement


def retained(world, client=None, topic="#", at=1):
    """What a new subscription is given: [(payload, qos, retain)]."""
    late = client or world.connect(f"late{len(world.made)}", at)
    late.subscribe((world.topic(topic), 2))
    if topic != "#":
        late.subscribe((world.topic("fence"), 1))
    return [(m.payload, m.qos, m.retain) for m in world.fence(late)]


@statement("MQTT-3.3.1-5", "MQTT-3.3.1-6", "MQTT-3.3.1-8", "MQTT-3.1.2-7", level=V4)
@statement("MQTT-3.3.1-5", "MQTT-3.3.1-9", level=V5)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_retained_message_is_given_to_later_subscriptions(world, qos):
    publisher = world.publisher()
    publisher.publish(world.topic("a"), "old", qos=qos, retain=True)
    publisher.publish(world.topic("a"), "new", qos=qos, retain=True)
    publisher.publish(world.topic("b"), "other", qos=1, retain=True)
    publisher.disconnect()
    got = retained(world)
    assert sorted(got) == [(b"new", qos, True), (b"other", 1, True)]


@statement("MQTT-3.3.1-7", level=V4)
def test_a_retained_qos_0_message_replaces_the_older_one(world):
    publisher = world.publisher()
    publisher.publish(world.topic("a"), "old", qos=2, retain=True)
    publisher.publish(world.topic("a"), "new", qos=0, retain=True)
    publisher.publish(world.topic("a/b"), "x", qos=1)
    assert retained(world) == [(b"new", 0, True)]


@statement("MQTT-3.3.1-9", level=V4)
@statement("MQTT-3.3.1-12", level=V5)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_live_delivery_does_not_carry_the_retain_flag(world, qos):
    subscriber = world.subscriber()
    world.publisher().publish(world.topic("a"), "x", qos=qos, retain=True)
    subscriber.expect_message(world.topic("a"), "x", retain=False, qos=qos)


@statement("MQTT-3.3.1-13", "MQTT-3.3.1-12", level=V5)
@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("as_published", [False, True])
@pytest.mark.parametrize("qos", [0, 1])
def test_retain_as_published(world, retain, as_published, qos):
    subscriber = world.subscriber((world.topic("#"), 1 | (8 if as_published else 0)))
    world.publisher().publish(world.topic("a"), "x", qos=qos, retain=retain)
    subscriber.expect_message(world.topic("a"), "x", retain=retain and as_published)


@statement("MQTT-3.3.1-12", level=V5)
@statement("MQTT-3.3.1-8", level=V4)
def test_a_message_retained_earlier_has_the_flag_whatever_the_option(world):
    world.publisher().publish(world.topic("a"), "x", qos=1, retain=True)
    subscriber = world.subscriber((world.topic("#"), 1))
    subscriber.expect_message(world.topic("a"), "x", retain=True)


@statement("MQTT-3.3.1-10", "MQTT-3.3.1-11", level=V4)
@statement("MQTT-3.3.1-6", "MQTT-3.3.1-7", level=V5)
@corner(75)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_an_empty_retained_message_is_forwarded_and_erases(world, qos):
    subscriber = world.subscriber()
    publisher = world.publisher()
    publisher.publish(world.topic("a"), "x", qos=1, retain=True)
    subscriber.expect_message(world.topic("a"), "x")
    for _ in range(2):
        publisher.publish(world.topic("a"), b"", qos=qos, retain=True)
        subscriber.expect_message(world.topic("a"), b"", retain=False)
    publisher.publish(world.topic("missing"), b"", qos=qos, retain=True)
    subscriber.expect_message(world.topic("missing"), b"")
    publisher.publish(world.topic("z"), "z", qos=1)
    assert retained(world) == []


@statement("MQTT-3.3.1-12", level=V4)
@statement("MQTT-3.3.1-8", level=V5)
def test_a_message_without_the_flag_leaves_the_retained_one_alone(world):
    publisher = world.publisher()
    publisher.publish(world.topic("a"), "kept", qos=1, retain=True)
    publisher.publish(world.topic("a"), "passing", qos=1)
    publisher.publish(world.topic("b"), "passing", qos=1)
    publisher.publish(world.topic("a"), b"", qos=1)
    assert retained(world) == [(b"kept", 1, True)]


@statement("MQTT-3.3.1-5", "MQTT-3.3.2-15", "MQTT-3.3.2-16", "MQTT-3.3.2-17", "MQTT-3.3.2-18", "MQTT-3.3.2-20",
           "MQTT-3.3.2-4", "MQTT-1.5.4-3", level=V5)
@pytest.mark.parametrize("way", ["live", "live-qos-0", "retained", "queued"])
def test_properties_are_passed_on_unchanged(world, way):
    properties = {"payload_format": 1, "content_type": "text/\ufeffplain", "response_topic": "a/b/\u00e9",
                  "correlation_data": b"\0\x01\xff\0", "user_property": [("b", "1"), ("a", "2"), ("b", "1"), ("", "")]}
    filters = (world.topic("x"), 1)
    subscriber = world.connect("s", 1, clean=False)
    if way != "retained":
        subscriber.subscribe(filters)
    if way == "queued":
        subscriber.disconnect()
    world.publisher().publish(world.topic("x"), "payload", qos=0 if way == "live-qos-0" else 1,
                              retain=way == "retained", properties=properties)
    if way == "queued":
        subscriber.open(world.port(0), clean=False)
    if way == "retained":
        subscriber.subscribe(filters)
    found = subscriber.expect_message(world.topic("x"), "payload")
    found.properties.pop("topic_alias", None)
    assert found.properties == properties
    assert found.properties["user_property"] == properties["user_property"]


@statement("MQTT-3.3.2-4", level=V5)
@pytest.mark.parametrize("value", [0, 1])
def test_the_payload_format_indicator_is_passed_on(world, value):
    subscriber = world.subscriber()
    world.publisher().publish(world.topic("x"), "text", properties={"payload_format": value})
    assert subscriber.expect_message(world.topic("x")).properties.get("payload_format") == value


@corner(53, level=V5)
def test_payload_format_1_with_other_bytes_is_refused_or_forwarded(world):
    subscriber = world.subscriber()
    publisher = world.publisher()
    reason = publisher.publish(world.topic("x"), b"\xff\xfe", properties={"payload_format": 1})
    assert reason in (0, 0x99)
    got = world.fence(subscriber)
    assert [m.payload for m in got] == ([b"\xff\xfe"] if reason == 0 else [])


@statement("MQTT-3.3.2-5", "MQTT-4.3.3-13", level=V5)
@corner(55, level=V5)
@pytest.mark.parametrize("qos", [1, 2])
def test_an_expired_message_is_not_delivered(world, resume_at, qos):
    subscriber = world.connect("s", 0, clean=False)
    subscriber.subscribe((world.topic("#"), 2))
    subscriber.disconnect()
    publisher = world.publisher()
    assert publisher.publish(world.topic("x"), "short", qos=qos, properties={"message_expiry": 1}) < 0x80
    assert publisher.publish(world.topic("y"), "kept", qos=qos, retain=True, properties={"message_expiry": 1}) < 0x80
    assert publisher.publish(world.topic("x"), "long", qos=qos, properties={"message_expiry": 0xFFFFFFFF}) < 0x80
    time.sleep(2.1)
    subscriber.open(world.port(resume_at), clean=False)
    got = world.fence(subscriber, publisher=publisher)
    assert [m.payload for m in got] == [b"long"]
    assert 0xFFFFFFFF - 5 <= got[0].properties["message_expiry"] < 0xFFFFFFFF
    assert retained(world) == []


@statement("MQTT-3.3.2-6", level=V5)
@corner(55, level=V5)
def test_the_expiry_that_is_left_is_passed_on(world, resume_at):
    subscriber = world.connect("s", 0, clean=False)
    subscriber.subscribe((world.topic("#"), 1))
    publisher = world.publisher()
    publisher.publish(world.topic("x"), "live", properties={"message_expiry": 100})
    assert subscriber.expect_message().properties["message_expiry"] in (99, 100)
    subscriber.disconnect()
    publisher.publish(world.topic("x"), "queued", properties={"message_expiry": 100})
    publisher.publish(world.topic("r"), "retained", retain=True, properties={"message_expiry": 100})
    time.sleep(1.3)
    subscriber.open(world.port(resume_at), clean=False)
    left = [subscriber.expect_message(), subscriber.expect_message()]
    late = world.connect("late", 2)
    late.subscribe((world.topic("r"), 1))
    left.append(late.expect_message())
    assert [98 <= m.properties["message_expiry"] <= 99 for m in left] == [True] * 3, left


@statement("MQTT-3.3.1-3", "MQTT-4.3.2-2", level=V4)
@statement("MQTT-3.3.1-3", "MQTT-4.3.2-5", level=V5)
@corner(72)
def test_dup_of_a_publisher_is_not_passed_on(world):
    subscriber = world.subscriber()
    publisher = world.publisher()
    for number in range(3):
        publisher.send(encode_publish(world.topic("x"), str(number), 1, 77, dup=number > 0, level=world.level))
        ack = publisher.expect(PUBACK)
        assert ack.packet_id == 77
    for number in range(3):
        subscriber.expect_message(world.topic("x"), str(number), dup=False)


@statement("MQTT-2.3.1-5", "MQTT-4.3.1-1", "MQTT-3.3.1-2", level=V4)
@statement("MQTT-2.2.1-2", "MQTT-4.3.1-1", "MQTT-3.3.1-2", level=V5)
def test_qos_0_has_no_packet_id(world):
    subscriber = world.subscriber()
    publisher = world.publisher()
    publisher.send(packet(0x30, text(world.topic("x")) + (b"\0" if world.level == 5 else b"") + b"\x12\x34rest"))
    found = subscriber.expect_message(world.topic("x"), b"\x12\x34rest", qos=0, dup=False, packet_id=None)
    assert found.flags == 0


@statement("MQTT-3.3.2-3", level=BOTH)
def test_the_topic_delivered_is_the_topic_published(world):
    subscriber = world.subscriber((world.topic("+/b/#"), 1))
    publisher = world.publisher()
    for name in ("a/b", "x/b/c/d", "/b", "a/b/"):
        if name == "/b":
            continue
        publisher.publish(world.topic(name), name)
        subscriber.expect_message(world.topic(name), name)


@statement("MQTT-4.5.0-1", level=BOTH)
def test_every_matching_session_gets_the_message(world):
    subscribers = []
    for number in range(9):
        one = world.connect(f"s{number}", number, clean=number % 2 == 0)
        one.subscribe((world.topic(["a", "+", "#"][number % 3]), number % 3))
        if number % 2:
            one.disconnect()
        subscribers.append(one)
    publisher = world.publisher()
    publisher.publish(world.topic("a"), "x", qos=2)
    for number, one in enumerate(subscribers):
        if number % 2:
            one.open(world.port(number + 1), clean=False)
            if number % 3 == 0:
                continue  # QoS 0 need not be kept
        one.expect_message(world.topic("a"), "x", qos=number % 3)


# ---- topic aliases ----

def alias_maximum(world, client):
    maximum = client.connack.properties.get("topic_alias_maximum", 0)
    assert maximum > 0, "the server offers no topic aliases"
    return maximum


@statement("MQTT-3.3.2-12", "MQTT-3.3.2-3", "MQTT-4.7.3-1", level=V5)
@corner(64, level=V5)
def test_every_alias_up_to_the_maximum_works(world):
    subscriber = world.subscriber()
    publisher = world.publisher()
    maximum = alias_maximum(world, publisher)
    for alias in sorted({1, 2, maximum}):
        publisher.publish(world.topic(f"a{alias}"), "set", qos=1, properties={"topic_alias": alias})
        subscriber.expect_message(world.topic(f"a{alias}"), "set")
    for alias in sorted({1, 2, maximum}):
        for qos in (0, 1, 2):
            publisher.publish("", str(qos), qos=qos, properties={"topic_alias": alias})
            subscriber.expect_message(world.topic(f"a{alias}"), str(qos))
    publisher.publish(world.topic("other"), "set again", qos=1, properties={"topic_alias": 1})
    subscriber.expect_message(world.topic("other"), "set again")
    publisher.publish("", "x", qos=2, properties={"topic_alias": 1})
    subscriber.expect_message(world.topic("other"), "x")


@statement("MQTT-3.3.2-7", level=V5)
@corner(63, level=V5)
def test_an_alias_dies_with_its_connection(world, resume_at):
    publisher = world.connect("p", 0, clean=False)
    alias_maximum(world, publisher)
    publisher.publish(world.topic("x"), "set", properties={"topic_alias": 1})
    publisher.disconnect()
    publisher.open(world.port(resume_at), clean=False)
    publisher.start_publish("", "lost", properties={"topic_alias": 1})
    last = publisher.expect_closed()
    assert last is None or last.reason in (0x82, 0x94, 0x81), last
    publisher.unacknowledged.clear()


@statement("MQTT-3.3.2-7", level=V5)
@corner(63, level=V5)
def test_an_alias_of_another_client_is_unknown(world):
    first, second = world.connect("p1", 0), world.connect("p2", 0)
    alias_maximum(world, first)
    first.publish(world.topic("x"), "set", properties={"topic_alias": 1})
    second.start_publish("", "lost", properties={"topic_alias": 1})
    second.expect_closed()


@statement("MQTT-3.3.2-9", "MQTT-3.2.2-17", level=V5)
def test_an_alias_above_the_announced_maximum_closes(world):
    publisher = world.publisher()
    maximum = publisher.connack.properties.get("topic_alias_maximum", 0)
    publisher.start_publish(world.topic("x"), "x", properties={"topic_alias": maximum + 1})
    last = publisher.expect_closed()
    assert last is None or last.reason in (0x94, 0x82, 0x81), last


@statement("MQTT-3.1.2-27", level=V5)
@pytest.mark.parametrize("announced", [None, 0])
def test_no_alias_comes_to_a_client_that_wants_none(world, announced):
    properties = {} if announced is None else {"topic_alias_maximum": announced}
    subscriber = world.subscriber(properties=properties)
    publisher = world.publisher()
    for _ in range(30):
        publisher.publish(world.topic("same/topic/again/and/again"), "x")
    world.fence(subscriber, publisher=publisher)
    assert all("topic_alias" not in m.properties for m in subscriber.raw_received)


@statement("MQTT-3.1.2-26", "MQTT-3.3.2-10", "MQTT-3.3.2-11", level=V5)
def test_aliases_from_the_server_are_within_the_clients_maximum_and_right(world):
    subscriber = world.subscriber(properties={"topic_alias_maximum": 3})
    publisher = world.publisher()
    for number in range(60):
        publisher.publish(world.topic(f"t{number % 7}"), str(number % 7), qos=number % 2)
    seen = 0
    while seen < 60:
        found = subscriber.next_message()  # StrictClient checks the alias and resolves it
        assert found.topic == world.topic(f"t{found.payload.decode()}")
        assert found.alias is None or 1 <= found.alias <= 3
        seen += 1


@corner(64, level=V5)
def test_messages_sent_again_have_a_topic_or_a_valid_alias(world, resume_at):
    subscriber = world.connect("s", 0, clean=False, properties={"topic_alias_maximum": 1})
    subscriber.subscribe((world.topic("#"), 1))
    publisher = world.publisher()
    for number in range(6):
        publisher.publish(world.topic(f"t{number % 2}"), str(number % 2))
    for _ in range(6):
        assert subscriber.receive().type == PUBLISH
    subscriber.close()
    subscriber.open(world.port(resume_at), clean=False)
    for _ in range(6):
        found = subscriber.next_message()
        assert found.topic == world.topic(f"t{found.payload.decode()}"), found


# ---- what the server does not want ----

@statement("MQTT-3.2.2-15", level=V5)
@corner(68)
def test_a_packet_above_the_servers_maximum_closes(world):
    client = world.client("big")
    client.open(world.special("small-packets"))
    if world.level == 5:
        assert client.connack.properties.get("maximum_packet_size") == 2000
    client.publish(world.topic("x"), b"x" * 1000)
    client.send(b"\x32" + b"\xd1\x0f")  # 2,001 bytes follow; none is sent
    if world.target.name == "mosquitto":
        client.send(bytes(2001))  # it decides at the end
    last = client.expect_closed()
    assert last is None or last.reason in (0x95, 0x81), last


@statement("MQTT-3.2.2-9", "MQTT-3.2.2-10", "MQTT-3.2.2-11", level=V5)
def test_a_server_with_maximum_qos_1(world):
    client = world.client("q")
    client.open(world.special("qos-1-at-most"))
    assert client.connack.properties.get("maximum_qos") == 1
    codes = client.subscribe((world.topic("0"), 0), (world.topic("1"), 1), (world.topic("2"), 2))
    assert codes == [0, 1, 1]
    client.start_publish(world.topic("0"), "too much", qos=2)
    client.expect_closed((0x9B, 0x82, 0x81))


@statement("MQTT-3.2.2-9", level=V5)
def test_maximum_qos_is_absent_where_qos_2_works(world):
    client = world.connect()
    assert "maximum_qos" not in client.connack.properties
    assert client.subscribe((world.topic("x"), 2)) == [2]


@statement("MQTT-3.2.2-12", level=V5)
def test_a_will_above_the_maximum_qos_is_refused(world):
    client = world.client("q")
    client.dial(world.special("qos-1-at-most"))
    try:
        connack = client.open(world.special("qos-1-at-most"), expect=None,
                              will={"topic": world.topic("w"), "payload": b"w", "qos": 2})
    except Closed:
        return
    assert connack.reason == 0x9B
    with pytest.raises(Closed):
        client.receive()


@statement("MQTT-3.2.2-13", level=V5)
def test_a_retained_will_is_refused_where_nothing_is_retained(world):
    client = world.client("r")
    try:
        connack = client.open(world.special("no-retain"), expect=None,
                              will={"topic": world.topic("w"), "payload": b"w", "retain": True})
    except Closed:
        return
    assert connack.reason == 0x9A
    with pytest.raises(Closed):
        client.receive()


@statement("MQTT-3.2.2-14", level=V5)
def test_a_retained_message_closes_where_nothing_is_retained(world):
    client = world.client("r")
    client.open(world.special("no-retain"))
    assert client.connack.properties.get("retain_available") == 0
    client.start_publish(world.topic("x"), "x", retain=True)
    client.expect_closed((0x9A, 0x82, 0x81))


@statement("MQTT-3.3.5-2", level=V4)
@statement("MQTT-3.4.2-1", "MQTT-3.5.2-1", level=V5)
@corner(73, 79)
@pytest.mark.parametrize("topic", ["$SYS/conformance", "$share/x/y", "$other/x"])
def test_a_publish_to_a_dollar_topic_is_not_seen_by_wildcards(world, topic):
    subscriber = world.subscriber(("#", 1), ("+/conformance", 1), name="all")
    publisher = world.publisher()
    for qos in (0, 1, 2):
        try:
            reason = publisher.publish(topic, "dollar", qos=qos)
            assert reason in (0, 0x10, 0x87, 0x90), hex(reason)
        except Closed:
            publisher = world.connect("again", 2)
    got = world.fence(subscriber, world.topic("fence"))
    assert [m for m in got if m.topic.startswith("$")] == []
