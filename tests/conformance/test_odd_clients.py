"""What an odd client, or one with bad intentions, might try: rows 132 and on of corner_cases.tsv.

Each is legal and must work, or illegal and must end one connection: never two readings at once.
"""

import socket
import time

import pytest

from malformed import raw_publish, raw_subscribe, raw_unsubscribe
from mqtt import (AUTH, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, UNSUBACK, Closed, encode_ack,
                  encode_auth, encode_connect, encode_disconnect, encode_properties, encode_publish, encode_subscribe,
                  encode_unsubscribe, text)
from statements import V5, corner
from test_auth import METHOD, Scram, log_in

def publish_5(topic, payload, qos=1, packet_id=1, **properties):
    return encode_publish(topic, payload, qos, packet_id, properties=properties)


def closes(client):
    """The server closes; before it does, nothing but a DISCONNECT comes."""
    last = client.expect_closed()
    assert last is None or last.type == 14, last


# ---- topic aliases ----

@corner(132, level=V5)
def test_an_alias_is_no_way_around_a_forbidden_topic(world):
    client = world.publisher()
    client.send(publish_5("$SYS/broker/version", "mine", topic_alias=1) + publish_5("", "mine", 1, 2, topic_alias=1))
    assert [client.expect(PUBACK).reason for _ in range(2)] in ([0x87, 0x87], [0x90, 0x90])
    client.send(publish_5(world.topic(), "x", 1, 3, topic_alias=1) + publish_5("", "y", 1, 4, topic_alias=1))
    assert [client.expect(PUBACK).reason for _ in range(2)] == [0x10, 0x10]


@corner(133, level=V5)
@pytest.mark.parametrize("qos", [1, 2])
def test_a_publish_sent_again_by_an_alias_of_the_last_connection_closes(world, resume_at, qos):
    client = world.connect("p", 0, clean=False)
    client.send(publish_5(world.topic(), "x", qos, 7, topic_alias=3))
    client.expect(PUBACK if qos == 1 else PUBREC)
    client.close()
    client.open(world.port(resume_at), clean=False)
    client.send(encode_publish("", b"x", qos, 7, dup=True, properties={"topic_alias": 3}))
    closes(client)


@corner(134, level=V5)
def test_aliases_of_the_longest_topics_cost_a_bounded_amount(world):
    client = world.publisher()
    maximum = client.connack.properties["topic_alias_maximum"]
    try:
        for round_number in range(3):
            for alias in range(1, maximum + 1):
                topic = f"{world.unique}/{round_number}/{alias}/".ljust(65535, "x")
                client.publish(topic, b"", qos=1, properties={"topic_alias": alias})
    except Closed:
        pass
    world.connect("witness").ping()


# ---- subscriptions ----

@corner(135, level=V5)
@pytest.mark.parametrize("number", [1, 127, 128, 16383, 16384, 2097151, 2097152, 268435455])
def test_subscription_ids_of_every_length(world, number):
    subscriber = world.connect("s", 1)
    assert subscriber.subscribe((world.topic(), 1), properties={"subscription_id": number}) == [1]
    world.publisher().publish(world.topic(), "x")
    assert subscriber.expect_message().properties["subscription_id"] == [number]


@corner(136, level=V5)
@pytest.mark.parametrize("raw", [b"\2\x0b\0", b"\5\x0b\x80\x80\x80\0", b"\6\x0b\x80\x80\x80\x80\1", b"\4\x0b\1\x0b\2",
                                 b"\3\x8b\0\1"],
                         ids=["zero", "zero-in-four-bytes", "five-bytes", "twice", "identifier-not-minimal"])
def test_subscription_ids_that_are_none(world, raw):
    client = world.connect()
    client.send(raw_subscribe(5, text(world.topic()) + b"\0", properties=raw))
    closes(client)


@corner(137)
def test_the_same_filter_twice_in_one_packet(world):
    subscriber = world.connect("s", 1)
    topic = world.topic()
    assert subscriber.subscribe((topic, 2), (topic, 0), (topic, 1)) == [2, 0, 1]
    publisher = world.publisher()
    publisher.publish(topic, "once", qos=2)
    subscriber.expect_message(topic, "once", qos=1)
    assert world.fence(subscriber, topic) == []
    codes = subscriber.unsubscribe(topic, topic)
    assert codes == ([0x00, 0x11] if world.level == 5 else [])


@corner(138)
def test_subscribe_unsubscribe_subscribe_in_one_segment(world):
    publisher = world.publisher()
    publisher.publish(world.topic(), "kept", retain=True)
    client = world.connect("s", 1)
    one = [(world.topic(), 1)]
    client.send(encode_subscribe(1, one, world.level) + encode_unsubscribe(2, [world.topic()], world.level) +
                encode_subscribe(3, one, world.level))
    kinds = []
    while kinds.count(SUBACK) < 2 or kinds.count(PUBLISH) < 2:
        found = client.receive()
        kinds.append(found.type)
        if found.type == PUBLISH:
            client.take(found)
            assert found.retain and found.payload == b"kept"
    assert kinds.count(UNSUBACK) == 1
    publisher.publish(world.topic(), b"", retain=True)


@corner(139)
def test_subscribe_and_disconnect_in_one_segment(world, resume_at):
    client = world.connect("s", 0, clean=False)
    client.send(encode_subscribe(1, [(world.topic(), 1)], world.level) + encode_disconnect(world.level))
    client.expect_closed()
    world.publisher().publish(world.topic(), "queued")
    client.open(world.port(resume_at), clean=False)
    client.expect_message(payload="queued")


@corner(140)
@pytest.mark.parametrize("name, matching, others", [
    ("/", ["/"], ["", "//", "a"]), ("+", ["a", " ", "\u00a0"], ["/", "a/"]), ("/+", ["/", "/a"], ["a", "//"]),
    ("+/", ["/", "a/"], ["a", "//"]), ("+/+", ["/", "a/b", "/b", "a/"], ["a", "//"]), ("//", ["//"], ["/", "///"]),
    ("a/#", ["a", "a/", "a//"], ["A", "aa"]), (" ", [" "], ["  "]), ("#", ["/", "\U0010ffff", "\ufeff"], [])])
def test_topics_that_are_hardly_there(world, name, matching, others):
    prefix = world.unique + "x"
    subscriber = world.connect("s", 1)
    subscriber.subscribe((f"{prefix}/{name}", 1), (world.topic("fence"), 1))
    publisher = world.publisher()
    for topic in [*matching, *others]:
        publisher.publish(f"{prefix}/{topic}", "x")
    got = [m.topic for m in world.fence(subscriber, world.topic("fence"), publisher)]
    assert got == [f"{prefix}/{topic}" for topic in matching]


@corner(141, level=V5)
@pytest.mark.parametrize("share, topic", [("$share/g//x", "/x"), ("$share/g/ ", " "), ("$share/$g/x", "x"),
                                          ("$share/\U0010ffff/x", "x")])
def test_unusual_but_valid_groups(world, share, topic):
    member = world.connect("m", 1)
    name = share.replace("x", world.unique) if "x" in share else share
    assert member.subscribe((name, 1)) == [1]
    world.publisher().publish(topic.replace("x", world.unique), "x")
    member.expect_message(payload="x")


@corner(142, level=V5)
def test_names_that_only_look_like_groups_are_plain_filters(world):
    client = world.connect("s", 1)
    names = [f"$SHARE/g/{world.topic('t')}", f"$shared/g/{world.topic('t')}", f"$Share/g/{world.topic('t')}"]
    assert client.subscribe(*[(name, 1) for name in names]) == [1, 1, 1]
    publisher = world.publisher()
    for name in names:
        if publisher.publish(name, name) != 0x87:   # topics that begin with $ may be the server's, 4.7.2
            client.expect_message(name, name)
    publisher.publish(world.topic("t"), "not this")
    client.expect_nothing()
    assert client.unsubscribe(*names) == [0, 0, 0]


@corner(143, level=V5)
def test_the_ids_of_subscriptions_count_towards_the_clients_maximum(world):
    topic = world.unique
    small = world.connect("small", 1, properties={"maximum_packet_size": 60})
    for number, name in enumerate((topic, f"{topic}/#", "+", "#")):
        small.subscribe((name, 1), properties={"subscription_id": 268435455 - number})
    publisher = world.publisher()
    for size in range(10, 50):
        publisher.publish(topic, "x" * size)     # StrictClient measures what comes
    publisher.publish(topic, "end")
    assert all(len(m.payload) < 50 for m in world.until(small, b"end"))


# ---- QoS 2 ----

@corner(144)
def test_two_exchanges_of_one_id_in_one_segment_are_two_messages(world):
    subscriber, client = world.subscriber(), world.publisher()
    client.send(b"".join(encode_publish(world.topic("x"), payload, 2, 5, level=world.level) +
                         encode_ack(PUBREL, 5, world.level) for payload in (b"one", b"two", b"three")))
    assert [client.receive().type for _ in range(6)] == [PUBREC, PUBCOMP] * 3
    assert [m.payload for m in world.fence(subscriber)] == [b"one", b"two", b"three"]


@corner(145)
def test_a_clean_start_frees_the_ids_that_were_open(world, resume_at):
    subscriber = world.subscriber()
    client = world.connect("p", 0, clean=False)
    client.send(encode_publish(world.topic("x"), b"old", 2, 5, level=world.level))
    client.expect(PUBREC)
    client.close()
    client.open(world.port(resume_at), clean=True)
    client.send(encode_publish(world.topic("x"), b"new", 2, 5, dup=True, level=world.level))
    client.expect(PUBREC)
    assert [m.payload for m in world.fence(subscriber)] == [b"old", b"new"]


@corner(146)
@pytest.mark.parametrize("qos", [1, 2])
def test_dup_on_a_message_that_never_came_is_delivered(world, qos):
    subscriber, client = world.subscriber(), world.publisher()
    client.send(encode_publish(world.topic("x"), b"first", qos, 9, dup=True, level=world.level))
    assert client.receive().packet_id == 9
    subscriber.expect_message(payload="first", dup=False)


@corner(147)
def test_one_qos_1_id_many_times_without_waiting(world):
    """The client may not, 4.3.2; if the server goes on, each has its PUBACK."""
    client = world.publisher()
    client.send(encode_publish(world.topic("x"), b"x", 1, 9, level=world.level) * 50)
    try:
        assert {client.receive().packet_id for _ in range(50)} == {9}
    except Closed:
        pass
    world.connect("witness").ping()


# ---- wills and retained messages ----

@corner(148)
def test_an_empty_retained_will_erases_what_is_retained(world):
    publisher = world.publisher()
    publisher.publish(world.topic("status"), "online", retain=True)
    witness = world.subscriber((world.topic("status"), 1), (world.topic("fence"), 1))
    witness.expect_message(payload="online", retain=True)
    world.connect("w", 0, will={"topic": world.topic("status"), "payload": b"", "qos": 1, "retain": True}).abort()
    witness.expect_message(world.topic("status"), b"")
    late = world.connect("late", 1)
    late.subscribe((world.topic("status"), 1), (world.topic("fence"), 1))
    assert world.fence(late, world.topic("fence")) == []


@corner(149)
def test_a_will_comes_to_the_clients_own_session(world, resume_at):
    client = world.connect("w", 0, clean=False, will={"topic": world.topic("will"), "payload": b"mine", "qos": 1})
    client.subscribe((world.topic("will"), 1))
    witness = world.subscriber((world.topic("will"), 1), name="witness")
    client.abort()
    witness.expect_message(payload="mine")
    client.open(world.port(resume_at), clean=False)
    client.expect_message(payload="mine")
    assert world.fence(client, world.topic("will")) == []


@corner(150, level=V5)
def test_no_local_holds_for_the_clients_own_will(world, resume_at):
    client = world.connect("w", 0, clean=False, will={"topic": world.topic("will"), "payload": b"mine", "qos": 1})
    witness = world.subscriber((world.topic("will"), 1), name="witness")
    client.subscribe((world.topic("will"), 0x05))
    client.abort()
    witness.expect_message(payload="mine")
    client.open(world.port(resume_at), clean=False)
    assert world.fence(client, world.topic("will")) == []


@corner(151, level=V5)
def test_a_retained_message_that_expires_is_gone_for_who_comes_later(world):
    publisher = world.publisher()
    publisher.publish(world.topic("a"), "old", retain=True)
    publisher.publish(world.topic("a"), "short", retain=True, properties={"message_expiry": 1})
    publisher.publish(world.topic("b"), "long", retain=True, properties={"message_expiry": 0xFFFFFFFF})
    witness = world.connect("early", 1)
    witness.subscribe((world.topic("#"), 1))
    assert {witness.expect_message(retain=True).payload for _ in range(2)} == {b"short", b"long"}
    time.sleep(1.3)   # its life: what the test is about
    late = world.connect("late", 1)
    late.subscribe((world.topic("#"), 1))
    found = late.expect_message(world.topic("b"), "long", retain=True)
    assert 0xFFFFFFF0 < found.properties["message_expiry"] < 0xFFFFFFFF
    assert world.fence(late, world.topic("fence")) == []
    publisher.publish(world.topic("b"), b"", retain=True)


@corner(152, level=V5)
def test_a_retained_message_too_large_for_a_subscriber_is_left_out(world):
    publisher = world.publisher()
    publisher.publish(world.topic("big"), "x" * 200, retain=True)
    publisher.publish(world.topic("small"), "x", retain=True)
    client = world.connect("s", 1, properties={"maximum_packet_size": 100})
    client.subscribe((world.topic("#"), 1))
    client.expect_message(world.topic("small"), "x", retain=True)
    assert world.fence(client, world.topic("fence")) == []
    for name in ("big", "small"):
        publisher.publish(world.topic(name), b"", retain=True)


@corner(153)
@pytest.mark.parametrize("topic", ["$SYS/broker/version", "$SYS/cluster/mine"])
def test_nobody_writes_what_the_server_says_about_itself(world, topic):
    def values():
        reader = world.connect(None, 1)
        reader.subscribe((topic, 0))
        reader.publish(world.topic(), "fence", qos=1)
        return [m.payload for m in reader.early]
    before = values()
    publisher = world.publisher()
    for qos in (0, 1, 2):
        try:
            publisher.publish(topic, "mine", qos=qos, retain=True)
        except Closed:
            publisher = world.connect("again", 2)
    assert values() == before and b"mine" not in before


# ---- CONNECT, AUTH, and the connection ----

@corner(154)
def test_the_largest_fields_of_connect(world):
    """Where the broker is told to keep as much for a stranger; 64 KiB is what it keeps otherwise."""
    long = b"x" * 65535
    client = world.client("c")
    client.open(world.special("large-connect"), username=long, password=long, keep_alive=65535,
                will={"topic": world.topic("w") + "/y" * 50, "payload": long, "qos": 2})
    client.ping()
    client.disconnect()
    ordinary = world.client("c")
    ordinary.open(world.port(), username=b"x" * 30000, password=b"y" * 30000)
    ordinary.ping()


@corner(155)
def test_client_ids_that_look_alike_are_different(world):
    names = ["A", "a", "a ", " a", "\u00e4", "a\u0308", "\ufeffa", "a/"]
    clients = [world.connect(name, number) for number, name in enumerate(names)]
    for client in clients:
        client.ping()


@corner(156)
def test_what_came_before_a_half_close_is_done(world):
    subscriber = world.subscriber()
    client = world.publisher(will={"topic": world.topic("will"), "payload": b"will", "qos": 1})
    client.send(encode_publish(world.topic("x"), b"last words", 1, 1, level=world.level))
    client.socket.shutdown(socket.SHUT_WR)
    assert {subscriber.expect_message().payload for _ in range(2)} == {b"last words", b"will"}


@corner(157, level=V5)
@pytest.mark.parametrize("properties, allowed", [
    ({"content_type": "", "user_property": [("", ""), ("", "")], "correlation_data": b""}, True),
    ({"response_topic": ""}, False), ({"response_topic": "a/+/b"}, False), ({"response_topic": "$SYS/x"}, True)])
def test_empty_properties(world, properties, allowed):
    subscriber, client = world.subscriber(), world.publisher()
    client.send(publish_5(world.topic("x"), "x", 1, 1, **properties))
    if not allowed:
        closes(client)
        return
    found = subscriber.expect_message()
    assert {name: found.properties.get(name) for name in properties} == properties


@corner(158, level=V5)
@pytest.mark.parametrize("count, allowed", [(1000, True), (1001, False)])
def test_as_many_user_properties_as_the_limit_says(world, count, allowed):
    subscriber, client = world.subscriber(), world.publisher()
    pairs = [(str(n), "v" * (n % 7)) for n in range(count)]
    client.send(publish_5(world.topic("x"), "x", 1, 1, user_property=pairs))
    if allowed or world.target.name != "cluster":
        assert subscriber.expect_message().properties["user_property"] == pairs
    else:
        closes(client)


@corner(159, level=V5)
@pytest.mark.parametrize("where", ["publish", "unsubscribe", "disconnect", "puback"])
def test_a_property_identifier_that_is_not_minimal_or_not_for_this_packet(world, where):
    bad = {"publish": lambda: raw_publish(5, world.topic(), b"x", properties=b"\3\x81\0\1"),
           "unsubscribe": lambda: raw_unsubscribe(5, text("a"), properties=b"\2\x0b\1"),
           "disconnect": lambda: bytes([0xE0, 4, 0, 2, 0x0B, 1]),
           "puback": lambda: bytes([0x40, 6, 0, 1, 0, 2, 0x01, 1])}[where]
    client = world.connect()
    client.send(bad())
    closes(client)


@corner(160, level=V5)
def test_whoever_leaves_during_authentication_was_never_here(world):
    port = world.special("authentication")
    witness = world.client("witness")
    witness.open(port)
    witness.subscribe((world.topic("#"), 1))
    for ending in ("disconnect", "abort", "half a packet"):
        client = world.client("leaver").dial(port)
        client.send(encode_connect(client.client_id, 5, clean=False,
                                   will={"topic": world.topic("will"), "payload": b"will", "qos": 1},
                                   properties={"auth_method": METHOD, "auth_data": Scram().first(),
                                               "session_expiry": 100}))
        assert client.receive().type == AUTH
        if ending == "disconnect":
            client.send(encode_disconnect(5, 4))
            client.expect_closed()
        elif ending == "abort":
            client.abort()
        else:
            client.send(b"\xf0\x7f\x18")
            client.close()
    publisher = world.client("fence")
    publisher.open(port)
    publisher.publish(world.topic("fence"), "fence")
    assert world.until(witness) == []
    assert not publisher.connack.session_present


@corner(161, level=V5)
def test_messages_go_on_while_a_client_authenticates_again(world):
    client = log_in(world)
    client.subscribe((world.topic(), 1))
    scram = Scram()
    client.send(encode_auth(0x19, {"auth_method": METHOD, "auth_data": scram.first()}))
    challenge = client.expect(AUTH)
    client.publish(world.topic(), "between")
    client.expect_message(payload="between")
    client.send(encode_auth(0x18, {"auth_method": METHOD,
                                   "auth_data": scram.final(challenge.properties["auth_data"])}))
    assert client.expect(AUTH).reason == 0
    client.ping()


@corner(162, level=V5)
@pytest.mark.parametrize("reason", [0x00, 0x18])
def test_auth_that_nobody_asked_for_closes(world, reason):
    client = log_in(world)
    client.send(encode_auth(reason, {"auth_method": METHOD, "auth_data": b"x"}))
    closes(client)


@corner(163, level=V5)
def test_authenticating_again_twice_at_once_closes(world):
    client = log_in(world)
    again = encode_auth(0x19, {"auth_method": METHOD, "auth_data": Scram().first()})
    client.send(again + again)
    assert client.receive().reason == 0x18
    closes(client)


@corner(164, level=V5)
def test_a_session_kept_by_3_1_1_ends_with_a_5_0_connection_that_asks_for_no_expiry(world, resume_at):
    client = world.connect("s", 0, level=4, clean=False)
    client.subscribe((world.topic(), 1))
    client.disconnect()
    newer = world.client("s", 5).dial(world.port(resume_at))
    newer.send(encode_connect(newer.client_id, 5, clean=False))
    assert newer.receive().session_present
    newer.disconnect()
    assert not world.client("s", 4).open(world.port(), clean=False).session_present


@corner(165, level=V5)
def test_a_session_expiry_above_the_servers_is_lowered_and_told(world):
    client = world.client("c")
    found = client.open(world.special("little-offered"), clean=False, properties={"session_expiry": 0xFFFFFFFF})
    assert found.properties["session_expiry"] == 100
    again = world.client("d")
    found = again.open(world.special("little-offered"), clean=False, properties={"session_expiry": 100})
    assert "session_expiry" not in found.properties
    for one in (client, again):
        one.send(encode_disconnect(5, 0, {"session_expiry": 0}))
        one.expect_closed()
