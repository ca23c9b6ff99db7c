"""A malformed packet or protocol error on a working connection.

Each case: a client with a will, at one node, sends something wrong and, in the same segment, a good PUBLISH. The server
must close that connection (5.0: a DISCONNECT with a fitting code may come first), must not process what follows, must
publish the will, and nobody else may notice: a witness at another node sees the will and nothing more.
"""

import pytest

from malformed import BAD_UTF8, NUL, properties_of, raw_connect, raw_publish, raw_subscribe, raw_unsubscribe
from mqtt import (DISCONNECT, PUBACK, PUBCOMP, PUBREC, PUBREL, SUBACK, Closed, encode_auth, encode_disconnect,
                  encode_properties, encode_publish, packet, text)
from statements import BOTH, V4, V5, VERSIONS, corner, statement

ACKS = {"puback": (PUBACK, 0x40, "3.4.2-1"), "pubrec": (PUBREC, 0x50, "3.5.2-1"), "pubrel": (PUBREL, 0x62, "3.6.2-1"),
        "pubcomp": (PUBCOMP, 0x70, "3.7.2-1")}
SOME = {0x80, 0x81, 0x82, 0x83}


def publish_with(**properties):
    return lambda v, t: raw_publish(v, t, b"bad", properties=encode_properties(properties))


# (name, statements of 3.1.1, of 5.0, corner cases, codes that fit besides SOME, packet for (level, topic))
TABLE = [
    # Fixed header.
    ("type-0", "4.8.0-1", "4.13.1-1", [9], (), lambda v, t: b"\0\0"),
    ("type-15", "4.8.0-1", "", [9], (), lambda v, t: b"\xf0\0"),
    ("remaining-length-5-bytes", "4.8.0-1", "1.5.5-1", [4], (), lambda v, t: b"\x30\x80\x80\x80\x80\1"),
    ("remaining-length-not-minimal", "", "1.5.5-1", [5], (), lambda v, t: b"\xc0\x80\0"),
    ("flags-connect", "2.2.2-2", "2.1.3-1", [10], (), lambda v, t: raw_connect(v, first_byte=0x12)),
    ("flags-puback", "2.2.2-2", "2.1.3-1", [10], (), lambda v, t: packet(0x42, b"\0\1")),
    ("flags-pubrec", "2.2.2-2", "2.1.3-1", [10], (), lambda v, t: packet(0x52, b"\0\1")),
    ("flags-pubrel-0", "2.2.2-2 3.6.1-1", "2.1.3-1 3.6.1-1", [10], (), lambda v, t: packet(0x60, b"\0\1")),
    ("flags-pubrel-3", "2.2.2-2 3.6.1-1", "2.1.3-1 3.6.1-1", [10], (), lambda v, t: packet(0x63, b"\0\1")),
    ("flags-pubcomp", "2.2.2-2", "2.1.3-1", [10], (), lambda v, t: packet(0x71, b"\0\1")),
    ("flags-subscribe-0", "2.2.2-2 3.8.1-1", "2.1.3-1 3.8.1-1", [10], (),
     lambda v, t: raw_subscribe(v, text("a") + b"\0", first_byte=0x80)),
    ("flags-subscribe-6", "2.2.2-2 3.8.1-1", "2.1.3-1 3.8.1-1", [10], (),
     lambda v, t: raw_subscribe(v, text("a") + b"\0", first_byte=0x86)),
    ("flags-unsubscribe-0", "2.2.2-2 3.10.1-1", "2.1.3-1 3.10.1-1", [10], (),
     lambda v, t: raw_unsubscribe(v, text("a"), first_byte=0xA0)),
    ("flags-unsubscribe-a", "2.2.2-2 3.10.1-1", "2.1.3-1 3.10.1-1", [10], (),
     lambda v, t: raw_unsubscribe(v, text("a"), first_byte=0xAA)),
    ("flags-pingreq", "2.2.2-2", "2.1.3-1", [10], (), lambda v, t: b"\xc1\0"),
    ("flags-disconnect", "2.2.2-2 3.14.1-1", "2.1.3-1 3.14.1-1", [10, 119], (), lambda v, t: b"\xe1\0"),
    ("flags-auth", "", "2.1.3-1 3.15.1-1", [10], (), lambda v, t: b"\xf1\2\x18\0"),
    ("pingreq-with-a-body", "4.8.0-1", "4.13.1-1", [12], (), lambda v, t: b"\xc0\1\0"),
    ("disconnect-with-a-body", "4.8.0-1", "", [12], (), lambda v, t: b"\xe0\1\0"),
    # Packets that a client does not send.
    ("second-connect", "3.1.0-2", "3.1.0-2 3.2.0-2", [35], (), lambda v, t: raw_connect(v, client_id=b"second")),
    ("second-connect-other-level", "3.1.0-2", "3.1.0-2 3.2.0-2", [35], (), lambda v, t: raw_connect(9 - v)),
    ("connack", "4.8.0-1", "4.13.1-1", [11], (), lambda v, t: packet(0x20, b"\0\0" + (b"\0" if v == 5 else b""))),
    ("suback", "4.8.0-1", "4.13.1-1", [11], (),
     lambda v, t: packet(0x90, b"\0\1" + (b"\0" if v == 5 else b"") + b"\0")),
    ("unsuback", "4.8.0-1", "4.13.1-1", [11], (), lambda v, t: packet(0xB0, b"\0\1" + (b"\0\0" if v == 5 else b""))),
    ("pingresp", "4.8.0-1", "4.13.1-1", [11], (), lambda v, t: b"\xd0\0"),
    ("auth-without-method-in-connect", "", "4.12.0-7 4.12.0-6", [51], (), lambda v, t: encode_auth(
        0x18, {"auth_method": "SCRAM-SHA-256"})),
    ("auth-of-a-bad-code", "", "3.15.2-1", [51], (), lambda v, t: encode_auth(0x17, {"auth_method": "x"})),
    # PUBLISH.
    ("publish-qos-3", "3.3.1-4", "3.3.1-4", [59], (), lambda v, t: raw_publish(v, t, b"bad", qos=1, flags=6)),
    ("publish-qos-1-id-0", "2.3.1-1", "2.2.1-3", [61], (), lambda v, t: raw_publish(v, t, b"bad", 1, 0)),
    ("publish-qos-2-id-0", "2.3.1-1", "2.2.1-3", [61], (), lambda v, t: raw_publish(v, t, b"bad", 2, 0)),
    ("publish-qos-1-no-id", "2.3.1-1", "2.2.1-3", [61], (), lambda v, t: packet(0x32, text(t))),
    ("publish-no-topic", "3.3.2-1", "3.3.2-1", [13], (), lambda v, t: packet(0x30, b"")),
    ("publish-half-a-topic", "3.3.2-1", "3.3.2-1", [13], (), lambda v, t: packet(0x30, b"\0\7abc")),
    ("publish-empty-topic", "4.7.3-1", "4.7.3-1 3.3.2-1", [58], (0x90, 0x94), lambda v, t: raw_publish(v, "", b"x")),
    ("publish-topic-nul", "1.5.3-2 4.7.3-2", "1.5.4-2 4.7.3-2", [18], (0x90,),
     lambda v, t: raw_publish(v, t.encode() + NUL, b"bad")),
    ("publish-topic-plus", "3.3.2-2 4.7.1-1", "3.3.2-2 4.7.0-1", [57], (0x90,),
     lambda v, t: raw_publish(v, t + "/+", b"bad")),
    ("publish-topic-hash", "3.3.2-2 4.7.1-1", "3.3.2-2 4.7.0-1", [57], (0x90,),
     lambda v, t: raw_publish(v, t + "/#", b"bad")),
    ("publish-topic-hash-inside", "3.3.2-2 4.7.1-1", "3.3.2-2 4.7.0-1", [57], (0x90,),
     lambda v, t: raw_publish(v, t + "/a#b", b"bad")),
    ("publish-topic-hash-qos-1", "3.3.2-2 4.7.1-1", "3.3.2-2 4.7.0-1", [57], (0x90,),
     lambda v, t: raw_publish(v, t + "/#", b"bad", 1, 1)),
    ("publish-topic-plus-retained", "3.3.2-2 4.7.1-1", "3.3.2-2 4.7.0-1", [57], (0x90,),
     lambda v, t: raw_publish(v, t + "/+", b"bad", flags=1)),
    ("publish-without-properties", "", "2.2.2-1", [48], (), lambda v, t: packet(0x30, text(t))),
    ("publish-property-length-beyond", "", "2.2.2-1", [48], (),
     lambda v, t: raw_publish(v, t, b"", properties=b"\x0a")),
    ("publish-property-length-not-minimal", "", "1.5.5-1", [5], (),
     lambda v, t: raw_publish(v, t, b"bad", properties=b"\x80\0")),
    ("publish-property-length-5-bytes", "", "1.5.5-1", [5], (),
     lambda v, t: raw_publish(v, t, b"bad", properties=b"\x80\x80\x80\x80\0")),
    ("publish-property-unknown", "", "4.13.1-1", [47], (), lambda v, t: raw_publish(
        v, t, b"bad", properties=properties_of(b"\x7f\0"))),
    ("publish-property-not-here", "", "4.13.1-1", [47], (), publish_with(session_expiry=1)),
    ("publish-property-will-delay", "", "4.13.1-1", [47], (), publish_with(will_delay=1)),
    ("publish-message-expiry-twice", "", "4.13.1-1", [44], (), publish_with(message_expiry=[1, 1])),
    ("publish-topic-alias-twice", "", "4.13.1-1", [44], (0x94,), publish_with(topic_alias=[1, 1])),
    ("publish-payload-format-2", "", "4.13.1-1", [54], (0x99,), publish_with(payload_format=2)),
    ("publish-subscription-id", "", "3.3.4-6", [66], (), publish_with(subscription_id=1)),
    ("publish-alias-0", "", "3.3.2-8", [62], (0x94,), publish_with(topic_alias=0)),
    ("publish-alias-above-the-maximum", "", "3.3.2-9 3.2.2-17 3.2.2-18", [62], (0x94,),
     publish_with(topic_alias=65535)),
    ("publish-unknown-alias", "", "3.3.2-1 3.3.2-7", [62], (0x94, 0x90),
     lambda v, t: raw_publish(v, "", b"bad", properties=encode_properties({"topic_alias": 1}))),
    ("publish-response-topic-plus", "", "3.3.2-14 4.7.0-1", [65], (0x90,), publish_with(response_topic="a/+")),
    ("publish-response-topic-hash", "", "3.3.2-14 4.7.0-1", [65], (0x90,), publish_with(response_topic="#")),
    ("publish-response-topic-nul", "", "1.5.4-2", [18], (0x90,), publish_with(response_topic=NUL)),
    ("publish-content-type-nul", "", "1.5.4-2", [18], (), publish_with(content_type=NUL)),
    ("publish-user-property-nul", "", "1.5.4-2 1.5.7-1", [22], (), publish_with(user_property=[(NUL, "v")])),
    # Acknowledgements.
    ("puback-no-id", "4.8.0-1", "4.13.1-1", [13], (), lambda v, t: packet(0x40, b"\1")),
    ("puback-too-long", "4.8.0-1", "", [14], (), lambda v, t: packet(0x40, b"\0\1\0")),
    ("pubrel-too-long", "4.8.0-1", "", [14], (), lambda v, t: packet(0x62, b"\0\1\0")),
    ("puback-left-over", "", "4.13.1-1", [14], (), lambda v, t: packet(0x40, b"\0\1\0\0x")),
    ("puback-property-not-here", "", "4.13.1-1", [108], (), lambda v, t: packet(
        0x40, b"\0\1\0" + encode_properties({"content_type": "x"}))),
    ("puback-reason-string-twice", "", "4.13.1-1", [44, 108], (), lambda v, t: packet(
        0x40, b"\0\1\0" + encode_properties({"reason_string": ["x", "y"]}))),
    # SUBSCRIBE.
    ("subscribe-id-0", "2.3.1-1", "2.2.1-3", [61], (), lambda v, t: raw_subscribe(v, text(t) + b"\0", 0)),
    ("subscribe-no-filter", "3.8.3-3", "3.8.3-2", [84], (), lambda v, t: raw_subscribe(v, b"")),
    ("subscribe-no-options", "3.8.3-3 4.8.0-1", "4.13.1-1", [84], (), lambda v, t: raw_subscribe(v, text(t))),
    ("subscribe-qos-3", "3.8.3-4", "3.8.3-5", [84], (), lambda v, t: raw_subscribe(v, text(t) + b"\3")),
    ("subscribe-bit-2", "3.8.3-4", "", [84], (), lambda v, t: raw_subscribe(v, text(t) + b"\4")),
    ("subscribe-bit-6", "3.8.3-4", "3.8.3-5", [84], (), lambda v, t: raw_subscribe(v, text(t) + b"\x40")),
    ("subscribe-bit-7", "3.8.3-4", "3.8.3-5", [84], (), lambda v, t: raw_subscribe(v, text(t) + b"\x81")),
    ("subscribe-retain-handling-3", "", "3.8.3-5", [84], (), lambda v, t: raw_subscribe(v, text(t) + b"\x30")),
    ("subscribe-filter-nul", "1.5.3-2 4.7.3-2", "1.5.4-2 4.7.3-2", [18], (0x8F,),
     lambda v, t: raw_subscribe(v, text(NUL) + b"\0")),
    ("subscribe-second-filter-cut", "4.8.0-1", "4.13.1-1", [14], (),
     lambda v, t: raw_subscribe(v, text(t) + b"\0\0\5ab")),
    ("subscribe-id-0-property", "", "4.13.1-1", [45, 100], (),
     lambda v, t: raw_subscribe(v, text(t) + b"\0", properties=b"\2\x0b\0")),
    ("subscribe-id-property-not-minimal", "", "1.5.5-1", [5, 100], (),
     lambda v, t: raw_subscribe(v, text(t) + b"\0", properties=b"\3\x0b\x81\0")),
    ("subscribe-id-property-5-bytes", "", "1.5.5-1", [100], (),
     lambda v, t: raw_subscribe(v, text(t) + b"\0", properties=b"\6\x0b\x80\x80\x80\x80\1")),
    ("subscribe-id-property-twice", "", "4.13.1-1", [44, 100], (),
     lambda v, t: raw_subscribe(v, text(t) + b"\0", properties=b"\4\x0b\1\x0b\2")),
    ("subscribe-no-local-shared", "", "3.8.3-4", [86], (),
     lambda v, t: raw_subscribe(v, text("$share/g/" + t) + b"\4")),
    # UNSUBSCRIBE.
    ("unsubscribe-id-0", "2.3.1-1", "2.2.1-3", [61], (), lambda v, t: raw_unsubscribe(v, text(t), 0)),
    ("unsubscribe-no-filter", "3.10.3-2", "3.10.3-2", [84], (), lambda v, t: raw_unsubscribe(v, b"")),
    ("unsubscribe-filter-cut", "3.10.3-1", "3.10.3-1", [13], (), lambda v, t: raw_unsubscribe(v, b"\0\5ab")),
    ("unsubscribe-left-over", "3.10.3-1", "3.10.3-1", [14], (), lambda v, t: raw_unsubscribe(v, text(t) + b"\0")),
    ("unsubscribe-filter-nul", "1.5.3-2 4.7.3-2", "1.5.4-2 4.7.3-2", [18], (0x8F,),
     lambda v, t: raw_unsubscribe(v, text(NUL))),
    # DISCONNECT.
    ("disconnect-unknown-code", "", "3.14.2-1", [119], (), lambda v, t: encode_disconnect(5, 0x01)),
    ("disconnect-code-of-servers", "", "3.14.2-1", [119], (), lambda v, t: encode_disconnect(5, 0x8E)),
    ("disconnect-raises-expiry", "", "3.14.2-2", [120], (),
     lambda v, t: encode_disconnect(5, 0, {"session_expiry": 9})),
    ("disconnect-property-not-here", "", "4.13.1-1", [47], (),
     lambda v, t: encode_disconnect(5, 0, {"topic_alias": 9})),
]
for _name, _bytes in BAD_UTF8:
    TABLE += [
        (f"publish-topic-{_name}", "1.5.3-1 3.3.2-1", "1.5.4-1 3.3.2-1", [16, 17], (0x90,),
         lambda v, t, bad=_bytes: raw_publish(v, t.encode() + b"/" + bad, b"bad")),
        (f"subscribe-filter-{_name}", "1.5.3-1 3.8.3-1", "1.5.4-1 3.8.3-1", [16, 17], (0x8F,),
         lambda v, t, bad=_bytes: raw_subscribe(v, text(bad) + b"\0")),
        (f"unsubscribe-filter-{_name}", "1.5.3-1 3.10.3-1", "1.5.4-1 3.10.3-1", [16, 17], (0x8F,),
         lambda v, t, bad=_bytes: raw_unsubscribe(v, text(bad))),
        (f"publish-content-type-{_name}", "", "1.5.4-1 3.3.2-19", [16, 17], (), publish_with(content_type=_bytes)),
        (f"publish-response-topic-{_name}", "", "1.5.4-1 3.3.2-13", [16, 17], (0x90,),
         publish_with(response_topic=_bytes)),
        (f"publish-user-property-{_name}", "", "1.5.4-1 1.5.7-1", [16, 22], (),
         publish_with(user_property=[("k", _bytes)])),
        (f"publish-user-property-name-{_name}", "", "1.5.4-1 1.5.7-1", [16, 22], (),
         publish_with(user_property=[(_bytes, "v")])),
        (f"disconnect-reason-string-{_name}", "", "1.5.4-1", [16], (),
         lambda v, t, bad=_bytes: encode_disconnect(5, 0, {"reason_string": bad})),
        (f"subscribe-user-property-{_name}", "", "1.5.4-1 1.5.7-1", [16, 22], (),
         lambda v, t, bad=_bytes: raw_subscribe(v, text(t) + b"\0",
                                                properties=encode_properties({"user_property": [(bad, "v")]}))),
    ]
for _name, (_kind, _first, _statement) in ACKS.items():
    for _code in (0x01, 0x18, 0x81, 0xFF):
        TABLE.append((f"{_name}-of-unknown-code-{_code:02x}", "", _statement, [108], (),
                      lambda v, t, first=_first, code=_code: packet(first, bytes([0, 1, code]))))


def cases():
    for name, of_v4, of_v5, rows, codes, build in TABLE:
        for level, ids in ((4, of_v4), (5, of_v5)):
            if not ids:
                continue
            names = {f"MQTT-{one}" for one in ids.split()} | {"MQTT-4.8.0-1" if level == 4 else "MQTT-4.13.1-1"}
            marks = [statement(*sorted(names), level=level), corner(*rows, 80, level=level)]
            will = not name.startswith(("second-connect", "flags-connect"))  # test_wills has those
            yield pytest.param(level, build, SOME | set(codes), will, id=f"{VERSIONS[level]}-{name}", marks=marks)


def will_of(world):
    return {"topic": world.topic("will"), "payload": b"will", "qos": 1}


@statement("MQTT-3.1.2-8", "MQTT-4.8.0-1", level=V4)
@statement("MQTT-3.1.2-8", "MQTT-3.1.2-7", level=V5)
@pytest.mark.parametrize("level,build,codes,has_will", cases())
def test_a_bad_packet_closes_this_connection_only(world, level, build, codes, has_will):
    witness = world.subscriber(at=1, level=5)
    client = world.connect("bad", 0, will=will_of(world) if has_will else None)
    client.send(build(level, world.topic("x")) + encode_publish(world.topic("behind"), b"behind", 1, 9, level=level))
    last = closed(client)
    assert last is None or last.reason in codes, f"{last}, expected one of {sorted(map(hex, codes))}"
    if has_will:
        witness.expect_message(world.topic("will"), b"will", qos=1)
    assert world.fence(witness) == []


def closed(client):
    """The server closes; all it may send is (5.0) a DISCONNECT."""
    last = None
    while True:
        try:
            found = client.receive()
        except Closed:
            return last
        assert found.type == DISCONNECT and client.level == 5, f"{found}, expected a close"
        last = found


# ---- filters that are wrong: refused in SUBACK, or closed ----

BAD_FILTERS = [("a#", "4.7.1-2", "4.7.1-1"), ("#/a", "4.7.1-2", "4.7.1-1"), ("a/#/b", "4.7.1-2", "4.7.1-1"),
               ("##", "4.7.1-2", "4.7.1-1"), ("a/b#", "4.7.1-2", "4.7.1-1"), ("a+", "4.7.1-3", "4.7.1-2"),
               ("+a/b", "4.7.1-3", "4.7.1-2"), ("++", "4.7.1-3", "4.7.1-2"), ("a/b+/c", "4.7.1-3", "4.7.1-2"),
               ("", "4.7.3-1", "4.7.3-1")]
BAD_SHARES = [("$share", "", "4.8.2-1"), ("$share/", "", "4.8.2-1"), ("$share//t", "", "4.8.2-1"),
              ("$share/g", "", "4.8.2-2"), ("$share/g/", "", "4.8.2-2"), ("$share/g+/t", "", "4.8.2-2"),
              ("$share/#/t", "", "4.8.2-2"), ("$share/+/t", "", "4.8.2-2")]


def filter_cases(table, row):
    for name, of_v4, of_v5 in table:
        for level, one in ((4, of_v4), (5, of_v5)):
            if one:
                yield pytest.param(level, name, id=f"{VERSIONS[level]}-{name or 'empty'}",
                                   marks=[statement(f"MQTT-{one}", level=level), corner(row, level=level)])


@pytest.mark.parametrize("level,name", [*filter_cases(BAD_FILTERS, 82), *filter_cases(BAD_SHARES, 85)])
def test_a_bad_filter_is_refused_or_closes(world, level, name):
    client = world.connect()
    client.send(raw_subscribe(level, text(name) + b"\1"))
    try:
        found = client.receive()
    except Closed:
        return
    if found.type == SUBACK:
        allowed = [0x80] if level == 4 else [0x8F, 0x81, 0x82, 0x80, 0x9E]
        assert len(found.codes) == 1 and found.codes[0] in allowed, found
        client.ping()
    else:
        assert found.type == DISCONNECT and found.reason in (0x8F, 0x81, 0x82), found
        with pytest.raises(Closed):
            client.receive()


@pytest.mark.parametrize("level,name", filter_cases(BAD_FILTERS, 82))
def test_a_bad_filter_in_unsubscribe_removes_nothing(world, level, name):
    client = world.connect()
    client.send(raw_unsubscribe(level, text(name)))
    try:
        found = client.receive()
    except Closed:
        return
    assert found.type == DISCONNECT or found.codes in ([], [0x8F], [0x11]), found


# ---- all prefixes, all splits ----

def whole_packets(world, level):
    topic = world.topic("x")
    return {
        "publish": raw_publish(level, topic, b"bad", 1, 5, properties=encode_properties(
            {"message_expiry": 5, "content_type": "x", "user_property": [("a", "b")]})),
        "subscribe": raw_subscribe(level, text(topic) + b"\1" + text(topic + "/y") + b"\2"),
        "unsubscribe": raw_unsubscribe(level, text(topic) + text(topic + "/y")),
        "pubrel": packet(0x62, b"\0\1" if level == 4 else b"\0\1\0" + encode_properties({"reason_string": "x"})),
    }


@statement("MQTT-4.8.0-1", level=V4)
@statement("MQTT-4.13.1-1", level=V5)
@corner(13)
@pytest.mark.parametrize("kind", ["publish", "subscribe", "unsubscribe", "pubrel"])
def test_a_body_that_ends_within_a_field_closes(world, kind):
    whole = whole_packets(world, world.level)[kind]
    body = whole[2:]
    good = {"publish": len(body) - 3, "pubrel": 2, "subscribe": None, "unsubscribe": None}[kind]
    for size in range(len(body)):
        if good is not None and size >= good:
            break
        client = world.connect("cut")
        client.send(packet(whole[0], body[:size]))
        if is_whole(kind, body, size, world.level):
            client.expect({"subscribe": 9, "unsubscribe": 11}[kind])
        else:
            closed(client)


def is_whole(kind, body, size, level):
    """Whether this prefix of SUBSCRIBE or UNSUBSCRIBE happens to end between two filters."""
    at = 3 if level == 5 else 2
    ends = []
    while kind in ("subscribe", "unsubscribe") and at < len(body):
        at += 2 + int.from_bytes(body[at:at + 2], "big") + (1 if kind == "subscribe" else 0)
        ends.append(at)
    return size in ends


@statement("MQTT-3.3.1-2", "MQTT-4.3.1-1", level=BOTH)
@corner(60)
def test_qos_0_with_dup_closes_or_loses_the_flag(world):
    witness = world.subscriber(at=1, level=5)
    client = world.connect("bad", 0, will=will_of(world))
    client.send(encode_publish(world.topic("x"), b"dup", 0, dup=True, level=world.level))
    try:
        client.ping()
    except Closed:
        return
    witness.expect_message(world.topic("x"), b"dup", dup=False)
