"""Plays a sequence at one broker: Player(port, number, strict).play(steps) -> for each step {connection: [Answer or Message]}.

After each step the broker is brought to rest without waiting for silence: every connection sends PINGREQ and takes what comes
before the PINGRESP; a connection of nobody's sends UNSUBSCRIBE for what it never asked for, whose UNSUBACK passes through
everything that a message passes through (in a cluster: the log); until two rounds in a row have brought nothing. A connection is
cut by closing our half of it, and the step ends when the broker has closed the other one.

A client answers what it gets as its `answers` say:

    always      at once                     never     not at all; `answers always` sends what is owed, in order
    half        PUBREC, but no PUBCOMP      refuse    5.0: PUBACK and PUBREC with 0x83

With `strict` whatever comes is judged by strict.py as well."""

import socket
from collections import namedtuple

from mqtt import (CONNACK, DISCONNECT, PING, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, TYPE_NAMES, UNSUBACK, Closed,
                  Timeout, encode_ack, encode_connect, encode_disconnect, encode_publish, encode_subscribe, encode_unsubscribe)
from strict import StrictClient

Answer = namedtuple("Answer", "kind id value")
Message = namedtuple("Message", "topic payload qos retain dup properties")
Released = namedtuple("Released", "topic payload reason")    # PUBREL, by its message

ENDED = Answer("END", None, None)
TIMEOUT_S = 20.0
QUIET_ROUNDS = 2
REFUSAL = 0x83


class Wire(StrictClient):
    """A connection; its judge can be told to look away."""

    def __init__(self, level, strict):
        super().__init__("", level, TIMEOUT_S)
        self.strict = strict
        self._announced = {}

    def _require(self, fact, found, rule):
        if self.strict:
            super()._require(fact, found, rule)


class Connection:
    def __init__(self, name, port, level, strict):
        self.name, self.level = name, level
        self.wire = Wire(level, strict).dial(port)
        self.open, self.items = True, []
        self.answers, self.owed = "always", []
        self.labels = {}         # packet id from the server -> (topic, payload)
        self.completing = set()  # packet ids of ours whose PUBREC is to be followed by PUBREL

    def send(self, data):
        try:
            self.wire.send(data)
        except ConnectionError:
            pass    # its end is read, after what the broker said before

    def note(self, kind, packet_id=None, value=None):
        self.items.append(Answer(kind, packet_id, value))

    def pump(self, until=PINGRESP):
        """Takes what comes up to a packet of this type, or the end. Returns how many others came."""
        count = 0
        while self.open:
            try:
                found = self.wire.receive()
            except Closed:
                self.open = False
                self.items.append(ENDED)
                return count + 1
            except Timeout:
                self.open = False
                self.note("SILENCE")
                return count + 1
            if found.type == PINGRESP and until == PINGRESP:
                return count
            count += 1
            self.take(found)
            if found.type == until:
                return count
        return count

    def take(self, found):
        if found.type == PUBLISH:
            self.take_message(found)
        elif found.type == PUBREL:
            self.items.append(Released(*self.labels.get(found.packet_id, ("", "of nothing")), found.reason))
            if self.answers == "half":
                self.owed.append(encode_ack(PUBCOMP, found.packet_id, self.level))
            else:
                self.reply(encode_ack(PUBCOMP, found.packet_id, self.level))
        elif found.type in (SUBACK, UNSUBACK):
            self.note(TYPE_NAMES[found.type], found.packet_id, tuple(found.codes))
        elif found.type == CONNACK:
            self.note("CONNACK", found.session_present, found.reason)
        elif found.type == DISCONNECT:
            self.note("DISCONNECT", None, found.reason)
        else:
            self.note(TYPE_NAMES[found.type], getattr(found, "packet_id", None), getattr(found, "reason", None))
        if found.type == PUBREC and found.packet_id in self.completing and found.reason < 0x80:
            self.send(encode_ack(PUBREL, found.packet_id, self.level))

    def take_message(self, found):
        self.labels[found.packet_id] = found.topic, found.payload.decode()
        properties = {name: value for name, value in found.properties.items() if name != "topic_alias"}
        self.items.append(Message(found.topic, found.payload.decode(), found.qos, found.retain, found.dup, properties))
        if found.qos:
            reason = REFUSAL if self.answers == "refuse" else 0
            self.reply(encode_ack(PUBACK if found.qos == 1 else PUBREC, found.packet_id, self.level, reason))

    def reply(self, data):
        if self.answers == "never" or self.owed:
            self.owed.append(data)
        else:
            self.send(data)

    def ping(self):
        if not self.open:
            return 0
        self.send(PING)
        return self.pump()

    def finish(self):
        """Our half is closed; returns when the broker has closed its own."""
        if self.open:
            try:
                self.wire.socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            while self.open:
                self.pump(until=None)
            if self.items and self.items[-1] == ENDED:
                self.items.pop()    # that was to be
        self.wire.close()


class Player:
    def __init__(self, port, number, strict):
        self.port, self.prefix, self.strict = port, f"d{number}-", strict
        self.connections = {}     # name -> Connection
        self.others = []          # connections of this step besides
        self.names, self.topics = set(), set()
        self.nobody = self.connect_nobody()

    def connect_nobody(self):
        made = Connection("nobody", self.port, 5, self.strict)
        made.send(encode_connect(self.prefix + "nobody", 5))
        made.pump(until=CONNACK)
        assert made.items == [Answer("CONNACK", False, 0)], f"the one who watches was not let in: {made.items}"
        return made

    def play(self, steps):
        return [self.play_step(step) for step in steps]

    def play_step(self, step):
        for connection in [*self.connections.values(), self.nobody]:
            connection.items = []
        self.others = []
        connection = self.connections.get(step.client)
        if step.action not in ("connect", "wrong_first", "nameless") and (connection is None or not connection.open):
            return {step.client: [Answer("NOT CONNECTED", None, None)]}
        getattr(self, step.action)(step.client, connection, **step.fields)
        self.settle()
        if step.action == "wrong":
            self.end_wrong(connection)
        found = {one.name: one.items for one in [*self.others, *self.connections.values()]}
        self.connections = {name: one for name, one in self.connections.items() if one.open}
        return found

    def settle(self):
        quiet = 0
        while quiet < QUIET_ROUNDS:
            news = sum(one.ping() for one in self.connections.values())
            self.nobody.send(encode_unsubscribe(1, ["nothing"], 5))
            self.nobody.pump(until=UNSUBACK)
            assert self.nobody.open, "the connection of the one who watches has ended"
            quiet = 0 if news else quiet + 1

    # -- the actions ---------------------------------------------------------------------------------------------

    def connect(self, name, old, level, clean, properties=None, will=None):
        self.names.add(name)
        if will:
            self.topics.add(will["topic"])
        made = self.connections[name] = Connection(name, self.port, level, self.strict)
        made.wire._announced = properties or {}
        made.send(encode_connect(self.prefix + name, level, clean, properties=properties, will=will, keep_alive=0))
        made.pump(until=CONNACK)
        if old is not None and old.open:
            old.name += " before"
            old.pump(until=None)
            old.wire.close()
            self.others.append(old)

    def cut(self, name, connection):
        connection.finish()

    def disconnect(self, name, connection, reason, properties):
        connection.send(encode_disconnect(connection.level, reason, properties))
        connection.finish()

    def nameless(self, name, _connection, level, topic, payload, qos):
        made = Connection("nameless", self.port, level, self.strict)
        self.others.append(made)
        made.send(encode_connect("", level))
        made.pump(until=CONNACK)
        made.send(encode_publish(topic, payload, qos, 1, level=level))
        if qos:
            made.pump(until=PUBACK)
        made.ping()
        made.finish()

    def wrong(self, name, connection, what, data):
        connection.send(data)

    def end_wrong(self, connection):
        """Whatever the broker thought of it."""
        if connection.open:
            connection.note("TOLERATED")
            connection.finish()
        self.settle()

    def wrong_first(self, name, _connection, level, what, data):
        made = Connection("wrong", self.port, level, self.strict)
        self.others.append(made)
        made.send(data)
        made.send(PING)    # if CONNECT was accepted, this is answered; if not, or not yet, it is one more reason to close
        made.pump()
        if made.open:
            made.note("TOLERATED")
        made.finish()

    def subscribe(self, name, connection, id, filters, properties):
        connection.send(encode_subscribe(id, filters, connection.level, properties))

    def unsubscribe(self, name, connection, id, filters):
        connection.send(encode_unsubscribe(id, filters, connection.level))

    def encode(self, connection, topic, payload, qos, retain, id=None, properties=None, dup=False, complete=True):
        self.topics.add(topic)
        if qos == 2 and complete:
            connection.completing.add(id)
        return encode_publish(topic, payload, qos, id, retain, dup, connection.level, properties)

    def publish(self, name, connection, **fields):
        connection.send(self.encode(connection, **fields))

    def burst(self, name, connection, messages):
        connection.send(b"".join(self.encode(connection, **fields) for fields in messages))

    def pubrel(self, name, connection, id):
        connection.send(encode_ack(PUBREL, id, connection.level))

    def answers(self, name, connection, how):
        connection.answers = how
        if how == "always":
            owed, connection.owed = connection.owed, []
            for data in owed:
                connection.send(data)

    # -- the end -------------------------------------------------------------------------------------------------

    def clean_up(self):
        """Leaves the broker without sessions, wills and retained messages of this sequence."""
        for connection in self.connections.values():
            connection.wire.close()
        self.connections = {}
        for name in sorted(self.names):
            last = Connection(name, self.port, 4, False)
            last.send(encode_connect(self.prefix + name, 4))
            last.pump(until=CONNACK)
            last.send(encode_disconnect(4))
            last.finish()
        self.settle()
        for topic in sorted(self.topics - {""}):
            self.nobody.send(encode_publish(topic, b"", 1, 1, retain=True))
            self.nobody.pump(until=PUBACK)
        self.nobody.finish()
