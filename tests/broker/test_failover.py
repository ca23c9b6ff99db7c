"""Nodes die; what was acknowledged is still there."""

import threading
import time

import pytest

from cluster import wait_until
from mqtt import PUBACK, PUBCOMP, PUBREC, Client, Closed, Timeout, encode_ack

PUBREL = 6


class Publisher(threading.Thread):
    """Publishes numbered messages, `window` in flight, and goes on at the other ports when its node dies."""

    def __init__(self, name, topic, ports, count, qos, window=20):
        super().__init__(daemon=True)
        self.client = Client(name, timeout=2.0)
        self.topic, self.ports, self.count, self.qos, self.window = topic, list(ports), count, qos, window
        self.acknowledged = set()
        self.numbers = {}     # packet id -> number
        self.ack_times = []
        self.error = None

    def run(self):
        try:
            self._run()
        except Exception as error:  # shown by the test
            self.error = error

    def _connect(self):
        deadline = time.monotonic() + 30
        while True:
            try:
                self.client.open(self.ports[0], clean=False)
                self.client.resend()
                return
            except (OSError, Closed, Timeout, AssertionError):
                if time.monotonic() > deadline:
                    raise
                self.ports = self.ports[1:] + self.ports[:1]
                time.sleep(0.01)

    def _run(self):
        self._connect()
        sent = 0
        while len(self.acknowledged) < self.count:
            try:
                while sent < self.count and len(self.client.unacknowledged) < self.window:
                    number, sent = sent, sent + 1
                    # Remember the number before the bytes leave: the send may fail half way.
                    packet_id = self.client.new_id()
                    self.numbers[packet_id] = number
                    from mqtt import encode_publish
                    data = encode_publish(self.topic, str(number).encode(), self.qos, packet_id)
                    self.client.unacknowledged[packet_id] = data
                    self.client.send(data)
                found = self.client.receive(5.0)
                if found.type == PUBREC and found.reason < 0x80:
                    self.client.unacknowledged[found.packet_id] = None
                    self.client.send(encode_ack(PUBREL, found.packet_id))
                elif found.type in (PUBACK, PUBCOMP):
                    if found.packet_id in self.client.unacknowledged:
                        del self.client.unacknowledged[found.packet_id]
                        self.acknowledged.add(self.numbers[found.packet_id])
                        self.ack_times.append(time.monotonic())
            except (OSError, Closed, Timeout):
                self._connect()


def run_publishers(publishers, harm):
    for one in publishers:
        one.start()
    harm()
    for one in publishers:
        one.join(120)
        assert one.error is None, one.error
        assert not one.is_alive(), f"{len(one.acknowledged)} of {one.count} acknowledged"


def first_deliveries(messages):
    """The numbers in the order in which each was first seen."""
    seen, order = set(), []
    for message in messages:
        number = int(message.payload)
        if number not in seen:
            seen.add(number)
            order.append(number)
    return order


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("victim", ["session", "publisher", "leader"])
def test_no_acknowledged_message_is_lost_when_a_node_is_killed(cluster, client, unique, qos, victim):
    leader = cluster.leader()
    others = [number for number in cluster.ports if number != leader]
    # Where things are: the session's node, the publishers' nodes, and who is killed.
    home = {"session": others[0], "publisher": others[1], "leader": others[0]}[victim]
    killed = {"session": others[0], "publisher": others[0], "leader": leader}[victim]
    publishing = {"session": [leader, others[1]], "publisher": [others[0], leader, others[1]],
                  "leader": [others[0], leader, others[1]]}[victim]
    subscriber = client("s", timeout=60)
    subscriber.open(cluster.ports[home], clean=False)
    topics = [f"{unique}/{number}" for number in range(2)]
    subscriber.subscribe((f"{unique}/#", qos))
    subscriber.close()
    ports = [cluster.ports[number] for number in publishing]
    publishers = [Publisher(f"{unique}-p{n}", topic, ports[n % len(ports):] + ports[:n % len(ports)], 5000, qos)
                  for n, topic in enumerate(topics)]

    def harm():
        wait_until("the load has begun", lambda: sum(len(p.acknowledged) for p in publishers) > 500, 60)
        cluster.kill(killed)

    run_publishers(publishers, harm)
    target = next(number for number in cluster.ports if number != killed)
    assert subscriber.open(cluster.ports[target], clean=False).session_present
    wanted = sum(p.count for p in publishers)
    subscriber.collect(wanted, timeout=90)
    subscriber.collect(None, quiet=1.0)
    for topic, publisher in zip(topics, publishers):
        got = [m for m in subscriber.received if m.topic == topic]
        order = first_deliveries(got)
        assert set(order) == set(range(publisher.count))
        assert order == sorted(order), "first deliveries out of order"
        if qos == 2:
            assert len(got) == publisher.count, "a QoS 2 message was delivered twice"


def test_no_acknowledged_message_is_lost_when_all_nodes_are_killed_at_once(cluster, client, unique):
    subscriber = client("s", timeout=60)
    subscriber.open(cluster.ports[1], clean=False)
    subscriber.subscribe((unique, 1))
    subscriber.close()
    ports = list(cluster.ports.values())
    publisher = Publisher(f"{unique}-p", unique, ports, 5000, 1, window=50)

    def harm():
        wait_until("the load has begun", lambda: len(publisher.acknowledged) > 1000, 60)
        for number in cluster.ports:
            cluster.kill(number)
        for number in cluster.ports:
            cluster.start(number)

    run_publishers([publisher], harm)
    cluster.wait_ready()
    assert subscriber.open(cluster.ports[2], clean=False).session_present
    subscriber.collect(5000, timeout=60)
    subscriber.collect(None, quiet=1.0)    # what was sent again after the kill is among the 5,000
    assert first_deliveries(subscriber.received) == list(range(5000))
    cluster.wait_equal()


def test_publishes_are_acknowledged_again_soon_after_the_leader_is_killed(cluster, unique):
    gaps = []
    for attempt in range(5):
        leader = cluster.leader()
        survivor = next(number for number in cluster.ports if number != leader)
        publisher = Publisher(f"{unique}-{attempt}", f"{unique}/{attempt}", [cluster.ports[survivor]], 10 ** 9, 1, 1)
        publisher.start()
        wait_until("the load has begun", lambda: len(publisher.ack_times) > 20)
        killed = time.monotonic()
        cluster.kill(leader)
        after = wait_until("publishes are acknowledged again",
                           lambda: [t for t in publisher.ack_times[-50:] if t > killed + 0.05])
        wait_until("a steady flow", lambda: len(publisher.ack_times) > 0 and publisher.ack_times[-1] > after[0] + 0.2)
        times = [t for t in publisher.ack_times if t > killed - 0.5]
        gaps.append(max(b - a for a, b in zip(times, times[1:])))
        publisher.count = 0
        publisher.join(20)
        cluster.start(leader)
        cluster.wait_ready()
    # The goal (1 s) is measured by the benchmark; here only what no machine, however busy, may exceed.
    assert max(gaps) < 10, gaps


def test_a_frozen_leader_is_replaced_and_its_sessions_can_move(cluster, client, unique):
    leader = cluster.leader()
    other = next(number for number in cluster.ports if number != leader)
    moving = client("m", timeout=20)
    moving.open(cluster.ports[leader], clean=False)
    moving.subscribe((unique, 1))
    cluster.pause(leader)
    try:
        publisher = client("p", timeout=20)
        wait_until("the others serve", lambda: try_open(publisher, cluster.ports[other]), 20)
        publisher.publish(unique, "x", qos=1)
        assert moving.open(cluster.ports[other], clean=False).session_present
        moving.expect_message(unique, "x")
    finally:
        cluster.resume(leader)
    cluster.wait_ready()
    cluster.wait_equal()


def try_open(client, port, **options):
    try:
        client.open(port, **options)
        return True
    except (OSError, Closed, Timeout, AssertionError):
        return False


def test_the_will_of_a_client_on_a_killed_node_arrives_exactly_once(cluster, client, unique):
    victim = cluster.followers()[0]
    watchers = []
    for number in cluster.ports:
        if number != victim:
            watcher = client(f"w{number}", timeout=20)
            watcher.open(cluster.ports[number])
            watcher.subscribe((f"{unique}/#", 2))
            watchers.append(watcher)
    mortal = client("m")
    mortal.open(cluster.ports[victim], will={"topic": f"{unique}/m", "payload": b"gone", "qos": 2})
    polite = client("polite")
    polite.open(cluster.ports[victim], will={"topic": f"{unique}/p", "payload": b"never", "qos": 2})
    polite.disconnect()
    resumed = client("r")
    resumed.open(cluster.ports[victim], clean=False,
                 will={"topic": f"{unique}/r", "payload": b"never", "qos": 2, "properties": {"will_delay": 30}})
    cluster.kill(victim)
    other = next(number for number in cluster.ports if number != victim)
    wait_until("the others serve", lambda: try_open(resumed, cluster.ports[other], clean=False))
    for watcher in watchers:
        watcher.expect_message(f"{unique}/m", b"gone", timeout=20)
        got = watcher.collect(None, quiet=1.0)
        assert len(got) == 1, got


def test_a_node_restarts_with_what_it_had(cluster, client, unique):
    victim = cluster.leader()
    one = client("s")
    one.open(cluster.ports[victim], clean=False)
    one.subscribe((unique, 1))
    publisher = client("p")
    publisher.open(cluster.ports[victim])
    publisher.publish(unique, "kept", qos=1, retain=True)
    cluster.stop(victim)
    cluster.start(victim)
    cluster.wait_ready()
    one.open(cluster.ports[victim], clean=False)
    assert one.expect_message(unique, "kept")
    cluster.wait_equal()
