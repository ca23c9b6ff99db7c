"""An MQTT client that tells everything: each operation and each packet that matters goes into the history.

    workload --publish, subscribe, read--> Client --bytes--> a node
                                             |
                                             +--invoke, ok, info, deliver ...--> Recorder

Client libraries hide packet ids and resend as they see fit; this one does exactly what the standard asks of a client that
wants exactly-once, in the open, and nothing else:

  - what it has sent and not completed, and the QoS 2 ids it has received, outlive the connection (`Session`): after a
    reconnect to whichever node, with Session Present, it sends them again in their order, PUBLISH with DUP, PUBREL;
  - without Session Present it forgets them: those publishes end with an unknown outcome;
  - a delivery of QoS 2 that it has seen is acknowledged and not handed over again (`app` false).

It reconnects only when told to: workload/ decides when and where. All of it runs on one event loop; packets are worked off as
they arrive, so an acknowledgement is recorded before anything that it sets off.

Payloads name themselves: "MID CHECK padding", CHECK being a digest of the run's seed and MID. What a node makes up, or garbles,
is seen. A message that clears a retained one has no payload: its MID travels as a user property (5.0 only).
"""

import asyncio
import hashlib
import importlib.util
import os
import socket
import struct

_CODEC = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests", "broker", "mqtt.py")
_spec = importlib.util.spec_from_file_location("coterie_test_mqtt", _CODEC)
mqtt = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(mqtt)

CONNECT_SECONDS = 2.0       # for TCP, and TLS
CONNACK_SECONDS = 8.0       # a node without a majority holds a CONNECT for 5 s before it turns it away
SESSION_FOR_EVER = 0xFFFFFFFF


class Refused(Exception):
    """The node said no: nothing has happened."""

    def __init__(self, reason):
        super().__init__(f"refused with {reason:#x}")
        self.reason = reason


class Broken(Exception):
    """The connection could not be made, or ended: whether the operation happened is unknown."""


def check_of(mid, seed):
    return hashlib.blake2b(f"{seed} {mid}".encode(), digest_size=8).hexdigest()


def make_payload(mid, seed, size=0):
    return f"{mid} {check_of(mid, seed)} ".ljust(size, ".").encode()


def read_payload(payload, seed):
    """The message id in a payload; one that is not of this run, or is garbled, comes out marked."""
    words = payload.decode(errors="replace").split(" ", 2)
    if len(words) >= 2 and words[1] == check_of(words[0], seed):
        return words[0]
    return "garbled: " + payload[:40].decode(errors="replace") if payload else None


class Publish:
    """A publish that has not been completed."""

    def __init__(self, mid, topic, qos, retain, packet_id, data, operation, done):
        self.mid, self.topic, self.qos, self.retain = mid, topic, qos, retain
        self.packet_id, self.data, self.operation, self.done = packet_id, data, operation, done
        self.sends, self.released = 1, False     # released: PUBREC has come, PUBREL is to be sent


class Session:
    """What a client keeps between connections."""

    def __init__(self):
        self.sending = {}       # packet id -> Publish, in the order of their first sending
        self.receiving = {}     # packet id -> mid of QoS 2 deliveries whose PUBREL has not come
        self.next_id = 0

    def new_id(self, busy):
        while True:
            self.next_id = self.next_id % 65535 + 1
            if self.next_id not in self.sending and self.next_id not in busy:
                return self.next_id


class Connack:
    def __init__(self, packet):
        self.session_present = packet.session_present
        self.receive_maximum = packet.properties.get("receive_maximum", 65535)


class Wire(asyncio.Protocol):
    """One TCP connection. What comes from one that its client has given up goes nowhere."""

    def __init__(self, client):
        self.client, self.transport, self.buffer = client, None, bytearray()
        self.lost = False
        self.disconnect_reason = None       # of the node's DISCONNECT

    def connection_made(self, transport):
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, error):
        self.lost = True
        if self.client.wire is self:
            self.client.lost(self, error)

    def data_received(self, data):
        self.buffer += data
        for first, body in self._frames():
            if self.client.wire is not self:
                return
            self.client.received(self, mqtt.decode(first, body, self.client.level))

    def _frames(self):
        """Takes whole packets off the buffer."""
        buffer, start = self.buffer, 0
        try:
            while True:
                size, shift, at = 0, 0, start + 1
                while True:
                    if at >= len(buffer):
                        return
                    byte = buffer[at]
                    size |= (byte & 0x7F) << shift
                    shift, at = shift + 7, at + 1
                    if byte < 0x80:
                        break
                if len(buffer) < at + size:
                    return
                first, body, start = buffer[start], bytes(buffer[at:at + size]), at + size
                yield first, body
        finally:
            del buffer[:start]


class Client:
    """One device. `name` is its own in the history and in the ids of its messages; `client_id` the same unless several devices
    are to share one. `addresses`: node name -> (host, port); `tls`: an SSLContext, or None."""

    def __init__(self, recorder, name, addresses, seed=0, level=5, expiry=SESSION_FOR_EVER, receive_maximum=None,
                 payload_size=0, client_id=None, tls=None):
        self.recorder, self.name, self.addresses, self.seed, self.level = recorder, name, addresses, seed, level
        self.id, self.tls = client_id or name, tls
        self.expiry, self.receive_maximum, self.payload_size = expiry, receive_maximum, payload_size
        self.session = Session()
        self.sequence = 0           # of publishes; part of their ids
        self.node = self.conn = None
        self.wire = None            # the connection; None: there is none
        self.connected = False      # CONNACK has come
        self.ended = asyncio.Event()
        self.ended.set()
        self.holding_acks = None    # a list: acknowledgements wait there instead of being sent
        self.on_message = None      # called with (mid, topic, packet) for what the application gets
        self.delivered = 0          # packets
        self.last_heard = 0.0
        self.window = 65535
        self._connecting = None     # (operation, future) until CONNACK has come
        self._disconnecting = None  # the operation
        self._answers = {}          # packet id -> (operation, future) of SUBSCRIBE and UNSUBSCRIBE
        self._pings = []            # futures, oldest first
        self.reads = 0
        self._reading = None        # (number, values by topic, last topic, future) of a read under way

    # ---- connection --------------------------------------------------------------------------------------

    async def connect(self, node, clean=False, will=None, keep_alive=30, expiry=None):
        """Connects to `node`; resends what is unacknowledged if the session is there. Returns the Connack; raises Refused or
        Broken. `will`: dict of mid, topic, qos, delay, retain."""
        self.drop()
        expiry = self.expiry if expiry is None else expiry
        self.conn = self.recorder.new_connection()
        self.node = node
        value = {"client": self.id, "level": self.level, "clean": clean, "expiry": self._expiry(clean, expiry),
                 "keep_alive": keep_alive, "receive_maximum": self.receive_maximum, "will": will}
        operation = self.recorder.invoke(self.name, "connect", value, node, self.conn)
        try:
            await self._dial(node)
        except OSError as error:
            self.recorder.fail(operation, {}, f"no TCP connection: {error or type(error).__name__}")
            raise Broken(str(error)) from error
        future = asyncio.get_running_loop().create_future()
        self._connecting = operation, future
        self._write(self._connect_packet(clean, will, keep_alive, expiry))
        try:
            return await asyncio.wait_for(future, CONNACK_SECONDS)
        except (Broken, asyncio.TimeoutError, asyncio.CancelledError) as error:
            self._connecting = None
            self.recorder.info(operation, {}, f"no CONNACK: {str(error) or 'none in time'}")
            self._cut("no CONNACK")
            if isinstance(error, asyncio.CancelledError):
                raise
            raise Broken(str(error)) from error
        except Refused:
            self._cut("refused")
            raise

    def _expiry(self, clean, expiry):
        return expiry if self.level == 5 else (0 if clean else SESSION_FOR_EVER)

    async def _dial(self, node):
        loop, wire = asyncio.get_running_loop(), Wire(self)
        try:
            await asyncio.wait_for(loop.create_connection(lambda: wire, *self.addresses[node], ssl=self.tls), CONNECT_SECONDS)
        except asyncio.TimeoutError as error:
            raise OSError("timed out") from error
        if wire.lost:
            raise OSError("closed before anything was sent")
        self.wire, self.last_heard = wire, loop.time()
        self.ended.clear()

    def _write(self, data):
        if not self.wire.transport.is_closing():
            self.wire.transport.write(data)

    def _connect_packet(self, clean, will, keep_alive, expiry):
        properties, will_fields = None, None
        if self.level == 5:
            properties = {"session_expiry": expiry}
            if self.receive_maximum:
                properties["receive_maximum"] = self.receive_maximum
        if will:
            will_fields = {"topic": will["topic"], "payload": make_payload(will["mid"], self.seed),
                           "qos": will["qos"], "retain": will.get("retain", False)}
            if will.get("delay") and self.level == 5:
                will_fields["properties"] = {"will_delay": will["delay"]}
        return mqtt.encode_connect(self.id, self.level, clean=clean, keep_alive=keep_alive, will=will_fields,
                                   properties=properties)

    def _on_connack(self, packet):
        """The session goes on, or begins anew, before anything that follows on the wire is looked at."""
        if self._connecting is None or self._connecting[1].done():
            return      # given up at this very moment
        (operation, future), self._connecting = self._connecting, None
        if packet.reason != 0:
            self.recorder.fail(operation, {"reason": packet.reason}, f"CONNACK {packet.reason:#x}")
            future.set_exception(Refused(packet.reason))
            return
        connack = Connack(packet)
        self.window = connack.receive_maximum
        self.recorder.ok(operation, {"session_present": packet.session_present, "reason": 0})
        self.connected = True
        if packet.session_present:
            self._resend()
        else:
            self._forget("the session is gone")
        future.set_result(connack)

    def _resend(self):
        out = bytearray()
        for publish in self.session.sending.values():
            if publish.released:
                out += mqtt.encode_ack(mqtt.PUBREL, publish.packet_id, self.level)
            else:
                publish.sends += 1
                out += bytes([publish.data[0] | 0x08]) + publish.data[1:]
            self.recorder.seen(self.name, "resend", {"mid": publish.mid, "pid": publish.packet_id,
                                                   "stage": "pubrel" if publish.released else "publish"},
                               self.node, self.conn)
        if out:
            self._write(bytes(out))

    def _forget(self, why):
        """Open publishes end with an unknown outcome; ids of QoS 2 deliveries are of no session any more."""
        for publish in list(self.session.sending.values()):
            if not publish.released:
                self.recorder.info(publish.operation, {"mid": publish.mid, "sends": publish.sends}, why)
            self._settle(publish, None)
        self.session.sending.clear()
        self.session.receiving.clear()

    def abandon(self):
        """At the end of a run: what is still open has an unknown outcome."""
        self.drop()
        self._forget("the run ended")

    def drop(self, reset=False, why=None):
        """Cuts the connection without a word."""
        if self.wire is None:
            return
        self.recorder.seen(self.name, "drop", {"reset": reset, "why": why}, self.node, self.conn)
        if reset:
            raw = self.wire.transport.get_extra_info("socket")
            if raw is not None:    # with TLS it goes before the end is told
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._cut("dropped by the client")

    def _cut(self, why):
        wire, self.wire = self.wire, None
        if wire is not None:
            wire.transport.abort()
        self._broken(why)

    async def disconnect(self, reason=0, timeout=8.0):
        """Says DISCONNECT and waits until the node has closed the connection, which it does when that is committed."""
        operation = self.recorder.invoke(self.name, "disconnect", {"reason": reason}, self.node, self.conn)
        self._disconnecting = operation
        self._write(mqtt.encode_disconnect(self.level, reason))
        try:
            await asyncio.wait_for(self.ended.wait(), timeout)
        except asyncio.TimeoutError:
            if self._disconnecting is not operation:
                return    # it was closed at the last moment
            self._disconnecting = None
            self.recorder.info(operation, {}, "the node did not close the connection")
            self._cut("not closed in time")

    # ---- what the wire reports ---------------------------------------------------------------------------

    def received(self, wire, packet):
        self.last_heard = asyncio.get_running_loop().time()
        if packet.type == mqtt.DISCONNECT:
            wire.disconnect_reason = packet.reason
        else:
            self._HANDLERS[packet.type](self, packet)

    def lost(self, wire, error):
        """The node, or the network, has ended the connection."""
        self.wire = None
        reason = wire.disconnect_reason
        self.recorder.seen(self.name, "closed", {"reason": reason, "error": str(error) if error else None}, self.node,
                           self.conn)
        operation, self._disconnecting = self._disconnecting, None
        if operation is not None and error is None:
            self.recorder.ok(operation, {"how": "closed by the node"})
        elif operation is not None:
            self.recorder.info(operation, {}, str(error))
        self._broken(f"closed by the node{'' if reason is None else f', {reason:#x}'}")

    def _broken(self, why):
        """Nobody will get an answer on this connection any more."""
        self.connected, self.holding_acks = False, None
        if self._disconnecting is not None:
            self.recorder.info(self._disconnecting, {}, why)
            self._disconnecting = None
        waiting = self._pings + [future for _, future in self._answers.values()]
        for operation, _ in self._answers.values():
            self.recorder.info(operation, {}, why)
        if self._reading is not None:
            waiting.append(self._reading[-1])
        self._answers, self._pings, self._reading = {}, [], None
        if self._connecting is not None:
            waiting.append(self._connecting[1])
        for future in waiting:
            if not future.done():
                future.set_exception(Broken(why))
                future.exception()      # not everybody waits for it
        self.ended.set()

    # ---- operations --------------------------------------------------------------------------------------

    def publish(self, topic, qos, retain=False, mid=None, clear=False, expiry=None):
        """Sends a PUBLISH. Returns a future: True when it is acknowledged, False when refused, None when the outcome stays
        unknown. `clear`: an empty payload, which removes the retained message; `expiry`: of the message, in seconds (5.0)."""
        self.sequence += 1
        mid = mid or f"{self.name}-{self.sequence}"
        packet_id = self.session.new_id(self._answers)
        payload = b"" if clear else make_payload(mid, self.seed, self.payload_size)
        properties = {"user_property": ("mid", mid)} if clear and self.level == 5 else {}
        if expiry is not None:
            properties["message_expiry"] = expiry
        data = mqtt.encode_publish(topic, payload, qos, packet_id, retain, level=self.level,
                                   properties=properties or None)
        value = {"mid": mid, "topic": topic, "qos": qos, "retain": retain, "pid": packet_id}
        if clear:
            value["clear"] = True
        if expiry is not None:
            value["expiry"] = expiry
        operation = self.recorder.invoke(self.name, "publish", value, self.node, self.conn)
        done = asyncio.get_running_loop().create_future()
        self.session.sending[packet_id] = Publish(mid, topic, qos, retain, packet_id, data, operation, done)
        if self.wire is not None:
            self._write(data)
        return done

    async def subscribe(self, filters):
        """filters: list of (filter, qos). Returns the codes."""
        operation = self.recorder.invoke(self.name, "subscribe", {"filters": [list(f) for f in filters]}, self.node,
                                         self.conn)
        return await self._ask(operation, lambda pid: mqtt.encode_subscribe(pid, filters, self.level))

    async def unsubscribe(self, filters):
        operation = self.recorder.invoke(self.name, "unsubscribe", {"filters": list(filters)}, self.node, self.conn)
        return await self._ask(operation, lambda pid: mqtt.encode_unsubscribe(pid, filters, self.level))

    def _ask(self, operation, encode):
        future = asyncio.get_running_loop().create_future()
        if not self.connected:
            self.recorder.fail(operation, {}, "not connected")
            future.set_exception(Broken("not connected"))
            return future
        packet_id = self.session.new_id(self._answers)
        self._answers[packet_id] = (operation, future)
        self._write(encode(packet_id))
        return future

    def ping(self):
        """A future that ends with the PINGRESP."""
        future = asyncio.get_running_loop().create_future()
        if self.wire is None:
            future.set_exception(Broken("not connected"))
        else:
            self._pings.append(future)
            self._write(mqtt.PING)
        return future

    async def read_retained(self, topics, end, qos=1):
        """The retained message of each topic (mid, or None), as of the SUBSCRIBE's place in the log. The retained messages of one
        SUBSCRIBE come in the order of their topics; `end` is a topic behind all of them that has one: when that is here, so are
        the others. A Subscription Identifier of its own tells them from those of an earlier read that was interrupted (5.0)."""
        operation = self.recorder.invoke(self.name, "read", {"topics": list(topics)}, self.node, self.conn)
        if not self.connected:
            self.recorder.fail(operation, {}, "not connected")
            raise Broken("not connected")
        self.reads += 1
        done = asyncio.get_running_loop().create_future()
        self._reading = self.reads, dict.fromkeys(topics), end, done
        values = self._reading[1]
        filters = [(topic, qos) for topic in [*topics, end]]
        subscribing = self.recorder.invoke(self.name, "subscribe", {"filters": [list(one) for one in filters]}, self.node, self.conn)
        self._ask(subscribing, lambda pid: mqtt.encode_subscribe(pid, filters, self.level, {"subscription_id": self.reads}))
        try:
            await done
        except (Broken, asyncio.CancelledError) as error:
            self._reading = None
            self.recorder.info(operation, {}, str(error) or "took too long")
            raise
        self.recorder.ok(operation, {"values": values})
        return values

    def _collect(self, packet, mid):
        number, values, end, done = self._reading
        if not packet.retain or number not in packet.properties.get("subscription_id", ()):
            return
        if packet.topic in values:
            values[packet.topic] = mid
        if packet.topic == end and not done.done():
            self._reading = None
            done.set_result(True)

    # ---- packets from the node ---------------------------------------------------------------------------

    def _settle(self, publish, result):
        if not publish.done.done():
            publish.done.set_result(result)

    def _completed(self, publish, packet, stage):
        value = {"mid": publish.mid, "stage": stage, "reason": packet.reason, "sends": publish.sends}
        if packet.reason >= 0x80:
            self.recorder.fail(publish.operation, value, f"{stage} {packet.reason:#x}", self.node, self.conn)
        else:
            self.recorder.ok(publish.operation, value, self.node, self.conn)
        self._settle(publish, packet.reason < 0x80)

    def _on_puback(self, packet):
        publish = self.session.sending.get(packet.packet_id)
        if publish is not None and publish.qos == 1:
            del self.session.sending[packet.packet_id]
            self._completed(publish, packet, "puback")

    def _on_pubrec(self, packet):
        publish = self.session.sending.get(packet.packet_id)
        if publish is None or publish.qos != 2:
            return
        if not publish.released:
            self._completed(publish, packet, "pubrec")
        if packet.reason >= 0x80:
            del self.session.sending[packet.packet_id]
            return
        publish.released = True
        self._write(mqtt.encode_ack(mqtt.PUBREL, packet.packet_id, self.level))

    def _on_pubcomp(self, packet):
        publish = self.session.sending.get(packet.packet_id)
        if publish is not None and publish.released:
            del self.session.sending[packet.packet_id]
            self.recorder.seen(self.name, "pubcomp", {"mid": publish.mid}, self.node, self.conn)

    def _on_answer(self, packet):
        operation, future = self._answers.pop(packet.packet_id, (None, None))
        if operation is None:
            return
        self.recorder.ok(operation, {"codes": packet.codes})
        if not future.done():
            future.set_result(packet.codes)

    def _on_pingresp(self, _packet):
        if self._pings:
            future = self._pings.pop(0)
            if not future.done():
                future.set_result(True)

    def _on_publish(self, packet):
        mid = read_payload(packet.payload, self.seed) or dict(packet.properties.get("user_property", ())).get("mid")
        first = packet.qos != 2 or packet.packet_id not in self.session.receiving
        self.delivered += 1
        value = {"mid": mid, "topic": packet.topic, "session": self.id, "pid": packet.packet_id, "qos": packet.qos,
                 "dup": packet.dup, "retain": packet.retain, "app": first}
        if "message_expiry" in packet.properties:
            value["expiry"] = packet.properties["message_expiry"]
        self.recorder.seen(self.name, "deliver", value, self.node, self.conn)
        if self._reading is not None:
            self._collect(packet, mid)
        if packet.qos == 2:
            self.session.receiving[packet.packet_id] = mid
        if packet.qos:
            self._acknowledge(mqtt.PUBACK if packet.qos == 1 else mqtt.PUBREC, packet.packet_id, mid)
        if first and self.on_message:
            self.on_message(mid, packet.topic, packet)

    def _on_pubrel(self, packet):
        self._acknowledge(mqtt.PUBCOMP, packet.packet_id, self.session.receiving.pop(packet.packet_id, None))

    def _acknowledge(self, kind, packet_id, mid):
        if self.holding_acks is not None:
            self.holding_acks.append((kind, packet_id, mid))
            return
        self.recorder.seen(self.name, "ack-sent", {"mid": mid, "pid": packet_id, "kind": mqtt.TYPE_NAMES[kind].lower()},
                           self.node, self.conn)
        self._write(mqtt.encode_ack(kind, packet_id, self.level))

    def hold_acks(self):
        """From now on deliveries are taken and not acknowledged, until release_acks() or the end of the connection."""
        self.holding_acks = []

    def release_acks(self):
        held, self.holding_acks = self.holding_acks or [], None
        for kind, packet_id, mid in held:
            self._acknowledge(kind, packet_id, mid)

    _HANDLERS = {mqtt.CONNACK: _on_connack, mqtt.PUBLISH: _on_publish, mqtt.PUBACK: _on_puback,
                 mqtt.PUBREC: _on_pubrec, mqtt.PUBREL: _on_pubrel, mqtt.PUBCOMP: _on_pubcomp,
                 mqtt.SUBACK: _on_answer, mqtt.UNSUBACK: _on_answer, mqtt.PINGRESP: _on_pingresp}
