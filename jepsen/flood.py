"""Many small messages, fast, and a client that does not take them: more than a history could record one by one.

    queues(...)     makes persistent sessions that subscribe and leave
    publish(...)    publishes numbered messages at QoS 1, many on their way at once
    Taker           a connected client that reads nothing until it is told to, and then everything: all there, in order, how fast?

Blocking, for a thread; what it did is told as facts of a fault."""

import selectors
import struct
import time

TOPIC = b"jepsen/flood"
DIGITS = 8                  # of a message's number: all PUBLISH packets have one size
WINDOW = 90                 # below what a node lets a client have under way
CONNECTING_MAX = 200
ANSWER_SECONDS = 20.0
RECEIVE_BYTES = 1 << 20


class FloodError(Exception):
    """A node did not do what it ought to."""


def connect_packet(name, receive_maximum=0):
    properties = b"\x11\xff\xff\xff\xff" + (b"\x21" + struct.pack(">H", receive_maximum) if receive_maximum else b"")
    body = b"\x00\x04MQTT\x05\x00\x00\x00" + bytes([len(properties)]) + properties + struct.pack(">H", len(name)) + name
    return b"\x10" + bytes([len(body)]) + body


def subscribe_packet():
    body = b"\x00\x01\x00" + struct.pack(">H", len(TOPIC)) + TOPIC + b"\x01"
    return b"\x82" + bytes([len(body)]) + body


def publish_packet(number, packet_id):
    body = struct.pack(">H", len(TOPIC)) + TOPIC + struct.pack(">HB", packet_id, 0) + b"%0*d" % (DIGITS, number)
    return b"\x32" + bytes([len(body)]) + body


PUBLISH_SIZE = len(publish_packet(0, 1))


def read_packet(connection):
    """One packet of less than 128 bytes."""
    data = b""
    while len(data) < 2 or len(data) < 2 + data[1]:
        part = connection.recv(2 + data[1] - len(data) if len(data) >= 2 else 2 - len(data))
        if not part:
            raise FloodError("the node closed the connection")
        data += part
    return data


def expect(connection, kind):
    packet = read_packet(connection)
    if packet[0] >> 4 != kind:
        raise FloodError(f"a packet of type {packet[0] >> 4} instead of {kind}")
    return packet


def login(cluster, node, name, subscribe, receive_maximum=0):
    """Connected to `node`, with a session that stays; subscribed to the flood if that is asked for."""
    connection = cluster.connect(node, ANSWER_SECONDS)
    connection.sendall(connect_packet(name.encode(), receive_maximum))
    if expect(connection, 2)[3] != 0:
        raise FloodError(f"{name} was refused")
    if subscribe:
        connection.sendall(subscribe_packet())
        expect(connection, 9)
    return connection


def queues(cluster, count, prefix):
    """So many sessions that want the flood and are not there; the names."""
    names = [f"{prefix}-{number}" for number in range(count)]
    for start in range(0, count, CONNECTING_MAX):
        made = [login(cluster, cluster.nodes[number % len(cluster.nodes)], name, True)
                for number, name in enumerate(names[start:start + CONNECTING_MAX])]
        for one in made:
            one.sendall(b"\xe0\x00")
            one.close()
    return names


def publish(cluster, node, count, seconds):
    """Publishes messages 0 to count - 1; how many were acknowledged in time."""
    deadline, sent, acknowledged, rest = time.monotonic() + seconds, 0, 0, b""
    with login(cluster, node, f"flood-{node.name}", False) as connection:
        while acknowledged < count and time.monotonic() < deadline:
            fresh = min(count - sent, WINDOW - (sent - acknowledged))
            if fresh:
                connection.sendall(b"".join(publish_packet(number, number % 65535 + 1) for number in range(sent, sent + fresh)))
                sent += fresh
            data = rest + connection.recv(RECEIVE_BYTES)
            if len(data) == len(rest):
                raise FloodError("the node closed the connection")
            taken, rest = acknowledgements(data)
            acknowledged += taken
    return acknowledged


def acknowledgements(data):
    """How many whole PUBACKs are there, and what is left over."""
    count, at = 0, 0
    while at + 2 <= len(data) and at + 2 + data[at + 1] <= len(data):
        count += data[at] >> 4 == 4
        at += 2 + data[at + 1]
    return count, data[at:]


class Taker:
    def __init__(self, cluster, node, name):
        self.connection = login(cluster, node, name, True, receive_maximum=65535)

    def take(self, count, seconds):
        """Reads and acknowledges until `count` messages are here, or the time is over: {taken, in_order, seconds}."""
        began, data, taken, expected, in_order = time.monotonic(), b"", 0, 0, True
        self.connection.setblocking(False)
        with selectors.DefaultSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ)
            while taken < count and time.monotonic() < began + seconds:
                if not selector.select(0.5):
                    continue
                part = self.connection.recv(RECEIVE_BYTES)
                if not part:
                    break
                data += part
                numbers, ids = self.read(data)
                data = data[len(numbers) * PUBLISH_SIZE:]
                in_order = in_order and numbers == list(range(expected, expected + len(numbers)))
                taken, expected = taken + len(numbers), expected + len(numbers)
                self.acknowledge(ids)
        return {"taken": taken, "in_order": in_order, "seconds": round(time.monotonic() - began, 3)}

    @staticmethod
    def read(data):
        """Numbers and packet ids of the whole messages at the front."""
        numbers, ids = [], []
        for at in range(0, len(data) - PUBLISH_SIZE + 1, PUBLISH_SIZE):
            ids.append(data[at + 4 + len(TOPIC):at + 6 + len(TOPIC)])
            numbers.append(int(data[at + PUBLISH_SIZE - DIGITS:at + PUBLISH_SIZE]))
        return numbers, ids

    def acknowledge(self, ids):
        self.connection.setblocking(True)
        self.connection.sendall(b"".join(b"\x40\x02" + one for one in ids))
        self.connection.setblocking(False)

    def close(self):
        self.connection.close()


def end_sessions(cluster, names):
    """With a clean start and without a word more: nothing of them stays."""
    for number, name in enumerate(names):
        with cluster.connect(cluster.nodes[number % len(cluster.nodes)], ANSWER_SECONDS) as connection:
            body = b"\x00\x04MQTT\x05\x02\x00\x00\x00" + struct.pack(">H", len(name)) + name.encode()
            connection.sendall(b"\x10" + bytes([len(body)]) + body)
            expect(connection, 2)
            connection.sendall(b"\xe0\x00")
            connection.recv(1)      # its end
