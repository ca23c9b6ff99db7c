"""Every limit: one below it and at it all goes well; one beyond, the client that asked gets the answer that its version has,
it is counted, the log says so once a minute, and nobody else notices.

A row of LIMITS is a limit. Its function asks for `n` of what is limited, and returns what came of it: OK, a reason code, or
CLOSED. Queues, and what is in flight to a client, have no answer but their effect: tests of their own, below. Limits on what
is not let in yet, and on rates of users and listeners: test_hostile.py, test_doors.py."""

import itertools
import re
import socket
import time

import pytest

from cluster import Cluster, wait_until
from mqtt import (CONNACK, DISCONNECT, PUBACK, PUBLISH, PUBREC, SUBACK, UNSUBACK, Client, Closed, encode_connect, encode_publish,
                  encode_subscribe, encode_unsubscribe)

OK, CLOSED = 0, "closed"
QUOTA, TOO_LARGE, TOPIC, FILTER, RATE, RECEIVE, ALIAS = 0x97, 0x95, 0x90, 0x8F, 0x9F, 0x93, 0x94

# Three nodes: on the second a handful of clients is a crowd, on the third in a second.
NODES = {
    "small": {"PACKET_BYTES_MAX": 2048, "CONNECT_BYTES_MAX": 1024, "TOPIC_LEVELS_MAX": 4, "SUBSCRIPTIONS_MAX": 3,
              "FILTERS_MAX": 5, "RECEIVE_MAXIMUM": 2, "IN_FLIGHT_MAX": 2, "QUEUE_MESSAGES_MAX": 6, "QUEUE_BYTES_MAX": 1024,
              "USER_PROPERTIES_MAX": 2, "TOPIC_ALIAS_MAX": 2, "RETAINED_MESSAGES_MAX": 2, "RETAINED_BYTES_MAX": 64},
    "crowded": {"SESSIONS_MAX": 4, "CONNECTIONS_MAX": 6},
    "rated": {"CONNECT_RATE_ADDRESS_MAX": 5},
}

numbers = itertools.count(1)


class World:
    """A node, a client on it that wants nothing special, and the clients that a test made."""

    def __init__(self, options):
        self.started = time.monotonic()
        self.cluster = Cluster(1, environment={f"COTERIE_LIMITS_{name}": str(value) for name, value in options.items()})
        self.cluster.wait_ready()
        self.port = self.cluster.ports[1]
        self.clients = []
        self.friend = Client("friend", 5)
        self.friend.open(self.port)
        self.friend.subscribe(("friend/#", 1))

    def client(self, level, name=None):
        self.clients.append(Client(name or f"c{next(numbers)}", level))
        return self.clients[-1]

    def connected(self, level, **options):
        client = self.client(level)
        client.open(self.port, **options)
        return client

    def leave(self):
        for client in self.clients:
            client.close()
        self.clients.clear()
        wait_until("the others are gone", lambda: self.metric("coterie_sessions") <= 1 and
                   self.metric("coterie_connections") <= 1)

    def metric(self, name):
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.cluster.http(1, "/metrics")[1], re.MULTILINE)
        assert found, name
        return float(found.group(1))

    def reached(self, limit):
        return self.metric(f'coterie_limits_total{{limit="{limit}"}}')

    def then_others_notice_nothing(self):
        assert self.friend.publish("friend/topic", b"x", 1) == 0
        self.friend.expect_message("friend/topic", b"x")

    def then_each_limit_was_logged_once_a_minute(self):
        lines = re.findall(r"limit reached: ([a-z-]+)", self.cluster.logs(1))
        minutes = 1 + int(time.monotonic() - self.started) // 60
        assert lines and all(lines.count(limit) <= minutes for limit in lines), lines


@pytest.fixture(scope="module")
def worlds():
    made = {name: World(options) for name, options in NODES.items()}
    yield made
    for world in made.values():
        world.cluster.down()


def outcome(client, *answers):
    """What the client gets: the (last) reason code of one of these packets or of a DISCONNECT, or CLOSED."""
    try:
        while True:
            found = client.receive()
            if found.type == DISCONNECT:
                client.expect_closed()
                return found.reason
            if found.type in answers:
                return found.codes[-1] if found.type in (SUBACK, UNSUBACK) else found.reason
    except Closed:
        return CLOSED


def sized(build, size):
    """The packet of exactly `size` bytes that `build` makes of some padding."""
    for padding in range(size):
        data = build(b"x" * padding)
        if len(data) >= size:
            assert len(data) == size
            return data
    raise AssertionError(f"no packet of {size} bytes")


# ---- what is asked for ----

def packet_bytes(world, level, n):
    client = world.connected(level)
    client.send(sized(lambda padding: encode_publish("t", padding, 1, 1, level=level), n))
    return outcome(client, PUBACK)


def connect_bytes(world, level, n):
    client = world.client(level)
    client.dial(world.port)
    client.send(sized(lambda padding: encode_connect("c", level, username="u", password=padding), n))
    return outcome(client, CONNACK)


def levels_of_topic(world, level, n):
    client = world.connected(level)
    client.send(encode_publish("/".join("t" * n), b"", 1, 1, level=level))
    return outcome(client, PUBACK)


def levels_of_filter(world, level, n):
    client = world.connected(level)
    client.send(encode_subscribe(1, [("/".join("t" * n), 0)], level))
    return outcome(client, SUBACK)


def subscriptions(world, level, n):
    client = world.connected(level)
    return [client.subscribe((f"s/{i}", 0))[0] for i in range(n)][-1]


def filters_of_subscribe(world, level, n):
    client = world.connected(level)
    client.send(encode_subscribe(1, [(f"s/{i % 3}", 0) for i in range(n)], level))
    return outcome(client, SUBACK)


def filters_of_unsubscribe(world, level, n):
    client = world.connected(level)
    client.send(encode_unsubscribe(1, [f"s/{i}" for i in range(n)], level))
    answer = outcome(client, UNSUBACK) if level == 5 else outcome_of_plain_unsuback(client)
    return OK if answer == 0x11 else answer  # no such subscription existed, which is fine


def outcome_of_plain_unsuback(client):
    """3.1.1: it has no codes."""
    try:
        return OK if client.receive().type == UNSUBACK else None
    except Closed:
        return CLOSED


def publishes_in_flight(world, level, n):
    """QoS 2, answered, and never released."""
    client = world.connected(level)
    answer = OK
    for packet_id in range(1, n + 1):
        client.send(encode_publish("t", b"", 2, packet_id, level=level))
        answer = outcome(client, PUBREC)
    return answer


def retained_messages(world, level, n):
    client = world.connected(level)
    return retain(world, client, [(f"r/{i}", b"x") for i in range(n)])


def retained_bytes(world, level, n):
    client = world.connected(level)
    return retain(world, client, [("r/0", b"x" * n)])


def retain(world, client, messages):
    """Retains them, forgets them again; the answer to the last."""
    answers = []
    try:
        for number, (topic, payload) in enumerate(messages):
            client.send(encode_publish(topic, payload, 1, 1 + number, retain=True, level=client.level))
            answers.append(outcome(client, PUBACK))
        return answers[-1]
    finally:
        for topic, _ in messages:
            world.friend.publish(topic, b"", 1, retain=True)


def user_properties(world, level, n):
    client = world.connected(level)
    client.send(encode_publish("t", b"", 1, 1, level=level, properties={"user_property": [("a", "b")] * n}))
    return outcome(client, PUBACK)


def topic_alias(world, level, n):
    client = world.connected(level)
    client.send(encode_publish("t", b"", 1, 1, level=level, properties={"topic_alias": n}))
    return outcome(client, PUBACK)


def connects(world, level, n):
    """That many clients, one of whom is the friend; the answer to the last."""
    answers = []
    for _ in range(n - 1):
        client = world.client(level)
        client.dial(world.port)
        try:
            client.send(encode_connect(client.client_id, level))
            answers.append(outcome(client, CONNACK))
        except OSError:
            answers.append(CLOSED)
    return answers[-1]


def sockets(world, level, n):
    """That many connections, whose clients would share one session and so are not let in; the answer to the last."""
    for _ in range(n - 2):
        client = world.client(level)
        client.dial(world.port)
    wait_until("they are there", lambda: world.metric("coterie_connections") == n - 1)
    return connects(world, level, 2)


addresses = itertools.count(2)


def connects_from_one_address(world, level, n):
    """All at once, from an address that nobody has come from so far."""
    source = f"127.0.1.{next(addresses)}"
    made = [socket.create_connection(("127.0.0.1", world.port), timeout=20, source_address=(source, 0)) for _ in range(n)]
    for number, one in enumerate(made):
        one.sendall(encode_connect(f"rate{number}", level))
    answers = [one.recv(4)[3] for one in made]
    for one in made:
        one.close()
    return answers[-1]


# function, limit in the metrics, node, limit, beyond it 5.0, and 3.1.1 (None: it does not have such a thing)
LIMITS = [
    (packet_bytes, "packet-bytes", "small", 2048, TOO_LARGE, CLOSED),
    (connect_bytes, "packet-bytes", "small", 1024, CLOSED, CLOSED),
    (levels_of_topic, "topic-levels", "small", 4, TOPIC, CLOSED),
    (levels_of_filter, "topic-levels", "small", 4, FILTER, 0x80),
    (subscriptions, "subscriptions", "small", 3, QUOTA, 0x80),
    (filters_of_subscribe, "filters", "small", 5, QUOTA, 0x80),
    (filters_of_unsubscribe, "filters", "small", 5, QUOTA, CLOSED),
    (publishes_in_flight, "receive-maximum", "small", 2, RECEIVE, None),
    (retained_messages, "publish-quota", "small", 2, QUOTA, CLOSED),
    (retained_bytes, "publish-quota", "small", 64, QUOTA, CLOSED),
    (user_properties, "user-properties", "small", 2, QUOTA, None),
    (topic_alias, None, "small", 2, ALIAS, None),
    (connects_from_one_address, "connect-rate", "rated", 5, RATE, 3),
    (connects, "sessions", "crowded", 4, QUOTA, 3),
    (sockets, "connections", "crowded", 6, CLOSED, CLOSED),
]
NO_SUBSCRIBERS = 0x10


@pytest.mark.parametrize("level,row", [pytest.param(level, row, id=f"{row[0].__name__}-{'5.0' if level == 5 else '3.1.1'}")
                                       for row in LIMITS for level in (5, 4) if row[4 if level == 5 else 5] is not None])
def test_at_the_limit_all_goes_well_and_beyond_it_one_client_is_told(worlds, level, row):
    ask, limit, node, most, new, old = row
    world = worlds[node]
    before = world.reached(limit) if limit else 0
    for n in (most - 1, most):
        assert ask(world, level, n) in (OK, NO_SUBSCRIBERS), f"{n} of {most}"
        world.leave()
    assert limit is None or world.reached(limit) == before, "nothing was refused, but counted"
    assert ask(world, level, most + 1) == (new if level == 5 else old)
    world.leave()
    assert limit is None or world.reached(limit) > before
    world.then_others_notice_nothing()


# ---- what is queued, and what is in flight to a client ----

@pytest.mark.parametrize("level", [5, 4])
@pytest.mark.parametrize("size,most", [(1, 6), (256, 4)], ids=["messages", "bytes"])
def test_a_full_queue_drops_its_oldest_messages(worlds, level, size, most):
    world = worlds["small"]
    before = world.metric('coterie_queue_dropped_total{reason="queue-full"}'), world.reached("queues")
    for count in (most - 1, most, most + 1):
        name = f"queue{level}{size}{count}"
        sleeper = world.client(level, name)
        sleeper.open(world.port, clean=False)
        sleeper.subscribe((name, 1))
        sleeper.disconnect()
        for number in range(count):
            world.friend.publish(name, str(number).encode() * size, 1)
        sleeper.open(world.port, clean=False)
        wanted = [str(number).encode() for number in range(count)][-most:]
        assert [message.payload[:1] for message in sleeper.collect(len(wanted))] == wanted
        sleeper.close()
        world.client(level, name).open(world.port)  # ends the session
        world.leave()
    dropped = world.metric('coterie_queue_dropped_total{reason="queue-full"}'), world.reached("queues")
    assert [now - then for now, then in zip(dropped, before)] == [1, 1]
    world.then_others_notice_nothing()


@pytest.mark.parametrize("level", [5, 4])
@pytest.mark.parametrize("qos", [1, 2])
def test_no_more_are_in_flight_to_a_client_than_the_limit(worlds, level, qos):
    world = worlds["small"]
    client = world.connected(level)
    client.subscribe((f"flight{level}{qos}", qos))
    for number in range(3):
        world.friend.publish(f"flight{level}{qos}", str(number), 1 if qos == 1 else 2)
    first = [client.receive() for _ in range(2)]
    assert [found.type for found in first] == [PUBLISH] * 2
    client.expect_nothing()
    for found in first:
        client.take(found)
    assert [message.payload for message in client.collect(3)] == [b"0", b"1", b"2"]
    world.leave()


@pytest.mark.parametrize("node", NODES)
def test_each_limit_is_logged_once_a_minute(worlds, node):
    worlds[node].then_each_limit_was_logged_once_a_minute()
