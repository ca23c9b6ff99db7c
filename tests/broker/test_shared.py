"""Shared subscriptions with members at different nodes, one of which dies: each message reaches some member."""

import threading
import time

import pytest

from cluster import wait_until
from mqtt import Client, Closed, Timeout
from test_failover import Publisher, run_publishers


class Member(threading.Thread):
    """A persistent member of a group that takes what it is given, and comes back at the other ports when its node dies."""

    def __init__(self, name, ports, topic_filter, qos):
        super().__init__(daemon=True)
        self.client = Client(name, timeout=2.0)
        self.ports = list(ports)
        self.client.open(self.ports[0], clean=False)
        assert self.client.subscribe((topic_filter, qos)) == [qos]
        self.done = threading.Event()
        self.error = None

    def run(self):
        try:
            while not self.done.is_set():
                try:
                    self.client.collect(None, quiet=0.2)
                except (OSError, Closed, Timeout):
                    self._come_back()
        except Exception as error:  # shown by the test
            self.error = error

    def _come_back(self):
        deadline = time.monotonic() + 30
        while not self.done.is_set():
            self.ports = self.ports[1:] + self.ports[:1]
            try:
                assert self.client.open(self.ports[0], clean=False).session_present
                return
            except (OSError, Closed, Timeout):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("victim", ["leader", "follower"])
def test_no_message_of_a_group_is_lost_when_the_node_of_a_member_is_killed(cluster, unique, qos, victim):
    leader = cluster.leader()
    others = [number for number in cluster.ports if number != leader]
    killed = leader if victim == "leader" else others[0]
    ports = [cluster.ports[number] for number in sorted(cluster.ports)]
    members = [Member(f"{unique}-m{n}", ports[n:] + ports[:n], f"$share/{unique}/{unique}/+", qos) for n in range(3)]
    publishing = [cluster.ports[number] for number in others[::-1] + [leader]]
    publisher = Publisher(f"{unique}-p", f"{unique}/x", publishing, 4000, qos)
    for one in members:
        one.start()

    def harm():
        wait_until("the load has begun", lambda: len(publisher.acknowledged) > 500, 60)
        cluster.kill(killed)

    def got():
        return [int(message.payload) for one in members for message in list(one.client.received)]

    run_publishers([publisher], harm)
    wait_until("every message has reached a member", lambda: len(set(got())) == publisher.count, 60)
    for one in members:
        one.done.set()
    for one in members:
        one.join(10)
        one.client.close()
        assert one.error is None, one.error
    assert all(one.client.received for one in members), "a member got nothing"
    if qos == 2:
        assert len(got()) == publisher.count, "a QoS 2 message came twice"
