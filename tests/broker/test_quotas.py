"""What one user may use, at its edges and at different nodes: connections and publishes per second at each node, subscriptions
and queued bytes of each session; and what all clients of a listener may publish together.

Rates are buckets that hold what one second brings and fill while a test goes on: so of a burst at least what the bucket
holds is taken, and at most that and what the time that passed has brought."""

import math
import re
import time

import pytest

from cluster import wait_until
from doors import Door
from identities import Guarded
from mqtt import PUBACK, Client, encode_publish

QUOTA = 0x97
REFUSED = {4: 3, 5: QUOTA}         # CONNACK
TOO_MANY = {4: 0x80, 5: QUOTA}     # SUBACK
BURST = 90                         # less than the Receive Maximum of a node


@pytest.fixture(scope="module")
def guarded():
    made = Guarded(COTERIE_AUTHORIZATION_ACL_FILE="")
    yield made
    made.down()


@pytest.fixture
def user(guarded, unique):
    """Makes a user with this quota; returns its name."""
    def make(**quota):
        guarded.ctl("user", "add", unique, text="pencil\n")
        guarded.ctl("user", "quota", unique, *(f"{name}={value}" for name, value in quota.items()), node=2)
        guarded.caught_up()
        return unique
    return make


@pytest.fixture
def connect(guarded, unique):
    made = []

    def make(node, name, level=5, user=None, **options):
        client = Client(f"{unique}-{name}", level)
        made.append(client)
        if user is not None:
            options.update(username=user, password="pencil")
        client.connack = client.open(guarded.ports[node], **options)
        return client

    yield make
    for one in made:
        one.close()


def limited(cluster, number, limit):
    text = cluster.http(number, "/metrics")[1]
    return int(re.search(rf'^coterie_limits_total\{{limit="{limit}"\}} (\d+)$', text, re.MULTILINE).group(1))


def burst(client, payload, topic="nowhere"):
    """The reasons of so many PUBLISHes at once, in their order (who is refused is told sooner), and how long that took."""
    started = time.monotonic()
    client.send(b"".join(encode_publish(topic, payload, 1, number + 1) for number in range(BURST)))
    answers = [client.expect(PUBACK) for _ in range(BURST)]
    return [answer.reason for answer in sorted(answers, key=lambda one: one.packet_id)], time.monotonic() - started


def then_taken(reasons, seconds, per_second):
    """The first that fit are taken; of the others, no more than there was time for."""
    assert QUOTA not in reasons[:per_second], reasons
    assert reasons.count(QUOTA) >= BURST - per_second - math.ceil(per_second * seconds), (reasons, seconds)
    assert QUOTA in reasons


@pytest.mark.parametrize("level", [4, 5])
def test_a_user_has_only_so_many_connections_at_each_node(guarded, user, connect, level):
    name = user(connections=2)
    before = limited(guarded, 1, "user-connections")
    for node in (1, 2):
        connect(node, f"{node}-a", level, name)
        connect(node, f"{node}-b", level, name)
        connect(node, f"{node}-c", level, name, expect=REFUSED[level])
    assert limited(guarded, 1, "user-connections") == before + 1
    connect(1, "1-a", level, name)               # its own place
    connect(2, "2-a", level, name).disconnect()

    def free():
        return connect(2, "2-c", level, name, expect=None).connack.reason == 0
    wait_until("a place is free", free)
    connect(1, "another", level)                 # nobody else is limited


def test_a_user_publishes_only_so_many_messages_in_a_second_at_each_node(guarded, user, connect):
    name = user(messages_per_s=5)
    before = limited(guarded, 1, "user-rate")
    for node in (1, 3):
        then_taken(*burst(connect(node, f"at-{node}", user=name), b""), 5)
    assert limited(guarded, 1, "user-rate") > before
    assert QUOTA not in burst(connect(1, "another"), b"")[0]


def test_all_connections_of_a_user_share_its_rate(user, connect):
    name = user(messages_per_s=5)
    one, other = connect(2, "one", user=name), connect(2, "other", user=name)
    started = time.monotonic()
    reasons = burst(one, b"")[0] + burst(other, b"")[0]
    taken = len(reasons) - reasons.count(QUOTA)
    assert 5 <= taken <= 5 + math.ceil(5 * (time.monotonic() - started))


def test_a_user_publishes_only_so_many_bytes_in_a_second(user, connect):
    name = user(bytes_per_s=100)
    client = connect(2, "client", user=name)
    then_taken(*burst(client, b"0123456789"), 10)
    assert QUOTA not in burst(client, b"")[0]    # what has no payload costs nothing


@pytest.mark.parametrize("level", [4, 5])
def test_a_session_of_a_user_has_only_so_many_subscriptions_at_any_node(user, connect, level):
    name = user(subscriptions=2)
    client = connect(1, "session", level, name, clean=False)
    assert client.subscribe(("a", 1), ("b", 1), ("c", 1)) == [1, 1, TOO_MANY[level]]
    client.disconnect()
    client = connect(2, "session", level, name, clean=False)
    assert client.subscribe(("c", 0)) == [TOO_MANY[level]]
    assert client.subscribe(("a", 0)) == [0]     # is one of the two
    client.unsubscribe("a")
    assert client.subscribe(("c", 0)) == [0]
    assert connect(3, "other", level, name).subscribe(("a", 1), ("b", 1)) == [1, 1]


def test_a_session_of_a_user_has_only_so_many_bytes_queued(user, connect, unique):
    """Ten messages of ten bytes fit; it is the oldest that make room, in each session for itself."""
    name = user(queued_bytes=100)
    for node in (1, 2):
        client = connect(node, f"session-{node}", user=name, clean=False)
        client.subscribe((f"{unique}/{node}", 1))
        client.disconnect()
    publisher = connect(3, "publisher")
    for number in range(15):
        publisher.publish(f"{unique}/1", f"message{number:3}", 1)
        if number < 10:
            publisher.publish(f"{unique}/2", f"message{number:3}", 1)
    for node, first, last in ((1, 5, 15), (2, 0, 10)):
        client = connect(4 - node, f"session-{node}", user=name, clean=False)
        for number in range(first, last):
            client.expect_message(f"{unique}/{node}", f"message{number:3}")
        client.expect_nothing()


def test_what_many_sessions_share_in_one_queue_is_not_counted_for_their_user(user, connect, unique):
    """It is stored once, and bounded by queue_bytes_max of the filter."""
    name = user(queued_bytes=100)
    for number in range(9):
        client = connect(1 + number % 3, f"session-{number}", user=name, clean=False)
        client.subscribe((f"{unique}/all", 1))
        client.disconnect()
    publisher = connect(1, "publisher")
    for number in range(15):
        publisher.publish(f"{unique}/all", f"message{number:3}", 1)
    client = connect(2, "session-8", user=name, clean=False)
    for number in range(15):
        client.expect_message(f"{unique}/all", f"message{number:3}")


@pytest.fixture(scope="module")
def door():
    """0: no limit, 1: messages, 2: bytes."""
    made = Door("tcp:127.0.0.1:0 anonymous=true", "tcp:127.0.0.1:0 anonymous=true publish_rate_max=5",
                "tcp:127.0.0.1:0 anonymous=true publish_bytes_max=100")
    yield made
    made.down()


@pytest.mark.parametrize("number, payload, fit", [(1, b"", 5), (2, b"0123456789", 10)], ids=["messages", "bytes"])
def test_all_clients_of_a_listener_share_its_rate(door, number, payload, fit):
    ports = door.ports()
    clients = [Client(f"{number}-{name}") for name in ("one", "other", "elsewhere")]
    for client, port in zip(clients, (ports[number], ports[number], ports[0])):
        client.open(port)
    before = door.metric('coterie_limits_total{limit="listener-rate"}')
    started = time.monotonic()
    reasons, seconds = burst(clients[0], payload)
    then_taken(reasons, seconds, fit)
    reasons += burst(clients[1], payload)[0]
    assert len(reasons) - reasons.count(QUOTA) <= fit + math.ceil(fit * (time.monotonic() - started))
    assert QUOTA not in burst(clients[2], payload)[0]
    assert door.metric('coterie_limits_total{limit="listener-rate"}') > before
    wait_until("the bucket fills", lambda: clients[1].publish("nowhere", payload) != QUOTA)
    for client in clients:
        client.close()
