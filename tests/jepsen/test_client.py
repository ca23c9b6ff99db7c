"""The client of jepsen/ against a node of paper: it keeps its side of the protocol, and tells all of it."""

import asyncio

import pytest
import story  # noqa: F401  (the path to jepsen/)
from client import Broken, Client, Refused, make_payload, mqtt, read_payload

from history import Recorder, completions

CONNACK, CONNACK_PRESENT = bytes([0x20, 3, 0, 0, 0]), bytes([0x20, 3, 1, 0, 0])
SEED = 7


class Paper:
    """Answers each packet as `script` says: a function of (type, first byte, body) that returns bytes, or None to hang up."""

    def __init__(self):
        self.script, self.got, self.writer = None, [], None

    async def listen(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return {"n1": self.server.sockets[0].getsockname()}

    async def _serve(self, reader, writer):
        self.writer = writer
        try:
            while True:
                first, size = await reader.readexactly(2)       # all packets here are short
                body = await reader.readexactly(size)
                self.got.append((first >> 4, first, body))
                answer = self.script(first >> 4, first, body)
                if answer is None:
                    break
                writer.write(answer)
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    def sent(self, kind):
        return [(first, body) for type_, first, body in self.got if type_ == kind]


def played(scene):
    """Runs a coroutine of (paper, client); returns what the history has."""
    async def run():
        paper, recorder = Paper(), Recorder()
        client = Client(recorder, "c", await paper.listen(), seed=SEED)
        try:
            await asyncio.wait_for(scene(paper, client), 10)
        finally:
            client.abandon()
            paper.server.close()
        return recorder.events
    return asyncio.run(run())


def connacks(*connacks_in_turn, then=b""):
    """A script: a CONNACK for each CONNECT, nothing for the rest unless `then` (a dict by type) has something."""
    left = list(connacks_in_turn)
    return lambda kind, first, body: left.pop(0) if kind == mqtt.CONNECT else (then or {}).get(kind, b"")


async def until(condition):
    while not condition():
        await asyncio.sleep(0.005)


def ends(events, f):
    done = completions(events)
    return [done[event["index"]]["type"] for event in events if event["type"] == "invoke" and event["f"] == f]


def test_a_publish_without_an_answer_is_sent_again_with_dup_and_the_same_id_and_is_one_operation():
    async def scene(paper, client):
        paper.script = connacks(CONNACK, CONNACK_PRESENT)
        await client.connect("n1")
        done = client.publish("t", 2)
        await until(lambda: paper.sent(mqtt.PUBLISH))
        client.drop()
        await client.connect("n1")
        await until(lambda: len(paper.sent(mqtt.PUBLISH)) == 2)
        (first, one), (second, two) = paper.sent(mqtt.PUBLISH)
        assert second == first | 0x08 and one == two
        paper.writer.write(mqtt.encode_ack(mqtt.PUBREC, 1))
        assert await done is True
    events = played(scene)
    assert ends(events, "publish") == ["ok"]
    assert [event["value"]["sends"] for event in events if event["f"] == "publish" and event["type"] == "ok"] == [2]


def test_after_pubrec_only_pubrel_is_sent_again():
    async def scene(paper, client):
        paper.script = connacks(CONNACK, CONNACK_PRESENT, then={mqtt.PUBLISH: mqtt.encode_ack(mqtt.PUBREC, 1)})
        await client.connect("n1")
        assert await client.publish("t", 2)
        client.drop()
        await client.connect("n1")
        await until(lambda: len(paper.sent(mqtt.PUBREL)) == 2)
        assert len(paper.sent(mqtt.PUBLISH)) == 1
    played(scene)


def test_what_was_on_its_way_is_unknown_when_the_session_is_gone():
    async def scene(paper, client):
        paper.script = connacks(CONNACK, CONNACK)
        await client.connect("n1")
        done = client.publish("t", 1)
        client.drop()
        await client.connect("n1")
        assert await done is None
        await asyncio.sleep(0.02)
        assert len(paper.sent(mqtt.PUBLISH)) == 1 and not client.session.sending
    assert ends(played(scene), "publish") == ["info"]


def test_a_refusal_is_a_failure_and_a_silent_end_is_unknown():
    async def scene(paper, client):
        paper.script = connacks(bytes([0x20, 3, 0, 0x9C, 0]), None)
        with pytest.raises(Refused):
            await client.connect("n1")
        with pytest.raises(Broken):
            await client.connect("n1")
    assert ends(played(scene), "connect") == ["fail", "info"]


def test_a_negative_puback_is_a_failure():
    async def scene(paper, client):
        paper.script = connacks(CONNACK, then={mqtt.PUBLISH: mqtt.encode_ack(mqtt.PUBACK, 1, reason=0x97)})
        await client.connect("n1")
        assert await client.publish("t", 1) is False
    assert ends(played(scene), "publish") == ["fail"]


def delivery(mid, packet_id, dup=False, qos=2, **options):
    return mqtt.encode_publish("t", make_payload(mid, SEED), qos, packet_id, dup=dup, **options)


def test_a_qos_2_delivery_that_comes_again_is_acknowledged_but_not_handed_over():
    async def scene(paper, client):
        paper.script = connacks(CONNACK + delivery("x-1", 9), CONNACK_PRESENT + delivery("x-1", 9, dup=True))
        await client.connect("n1")
        await until(lambda: len(paper.sent(mqtt.PUBREC)) == 1)
        client.drop()
        await client.connect("n1")
        await until(lambda: len(paper.sent(mqtt.PUBREC)) == 2)
        paper.writer.write(mqtt.encode_ack(mqtt.PUBREL, 9))
        await until(lambda: paper.sent(mqtt.PUBCOMP))
    events = played(scene)
    assert [event["value"]["app"] for event in events if event["f"] == "deliver"] == [True, False]
    assert [event["f"] for event in events].index("deliver") > [event["type"] for event in events].index("ok")


def test_acknowledgements_that_are_held_are_lost_with_the_connection():
    async def scene(paper, client):
        paper.script = connacks(CONNACK)
        await client.connect("n1")
        client.hold_acks()
        paper.writer.write(delivery("x-1", 9, qos=1))
        await until(lambda: client.delivered)
        client.drop()
        await asyncio.sleep(0.02)
        assert not paper.sent(mqtt.PUBACK)
    played(scene)


def test_a_read_takes_the_retained_messages_of_its_own_subscribe_until_the_last_topic():
    def retained(topic, mid, number):
        return mqtt.encode_publish(topic, make_payload(mid, SEED), 1, 5, retain=True, properties={"subscription_id": number})

    async def scene(paper, client):
        answers = retained("a", "old-1", 9) + retained("a", "new-1", 1) + retained("z", "end-1", 1)
        paper.script = connacks(CONNACK, then={mqtt.SUBSCRIBE: answers})
        await client.connect("n1")
        assert await client.read_retained(["a", "b"], "z") == {"a": "new-1", "b": None}
    assert ends(played(scene), "read") == ["ok"]


def test_a_connection_whose_socket_has_gone_can_still_be_reset():
    async def scene(paper, client):
        paper.script = connacks(CONNACK)
        await client.connect("n1", clean=True)
        transport = client.wire.transport
        client.wire.transport = type("Gone", (), {"get_extra_info": lambda self, name: None, "abort": lambda self: transport.abort()})()
        client.drop(reset=True)
        assert client.wire is None
    assert [event["value"]["reset"] for event in played(scene) if event["f"] == "drop"] == [True]


def test_a_connection_that_ends_before_it_is_used_is_not_waited_for():
    async def scene(paper, client):
        paper.script = connacks(CONNACK)
        loop = asyncio.get_running_loop()
        connect = loop.create_connection

        async def lost_at_once(*where, **how):
            transport, wire = await connect(*where, **how)
            transport.abort()
            await until(lambda: wire.lost)
            return transport, wire
        loop.create_connection = lost_at_once
        with pytest.raises(Broken):
            await asyncio.wait_for(client.connect("n1"), 2)
        assert client.wire is None
    assert ends(played(scene), "connect") == ["fail"]


def test_payloads_that_are_garbled_or_of_another_run_are_seen():
    assert read_payload(make_payload("x-1", 3, size=100), 3) == "x-1"
    assert read_payload(make_payload("x-1", 3), 4).startswith("garbled")
    assert read_payload(make_payload("x-1", 3).replace(b"x-1", b"x-2"), 3).startswith("garbled")
    assert read_payload(b"", 3) is None
