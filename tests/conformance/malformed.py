"""Building blocks of packets that are wrong in exactly one place."""

import struct

from mqtt import packet, text, varint

# What must never be accepted as UTF-8: (name, bytes).
BAD_UTF8 = [
    ("ff", b"\xff"),
    ("lone-continuation", b"a\x80b"),
    ("truncated", b"a\xe2\x82"),
    ("overlong-slash", b"\xc0\xaf"),
    ("overlong-nul", b"\xc0\x80"),
    ("overlong-3", b"\xe0\x80\xaf"),
    ("five-bytes", b"\xf8\x88\x80\x80\x80"),
    ("beyond-10ffff", b"\xf4\x90\x80\x80"),
    ("surrogate", b"\xed\xa0\x80"),
    ("surrogate-pair", b"\xed\xa0\xbd\xed\xb8\x80"),
]
NUL = b"a\0b"


def raw_connect(level, payload=None, flags=0x02, keep_alive=60, properties=b"\0", protocol=b"MQTT", client_id=b"x",
                first_byte=0x10, version=None):
    """CONNECT with every part as raw bytes; `payload` replaces everything behind the client id."""
    body = text(protocol) + bytes([level if version is None else version, flags]) + struct.pack("!H", keep_alive)
    if level == 5:
        body += properties
    if client_id is not None:
        body += text(client_id)
    return packet(first_byte, body + (payload or b""))


def no_properties(level):
    return b"\0" if level == 5 else b""


def raw_publish(level, topic, payload=b"", qos=0, packet_id=1, flags=None, properties=b"\0"):
    body = text(topic) + (struct.pack("!H", packet_id) if qos else b"")
    if level == 5:
        body += properties
    return packet(0x30 | (qos << 1 if flags is None else flags), body + payload)


def raw_subscribe(level, payload, packet_id=7, properties=b"\0", first_byte=0x82):
    return packet(first_byte, struct.pack("!H", packet_id) + (properties if level == 5 else b"") + payload)


def raw_unsubscribe(level, payload, packet_id=7, properties=b"\0", first_byte=0xA2):
    return packet(first_byte, struct.pack("!H", packet_id) + (properties if level == 5 else b"") + payload)


def properties_of(raw):
    """A property block of given length around raw bytes."""
    return varint(len(raw)) + raw
