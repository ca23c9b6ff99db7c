"""A small MQTT client for tests: packets in the open, nothing hidden.

Two layers:

  Packet, encode_*, decode   the wire format of 3.1.1 (level 4) and 5.0 (level 5), both directions of a client
  Client                     one connection and the protocol state that a client must keep between connections
                             (open packet ids of QoS 2, unacknowledged publishes), so that a test can cut the
                             connection anywhere, go on at another node, and check what the standard promises

It never retries, reconnects or answers by itself unless asked to: a test decides when an acknowledgement is sent.
Ordinary client libraries (paho, mosquitto's tools) are used beside it, as plain users.
"""

import os
import select
import socket
import ssl
import struct
import time

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 2, 3, 4, 5, 6, 7
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = 8, 9, 10, 11, 12, 13, 14, 15

TYPE_NAMES = {1: "CONNECT", 2: "CONNACK", 3: "PUBLISH", 4: "PUBACK", 5: "PUBREC", 6: "PUBREL", 7: "PUBCOMP",
              8: "SUBSCRIBE", 9: "SUBACK", 10: "UNSUBSCRIBE", 11: "UNSUBACK", 12: "PINGREQ", 13: "PINGRESP",
              14: "DISCONNECT", 15: "AUTH"}

# name -> (identifier, kind); the MQTT 5.0 property table (2.2.2.2)
PROPERTIES = {
    "payload_format": (0x01, "u8"), "message_expiry": (0x02, "u32"), "content_type": (0x03, "text"),
    "response_topic": (0x08, "text"), "correlation_data": (0x09, "data"), "subscription_id": (0x0B, "varint"),
    "session_expiry": (0x11, "u32"), "assigned_client_id": (0x12, "text"), "server_keep_alive": (0x13, "u16"),
    "auth_method": (0x15, "text"), "auth_data": (0x16, "data"), "request_problem_info": (0x17, "u8"),
    "will_delay": (0x18, "u32"), "request_response_info": (0x19, "u8"), "response_info": (0x1A, "text"),
    "server_reference": (0x1C, "text"), "reason_string": (0x1F, "text"), "receive_maximum": (0x21, "u16"),
    "topic_alias_maximum": (0x22, "u16"), "topic_alias": (0x23, "u16"), "maximum_qos": (0x24, "u8"),
    "retain_available": (0x25, "u8"), "user_property": (0x26, "pair"), "maximum_packet_size": (0x27, "u32"),
    "wildcard_available": (0x28, "u8"), "subscription_id_available": (0x29, "u8"), "shared_available": (0x2A, "u8"),
}
PROPERTY_BY_ID = {identifier: (name, kind) for name, (identifier, kind) in PROPERTIES.items()}
REPEATABLE = ("user_property", "subscription_id")


class Closed(Exception):
    """The server closed the connection."""


class ClosedWhileSending(Closed, ConnectionError):
    """Likewise, and it is also what a socket without TLS would have raised."""


class Timeout(Exception):
    """Nothing arrived in time."""


def varint(value):
    out = bytearray()
    while True:
        byte, value = value % 128, value // 128
        out.append(byte | (0x80 if value else 0))
        if not value:
            return bytes(out)


def text(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("!H", len(raw)) + raw


def encode_property(name, value):
    identifier, kind = PROPERTIES[name]
    head = varint(identifier)
    if kind == "u8":
        return head + struct.pack("!B", value)
    if kind == "u16":
        return head + struct.pack("!H", value)
    if kind == "u32":
        return head + struct.pack("!I", value)
    if kind == "varint":
        return head + varint(value)
    if kind == "pair":
        return head + text(value[0]) + text(value[1])
    return head + text(value)


def encode_properties(properties):
    body = b""
    for name, value in (properties or {}).items():
        for one in (value if isinstance(value, list) else [value]):
            body += encode_property(name, one)
    return varint(len(body)) + body


def packet(first_byte, body):
    return bytes([first_byte]) + varint(len(body)) + body


def encode_connect(client_id, level=5, clean=True, keep_alive=60, username=None, password=None, will=None,
                   properties=None, protocol=None, flags=None):
    """`will` is a dict: topic, payload, qos, retain, properties."""
    if protocol is None:
        protocol = "MQIsdp" if level == 3 else "MQTT"
    bits = 0x02 if clean else 0
    payload = text(client_id)
    if will is not None:
        bits |= 0x04 | (will.get("qos", 0) << 3) | (0x20 if will.get("retain") else 0)
        if level == 5:
            payload += encode_properties(will.get("properties"))
        payload += text(will["topic"]) + text(will.get("payload", b""))
    if username is not None:
        bits |= 0x80
        payload += text(username)
    if password is not None:
        bits |= 0x40
        payload += text(password)
    body = text(protocol) + bytes([level, bits if flags is None else flags]) + struct.pack("!H", keep_alive)
    if level == 5:
        body += encode_properties(properties)
    return packet(0x10, body + payload)


def encode_publish(topic, payload=b"", qos=0, packet_id=None, retain=False, dup=False, level=5, properties=None):
    body = text(topic)
    if qos > 0:
        body += struct.pack("!H", packet_id)
    if level == 5:
        body += encode_properties(properties)
    raw = payload if isinstance(payload, bytes) else payload.encode()
    return packet(0x30 | (0x08 if dup else 0) | (qos << 1) | (1 if retain else 0), body + raw)


def encode_ack(kind, packet_id, level=5, reason=0, properties=None):
    body = struct.pack("!H", packet_id)
    if level == 5 and (reason or properties):
        body += bytes([reason])
        if properties:
            body += encode_properties(properties)
    return packet((kind << 4) | (0x02 if kind == PUBREL else 0), body)


def encode_subscribe(packet_id, filters, level=5, properties=None):
    """`filters`: list of (filter, options); options is the QoS or the whole option byte."""
    body = struct.pack("!H", packet_id)
    if level == 5:
        body += encode_properties(properties)
    for name, options in filters:
        body += text(name) + bytes([options])
    return packet(0x82, body)


def encode_unsubscribe(packet_id, filters, level=5, properties=None):
    body = struct.pack("!H", packet_id)
    if level == 5:
        body += encode_properties(properties)
    for name in filters:
        body += text(name)
    return packet(0xA2, body)


def encode_disconnect(level=5, reason=0, properties=None):
    if level < 5 or (reason == 0 and not properties):
        return packet(0xE0, b"")
    return packet(0xE0, bytes([reason]) + (encode_properties(properties) if properties else b""))


def encode_auth(reason=0x18, properties=None):
    return packet(0xF0, bytes([reason]) + encode_properties(properties))


PING = packet(0xC0, b"")


class Packet:
    """One decoded packet: `type`, and the fields that its type has (see decode)."""

    def __init__(self, kind, flags, **fields):
        self.type = kind
        self.flags = flags
        self.properties = {}
        self.__dict__.update(fields)

    def __repr__(self):
        fields = {k: v for k, v in self.__dict__.items() if k not in ("type", "raw") and v not in ({}, None)}
        return f"{TYPE_NAMES.get(self.type, self.type)}({fields})"


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise ValueError("packet ends within a field")
        taken = self.data[self.at:self.at + count]
        self.at += count
        return taken

    def u8(self):
        return self.take(1)[0]

    def u16(self):
        return struct.unpack("!H", self.take(2))[0]

    def u32(self):
        return struct.unpack("!I", self.take(4))[0]

    def varint(self):
        value, shift = 0, 0
        while True:
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if shift and byte == 0:
                    raise ValueError("variable byte integer longer than needed")
                return value
            shift += 7
            if shift > 21:
                raise ValueError("variable byte integer too long")

    def block(self):
        return self.take(self.u16())

    def text(self):
        return self.block().decode()

    def rest(self):
        return self.take(len(self.data) - self.at)

    def more(self):
        return self.at < len(self.data)

    def properties(self):
        out = {}
        inner = Reader(self.take(self.varint()))
        while inner.more():
            identifier = inner.varint()
            name, kind = PROPERTY_BY_ID[identifier]
            value = {"u8": inner.u8, "u16": inner.u16, "u32": inner.u32, "varint": inner.varint, "text": inner.text,
                     "data": inner.block, "pair": lambda: (inner.text(), inner.text())}[kind]()
            if name in REPEATABLE:
                out.setdefault(name, []).append(value)
            elif name in out:
                raise ValueError(f"property {name} twice")
            else:
                out[name] = value
        return out


def decode(first_byte, body, level):
    """A packet that a server sent. Raises ValueError or KeyError where a server must not send such a thing."""
    kind, flags, r = first_byte >> 4, first_byte & 0x0F, Reader(body)
    p = Packet(kind, flags)
    if kind == PUBLISH:
        p.dup, p.qos, p.retain = bool(flags & 8), (flags >> 1) & 3, bool(flags & 1)
        p.topic = r.text()
        p.packet_id = r.u16() if p.qos else None
        if level == 5:
            p.properties = r.properties()
        p.payload = r.rest()
        if p.qos == 3 or (p.qos and p.packet_id == 0) or (p.qos == 0 and p.dup):
            raise ValueError(f"malformed PUBLISH {p}")
        return p
    if flags != (2 if kind == PUBREL else 0):
        raise ValueError(f"flags {flags:#x} on {TYPE_NAMES.get(kind)}")
    if kind == CONNACK:
        ack_flags = r.u8()
        if ack_flags & 0xFE:
            raise ValueError("reserved CONNACK flags")
        p.session_present, p.reason = bool(ack_flags & 1), r.u8()
        if level == 5:
            p.properties = r.properties()
    elif kind in (PUBACK, PUBREC, PUBREL, PUBCOMP):
        p.packet_id, p.reason = r.u16(), 0
        if level == 5 and r.more():
            p.reason = r.u8()
            if r.more():
                p.properties = r.properties()
    elif kind in (SUBACK, UNSUBACK):
        p.packet_id = r.u16()
        if level == 5:
            p.properties = r.properties()
        p.codes = list(r.rest())
    elif kind == DISCONNECT:
        p.reason = r.u8() if level == 5 and r.more() else 0
        if r.more():
            p.properties = r.properties()
    elif kind == AUTH:
        p.reason = r.u8() if r.more() else 0
        if r.more():
            p.properties = r.properties()
    elif kind != PINGRESP:
        raise ValueError(f"a server does not send {TYPE_NAMES.get(kind, kind)}")
    if r.more():
        raise ValueError(f"bytes left over in {p}")
    return p


def readable(sock, seconds):
    """Whether bytes (or the end) arrive within the time. poll: select() ends at descriptor 1,023."""
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return bool(poller.poll(max(0, seconds * 1000)))


def trusting_tls():
    """For tests about something else: any certificate will do."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Client:
    """A client with its session state. `session` survives connections: open() again to resume elsewhere."""

    tls = trusting_tls() if os.environ.get("COTERIE_TEST_TLS") else None    # of all clients, or of one
    tls_session = None    # to be resumed

    def __init__(self, client_id="", level=5, timeout=10.0):
        self.client_id, self.level, self.timeout = client_id, level, timeout
        self.socket, self.buffer = None, bytearray()
        self.early = []            # PUBLISH packets that came while another packet was expected
        self.next_id = 0
        self.unacknowledged = {}   # packet id -> encoded PUBLISH (QoS 1, 2) or None once PUBREC came
        self.receiving = set()     # QoS 2 packet ids that we have received and not completed
        self.received = []         # PUBLISH packets handed to the application
        self.raw_received = []     # every PUBLISH packet, repetitions included

    # -- connection ----------------------------------------------------------------------------------------

    def dial(self, port, host="127.0.0.1"):
        """Opens the TCP connection only."""
        self.close()
        self.buffer, self.early = bytearray(), []
        self.socket = socket.create_connection((host, port), timeout=self.timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.tls:
            self.socket = self.tls.wrap_socket(self.socket, server_hostname="localhost", session=self.tls_session)
        return self

    def open(self, port, clean=True, expect=0, host="127.0.0.1", **options):
        """Connects and returns the CONNACK, whose reason must be `expect` (None: any)."""
        self.dial(port, host)
        if self.level == 5 and not clean:
            options["properties"] = dict({"session_expiry": 0xFFFFFFFF}, **(options.get("properties") or {}))
        self.send(encode_connect(self.client_id, self.level, clean=clean, **options))
        connack = self.expect(CONNACK)
        if expect is not None and connack.reason != expect:
            raise AssertionError(f"{self.client_id}: {connack}, expected reason {expect:#x}")
        if not connack.session_present:
            self.receiving.clear()
        if connack.properties.get("assigned_client_id"):
            self.client_id = connack.properties["assigned_client_id"]
        return connack

    def close(self):
        """Cuts the connection without a word."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def abort(self):
        """Cuts the connection with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def disconnect(self, reason=0, properties=None):
        """Sends DISCONNECT and waits until the server has closed."""
        self.send(encode_disconnect(self.level, reason, properties))
        self.expect_closed()

    # -- packets -------------------------------------------------------------------------------------------

    def send(self, data):
        try:
            self.socket.sendall(data)
        except ssl.SSLEOFError as error:    # with TLS an end is seen while sending, too
            raise ClosedWhileSending(str(error)) from error

    def receive(self, timeout=None):
        """The next packet; Timeout, or Closed when the server has closed."""
        if self.early:
            return self.early.pop(0)
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            found = self._take_packet()
            if found is not None:
                return found
            left = deadline - time.monotonic()
            pending = self.tls and self.socket.pending()
            if left < 0 or not pending and not readable(self.socket, left):
                raise Timeout(f"{self.client_id}: nothing within the time")
            try:
                data = self.take_bytes(left)
            except (ConnectionError, ssl.SSLEOFError) as error:
                raise Closed(str(error)) from error
            if not data:
                raise Closed(f"{self.client_id}: closed by the server")
            self.buffer += data

    def take_bytes(self, seconds):
        """What is there; with TLS that may be nothing for us, only a ticket for its session."""
        if not self.tls:
            return self.socket.recv(65536)
        self.socket.settimeout(max(seconds, 0.001))
        try:
            return self.socket.recv(65536)
        except (TimeoutError, ssl.SSLWantReadError):
            raise Timeout(f"{self.client_id}: nothing within the time") from None
        finally:
            self.socket.settimeout(self.timeout)

    def _take_packet(self):
        size, shift, at = 0, 0, 1
        while True:
            if len(self.buffer) <= at:
                return None
            byte = self.buffer[at]
            size |= (byte & 0x7F) << shift
            at += 1
            if byte < 0x80:
                break
            shift += 7
            if shift > 21:
                raise ValueError("remaining length too long")
        if at > 2 and byte == 0:
            raise ValueError("remaining length in more bytes than needed")
        if len(self.buffer) < at + size:
            return None
        found = decode(self.buffer[0], bytes(self.buffer[at:at + size]), self.level)
        del self.buffer[:at + size]
        return found

    def expect(self, kind, timeout=None):
        """The next packet, which must be of this type; a PUBLISH that comes before it (3.8.4 allows that) stays there
        for who asks for it later."""
        early = []
        try:
            while True:
                found = self.receive(timeout)
                if found.type == kind:
                    return found
                if found.type == PUBLISH:
                    early.append(found)
                elif found.type == PUBREL:
                    self.answer_pubrel(found)
                else:
                    raise AssertionError(f"{self.client_id}: {found}, expected {TYPE_NAMES[kind]}")
        finally:
            self.early = early + self.early

    def expect_closed(self, reason=None, timeout=None):
        """The server closes; a DISCONNECT may come first, with this reason if one is given and level is 5."""
        last = None
        while True:
            try:
                last = self.receive(timeout)
            except Closed:
                break
        self.close()
        if reason is not None and last is not None and last.type == DISCONNECT:
            allowed = reason if isinstance(reason, (tuple, list, set)) else (reason,)
            assert last.reason in allowed, f"{last}, expected {allowed}"
        return last

    def expect_nothing(self, seconds=0.3):
        """Nothing is on its way: a PINGREQ is answered before anything else comes. `seconds` bounds the answer."""
        self.send(PING)
        found = self.receive(max(seconds, 5.0))
        while found.type == PUBREL:   # the end of an exchange that began before
            self.answer_pubrel(found)
            found = self.receive(max(seconds, 5.0))
        assert found.type == PINGRESP, f"{self.client_id}: unexpected {found}"

    def ping(self):
        self.send(PING)
        return self.expect(PINGRESP)

    # -- subscribe, publish --------------------------------------------------------------------------------

    def new_id(self):
        self.next_id = self.next_id % 65535 + 1
        while self.next_id in self.unacknowledged:
            self.next_id = self.next_id % 65535 + 1
        return self.next_id

    def subscribe(self, *filters, properties=None):
        """filters: (filter, options) or filter (QoS 2). Returns the SUBACK codes."""
        pairs = [f if isinstance(f, tuple) else (f, 2) for f in filters]
        packet_id = self.new_id()
        self.send(encode_subscribe(packet_id, pairs, self.level, properties))
        suback = self.expect(SUBACK)
        assert suback.packet_id == packet_id and len(suback.codes) == len(pairs), suback
        return suback.codes

    def unsubscribe(self, *filters):
        packet_id = self.new_id()
        self.send(encode_unsubscribe(packet_id, filters, self.level))
        unsuback = self.expect(UNSUBACK)
        assert unsuback.packet_id == packet_id, unsuback
        return unsuback.codes

    def start_publish(self, topic, payload=b"", qos=1, **options):
        """Sends a PUBLISH without waiting; returns its packet id (None for QoS 0)."""
        packet_id = self.new_id() if qos else None
        data = encode_publish(topic, payload, qos, packet_id, level=self.level, **options)
        if qos:
            self.unacknowledged[packet_id] = data
        self.send(data)
        return packet_id

    def publish(self, topic, payload=b"", qos=1, **options):
        """Publishes and completes the handshake; returns the reason code (0 for QoS 0)."""
        packet_id = self.start_publish(topic, payload, qos, **options)
        if qos == 0:
            return 0
        if qos == 1:
            ack = self.expect(PUBACK)
            assert ack.packet_id == packet_id, ack
        else:
            ack = self.expect(PUBREC)
            assert ack.packet_id == packet_id, ack
            if ack.reason < 0x80:
                self.send(encode_ack(PUBREL, packet_id, self.level))
                done = self.expect(PUBCOMP)
                assert done.packet_id == packet_id, done
        self.unacknowledged.pop(packet_id, None)
        return ack.reason

    def resend(self):
        """What a client does after a resumption: unacknowledged PUBLISH with DUP, then PUBREL, in order."""
        for packet_id, data in sorted(self.unacknowledged.items()):
            if data is None:
                self.send(encode_ack(PUBREL, packet_id, self.level))
            else:
                self.send(bytes([data[0] | 0x08]) + data[1:])

    def on_ack(self, found):
        """Moves the sender's state on for a PUBACK, PUBREC or PUBCOMP. True when that publish is complete."""
        if found.type == PUBREC and found.reason < 0x80:
            self.unacknowledged[found.packet_id] = None
            self.send(encode_ack(PUBREL, found.packet_id, self.level))
            return False
        return self.unacknowledged.pop(found.packet_id, b"") != b"" or found.type == PUBCOMP

    # -- receive -------------------------------------------------------------------------------------------

    def take(self, found, acknowledge=True):
        """What a well-behaved receiver does with a PUBLISH: exactly-once for QoS 2, then acknowledge."""
        self.raw_received.append(found)
        repeated = found.qos == 2 and found.packet_id in self.receiving
        if not repeated:
            self.received.append(found)
        if found.qos == 2:
            self.receiving.add(found.packet_id)
        if acknowledge and found.qos:
            self.send(encode_ack(PUBACK if found.qos == 1 else PUBREC, found.packet_id, self.level))
        return found

    def answer_pubrel(self, found):
        self.receiving.discard(found.packet_id)
        self.send(encode_ack(PUBCOMP, found.packet_id, self.level))

    def collect(self, count=None, quiet=0.5, timeout=None):
        """Receives and completes deliveries until `count` are there, or (count None) until it is quiet: a PINGREQ
        has been answered and nothing came for `quiet` seconds. Returns what the application has got so far."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while count is None or len(self.received) < count:
            left = quiet if count is None else deadline - time.monotonic()
            try:
                found = self.receive(max(left, 0))
            except Timeout:
                if count is None:
                    break
                raise Timeout(f"{self.client_id}: {len(self.received)} of {count} messages") from None
            if found.type == PUBLISH:
                self.take(found)
            elif found.type == PUBREL:
                self.answer_pubrel(found)
            elif found.type in (PUBACK, PUBREC, PUBCOMP):
                self.on_ack(found)
            elif found.type not in (PINGRESP,):
                raise AssertionError(f"{self.client_id}: unexpected {found}")
        return self.received

    def expect_message(self, topic=None, payload=None, timeout=None, **fields):
        """The next PUBLISH, acknowledged; checks the fields given."""
        while True:
            found = self.receive(timeout)
            if found.type == PUBREL:
                self.answer_pubrel(found)
                continue
            assert found.type == PUBLISH, f"{self.client_id}: {found}, expected PUBLISH"
            break
        self.take(found)
        if topic is not None:
            assert found.topic == topic, found
        if payload is not None:
            expected = payload if isinstance(payload, bytes) else payload.encode()
            assert found.payload == expected, found
        for name, value in fields.items():
            assert getattr(found, name) == value, f"{name} of {found}, expected {value}"
        return found
