"""Bytes for the logs of the nodes: large messages that nobody subscribes to, so that files fill up and are closed."""

import os
import struct
import time

CHUNK_BYTES = 200_000
SEGMENT_BYTES = 17 << 20      # more than one segment of the log holds
FILL_BYTES = 48 << 20         # more than what a log has set aside: the open segment and the next
WINDOW = 10                   # publishes on their way
PATIENCE_SECONDS = 20.0
STUCK_SECONDS = 3.0           # without an acknowledgement: nobody takes more
TOPIC = b"jepsen/pump"


def publish(cluster, nodes, size):
    """Publishes `size` bytes at the first of `nodes` that takes them; returns how much was acknowledged before nobody did."""
    deadline, sent, moved = time.monotonic() + PATIENCE_SECONDS, 0, time.monotonic()
    while sent < size and time.monotonic() < min(deadline, moved + STUCK_SECONDS):
        for node in nodes:
            if not node.running or node.paused:
                continue
            try:
                done = _publish_at(cluster, node, size - sent, deadline)
                sent, moved = sent + done, time.monotonic() if done else moved
            except OSError:
                time.sleep(0.05)
            if sent >= size:
                break
        else:
            time.sleep(0.05)
    return sent


def _publish_at(cluster, node, size, deadline):
    done = 0
    with cluster.connect(node, 1.5) as connection:
        name = f"pump-{os.getpid()}-{node.name}".encode()
        connection.sendall(b"\x10" + bytes([12 + len(name)]) + b"\x00\x04MQTT\x04\x02\x00\x3c" +
                           struct.pack(">H", len(name)) + name)
        if _receive(connection, 4)[3] != 0:
            return 0
        pending, number = 0, 0
        while done < size and time.monotonic() < deadline:
            while pending < WINDOW:
                number = number % 65535 + 1
                connection.sendall(_packet(number))
                pending += 1
            try:
                _receive(connection, 4)
            except OSError:
                return done
            pending -= 1
            done += CHUNK_BYTES
    return done


def _packet(number):
    body = struct.pack(">H", len(TOPIC)) + TOPIC + struct.pack(">H", number) + bytes(CHUNK_BYTES)
    length, size = bytearray(), len(body)
    while True:
        length.append(size % 128 | (128 if size > 127 else 0))
        size //= 128
        if size == 0:
            return b"\x32" + bytes(length) + body


def _receive(connection, size):
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionError("closed")
        data += part
    return data
