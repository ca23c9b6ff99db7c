"""A first packet that is not a proper CONNECT: no session, no CONNACK of success, no DISCONNECT; a close."""

import pytest

from malformed import BAD_UTF8, NUL, no_properties, properties_of, raw_connect
from mqtt import (CONNACK, PING, Closed, decode, encode_auth, encode_connect, encode_disconnect, encode_properties,
                  encode_publish, encode_subscribe, encode_unsubscribe, packet, text)
from statements import BOTH, V4, V5, VERSIONS, corner, statement

WILL = 0x04


def will_fields(level, topic=b"w", payload=b"w"):
    return no_properties(level) + text(topic) + text(payload)


# (name, statements of 3.1.1, statements of 5.0, corner cases, the packet for a level)
TABLE = [
    ("client-id-nul", "1.5.3-2", "1.5.4-2", [18], lambda v: raw_connect(v, client_id=NUL)),
    ("will-topic-nul", "1.5.3-2", "1.5.4-2", [18], lambda v: raw_connect(v, will_fields(v, NUL), 0x06)),
    ("user-name-nul", "1.5.3-2", "1.5.4-2", [18], lambda v: raw_connect(v, text(NUL), 0x82)),
    ("reserved-flag", "3.1.2-3", "3.1.2-3", [26], lambda v: raw_connect(v, flags=0x03)),
    ("no-will-but-qos-1", "3.1.2-11 3.1.2-13", "3.1.2-11", [27], lambda v: raw_connect(v, flags=0x0A)),
    ("no-will-but-qos-2", "3.1.2-11 3.1.2-13", "3.1.2-11", [27], lambda v: raw_connect(v, flags=0x12)),
    ("no-will-but-retain", "3.1.2-11 3.1.2-15", "3.1.2-13", [27], lambda v: raw_connect(v, flags=0x22)),
    ("will-qos-3", "3.1.2-14", "3.1.2-12", [27], lambda v: raw_connect(v, will_fields(v), 0x1E)),
    ("will-missing", "3.1.2-9 3.1.3-1", "3.1.2-9 3.1.3-1", [28], lambda v: raw_connect(v, flags=0x06)),
    ("will-payload-missing", "3.1.2-9 3.1.3-1", "3.1.2-9 3.1.3-1", [28],
     lambda v: raw_connect(v, no_properties(v) + text("w"), 0x06)),
    ("will-properties-missing", "", "3.1.2-9 3.1.3-1", [28], lambda v: raw_connect(v, text("w") + text("w"), 0x06)),
    ("will-topic-empty", "4.7.3-1", "4.7.3-1", [28], lambda v: raw_connect(v, will_fields(v, b""), 0x06)),
    ("will-topic-hash", "4.7.1-1", "4.7.0-1", [28], lambda v: raw_connect(v, will_fields(v, b"a/#"), 0x06)),
    ("will-topic-plus", "4.7.1-1", "4.7.0-1", [28], lambda v: raw_connect(v, will_fields(v, b"+/a"), 0x06)),
    ("user-name-unannounced", "3.1.2-18", "3.1.2-16", [14], lambda v: raw_connect(v, text("user"), 0x02)),
    ("user-name-missing", "3.1.2-19 3.1.3-1", "3.1.2-17 3.1.3-1", [13], lambda v: raw_connect(v, flags=0x82)),
    ("password-unannounced", "3.1.2-20", "3.1.2-18", [14],
     lambda v: raw_connect(v, text("user") + text("secret"), 0x82)),
    ("password-missing", "3.1.2-21 3.1.3-1", "3.1.2-19 3.1.3-1", [13], lambda v: raw_connect(v, text("user"), 0xC2)),
    ("password-without-user", "3.1.2-22", "", [29], lambda v: raw_connect(v, text("secret"), 0x42)),
    ("no-client-id", "3.1.3-3", "3.1.3-3", [13], lambda v: raw_connect(v, client_id=None)),
    ("half-a-client-id", "3.1.3-1 3.1.4-1", "3.1.3-1 3.1.4-1", [13],
     lambda v: raw_connect(v, b"\0\5ab", client_id=None)),
    ("bytes-left-over", "3.1.4-1", "3.1.4-1", [14], lambda v: raw_connect(v, b"zz")),
    ("header-flags", "2.2.2-2", "2.1.3-1", [10], lambda v: raw_connect(v, first_byte=0x11)),
    ("header-flags-2", "2.2.2-2", "2.1.3-1", [10], lambda v: raw_connect(v, first_byte=0x18)),
    ("ends-in-the-protocol-name", "3.1.4-1", "3.1.4-1", [13], lambda v: packet(0x10, b"\0\4MQ")),
    ("ends-before-keep-alive", "3.1.4-1", "3.1.4-1", [13], lambda v: packet(0x10, b"\0\4MQTT" + bytes([v, 2, 0]))),
    ("empty", "3.1.4-1", "3.1.4-1", [13], lambda v: packet(0x10, b"")),
    ("protocol-name-MQTX", "3.1.2-1", "3.1.2-1", [24], lambda v: raw_connect(v, protocol=b"MQTX")),
    ("protocol-name-mqtt", "3.1.2-1", "3.1.2-1", [24], lambda v: raw_connect(v, protocol=b"mqtt")),
    ("protocol-name-empty", "3.1.2-1", "3.1.2-1", [24], lambda v: raw_connect(v, protocol=b"")),
    ("protocol-name-long", "3.1.2-1", "3.1.2-1", [24], lambda v: raw_connect(v, protocol=b"MQTTT")),
    ("protocol-name-MQIsdp", "3.1.2-1", "3.1.2-1", [24], lambda v: raw_connect(v, protocol=b"MQIsdp")),
    # Properties of 5.0.
    ("properties-missing", "", "2.2.2-1", [48], lambda v: raw_connect(v, properties=b"", client_id=None)),
    ("property-length-beyond", "", "3.1.4-1", [48], lambda v: raw_connect(v, properties=b"\x7f")),
    ("property-length-cuts", "", "3.1.4-1", [48], lambda v: raw_connect(v, properties=b"\x04\x11\0\0\0\1")),
    ("property-length-5-bytes", "", "1.5.5-1", [5], lambda v: raw_connect(v, properties=b"\x80\x80\x80\x80\0")),
    ("property-length-not-minimal", "", "1.5.5-1", [5], lambda v: raw_connect(v, properties=b"\x80\0")),
    ("property-unknown", "", "3.1.4-1", [47], lambda v: raw_connect(v, properties=properties_of(b"\x7e\1"))),
    ("property-not-here", "", "3.1.4-1", [47], lambda v: raw_connect(v, properties=properties_of(b"\x0b\1"))),
    ("session-expiry-twice", "", "3.1.4-1", [44],
     lambda v: raw_connect(v, properties=properties_of(b"\x11\0\0\0\1" * 2))),
    ("receive-maximum-twice", "", "3.1.4-1", [44], lambda v: raw_connect(v, properties=properties_of(b"\x21\0\1" * 2))),
    ("receive-maximum-0", "", "4.9.0-1", [45], lambda v: raw_connect(v, properties=properties_of(b"\x21\0\0"))),
    ("maximum-packet-size-0", "", "3.1.4-1", [45], lambda v: raw_connect(v, properties=properties_of(b"\x27\0\0\0\0"))),
    ("request-response-info-2", "", "3.1.4-1", [46], lambda v: raw_connect(v, properties=properties_of(b"\x19\2"))),
    ("request-problem-info-2", "", "3.1.4-1", [46], lambda v: raw_connect(v, properties=properties_of(b"\x17\2"))),
    ("auth-data-without-method", "", "3.1.4-1", [49],
     lambda v: raw_connect(v, properties=encode_properties({"auth_data": b"x"}))),
    ("will-property-not-here", "", "3.1.4-1", [39, 47],
     lambda v: raw_connect(v, properties_of(b"\x11\0\0\0\1") + text("w") + text("w"), 0x06)),
    ("will-property-ends-half-way", "", "3.1.4-1", [39],
     lambda v: raw_connect(v, properties_of(b"\x26\0\1a\0\1b\x18\0\0") + text("w") + text("w"), 0x06)),
    ("will-delay-twice", "", "3.1.4-1", [44],
     lambda v: raw_connect(v, properties_of(b"\x18\0\0\0\1" * 2) + text("w") + text("w"), 0x06)),
    ("will-payload-format-2", "", "3.1.4-1", [54],
     lambda v: raw_connect(v, properties_of(b"\1\2") + text("w") + text("w"), 0x06)),
    ("will-response-topic-wildcard", "", "3.3.2-14 4.7.0-1", [65],
     lambda v: raw_connect(v, encode_properties({"response_topic": "a/+"}) + text("w") + text("w"), 0x06)),
    ("remaining-length-5-bytes", "3.1.4-1", "1.5.5-1", [4], lambda v: b"\x10\x80\x80\x80\x80\1"),
]
for _name, _bytes in BAD_UTF8:
    TABLE += [
        (f"client-id-{_name}", "1.5.3-1 3.1.3-4", "1.5.4-1 3.1.3-4", [16, 17],
         lambda v, bad=_bytes: raw_connect(v, client_id=bad)),
        (f"will-topic-{_name}", "1.5.3-1 3.1.3-10", "1.5.4-1 3.1.3-11", [16, 17],
         lambda v, bad=_bytes: raw_connect(v, will_fields(v, bad), 0x06)),
        (f"user-name-{_name}", "1.5.3-1 3.1.3-11", "1.5.4-1 3.1.3-12", [16, 17],
         lambda v, bad=_bytes: raw_connect(v, text(bad), 0x82)),
        (f"user-property-{_name}", "", "1.5.4-1 1.5.7-1", [16, 17, 22],
         lambda v, bad=_bytes: raw_connect(v, properties=encode_properties({"user_property": [(bad, "v")]}))),
        (f"user-property-value-{_name}", "", "1.5.4-1 1.5.7-1", [16, 17, 22],
         lambda v, bad=_bytes: raw_connect(v, properties=encode_properties({"user_property": [("k", bad)]}))),
        (f"auth-method-{_name}", "", "1.5.4-1", [16, 17],
         lambda v, bad=_bytes: raw_connect(v, properties=encode_properties({"auth_method": bad}))),
        (f"will-content-type-{_name}", "", "1.5.4-1 3.3.2-19", [16, 17],
         lambda v, bad=_bytes: raw_connect(v, encode_properties({"content_type": bad}) + text("w") + text("w"), 0x06)),
        (f"will-response-topic-{_name}", "", "1.5.4-1 3.3.2-13", [16, 17],
         lambda v, bad=_bytes: raw_connect(v, encode_properties({"response_topic": bad}) + text("w") + text("w"), 6)),
    ]


def cases():
    for name, of_v4, of_v5, rows, build in TABLE:
        for level, ids in ((4, of_v4), (5, of_v5)):
            if not ids:
                continue
            common = ["4.8.0-1", "3.2.2-6"] if level == 4 else ["4.13.1-1", "3.14.0-1"]
            marks = [statement(*(f"MQTT-{one}" for one in ids.split() + common), level=level),
                     corner(*rows, level=level)]
            silent = level == 4 and not name.startswith("protocol-name")  # those may get return code 1
            yield pytest.param(level, build(level), silent, id=f"{VERSIONS[level]}-{name}", marks=marks)


def closed_without_success(client, silent=False):
    """The server closes; all it may say is one CONNACK that refuses."""
    said = bytearray()
    while True:
        try:
            chunk = client.socket.recv(4096)
        except ConnectionError:
            chunk = b""
        if not chunk:
            break
        said += chunk
    assert not (silent and said), f"said {bytes(said).hex(' ')}"
    if said:
        assert said[0] == 0x20, f"said {bytes(said).hex(' ')}: only CONNACK may come here"
        found = decode(said[0], bytes(said[2:2 + said[1]]), 4 if said[1] == 2 else 5)
        assert found.reason != 0 and not found.session_present, found
        assert len(said) == 2 + said[1], f"more behind the CONNACK: {bytes(said).hex(' ')}"
        return found
    return None


@pytest.mark.parametrize("level,data,silent", cases())
def test_a_bad_connect_is_refused(world, level, data, silent):
    client = world.socket()
    client.send(data)
    found = closed_without_success(client, silent)
    assert found is None or level == 4 or found.reason >= 0x80 or found.reason == 1, found


FIRST_PACKETS = [
    ("publish", lambda v: encode_publish("a", b"x", level=v)),
    ("publish-qos-1", lambda v: encode_publish("a", b"x", 1, 1, level=v)),
    ("puback", lambda v: packet(0x40, b"\0\1")), ("pubrec", lambda v: packet(0x50, b"\0\1")),
    ("pubrel", lambda v: packet(0x62, b"\0\1")), ("pubcomp", lambda v: packet(0x70, b"\0\1")),
    ("subscribe", lambda v: encode_subscribe(1, [("a", 0)], v)),
    ("unsubscribe", lambda v: encode_unsubscribe(1, ["a"], v)),
    ("pingreq", lambda v: PING), ("disconnect", lambda v: encode_disconnect(v)),
    ("connack", lambda v: packet(0x20, b"\0\0" + no_properties(v))),
    ("suback", lambda v: packet(0x90, b"\0\1" + no_properties(v) + b"\0")),
    ("unsuback", lambda v: packet(0xB0, b"\0\1" + no_properties(v))),
    ("pingresp", lambda v: packet(0xD0, b"")),
    ("auth", lambda v: encode_auth(0x18)), ("type-0", lambda v: packet(0x00, b"")),
]


@statement("MQTT-3.1.0-1", level=BOTH)
@statement("MQTT-3.14.0-1", level=V5)
@corner(1, 9)
@pytest.mark.parametrize("build", [pytest.param(build, id=name) for name, build in FIRST_PACKETS])
def test_the_first_packet_must_be_connect(world, build):
    client = world.socket()
    client.send(build(world.level))
    closed_without_success(client, silent=True)


@corner(2)
def test_a_first_packet_of_256_mb_that_is_no_connect_is_closed_at_its_first_bytes(world):
    client = world.socket()
    client.send(b"\x30\xff\xff\xff\x7f")
    closed_without_success(client, silent=True)


@corner(7)
@pytest.mark.parametrize("hello", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(506),
                                   b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n"],
                         ids=["tls", "http", "ssh"])
def test_other_protocols_are_closed(world, hello):
    client = world.socket()
    client.send(hello)
    closed_without_success(client, silent=True)


@statement("MQTT-3.1.2-2", level=BOTH)
@corner(25)
@pytest.mark.parametrize("version", [0, 1, 2, 6, 7, 99, 127, 255])
def test_an_unknown_protocol_level_is_refused(world, version):
    client = world.socket()
    client.send(raw_connect(world.level, version=version))
    found = closed_without_success(client)
    if world.level == 4 and version < 6:
        assert found is not None and found.reason == 1, f"{found}, expected return code 1"
    elif world.level == 4:
        assert found is not None and found.reason in (0x01, 0x84), f"{found}, expected return code 1"
    else:
        assert found is None or found.reason in (0x01, 0x84), found


@corner(25)
@pytest.mark.parametrize("version", [131, 132, 133])
def test_a_known_protocol_level_with_bit_7_is_refused(world, version):
    client = world.socket()
    client.send(raw_connect(world.level, version=version))
    closed_without_success(client)


@statement("MQTT-3.1.4-5", level=V4)
@statement("MQTT-3.1.4-6", level=V5)
@corner(36)
def test_nothing_behind_a_refused_connect_is_processed(world):
    subscriber = world.subscriber()
    topic = world.topic("x")
    client = world.socket()
    client.send(raw_connect(world.level, flags=0x03) + encode_publish(topic, b"bad", 1, 1, True, level=world.level)
                + encode_subscribe(2, [(topic, 1)], world.level))
    closed_without_success(client)
    client = world.socket()
    client.send(raw_connect(world.level, version=99) + encode_publish(topic, b"bad", 1, 1, True, level=world.level))
    closed_without_success(client)
    assert world.fence(subscriber) == []


@statement("MQTT-3.1.2-8", level=V4)
@corner(37)
def test_the_will_of_a_refused_connect_is_never_published(world):
    subscriber = world.subscriber()
    client = world.socket()
    client.send(encode_connect("", 4, clean=False, will={"topic": world.topic("w"), "payload": b"will", "qos": 1}))
    closed_without_success(client)
    client = world.socket()
    client.send(encode_connect(world.unique, world.level, flags=0x0F,
                               will={"topic": world.topic("w"), "payload": b"will", "qos": 1}))
    closed_without_success(client)
    assert world.fence(subscriber) == []


@statement("MQTT-3.1.3-8", "MQTT-3.1.3-7", "MQTT-3.1.3-9", "MQTT-3.2.2-4", "MQTT-3.2.2-5", level=V4)
@corner(31, level=V4)
def test_an_empty_client_id_without_clean_session_is_refused_with_2(world):
    client = world.client(None)
    assert client.open(world.port(), clean=False, expect=None).reason == 2
    with pytest.raises(Closed):
        client.receive()


@statement("MQTT-3.2.2-6", "MQTT-3.2.2-7", "MQTT-3.2.2-8", "MQTT-3.1.4-2", "MQTT-4.13.2-1", level=V5)
def test_a_refusal_has_a_code_of_the_table_and_no_session_and_closes(world):
    client = world.client()
    client.open(world.port(), clean=False)
    client.disconnect()
    client.dial(world.port(1))
    client.send(encode_connect(client.client_id, 5, clean=False, properties={"auth_method": "NO-SUCH-METHOD"}))
    connack = client.receive()
    assert connack.type == CONNACK and connack.reason in (0x8C, 0x87) and not connack.session_present
    with pytest.raises(Closed):
        client.receive()


@statement("MQTT-3.1.3-8", level=V5)
@corner(34)
def test_a_very_long_client_id_is_accepted_or_refused_as_the_standard_says(world):
    client = world.client()
    client.client_id = (world.unique + "x" * 65535)[:65535]
    try:
        connack = client.open(world.port(), expect=None)
    except Closed:
        return
    assert connack.reason in ((0, 2) if world.level == 4 else (0, 0x85)), connack
    if connack.reason:
        with pytest.raises(Closed):
            client.receive()
    else:
        client.ping()
