"""SUBSCRIBE, UNSUBSCRIBE, their answers, and which topics a filter matches."""

import pytest

from mqtt import (PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, UNSUBACK, Closed, encode_ack, encode_publish,
                  encode_subscribe, encode_unsubscribe)
from statements import BOTH, V4, V5, corner, statement


@statement("MQTT-3.8.4-1", "MQTT-3.8.4-2", "MQTT-2.3.1-7", "MQTT-3.9.3-2", level=V4)
@statement("MQTT-3.8.4-1", "MQTT-3.8.4-2", "MQTT-2.2.1-6", "MQTT-2.2.2-1", "MQTT-3.8.4-7", level=V5)
@pytest.mark.parametrize("packet_id", [1, 255, 256, 65535])
def test_subscribe_is_answered_with_its_packet_id(world, packet_id):
    client = world.connect()
    for qos in (0, 1, 2):
        client.send(encode_subscribe(packet_id, [(world.topic(), qos)], world.level))
        suback = client.receive()
        assert (suback.type, suback.packet_id, suback.codes) == (SUBACK, packet_id, [qos])


@statement("MQTT-3.8.4-4", "MQTT-3.8.4-5", "MQTT-3.9.3-1", "MQTT-3.9.3-2", level=V4)
@statement("MQTT-3.8.4-5", "MQTT-3.8.4-6", "MQTT-3.8.4-7", "MQTT-3.9.3-1", "MQTT-3.9.3-2", level=V5)
def test_several_filters_get_one_code_each_in_order(world):
    client = world.connect("s", 1)
    asked = [(world.topic(str(n)), n * 7 % 3) for n in range(40)]
    client.send(encode_subscribe(9, asked, world.level))
    suback = client.receive()
    assert suback.codes == [qos for _, qos in asked]
    client.expect_nothing()
    publisher = world.publisher()
    for name, qos in asked[:6]:
        publisher.publish(name, "x", qos=2)
        client.expect_message(name, "x", qos=qos)


@corner(83)
def test_one_bad_filter_among_good_ones(world):
    client = world.connect()
    client.send(encode_subscribe(9, [(world.topic("a"), 1), ("a/#/b", 1), (world.topic("b"), 2)], world.level))
    try:
        found = client.receive()
    except Closed:
        return
    if found.type == SUBACK:
        assert found.codes in ([1, 0x80, 2], [1, 0x8F, 2])
    else:
        client.expect_closed()


@corner(97)
def test_5000_filters_in_one_packet(world):
    client = world.connect()
    client.timeout = 20
    asked = [(world.topic(str(n)), n % 3) for n in range(5000)]
    client.send(encode_subscribe(9, asked, world.level))
    suback = client.receive()
    assert suback.type == SUBACK and len(suback.codes) == 5000
    assert all(code in (qos, 0x80, 0x97) for code, (_, qos) in zip(suback.codes, asked))


@statement("MQTT-3.8.4-6", level=V4)
@statement("MQTT-3.8.4-8", level=V5)
@corner(76)
@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_the_qos_delivered_is_the_lower_one(world, published, granted):
    subscriber = world.subscriber((world.topic("#"), granted))
    publisher = world.publisher()
    publisher.publish(world.topic("x"), "x", qos=published)
    subscriber.expect_message(world.topic("x"), "x", qos=min(published, granted))
    publisher.publish(world.topic("r"), "r", qos=published, retain=True)
    publisher.publish(world.topic("after"), "", qos=1)    # QoS 0 has no answer; what follows it has
    late = world.subscriber((world.topic("r"), granted), name="late", at=0)
    late.expect_message(world.topic("r"), "r", qos=min(published, granted), retain=True)


@statement("MQTT-3.8.4-3", level=V4)
@statement("MQTT-3.8.4-3", "MQTT-3.8.4-4", "MQTT-3.3.1-9", level=V5)
@corner(96)
def test_subscribing_again_replaces(world):
    publisher = world.publisher()
    publisher.publish(world.topic("x"), "retained", qos=2, retain=True)
    client = world.connect("s", 1)
    for qos in (2, 0, 1):
        assert client.subscribe((world.topic("x"), qos)) == [qos]
        client.expect_message(world.topic("x"), "retained", qos=qos, retain=True)
    publisher.publish(world.topic("x"), "live", qos=2)
    client.expect_message(world.topic("x"), "live", qos=1)
    client.subscribe((world.topic("fence"), 1))
    assert world.fence(client, publisher=publisher) == []
    assert client.unsubscribe(world.topic("x")) in ([], [0])
    publisher.publish(world.topic("x"), "after", qos=2)
    assert world.fence(client, publisher=publisher) == []


@statement("MQTT-3.8.4-3", level=V4)
@statement("MQTT-3.8.4-4", level=V5)
@corner(96)
def test_no_message_is_lost_while_a_subscription_is_replaced(world):
    client = world.connect("s", 1)
    client.subscribe((world.topic("x"), 1))
    publisher = world.publisher()
    for number in range(300):
        if number % 3 == 0:
            client.send(encode_subscribe(1 + number, [(world.topic("x"), 1 + number % 2)], world.level))
        publisher.publish(world.topic("x"), str(number), qos=1)
    got, answers = [], 0
    while len(got) < 300 or answers < 100:
        found = client.receive()
        if found.type == PUBLISH:
            client.take(found)
            got.append(int(found.payload))
        elif found.type == PUBREL:
            client.answer_pubrel(found)
        else:
            assert found.type == SUBACK
            answers += 1
    assert got == list(range(300))


@statement("MQTT-3.3.1-10", "MQTT-3.3.1-9", "MQTT-3.3.1-11", level=V5)
def test_retain_handling(world):
    publisher = world.publisher()
    publisher.publish(world.topic("x"), "retained", retain=True)
    client = world.connect("s", 1)
    client.subscribe((world.topic("fence"), 1))
    seen = []
    for handling in (2, 2, 0, 1, 0):
        client.subscribe((world.topic("x"), 1 | handling << 4))
        seen.append((handling, len(world.fence(client, publisher=publisher))))
    assert seen == [(2, 0), (2, 0), (0, 1), (1, 0), (0, 1)]
    client.unsubscribe(world.topic("x"))
    client.subscribe((world.topic("x"), 1 | 1 << 4))
    assert len(world.fence(client, publisher=publisher)) == 1


@statement("MQTT-3.8.3-3", level=V5)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_no_local(world, resume_at, qos):
    client = world.connect("s", 0, clean=False)
    client.subscribe((world.topic("quiet"), 2 | 4), (world.topic("loud"), 2))
    client.disconnect()
    client.open(world.port(resume_at), clean=False)
    other = world.publisher()
    client.publish(world.topic("quiet"), "own", qos=qos)
    other.publish(world.topic("quiet"), "other", qos=qos)
    client.expect_message(world.topic("quiet"), "other", qos=qos)
    client.publish(world.topic("loud"), "own", qos=qos)
    client.expect_message(world.topic("loud"), "own", qos=qos)


@statement("MQTT-3.3.5-1", level=V4)
@statement("MQTT-3.3.4-2", level=V5)
@corner(95)
def test_overlapping_filters_deliver_at_the_highest_qos(world):
    subscriber = world.subscriber((world.topic("#"), 0), (world.topic("a/+"), 2), (world.topic("+/b"), 1))
    publisher = world.publisher()
    publisher.publish(world.topic("a/b"), "x", qos=2)
    got = world.fence(subscriber, publisher=publisher)
    assert 1 <= len(got) <= 3
    assert max(m.qos for m in got) == 2


@statement("MQTT-3.3.4-3", "MQTT-3.3.4-4", "MQTT-3.3.4-5", level=V5)
@corner(95, level=V5)
@pytest.mark.parametrize("way", ["live", "queued"])
def test_subscription_ids_come_with_the_message(world, resume_at, way):
    client = world.connect("s", 0, clean=False)
    client.subscribe((world.topic("#"), 1), properties={"subscription_id": 1})
    client.subscribe((world.topic("a"), 1), properties={"subscription_id": 268435455})
    client.subscribe((world.topic("+"), 1))
    client.subscribe((world.topic("b"), 1), properties={"subscription_id": 3})
    if way == "queued":
        client.disconnect()
    world.publisher().publish(world.topic("a"), "x", qos=1)
    if way == "queued":
        client.open(world.port(resume_at), clean=False)
    got = world.fence(client)
    ids = [i for m in got for i in m.properties.get("subscription_id", [])]
    assert sorted(ids) == [1, 268435455]
    if len(got) > 1:
        assert all(len(m.properties.get("subscription_id", [])) <= 1 for m in got)


@statement("MQTT-3.8.4-3", "MQTT-3.3.4-3", level=V5)
def test_a_subscription_id_is_replaced_with_its_subscription(world):
    client = world.connect("s", 1)
    publisher = world.publisher()
    for properties, expected in (({"subscription_id": 5}, [5]), ({"subscription_id": 6}, [6]), (None, None)):
        client.subscribe((world.topic("x"), 1), properties=properties)
        publisher.publish(world.topic("x"), "x")
        assert client.expect_message().properties.get("subscription_id") == expected


@statement("MQTT-3.10.4-1", "MQTT-3.10.4-2", level=V4)
@statement("MQTT-3.10.4-1", "MQTT-3.10.4-2", level=V5)
def test_unsubscribe_compares_the_filter_as_a_string(world):
    client = world.connect("s", 1)
    client.subscribe((world.topic("a/+"), 1), (world.topic("b/c"), 1), (world.topic("fence"), 1))
    client.unsubscribe(world.topic("a/b"), world.topic("b/+"), world.topic("#"), world.topic("A/+"))
    publisher = world.publisher()
    publisher.publish(world.topic("a/b"), "1")
    publisher.publish(world.topic("b/c"), "2")
    assert [m.payload for m in world.fence(client, publisher=publisher)] == [b"1", b"2"]
    client.unsubscribe(world.topic("a/+"))
    publisher.publish(world.topic("a/b"), "3")
    publisher.publish(world.topic("b/c"), "4")
    assert [m.payload for m in world.fence(client, publisher=publisher)] == [b"4"]


@statement("MQTT-3.10.4-4", "MQTT-3.10.4-5", "MQTT-3.10.4-6", "MQTT-2.3.1-7", level=V4)
@statement("MQTT-3.10.4-4", "MQTT-3.10.4-5", "MQTT-3.10.4-6", "MQTT-3.11.3-1", "MQTT-3.11.3-2", "MQTT-2.2.1-6",
           level=V5)
@corner(102)
def test_unsubscribe_is_answered_once_with_its_id_and_codes_in_order(world, resume_at):
    client = world.connect("s", 0, clean=False)
    client.subscribe((world.topic("a"), 1), (world.topic("b"), 1), (world.topic("fence"), 1))
    client.disconnect()
    client.open(world.port(resume_at), clean=False)
    client.send(encode_unsubscribe(4711, [world.topic("none"), world.topic("b"), world.topic("nor"), world.topic("a")],
                                   world.level))
    found = client.receive()
    assert (found.type, found.packet_id) == (UNSUBACK, 4711)
    assert found.codes == ([] if world.level == 4 else [0x11, 0, 0x11, 0])
    client.expect_nothing()
    publisher = world.publisher()
    publisher.publish(world.topic("a"), "x")
    publisher.publish(world.topic("b"), "x")
    assert world.fence(client, publisher=publisher) == []
    client.send(encode_unsubscribe(4712, [world.topic("a")], world.level))
    assert client.receive().packet_id == 4712


@statement("MQTT-3.10.4-3", level=BOTH)
@pytest.mark.parametrize("qos", [1, 2])
def test_deliveries_already_begun_are_completed_after_unsubscribe(world, resume_at, qos):
    client = world.connect("s", 0, clean=False)
    client.subscribe((world.topic("x"), qos))
    world.publisher().publish(world.topic("x"), "begun", qos=qos)
    first = client.receive()
    assert first.type == PUBLISH
    client.unsubscribe(world.topic("x"))
    client.close()
    client.open(world.port(resume_at), clean=False)
    again = client.receive()
    assert (again.type, again.packet_id, again.dup, again.payload) == (PUBLISH, first.packet_id, True, b"begun")
    if qos == 1:
        client.send(encode_ack(PUBACK, again.packet_id, world.level))
    else:
        client.send(encode_ack(PUBREC, again.packet_id, world.level))
        assert client.receive().type == PUBREL
        client.send(encode_ack(PUBCOMP, again.packet_id, world.level))
    client.expect_nothing()


@corner(103)
def test_packet_ids_of_the_two_directions_are_independent(world):
    client = world.connect("s", 1)
    client.subscribe((world.topic("#"), 2))
    publisher = world.publisher()
    publisher.publish(world.topic("x"), "1", qos=2)
    found = client.receive()
    client.send(encode_subscribe(found.packet_id, [(world.topic("y"), 1)], world.level))
    client.send(encode_publish(world.topic("own"), "2", 2, found.packet_id, level=world.level))
    kinds = set()
    while not {SUBACK, PUBREC} <= kinds:
        one = client.receive()
        kinds.add(one.type)
        assert one.type == PUBLISH or one.packet_id == found.packet_id
        assert one.type == PUBLISH or getattr(one, "reason", 0) == 0


# ---- topics and filters ----

MATCHES = [
    ("a/b", ["a/b"], ["a", "a/b/c", "A/b", "/a/b", "a/b/", "a//b"]),
    ("+", ["a", "b"], ["/a", "a/b", "a/"]),
    ("+/a", ["x/a", "/a"], ["a", "x/y/a", "x/a/"]),
    ("a/+", ["a/b", "a/"], ["a", "a/b/c", "b/b"]),
    ("/+", ["/a", "/"], ["a", "a/b"]),
    ("+/+", ["/a", "a/b", "a/"], ["a", "a/b/c"]),
    ("a/+/c", ["a/b/c", "a//c"], ["a/c", "a/b/d", "a/b/c/d"]),
    ("#", ["a", "a/b", "/a", "a/b/c/d", "/"], []),
    ("a/#", ["a", "a/b", "a/b/c", "a/"], ["b", "aa", "aa/b"]),
    ("+/b/#", ["a/b", "a/b/c", "/b"], ["a", "b", "a/c/b"]),
    ("a//b", ["a//b"], ["a/b", "a/x/b"]),
    ("\u00e9", ["\u00e9"], ["e\u0301", "e", "\u00c9"]),
    ("\ufeffx", ["\ufeffx"], ["x"]),
    ("x\ufeffy", ["x\ufeffy"], ["xy"]),
    ("a b", ["a b"], ["a", "ab"]),
]


@statement("MQTT-4.7.1-2", "MQTT-4.7.1-3", "MQTT-4.7.3-4", "MQTT-1.5.3-3", "MQTT-3.3.2-3", level=V4)
@statement("MQTT-4.7.1-1", "MQTT-4.7.1-2", "MQTT-4.7.3-4", "MQTT-1.5.4-3", "MQTT-3.3.2-3", level=V5)
@corner(20, 21)
@pytest.mark.parametrize("name,matching,others", MATCHES,
                         ids=[row[0].encode("unicode_escape").decode() for row in MATCHES])
def test_which_topics_a_filter_matches(world, name, matching, others):
    subscriber = world.subscriber((world.topic(name), 1), (world.topic("the/fence/of/this/test"), 1))
    publisher = world.publisher()
    for topic in others + matching:
        publisher.publish(world.unique + "/" + topic, topic, qos=1)
    before = world.fence(subscriber, world.topic("the/fence/of/this/test"), publisher)
    assert [m.topic for m in before] == [world.unique + "/" + topic for topic in matching]
    late = world.connect("late", 0)
    for topic in others + matching:
        publisher.publish(world.unique + "/" + topic, topic, qos=1, retain=True)
    late.subscribe((world.topic("the/fence/of/this/test"), 1), (world.topic(name), 1))
    got = {m.topic for m in world.fence(late, world.topic("the/fence/of/this/test"), publisher)}
    assert got == {world.unique + "/" + topic for topic in matching}


@statement("MQTT-4.7.2-1", level=BOTH)
@corner(94)
@pytest.mark.parametrize("name", ["#", "+/#", "+/conformance", "+/+"])
def test_filters_that_begin_with_a_wildcard_do_not_match_dollar_topics(world, name):
    subscriber = world.subscriber((name, 0), name="all")
    publisher = world.publisher()
    publisher.publish("$dollar/conformance", world.unique, qos=1)
    publisher.publish(f"{world.unique}/conformance", "fence", qos=1)
    got = world.until(subscriber)
    assert [m.topic for m in got if m.topic.startswith("$")] == []


@statement("MQTT-4.7.2-1", level=BOTH)
def test_the_servers_own_topics_are_given_to_who_asks(world):
    subscriber = world.subscriber(("$SYS/#", 0))
    assert subscriber.next_message(timeout=3 if world.target.name == "cluster" else 12).topic.startswith("$SYS/")


SYS_NAMES = ["version", "uptime", *[f"clients/{name}" for name in (
    "total", "maximum", "connected", "disconnected", "active", "inactive")],
    *[f"{name}/{way}" for name in ("messages", "publish/messages", "publish/bytes", "bytes") for way in ("received", "sent")],
    "publish/messages/dropped", "messages/stored", "store/messages/count", "store/messages/bytes",
    "retained messages/count", "subscriptions/count", "shared_subscriptions/count",
    *[f"load/{name}/{window}min" for window in (1, 5, 15) for name in (
        "messages/received", "messages/sent", "publish/received", "publish/sent", "publish/dropped", "bytes/received",
        "bytes/sent", "connections", "sockets")]]


@pytest.mark.parametrize("level", [5])
def test_the_names_below_sys_are_those_that_mosquittos_users_know(world, level):
    """But for heap/..., which /metrics tells, and clients/expired."""
    if world.target.name != "cluster":
        pytest.skip("takes an interval there, and some only when they change")
    client = world.connect("s", 1)
    client.subscribe(("$SYS/broker/#", 0))
    client.ping()
    assert {found.topic for found in client.early} == {f"$SYS/broker/{name}" for name in SYS_NAMES}


@statement("MQTT-4.7.3-3", level=BOTH)
@corner(74)
@pytest.mark.parametrize("kind", ["letters", "slashes", "levels"])
@pytest.mark.parametrize("retain", [False, True])
def test_the_longest_topic_is_delivered_or_refused(world, kind, retain):
    start = world.unique + "/"
    fill = {"letters": "x", "slashes": "/", "levels": "a/"}[kind]
    topic = (start + fill * 65535)[:65535]
    subscriber = world.subscriber((world.topic("#"), 1))
    publisher = world.publisher()
    refused = False
    try:
        refused = publisher.publish(topic, "long", qos=1, retain=retain) >= 0x80
    except Closed:
        refused = True
    got = world.fence(subscriber)
    assert [m.topic for m in got] == ([] if refused else [topic])
    if retain and not refused:
        late = world.subscriber((world.topic("#"), 1), name="late", at=0)
        late.expect_message(topic, "long", retain=True)


@corner(98)
def test_filters_of_very_many_levels_are_matched_in_bounded_time(world):
    client = world.connect("s", 1)
    client.timeout = 20
    try:
        client.subscribe(("+/" * 32766 + "+", 0))
    except Closed:
        client = world.connect("s", 1)
    levels = 86
    try:
        client.subscribe(*[("/".join(["+" if number >> level % 6 & 1 else "x" for level in range(levels)]), 0)
                           for number in range(64)])
    except Closed:
        return
    publisher = world.publisher()
    publisher.publish("/".join(["x"] * levels), "deep", qos=1)
    publisher.ping()
    client.ping()


@corner(19)
@pytest.mark.parametrize("name", ["a\u0001b", "a\u001fb", "a\u007fb", "a\u0085b", "a\ufffeb", "a\uffffb",
                                  "a\ufdd0b", "a\nb"],
                         ids=lambda name: name.encode("unicode_escape").decode())
def test_control_and_non_characters_are_passed_on_or_close(world, name):
    try:
        subscriber = world.subscriber((world.topic(name), 1))
        world.publisher().publish(world.topic(name), "x")
        subscriber.expect_message(world.topic(name), "x")
    except Closed:
        pass
    world.connect("after").ping()


@corner(89, level=V5)
def test_a_plain_and_a_shared_subscription_of_one_session_are_two(world):
    client = world.connect("s", 1)
    assert client.subscribe((world.topic("t"), 1), (f"$share/g/{world.topic('t')}", 1),
                            (world.topic("fence"), 1)) == [1, 1, 1]
    publisher = world.publisher()
    publisher.publish(world.topic("t"), "both")
    assert len(world.fence(client, publisher=publisher)) == 2
    client.unsubscribe(world.topic("t"))
    publisher.publish(world.topic("t"), "shared")
    assert len(world.fence(client, publisher=publisher)) == 1
    client.unsubscribe(f"$share/g/{world.topic('t')}")
    publisher.publish(world.topic("t"), "none")
    assert world.fence(client, publisher=publisher) == []
