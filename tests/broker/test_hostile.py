"""Those who cost a node as much as they can: sockets that announce what they never send, or send it byte by byte.

The memory that is allowed is that of a release build; a build with sanitizers needs several times as much, and gets it."""

import itertools
import json
import resource
import selectors
import socket

import pytest

from cluster import Cluster, wait_until
from mqtt import DISCONNECT, PUBCOMP, PUBREC, PUBREL, Client, Closed, Timeout, encode_ack, encode_connect, encode_publish

SOCKETS = 10_000
GROWTH_MAX = 50 << 20
CONNECT_OF_256_MB = b"\x10\xff\xff\xff\x7f\x00\x04MQTT"
PUBLISH_OF_1_MIB = b"\x30\xfb\xff\x3f\x00"  # as large as the limit allows, and its first byte
REPEATS = 100_000


@pytest.fixture
def node():
    made = Cluster(1, environment={"COTERIE_LIMITS_PENDING_ADDRESS_MAX": "20000",
                                   "COTERIE_TIMEOUTS_CONNECT_MS": "60000"})
    made.wait_ready()
    yield made
    made.down()


def resident(cluster):
    with open(f"/proc/{cluster.node(1)['pid']}/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def growth_max(cluster):
    with open(f"/proc/{cluster.node(1)['pid']}/maps", encoding="utf-8") as maps:
        return GROWTH_MAX * (4 if "asan" in maps.read() else 1)


def room_for_sockets(wanted):
    """As many as this process, and the node, may open; a few are needed for other things."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(wanted, (hard if hard > 0 else wanted + 200) - 200)


def opened(cluster, count, first_bytes):
    sockets = []
    for number in range(count):
        one = socket.create_connection(("127.0.0.1", cluster.ports[1]), timeout=30)
        one.sendall(first_bytes(number))
        sockets.append(one)
    return sockets


def read_all(sockets, enough):
    """Reads from each until `enough` says so of what came (b'' at the end: closed); what came, by socket."""
    came = {one: b"" for one in sockets}
    with selectors.DefaultSelector() as ready:
        for one in sockets:
            ready.register(one, selectors.EVENT_READ)
        while ready.get_map():
            events = ready.select(30)
            assert events, f"{len(ready.get_map())} of {len(sockets)} got no answer"
            for key, _ in events:
                try:
                    data = key.fileobj.recv(4096)
                except ConnectionResetError:
                    data = b""
                came[key.fileobj] += data
                if not data or enough(came[key.fileobj]):
                    ready.unregister(key.fileobj)
    return came


def then_others_are_served(cluster):
    client = Client("after", 4)
    client.open(cluster.ports[1])
    client.ping()
    client.close()


def lets_in(cluster):
    try:
        return Client("new", 5).open(cluster.ports[1])
    except (Closed, OSError):
        return None


def close_all(sockets):
    for one in sockets:
        one.close()


def test_sockets_that_announce_256_mb_cost_nothing(node):
    before = resident(node)
    sockets = opened(node, room_for_sockets(SOCKETS), lambda _: CONNECT_OF_256_MB)
    read_all(sockets, lambda _: False)  # they are closed
    assert resident(node) - before < growth_max(node)
    close_all(sockets)
    then_others_are_served(node)


def test_clients_that_announce_what_they_do_not_send_cost_what_they_sent(node):
    count = room_for_sockets(SOCKETS)
    before = resident(node)
    sockets = opened(node, count, lambda number: encode_connect(f"hostile-{number}", 4))
    answers = read_all(sockets, lambda came: len(came) >= 4)
    assert set(answers.values()) == {b"\x20\x02\x00\x00"}
    for one in sockets:
        one.sendall(PUBLISH_OF_1_MIB)
    then_others_are_served(node)
    assert resident(node) - before < growth_max(node)
    close_all(sockets)


@pytest.mark.parametrize("first", [b"", b"\x10"], ids=["silent", "one byte"])
def test_who_does_not_get_to_the_point_is_closed_in_time(first):
    made = Cluster(1, environment={"COTERIE_TIMEOUTS_CONNECT_MS": "500"})
    try:
        made.wait_ready()
        one = socket.create_connection(("127.0.0.1", made.ports[1]), timeout=20)
        if first:
            one.sendall(first)
        assert one.recv(1) == b""
    finally:
        made.down()


def test_a_flood_from_one_address_leaves_room_for_who_is_let_in():
    made = Cluster(1, environment={"COTERIE_LIMITS_PENDING_ADDRESS_MAX": "20"})
    try:
        made.wait_ready()
        friend = Client("friend", 5)
        friend.open(made.ports[1])
        sockets = opened(made, 20, lambda _: b"")
        late = socket.create_connection(("127.0.0.1", made.ports[1]), timeout=20)
        try:
            assert late.recv(1) == b""
        except ConnectionResetError:
            pass
        friend.ping()
        metrics = made.http(1, "/metrics")[1]
        assert 'limit="pending-connections"} 1' in metrics, metrics
        close_all(sockets)
        wait_until("a place is free", lambda: lets_in(made))
    finally:
        made.down()


@pytest.fixture
def hasty():
    """Nobody may take more than two seconds for nothing."""
    made = Cluster(1, environment={"COTERIE_TIMEOUTS_CONNECT_MS": "2000"})
    made.wait_ready()
    yield made
    made.down()


def trickled(client, data):
    """Sends byte by byte, twenty in a second, for ever; what came before the connection was closed."""
    came = []
    for number in itertools.count():
        try:
            client.send(data[number:number + 1] or b"x")
            came.append(client.receive(0.05))
        except Timeout:
            pass
        except (Closed, OSError):
            return came


@pytest.mark.parametrize("level", [5, 4])
def test_who_is_let_in_and_sends_a_packet_byte_by_byte_is_told_and_closed(hasty, level):
    slow, friend = Client("slow", level), Client("friend", 5)
    slow.open(hasty.ports[1])
    friend.open(hasty.ports[1])
    came = trickled(slow, PUBLISH_OF_1_MIB)
    assert [(found.type, found.reason) for found in came] == ([(DISCONNECT, 0x8D)] if level == 5 else [])
    friend.ping()


def state_of(cluster):
    """What a node stores, but for its log, as it says; it has applied everything."""
    facts = json.loads(cluster.http(1, "/status")[1])
    return {name: facts[name] for name in ("sessions", "subscriptions", "retained", "queued", "messages", "in_flight")}


def sent_again_and_again(client, packet, answer):
    """So many times that one row, or some bytes, for each would show; the answers are read, and not answered."""
    for _ in range(REPEATS // 500):
        client.send(packet * 500)
        for _ in range(500):
            found = client.receive(60)
            assert (found.type, found.packet_id) == (answer, 7), found


def test_what_is_never_finished_and_sent_again_for_ever_costs_what_it_cost_once(node):
    sleeper, client = Client("sleeper", 4), Client("again", 4)
    sleeper.open(node.ports[1], clean=False)
    sleeper.subscribe(("t", 2))
    sleeper.disconnect()
    client.open(node.ports[1], clean=False)
    packet = encode_publish("t", b"payload", 2, 7, retain=True, level=4)
    client.send(packet)
    client.expect(PUBREC)
    once, before = state_of(node), resident(node)
    sent_again_and_again(client, packet, PUBREC)
    assert state_of(node) == once and once["queued"] == 1
    client.send(encode_ack(PUBREL, 9, 4) * 1000)    # and what was never begun is finished
    for _ in range(1000):
        assert client.receive(60).type == PUBCOMP
    assert state_of(node) == once
    assert resident(node) - before < growth_max(node)
    sleeper.open(node.ports[1], clean=False)
    sleeper.expect_message("t", "payload")
    sleeper.expect_nothing()


@pytest.fixture
def small():
    """A node whose buffers may take 32 MiB, of which one client 256 KiB."""
    made = Cluster(1, environment={"COTERIE_LIMITS_MEMORY_BYTES_MAX": str(32 << 20),
                                   "COTERIE_LIMITS_HOLD_BYTES_MAX": str(16 << 20),
                                   "COTERIE_LIMITS_OUTPUT_BYTES_MAX": str(256 << 10)})
    made.wait_ready()
    yield made
    made.down()


def test_a_message_to_many_who_do_not_read_is_held_once(small):
    readers = [Client(f"deaf-{number}", 5) for number in range(200)]
    for reader in readers:
        reader.open(small.ports[1])
        reader.subscribe(("#", 0))
    before, client = resident(small), Client("loud", 4)
    client.open(small.ports[1])
    for _ in range(200):    # four gigabytes, if each got what it is owed
        client.start_publish("t", bytes(100_000), qos=0)
    client.ping()
    assert resident(small) - before < (32 << 20) + growth_max(small)
    for reader in readers:
        reader.close()
    then_others_are_served(small)
