"""A client that checks everything a server sends against the standard, whatever the test is about.

StrictClient is mqtt.Client with a judge at the door: each packet that comes in is looked at before the test sees it,
and one that a server may not send fails the test on the spot. What it checks is what no single test could: that of the
thousands of packets of a whole run not one has a reason code outside its table, a property where it does not belong, a
packet id that is still in use, a size above the client's maximum, more in flight than its Receive Maximum, or anything
behind a DISCONNECT. Tests that provoke one of these on purpose name the statement; the judge merely never sleeps.

Topic aliases of the server are resolved here: `topic` of a PUBLISH is always the whole topic.
"""

from mqtt import (AUTH, CONNACK, DISCONNECT, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, TYPE_NAMES,
                  UNSUBACK, Client, Closed)

# What a server may say in each packet of 5.0 (table 2-6), and which properties it may put there (table 2-4).
REASONS = {
    CONNACK: {0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99,
              0x9A, 0x9B, 0x9C, 0x9D, 0x9F},
    PUBACK: {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    PUBREC: {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    PUBREL: {0x00, 0x92},
    PUBCOMP: {0x00, 0x92},
    SUBACK: {0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2},
    UNSUBACK: {0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91},
    DISCONNECT: {0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97,
                 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2},
    AUTH: {0x00, 0x18},
}
ACK_PROPERTIES = {"reason_string", "user_property"}
PROPERTIES = {
    CONNACK: {"session_expiry", "assigned_client_id", "server_keep_alive", "auth_method", "auth_data", "response_info",
              "server_reference", "reason_string", "receive_maximum", "topic_alias_maximum", "maximum_qos",
              "retain_available", "user_property", "maximum_packet_size", "wildcard_available",
              "subscription_id_available", "shared_available"},
    PUBLISH: {"payload_format", "message_expiry", "content_type", "response_topic", "correlation_data",
              "subscription_id", "topic_alias", "user_property"},
    PUBACK: ACK_PROPERTIES, PUBREC: ACK_PROPERTIES, PUBREL: ACK_PROPERTIES, PUBCOMP: ACK_PROPERTIES,
    SUBACK: ACK_PROPERTIES, UNSUBACK: ACK_PROPERTIES,
    DISCONNECT: {"server_reference", "reason_string", "user_property"},
    AUTH: {"auth_method", "auth_data", "reason_string", "user_property"},
    PINGRESP: set(),
}
BOOLEAN = {"payload_format", "maximum_qos", "retain_available", "wildcard_available", "subscription_id_available",
           "shared_available"}
NOT_ZERO = {"receive_maximum", "maximum_packet_size", "subscription_id", "topic_alias"}


class Violation(AssertionError):
    """The server sent what no server may send."""


class Disconnected(Closed):
    """The server said DISCONNECT where something else was expected."""


class StrictClient(Client):
    def __init__(self, client_id="", level=5, timeout=10.0):
        super().__init__(client_id, level, timeout)
        self.connack = None
        self.seen = 0                # how many of `received` a test has looked at
        self._forget_connection({})

    def _forget_connection(self, announced):
        self.connacks = 0
        self.connack = None
        self.said_goodbye = False
        self.aliases = {}            # alias -> topic, set by the server on this connection
        self.in_flight = {}          # packet id -> "PUBLISH" or "PUBREL"; QoS 1 and 2 from the server, not completed
        self.packet_size_max = announced.get("maximum_packet_size")
        self.receive_maximum = announced.get("receive_maximum", 65535)
        self.alias_maximum = announced.get("topic_alias_maximum", 0)
        self.wants_problems = announced.get("request_problem_info", 1) == 1
        self.wants_response_info = announced.get("request_response_info", 0) == 1

    def dial(self, port, host="127.0.0.1"):
        super().dial(port, host)
        self._forget_connection({})
        return self

    def open(self, port, clean=True, expect=0, host="127.0.0.1", **options):
        self._announced = options.get("properties") or {}
        return super().open(port, clean, expect, host, **options)

    def send(self, data):
        kind = data[0] >> 4 if data else 0
        if kind == 1 and self.connacks == 0:
            self._forget_connection(getattr(self, "_announced", {}))
            self._announced = {}
        elif kind in (PUBACK, PUBCOMP) and len(data) >= 4:
            self.in_flight.pop(int.from_bytes(data[2:4], "big"), None)
        elif kind == PUBREC and len(data) >= 4:
            packet_id = int.from_bytes(data[2:4], "big")
            if len(data) > 4 and data[4] >= 0x80:
                self.in_flight.pop(packet_id, None)
            elif packet_id in self.in_flight:
                self.in_flight[packet_id] = "PUBREL"
        super().send(data)

    def expect(self, kind, timeout=None):
        try:
            return super().expect(kind, timeout)
        except Violation:
            raise
        except AssertionError as error:
            if self.said_goodbye:
                raise Disconnected(str(error)) from error
            raise

    def collect(self, count=None, quiet=0.5, timeout=None):
        got = super().collect(count, quiet, timeout)
        self.seen = len(got)
        return got

    def next_message(self, timeout=None):
        """The next message for the application, also if it came while something else was waited for."""
        while len(self.received) == self.seen:
            found = self.receive(timeout)
            if found.type == PUBLISH:
                self.take(found)
            elif found.type == PUBREL:
                self.answer_pubrel(found)
            elif found.type != PINGRESP:
                raise AssertionError(f"{self.client_id}: {found}, expected PUBLISH")
        self.seen += 1
        return self.received[self.seen - 1]

    def expect_message(self, topic=None, payload=None, timeout=None, **fields):
        found = self.next_message(timeout)
        expected = payload.encode() if isinstance(payload, str) else payload
        assert topic is None or found.topic == topic, f"{found}, expected topic {topic}"
        assert expected is None or found.payload == expected, f"{found}, expected {expected}"
        for name, value in fields.items():
            assert getattr(found, name) == value, f"{name} of {found}, expected {value}"
        return found

    def _take_packet(self):
        before = len(self.buffer)
        try:
            found = super()._take_packet()
        except (ValueError, KeyError) as error:
            raise Violation(f"{self.client_id}: undecodable: {error!r}") from error
        if found is not None:
            found.size = before - len(self.buffer)
            self._judge(found)
        return found

    # -- the judge -----------------------------------------------------------------------------------------

    def _require(self, fact, found, rule):
        if not fact:
            raise Violation(f"{self.client_id}: {found}: {rule}")

    def _judge(self, found):
        require = lambda fact, rule: self._require(fact, found, rule)
        require(not self.said_goodbye, "nothing may follow the server's DISCONNECT")
        require(self.packet_size_max is None or found.size <= self.packet_size_max,
                f"{found.size} bytes, the client's maximum is {self.packet_size_max}")
        if self.connacks == 0:
            require(found.type in (CONNACK, AUTH), "the first packet must be CONNACK")
        if found.type == CONNACK:
            self.connacks += 1
            self.connack = found
            require(self.connacks == 1, "a second CONNACK")
            require(found.reason == 0 or not found.session_present, "a refusal with Session Present")
        if self.level == 5:
            self._judge_v5(found, require)
        else:
            require(found.type not in (DISCONNECT, AUTH), "no such packet from a server before 5.0")
            if found.type == CONNACK:
                require(found.reason <= 5, "no such return code")
                require(self.level == 4 or not found.session_present, "3.1 has no Session Present")
            if found.type == SUBACK:
                require(set(found.codes) <= {0, 1, 2, 0x80}, "no such return code")
            if found.type == UNSUBACK:
                require(found.codes == [], "UNSUBACK has no payload before 5.0")
        if found.type == PUBLISH:
            self._judge_publish(found, require)
        if found.type == PUBREL:
            self.in_flight[found.packet_id] = "PUBREL"

    def _judge_v5(self, found, require):
        properties = found.properties
        require(set(properties) <= PROPERTIES[found.type], f"property not allowed in {TYPE_NAMES[found.type]}")
        for name in set(properties) & BOOLEAN:
            require(properties[name] in (0, 1), f"{name} must be 0 or 1")
        for name in set(properties) & NOT_ZERO:
            values = properties[name] if isinstance(properties[name], list) else [properties[name]]
            require(0 not in values, f"{name} must not be 0")
        codes = found.codes if found.type in (SUBACK, UNSUBACK) else [getattr(found, "reason", 0)]
        if found.type in REASONS:
            require(set(codes) <= REASONS[found.type], "reason code not in the table of this packet")
        if not self.wants_problems:
            require(found.type in (PUBLISH, CONNACK, DISCONNECT) or not set(properties) & ACK_PROPERTIES,
                    "Request Problem Information was 0")
        if found.type == CONNACK:
            require(self.wants_response_info or "response_info" not in properties, "nobody asked for response_info")
        if found.type == DISCONNECT:
            self.said_goodbye = True

    def _judge_publish(self, found, require):
        alias = found.properties.get("topic_alias")
        found.alias, found.topic_sent = alias, found.topic
        if alias is not None:
            require(alias <= self.alias_maximum, f"alias above the client's maximum {self.alias_maximum}")
            if found.topic:
                self.aliases[alias] = found.topic
            require(alias in self.aliases, "alias was never set on this connection")
            found.topic = self.aliases[alias]
        require(found.topic != "", "empty topic")
        require("+" not in found.topic and "#" not in found.topic and "\0" not in found.topic, "wildcard in a topic")
        if found.qos:
            require(found.packet_id not in self.in_flight, "packet id in use (or resent on a live connection)")
            self.in_flight[found.packet_id] = "PUBLISH"
            require(len(self.in_flight) <= self.receive_maximum,
                    f"{len(self.in_flight)} in flight, the Receive Maximum is {self.receive_maximum}")
