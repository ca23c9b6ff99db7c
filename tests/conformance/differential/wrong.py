"""Packets with one thing wrong, by name: what the standard says of each is a server's duty to refuse, unless it is in
MAY_GO_ON. Each is whole (a broker never waits for the rest of it), so that a PINGREQ behind it is read as one.

    FIRST       instead of a CONNECT; `client_id` is that of the client that it comes from
    CONNECTED   from a client that is connected"""

import struct

from malformed import BAD_UTF8, NUL, properties_of, raw_connect, raw_publish, raw_subscribe, raw_unsubscribe
from mqtt import (PING, PUBACK, PUBCOMP, PUBREC, PUBREL, encode_ack, encode_auth, encode_connect, encode_property, encode_publish,
                  encode_subscribe, packet, text)

TWICE_FORBIDDEN = {"payload_format": 1, "message_expiry": 1000, "content_type": "t", "response_topic": "r",
                   "correlation_data": b"c", "topic_alias": 1}
NOT_IN_PUBLISH = {"session_expiry": 5, "receive_maximum": 5, "will_delay": 5, "maximum_packet_size": 500, "server_keep_alive": 5,
                  "assigned_client_id": "x", "reason_string": "x", "subscription_id": 5, "shared_available": 1}
INVALID_FILTERS = ["a#", "#/a", "a/#/b", "a+", "+a/b", "++", "##", "a/b#", "+#"]
INVALID_GROUPS = ["$share/g", "$share/g/", "$share//a", "$share/g+/a", "$share/#/a"]    # as 3.1.1 they are filters as any other


def _subscribe(level, name, options=0):
    return raw_subscribe(level, text(name) + bytes([options]))


def _header(first_byte):
    """Only the first byte is wrong: the rest is what that packet has."""
    bodies = {1: text("MQTT") + b"\4\2\0\0" + text("x"), 2: b"\0\0", 3: text("a") + b"\0\1", 8: b"\0\7" + text("a") + b"\0",
              10: b"\0\7" + text("a"), 9: b"\0\7\0", 11: b"\0\7", 12: b"", 13: b"", 14: b""}
    return lambda level, draw: packet(first_byte, bodies.get(first_byte >> 4, b"\0\7"))


def _publish_property(names, times):
    def make(level, draw):
        name = draw.choice(sorted(names))
        return raw_publish(5, "a", qos=draw.choice([0, 1]), properties=properties_of(times * encode_property(name, names[name])))
    return make


CONNECTED = {    # name: (levels, make(level, draw) -> bytes)
    "type 0": ((4, 5), _header(0x00)),
    "CONNACK from a client": ((4, 5), _header(0x20)),
    "SUBACK from a client": ((4, 5), _header(0x90)),
    "UNSUBACK from a client": ((4, 5), _header(0xB0)),
    "PINGRESP from a client": ((4, 5), _header(0xD0)),
    "type 15": ((4,), _header(0xF0)),
    "second CONNECT": ((4, 5), lambda level, draw: encode_connect("x", level)),
    "QoS 3": ((4, 5), lambda level, draw: raw_publish(level, "a", flags=6, qos=1)),
    "DUP with QoS 0": ((4, 5), lambda level, draw: raw_publish(level, "a", flags=8)),
    "flags of PUBACK": ((4, 5), _header(0x41)),
    "flags of PUBREC": ((4, 5), _header(0x52)),
    "flags of PUBREL": ((4, 5), _header(0x60)),
    "flags of PUBCOMP": ((4, 5), _header(0x74)),
    "flags of SUBSCRIBE": ((4, 5), lambda level, draw: raw_subscribe(level, text("a") + b"\0", first_byte=0x80)),
    "flags of UNSUBSCRIBE": ((4, 5), lambda level, draw: raw_unsubscribe(level, text("a"), first_byte=0xA0)),
    "flags of PINGREQ": ((4, 5), _header(0xC1)),
    "flags of DISCONNECT": ((4, 5), _header(0xE2)),
    "PINGREQ with a body": ((4, 5), lambda level, draw: packet(0xC0, b"\0")),
    "length in five bytes": ((4, 5), lambda level, draw: b"\x30\x80\x80\x80\x80\x01" + 16 * b"\0"),
    "empty topic": ((4, 5), lambda level, draw: raw_publish(level, "")),
    "wildcard in a topic": ((4, 5), lambda level, draw: raw_publish(level, draw.choice(["#", "a/+", "a/#", "+"]))),
    "packet id 0 of PUBLISH": ((4, 5), lambda level, draw: raw_publish(level, "a", qos=draw.choice([1, 2]), packet_id=0)),
    "packet id 0 of SUBSCRIBE": ((4, 5), lambda level, draw: raw_subscribe(level, text("a") + b"\0", packet_id=0)),
    "packet id 0 of UNSUBSCRIBE": ((4, 5), lambda level, draw: raw_unsubscribe(level, text("a"), packet_id=0)),
    "packet id 0 of PUBREL": ((4, 5), lambda level, draw: encode_ack(PUBREL, 0, level)),
    "topic cut off": ((4, 5), lambda level, draw: packet(0x30, b"\0\5a")),
    "PUBLISH without packet id": ((4, 5), lambda level, draw: packet(0x32, text("a"))),
    "SUBSCRIBE without filters": ((4, 5), lambda level, draw: raw_subscribe(level, b"")),
    "UNSUBSCRIBE without filters": ((4, 5), lambda level, draw: raw_unsubscribe(level, b"")),
    "SUBSCRIBE without options": ((4, 5), lambda level, draw: raw_subscribe(level, text("a"))),
    "filter cut off": ((4, 5), lambda level, draw: raw_subscribe(level, b"\0\5a\0")),
    "SUBSCRIBE with QoS 3": ((4, 5), lambda level, draw: _subscribe(level, "a", 3)),
    "reserved options": ((4, 5), lambda level, draw: _subscribe(level, "a", draw.choice([0x40, 0x80, 0xC1]))),
    "retain handling 3": ((5,), lambda level, draw: _subscribe(level, "a", 0x30)),
    "no local in a group": ((5,), lambda level, draw: _subscribe(level, "$share/g/a", 0x05)),
    "empty filter": ((4, 5), lambda level, draw: _subscribe(level, "")),
    "invalid filter": ((4, 5), lambda level, draw: _subscribe(level, draw.choice(INVALID_FILTERS), draw.choice([0, 1, 2]))),
    "invalid group": ((5,), lambda level, draw: _subscribe(level, draw.choice(INVALID_GROUPS))),
    "invalid filter to UNSUBSCRIBE": ((4, 5), lambda level, draw: raw_unsubscribe(level, text(draw.choice(INVALID_FILTERS)))),
    "bad UTF-8 in a topic": ((4, 5), lambda level, draw: raw_publish(level, draw.choice(BAD_UTF8)[1])),
    "bad UTF-8 in a filter": ((4, 5), lambda level, draw: _subscribe(level, draw.choice(BAD_UTF8)[1])),
    "NUL in a topic": ((4, 5), lambda level, draw: raw_publish(level, NUL)),
    "NUL in a filter": ((4, 5), lambda level, draw: _subscribe(level, NUL)),
    "property twice": ((5,), _publish_property(TWICE_FORBIDDEN, 2)),
    "property of another packet": ((5,), _publish_property(NOT_IN_PUBLISH, 1)),
    "unknown property": ((5,), lambda level, draw: raw_publish(5, "a", properties=properties_of(bytes([draw.choice([0, 4, 0x2B, 0x7F]), 1])))),
    "properties cut off": ((5,), lambda level, draw: raw_publish(5, "a", properties=b"\x03\x02\0\0")),
    "properties beyond the packet": ((5,), lambda level, draw: raw_publish(5, "a", properties=b"\x7f")),
    "payload format 2": ((5,), lambda level, draw: raw_publish(5, "a", properties=properties_of(b"\1\2"))),
    "bad UTF-8 in a property": ((5,), lambda level, draw: raw_publish(
        5, "a", properties=properties_of(encode_property(draw.choice(["content_type", "response_topic"]), draw.choice(BAD_UTF8)[1])))),
    "bad UTF-8 in a user property": ((5,), lambda level, draw: raw_publish(
        5, "a", properties=properties_of(encode_property("user_property", ("k", draw.choice(BAD_UTF8)[1]))))),
    "wildcard in a response topic": ((5,), lambda level, draw: encode_publish("a", properties={"response_topic": "a/+"})),
    "alias 0": ((5,), lambda level, draw: encode_publish("a", properties={"topic_alias": 0})),
    "alias above the maximum": ((5,), lambda level, draw: encode_publish("a", properties={"topic_alias": 60000})),
    "alias that was never set": ((5,), lambda level, draw: encode_publish("", properties={"topic_alias": 9})),
    "subscription id 0": ((5,), lambda level, draw: encode_subscribe(7, [("a", 0)], 5, {"subscription_id": 0})),
    "subscription id twice": ((5,), lambda level, draw: encode_subscribe(7, [("a", 0)], 5, {"subscription_id": [1, 2]})),
    "subscription id to UNSUBSCRIBE": ((5,), lambda level, draw: raw_unsubscribe(5, text("a"), properties=b"\2\x0b\1")),
    "AUTH without a method": ((5,), lambda level, draw: encode_auth(0x18, {"auth_method": "M"})),
    "reason of PUBACK that it has not": ((5,), lambda level, draw: encode_ack(PUBACK, 999, 5, draw.choice([1, 0x8F, 0x92, 0xFF]))),
    "reason of PUBREL that it has not": ((5,), lambda level, draw: encode_ack(PUBREL, 999, 5, draw.choice([0x10, 0x80]))),
    "property of PUBACK that it has not": ((5,), lambda level, draw: encode_ack(PUBACK, 999, 5, 0, {"content_type": "x"})),
    "reason of DISCONNECT that it has not": ((5,), lambda level, draw: packet(0xE0, bytes([draw.choice([1, 0x8E, 0x9C])]))),
    "DISCONNECT with a body": ((4,), lambda level, draw: packet(0xE0, b"\0")),
    "PUBACK with a body": ((4,), lambda level, draw: packet(0x40, b"\0\x09\0")),
    # not wrong, but without effect
    "PUBACK of nothing": ((4, 5), lambda level, draw: encode_ack(PUBACK, 999, level)),
    "PUBREC of nothing": ((4, 5), lambda level, draw: encode_ack(PUBREC, 999, level)),
    "PUBREL of nothing": ((4, 5), lambda level, draw: encode_ack(PUBREL, 999, level)),
    "PUBCOMP of nothing": ((4, 5), lambda level, draw: encode_ack(PUBCOMP, 999, level)),
    "noncharacter in a topic": ((4, 5), lambda level, draw: raw_publish(level, b"\xef\xbf\xbf")),
    "control character in a topic": ((4, 5), lambda level, draw: raw_publish(level, b"\x01")),
}


def _connect(flags=0x02, **raw):
    return lambda level, client_id, draw: raw_connect(level, client_id=client_id, flags=flags, **raw)


FIRST = {    # name: (levels, make(level, client_id, draw) -> bytes)
    "no CONNECT": ((4, 5), lambda level, client_id, draw: draw.choice(
        [PING, encode_publish("a", b"x", level=level), encode_subscribe(1, [("a", 0)], level), packet(0xE0, b""), packet(0x20, b"\0\0")])),
    "flags of CONNECT": ((4, 5), _connect(first_byte=0x11)),
    "reserved connect flag": ((4, 5), _connect(0x03)),
    "protocol name": ((4, 5), lambda level, client_id, draw: raw_connect(
        level, client_id=client_id, protocol=draw.choice([b"mqtt", b"MQTX", b"", b"MQTT5"]))),
    "protocol version": ((4,), lambda level, client_id, draw: raw_connect(4, client_id=client_id, version=draw.choice([0, 2, 6, 127]))),
    "will QoS without a will": ((4, 5), _connect(0x0A)),
    "will retain without a will": ((4, 5), _connect(0x22)),
    "will QoS 3": ((4, 5), lambda level, client_id, draw: raw_connect(
        level, (b"\0" if level == 5 else b"") + text("w") + text("x"), flags=0x1E, client_id=client_id)),
    "will is missing": ((4, 5), _connect(0x06)),
    "will topic with a wildcard": ((4, 5), lambda level, client_id, draw: encode_connect(
        client_id, level, will={"topic": "w/+", "payload": b"x"})),
    "empty will topic": ((4, 5), lambda level, client_id, draw: encode_connect(client_id, level, will={"topic": "", "payload": b"x"})),
    "password without a user name": ((4,), lambda level, client_id, draw: raw_connect(4, text("x"), flags=0x42, client_id=client_id)),
    "user name is missing": ((4, 5), _connect(0x82)),
    "bytes behind it": ((4, 5), _connect(payload=b"xx")),
    "client id is missing": ((4, 5), lambda level, client_id, draw: raw_connect(level, client_id=None)),
    "bad UTF-8 in the client id": ((4, 5), lambda level, client_id, draw: raw_connect(level, client_id=draw.choice(BAD_UTF8)[1])),
    "no client id to keep": ((4,), lambda level, client_id, draw: encode_connect("", 4, clean=False)),
    "receive maximum 0": ((5,), lambda level, client_id, draw: encode_connect(client_id, 5, properties={"receive_maximum": 0})),
    "packet size 0": ((5,), lambda level, client_id, draw: encode_connect(client_id, 5, properties={"maximum_packet_size": 0})),
    "request problem information 2": ((5,), lambda level, client_id, draw: encode_connect(
        client_id, 5, properties={"request_problem_info": 2})),
    "connect property twice": ((5,), lambda level, client_id, draw: encode_connect(
        client_id, 5, properties={draw.choice(["session_expiry", "receive_maximum", "topic_alias_maximum"]): [5, 6]})),
    "property that CONNECT has not": ((5,), lambda level, client_id, draw: encode_connect(
        client_id, 5, properties={"message_expiry": 5})),
    "authentication data without a method": ((5,), lambda level, client_id, draw: encode_connect(
        client_id, 5, properties={"auth_data": b"x"})),
    "unknown authentication method": ((5,), lambda level, client_id, draw: encode_connect(
        client_id, 5, properties={"auth_method": "GS2-NONE"})),
}
