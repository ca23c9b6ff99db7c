"""MQTT over WebSocket (section 6)."""

import base64
import os
import socket
import struct

from mqtt import PING, Closed, Timeout, encode_connect
from statements import BOTH, corner, statement
from target import NotOffered

BINARY, TEXT, CONTINUE, CLOSE, WS_PING, WS_PONG = 2, 1, 0, 8, 9, 10


class WebSocket:
    """Just enough of RFC 6455, frame by frame."""

    def __init__(self, world, protocols="mqtt"):
        if world.target.websocket_port is None:
            raise NotOffered("no WebSocket listener")
        self.level = world.level
        self.socket = socket.create_connection(("127.0.0.1", world.target.websocket_port), 5)
        offer = f"Sec-WebSocket-Protocol: {protocols}\r\n" if protocols else ""
        self.socket.sendall(("GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                             f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n{offer}"
                             "Sec-WebSocket-Version: 13\r\n\r\n").encode())
        head = b""
        while b"\r\n\r\n" not in head:
            got = self.socket.recv(1)
            if not got:
                break
            head += got
        lines = head.decode().split("\r\n")
        self.status = lines[0]
        self.headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:] if line)}

    def send(self, data, kind=BINARY, final=True):
        mask = b"\1\2\3\4"
        size = len(data)
        head = bytes([kind | (0x80 if final else 0)])
        head += (bytes([0x80 | size]) if size < 126 else
                 b"\xfe" + struct.pack("!H", size) if size < 65536 else b"\xff" + struct.pack("!Q", size))
        self.socket.sendall(head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))

    def take(self, count):
        data = b""
        while len(data) < count:
            try:
                got = self.socket.recv(count - len(data))
            except ConnectionError as error:
                raise Closed(str(error)) from error
            except TimeoutError as error:
                raise Timeout("nothing within the time") from error
            if not got:
                raise Closed("closed")
            data += got
        return data

    def frame(self):
        first, size = self.take(2)
        assert not size & 0x80, "a server does not mask"
        if size == 126:
            size = struct.unpack("!H", self.take(2))[0]
        elif size == 127:
            size = struct.unpack("!Q", self.take(8))[0]
        return first & 0x0F, self.take(size)

    def bytes_until(self, end):
        data = b""
        while not data.endswith(end):
            kind, payload = self.frame()
            assert kind in (BINARY, CONTINUE), f"frame of kind {kind}"
            data += payload
        return data

    def expect_closed(self):
        try:
            while self.frame()[0] != CLOSE:
                pass
        except Closed:
            pass


def pingresp():
    return b"\xd0\0"


@statement("MQTT-6.0.0-4", "MQTT-6.0.0-3", "MQTT-6.0.0-1", level=BOTH)
@corner(131)
def test_the_server_chooses_mqtt_and_sends_binary_frames(world):
    ws = WebSocket(world, "other, mqtt")
    assert " 101 " in ws.status, ws.status
    assert ws.headers.get("sec-websocket-protocol") == "mqtt"
    ws.send(encode_connect(world.unique, world.level))
    kind, payload = ws.frame()
    assert kind == BINARY and payload[0] == 0x20


@statement("MQTT-6.0.0-3", level=BOTH)
def test_without_the_subprotocol_it_is_refused_or_none_is_chosen(world):
    ws = WebSocket(world, None)
    assert " 101 " not in ws.status or "sec-websocket-protocol" not in ws.headers


@statement("MQTT-6.0.0-1", level=BOTH)
@corner(131)
def test_a_text_frame_closes(world):
    ws = WebSocket(world)
    ws.send(encode_connect(world.unique, world.level))
    ws.frame()
    ws.send(PING, TEXT)
    ws.expect_closed()


@statement("MQTT-6.0.0-2", level=BOTH)
@corner(131)
def test_packets_need_not_match_frames(world):
    data = encode_connect(world.unique, world.level) + PING + PING
    for step in (1, 3, len(data)):
        ws = WebSocket(world)
        for at in range(0, len(data), step):
            ws.send(data[at:at + step])
        got = ws.bytes_until(pingresp() * 2)
        assert got[0] == 0x20


@corner(131)
def test_fragments_and_pings_of_websocket(world):
    ws = WebSocket(world)
    data = encode_connect(world.unique, world.level)
    ws.send(data[:5], BINARY, final=False)
    ws.send(b"hello", WS_PING)
    ws.send(data[5:], CONTINUE, final=True)
    kinds = {}
    while len(kinds) < 2:
        kind, payload = ws.frame()
        kinds[kind] = payload
    assert kinds[WS_PONG] == b"hello" and kinds[BINARY][0] == 0x20
