"""Reason codes: the one that the specification asks for, in the packet that it belongs to, and nothing like it.

Other tests accept every code that fits, for all brokers; this file says which one ours sends. What 3.1.1 can say instead
(a return code of CONNACK, 0x80 in SUBACK, or only a close) is checked beside it. Reason strings, too: where they help, and
only for who wants them. reason_codes.tsv lists the codes that no client can cause.
"""

import pytest

from malformed import raw_connect, raw_publish, raw_subscribe, raw_unsubscribe
from mqtt import (CONNACK, DISCONNECT, PUBACK, PUBCOMP, PUBREC, PUBREL, SUBACK, UNSUBACK, Closed, encode_ack,
                  encode_auth, encode_connect, encode_properties, encode_publish, encode_subscribe, packet, text)
from statements import BOTH, V5, corner, reason, statement


@pytest.fixture(autouse=True)
def ours_only(world):
    if world.target.name != "cluster":
        pytest.skip("says what our broker answers")


# ---- DISCONNECT ----

def with_properties(topic=None, **properties):
    return lambda v, t: raw_publish(v, t if topic is None else topic, b"x", properties=encode_properties(properties))


# (name, code, versions, packet for (level, topic))
FATAL = [
    ("header-flags", 0x81, BOTH, lambda v, t: b"\xc1\0"),
    ("body-cut-short", 0x81, BOTH, lambda v, t: packet(0x82, b"\0\1")),
    ("topic-not-utf-8", 0x81, BOTH, lambda v, t: raw_publish(v, b"\xff\xfe", b"x")),
    ("unknown-property", 0x81, V5, lambda v, t: raw_publish(v, t, b"x", properties=b"\2\x7f\0")),
    ("second-connect", 0x82, BOTH, lambda v, t: raw_connect(v)),
    ("packet-of-a-server", 0x82, BOTH, lambda v, t: b"\xd0\0"),
    ("subscribe-to-nothing", 0x82, V5, lambda v, t: raw_subscribe(v, b"")),
    ("auth-without-method", 0x82, V5, lambda v, t: encode_auth(0x18, {"auth_method": "x"})),
    ("no-local-in-a-group", 0x82, V5, lambda v, t: raw_subscribe(v, text("$share/g/t") + b"\5")),
    ("property-twice", 0x82, V5, with_properties(message_expiry=[1, 2])),
    ("subscription-id-from-a-client", 0x82, V5, with_properties(subscription_id=1)),
    ("subscription-id-0", 0x82, V5, lambda v, t: raw_subscribe(v, text(t) + b"\0", properties=b"\2\x0b\0")),
    ("alias-without-a-topic", 0x82, V5, with_properties("", topic_alias=7)),
    ("wildcard-in-a-topic", 0x90, BOTH, lambda v, t: raw_publish(v, t + "/#", b"x")),
    ("too-many-levels", 0x90, BOTH, lambda v, t: raw_publish(v, "/" * 200, b"x")),
    ("alias-0", 0x94, V5, with_properties(topic_alias=0)),
    ("alias-above-the-maximum", 0x94, V5, with_properties(topic_alias=33)),
    ("packet-too-large", 0x95, BOTH, lambda v, t: b"\x30\xff\xff\x7f"),
    ("too-many-user-properties", 0x97, V5, with_properties(user_property=[("a", "b")] * 1001)),
]


@pytest.mark.parametrize("level,code,build", [
    pytest.param(level, code, build, id=f"{'5.0' if level == 5 else '3.1.1'}-{name}", marks=reason(code))
    for name, code, levels, build in FATAL for level in levels])
def test_an_error_ends_the_connection_with_its_code(world, level, code, build):
    client = world.connect("c", 0)
    client.send(build(level, world.topic("x")))
    last = client.expect_closed()
    if level < 5:
        assert last is None, f"{last}: 3.1.1 has no DISCONNECT for servers"
    else:
        assert last is not None and last.type == DISCONNECT and last.reason == code, f"{last}, expected {code:#x}"


@reason(0x81)
@pytest.mark.parametrize("wants", [0, 1])
def test_disconnect_may_have_a_reason_string_whatever_was_asked(world, wants):
    """3.1.2-29 excepts it; ours keeps to the wish all the same."""
    client = world.connect("c", 0, properties={"request_problem_info": wants})
    client.send(packet(0x82, b"\0\1"))
    assert ("reason_string" in client.expect_closed().properties) == bool(wants)


@reason(0x93)
def test_receive_maximum_exceeded(world):
    client = world.client("c")
    client.open(world.special("little-offered"))
    assert client.connack.properties["receive_maximum"] == 2
    for packet_id in (1, 2, 3):
        client.send(encode_publish(world.topic(), b"x", 2, packet_id))
    while True:
        found = client.receive()
        if found.type != PUBREC:
            break
    assert (found.type, found.reason) == (DISCONNECT, 0x93)


@reason(0x8E)
def test_the_former_connection_is_told_0x8e(world, resume_at):
    first = world.connect("same", 0)
    world.client("same").open(world.port(resume_at))
    found = first.receive()
    assert (found.type, found.reason) == (DISCONNECT, 0x8E)


@reason(0x8D)
def test_a_silent_client_is_told_0x8d(world):
    client = world.connect("c", keep_alive=1)
    found = client.receive()
    assert (found.type, found.reason) == (DISCONNECT, 0x8D)


@reason(0x00, 0x04)
@pytest.mark.parametrize("code, expected", [(0x00, []), (0x04, [b"will"]), (0x83, [b"will"])])
def test_a_client_decides_about_its_will_by_the_reason(world, code, expected):
    witness = world.subscriber(level=5)
    client = world.connect("w", 0, will={"topic": world.topic("will"), "payload": b"will", "qos": 1})
    client.disconnect(code)
    for payload in expected:
        witness.expect_message(payload=payload)
    assert world.fence(witness) == []


@reason(0x81, 0x82)
@pytest.mark.parametrize("code", [0x01, 0x8B, 0x8D, 0x8E, 0x9C, 0xFF])
def test_a_client_may_not_use_the_codes_of_a_server(world, code):
    client = world.connect("c")
    client.send(packet(0xE0, bytes([code])))
    found = client.expect_closed()
    assert found is not None and found.reason in (0x81, 0x82)


# ---- CONNACK ----

def refused(world, port, **options):
    """The reason of a CONNACK; a close must follow."""
    client = world.client("refused")
    found = client.open(port, expect=None, **options)
    assert found.reason != 0 and not found.session_present, found
    with pytest.raises(Closed):
        client.receive()
    return found


def raw_refused(world, data, level):
    client = world.socket(level=level)
    client.send(data)
    found = client.receive()
    assert found.type == CONNACK, found
    with pytest.raises(Closed):
        client.receive()
    return found.reason


@pytest.mark.parametrize("level", [4])
@pytest.mark.parametrize("version", [1, 2, 6, 99])
def test_an_unknown_version_gets_return_code_1(world, version, level):
    """Which 3.1.1 demands, in the form that every client can read; 5.0 leaves it to the server."""
    assert raw_refused(world, raw_connect(4, version=version), 4) == 1


@reason(0x81, 0x82, 0x97)
@pytest.mark.parametrize("code, data", [
    (0x81, raw_connect(5, b"zz")),
    (0x81, raw_connect(5, properties=b"\5\x11\0\0\0")),
    (0x82, raw_connect(5, properties=encode_properties({"receive_maximum": 0}))),
    (0x82, raw_connect(5, properties=encode_properties({"maximum_packet_size": 0}))),
    (0x82, raw_connect(5, properties=encode_properties({"session_expiry": [1, 1]}))),
    (0x82, raw_connect(5, properties=encode_properties({"request_problem_info": 2}))),
    (0x82, raw_connect(5, properties=encode_properties({"auth_data": b"x"}))),
    (0x97, raw_connect(5, properties=encode_properties({"user_property": [("a", "b")] * 1001}))),
])
def test_a_connect_that_is_wrong(world, code, data):
    assert raw_refused(world, data, 5) == code


@pytest.mark.parametrize("level", [4])
def test_an_empty_client_id_before_5_0(world, level):
    assert raw_refused(world, encode_connect("", 4, clean=False), 4) == 2
    assert raw_refused(world, encode_connect("", 3), 3) == 2


@reason(0x87)
@pytest.mark.parametrize("level", [4, 5])
def test_a_will_to_a_topic_of_the_server(world, level):
    found = refused(world, world.port(), will={"topic": "$SYS/x", "payload": b"x"})
    assert found.reason == (0x87 if level == 5 else 5)


@reason(0x8C)
def test_an_unknown_authentication_method_is_0x8c(world):
    assert refused(world, world.port(), properties={"auth_method": "GS2-KRB5"}).reason == 0x8C


@reason(0x9A, 0x9B)
@pytest.mark.parametrize("broker, will, code", [("no-retain", {"retain": True}, 0x9A),
                                                ("qos-1-at-most", {"qos": 2}, 0x9B)])
def test_a_will_that_the_server_cannot_serve(world, broker, will, code):
    assert refused(world, world.special(broker), will={"topic": "w", "payload": b"w", **will}).reason == code


@reason(0x9F)
@pytest.mark.parametrize("level", [4, 5])
def test_too_many_connects_in_a_second(world, level):
    port = world.special("one-connect-a-second")
    reasons = {world.client(f"c{n}").open(port, expect=None).reason for n in range(12)}
    assert (0x9F if level == 5 else 3) in reasons and reasons <= {0, 0x9F if level == 5 else 3}


# ---- what the server does not offer ----

@reason(0x9A, 0x9B, 0x99, 0xA1, 0xA2, 0x94)
@pytest.mark.parametrize("level", [4, 5])
@pytest.mark.parametrize("broker, code, build", [
    ("no-retain", 0x9A, lambda v, t: encode_publish(t, b"x", 0, retain=True, level=v)),
    ("qos-1-at-most", 0x9B, lambda v, t: encode_publish(t, b"x", 2, 1, level=v)),
    ("little-offered", 0x99, with_properties(payload_format=1)),
    ("little-offered", 0x94, with_properties(topic_alias=1)),
    ("little-offered", 0xA1, lambda v, t: encode_subscribe(1, [(t, 0)], v, {"subscription_id": 1})),
    ("little-offered", 0xA2, lambda v, t: encode_subscribe(1, [(t + "/#", 0)], v)),
    ("little-offered", 0xA2, lambda v, t: encode_subscribe(1, [(f"$share/g/{t}/+", 0)], v)),
], ids=["retain", "qos-2", "payload-format", "alias", "subscription-id", "wildcard", "wildcard-in-a-group"])
def test_what_was_announced_as_missing(world, level, broker, code, build):
    if level == 4 and code in (0x99, 0x94, 0xA1):
        pytest.skip("3.1.1 has no such thing")
    client = world.client("c")
    client.open(world.special(broker))
    data = build(level, world.topic("x"))
    if code == 0x99:
        data = raw_publish(5, world.topic("x"), b"\xff\xfe", properties=encode_properties({"payload_format": 1}))
    client.send(data)
    if level == 4 and code == 0xA2:
        assert client.receive().codes == [0x80]
        return
    last = client.expect_closed()
    assert last is None if level == 4 else last.reason == code, last


@reason(0x00)
def test_capabilities_are_announced(world):
    client = world.client("c")
    found = client.open(world.special("little-offered"), clean=False,
                        properties={"request_response_info": 1}).properties
    assert found["wildcard_available"] == found["subscription_id_available"] == 0
    assert "topic_alias_maximum" not in found or found["topic_alias_maximum"] == 0
    assert (found["receive_maximum"], found["session_expiry"], found["response_info"]) == (2, 100, "answers/here")
    plain = world.connect("plain").connack.properties
    absent = {"wildcard_available", "subscription_id_available", "shared_available", "retain_available", "maximum_qos",
              "response_info", "server_keep_alive", "session_expiry", "assigned_client_id", "server_reference"}
    assert not absent & {name for name, value in plain.items() if value != 1 or name in ("maximum_qos",)}


@statement("MQTT-3.1.2-28", level=V5)
@pytest.mark.parametrize("asked", [None, 0, 1])
def test_response_information_comes_only_if_asked_for(world, asked):
    client = world.client("c")
    found = client.open(world.special("little-offered"),
                        properties={} if asked is None else {"request_response_info": asked})
    assert found.properties.get("response_info") == ("answers/here" if asked else None)


# ---- PUBACK, PUBREC, PUBREL, PUBCOMP ----

@reason(0x00, 0x10)
@pytest.mark.parametrize("qos", [1, 2])
def test_whether_anybody_subscribes_is_told(world, qos):
    publisher = world.publisher(level=5)
    assert publisher.publish(world.topic("x"), "x", qos=qos) == 0x10
    subscriber = world.subscriber((world.topic("x"), 0))
    assert publisher.publish(world.topic("x"), "x", qos=qos) == 0
    subscriber.unsubscribe(world.topic("x"))
    assert publisher.publish(world.topic("x"), "x", qos=qos) == 0x10
    assert publisher.publish(world.topic("x"), "x", qos=qos, retain=True) in (0, 0x10)


@reason(0x87)
@pytest.mark.parametrize("qos, answer", [(1, PUBACK), (2, PUBREC)])
@pytest.mark.parametrize("level", [4, 5])
def test_publishing_as_the_server_is_not_authorized(world, level, qos, answer):
    client = world.publisher()
    client.send(encode_publish("$SYS/broker/version", b"mine", qos, 7, level=level))
    found = client.receive()
    assert (found.type, found.packet_id, found.reason) == (answer, 7, 0x87 if level == 5 else 0)
    client.ping()


@reason(0x97)
@pytest.mark.parametrize("qos, answer", [(1, PUBACK), (2, PUBREC)])
def test_more_retained_messages_than_there_is_room_for(world, qos, answer):
    client = world.client("c")
    client.open(world.special("little-offered"))
    topics = [world.topic(str(n)) for n in range(5)]
    reasons = [client.publish(topic, "x", qos=qos, retain=True) for topic in topics]
    for topic in topics:
        client.publish(topic, b"", qos=1, retain=True)
    assert set(reasons[:3]) <= {0, 0x10} and reasons[4] == 0x97, reasons


@reason(0x92)
@corner(104, 105, level=V5)
def test_ids_that_are_not_in_use(world):
    client = world.connect("c")
    client.send(encode_ack(PUBREL, 4711, 5))
    found = client.receive()
    assert (found.type, found.packet_id, found.reason) == (PUBCOMP, 4711, 0x92)
    client.send(encode_ack(PUBREC, 4712, 5))
    found = client.receive()
    assert (found.type, found.packet_id, found.reason) == (PUBREL, 4712, 0x92)


# ---- SUBACK, UNSUBACK ----

@reason(0x00, 0x01, 0x02, 0x8F)
@pytest.mark.parametrize("level", [4, 5])
def test_each_filter_has_its_code(world, level):
    client = world.connect()
    client.send(encode_subscribe(3, [("a", 0), ("b", 1), ("c", 2), ("a/#/b", 1), ("$share/g", 1)], level))
    found = client.receive()
    bad = 0x8F if level == 5 else 0x80
    assert found.type == SUBACK and found.codes[:4] == [0, 1, 2, bad]
    assert found.codes[4] == 0x8F if level == 5 else found.codes[4] in (1, 0x80)


@reason(0x97)
@pytest.mark.parametrize("level", [4, 5])
def test_more_subscriptions_than_allowed(world, level):
    client = world.client("c")
    client.open(world.special("little-offered"))
    codes = client.subscribe(*[(world.topic(str(n)), 1) for n in range(6)])
    assert codes == [1, 1, 1, 1] + [0x97 if level == 5 else 0x80] * 2
    assert client.subscribe((world.topic("0"), 2)) == [2]  # one that is there is replaced


@reason(0x91)
def test_a_packet_id_that_is_in_use(world):
    client = world.connect("c")
    client.send(encode_publish(world.topic(), b"x", 2, 9))
    assert client.receive().type == PUBREC
    client.send(encode_subscribe(9, [("a", 0), ("b", 0)]))
    found = client.receive()
    assert (found.type, found.codes) == (SUBACK, [0x91, 0x91])
    client.send(raw_unsubscribe(5, text("a"), packet_id=9))
    found = client.receive()
    assert (found.type, found.codes) == (UNSUBACK, [0x91])


@reason(0x00, 0x11, 0x8F)
def test_what_was_unsubscribed_and_what_never_was(world):
    client = world.connect("c")
    client.subscribe((world.topic("a"), 1))
    assert client.unsubscribe(world.topic("a"), world.topic("b"), "a/#/b") == [0x00, 0x11, 0x8F]
