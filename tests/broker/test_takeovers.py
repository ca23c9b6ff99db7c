"""Two clients with one client id throw each other out for ever, each coming back at once: they are slowed down, wherever
they are, which is counted and logged. Who comes back once is served at once, whatever has become of its former connection.
How long who waits: tests/unit/test_core_takeovers.c."""

import re
import threading

import pytest

from cluster import wait_until
from mqtt import Client, Closed, Timeout

RATE_EXCEEDED = {4: 3, 5: 0x9F}


def slowed(cluster, number):
    found = re.search(r'^coterie_limits_total\{limit="take-overs"\} (\d+)$', cluster.http(number, "/metrics")[1], re.MULTILINE)
    return int(found.group(1))


class Insistent(threading.Thread):
    """A client that connects again as soon as it is thrown out, as many libraries do."""

    def __init__(self, client_id, level, port):
        super().__init__(daemon=True)
        self.client, self.level, self.port = Client(client_id, level, timeout=60), level, port
        self.enough, self.answers, self.failure = threading.Event(), set(), None
        self.start()

    def run(self):
        try:
            while not self.enough.is_set():
                self.stay()
        except Exception as failure:   # the test shows it
            self.failure = failure
        finally:
            self.client.close()

    def stay(self):
        try:
            self.answers.add(self.client.open(self.port, expect=None).reason)
            while not self.enough.is_set():
                try:
                    self.client.receive(0.2)
                except Timeout:
                    pass
        except (Closed, OSError):
            pass

    def stop(self):
        self.enough.set()
        self.join(70)
        assert not self.is_alive() and self.failure is None, self.failure


@pytest.mark.parametrize("where", [(1, 1), (2, 3)], ids=["at_one_node", "at_two_nodes"])
@pytest.mark.parametrize("level", [4, 5])
def test_a_pair_with_one_client_id_is_slowed_down_counted_and_logged(cluster, unique, level, where):
    before = {number: slowed(cluster, number) for number in where}
    bystander = Client(f"{unique}-bystander", level)
    bystander.open(cluster.ports[where[0]])
    pair = [Insistent(f"{unique}-pair", level, cluster.ports[number]) for number in where]
    try:
        for number in set(where):
            wait_until(f"slowed down at {number}", lambda n=number: slowed(cluster, n) > before[n], 60)
        bystander.ping()
    finally:
        for one in pair:
            one.stop()
        bystander.disconnect()
    assert all(one.answers <= {0, RATE_EXCEEDED[level]} and 0 in one.answers for one in pair)
    for number in set(where):
        lines = [line for line in cluster.logs(number).splitlines() if f"client id {unique}-pair: it rests" in line]
        assert 1 <= len(lines) <= 3, lines     # one in a minute


@pytest.mark.parametrize("level", [4, 5])
def test_who_comes_back_once_is_not_delayed(cluster, unique, level):
    before = sum(slowed(cluster, number) for number in cluster.ports)
    lost = [Client(f"{unique}-{number}", level) for number in range(20)]
    for number, client in enumerate(lost):
        client.open(cluster.ports[1 + number % 3], clean=False)     # and is not heard of any more
    back = [Client(client.client_id, level) for client in lost]
    for number, client in enumerate(back):
        assert client.open(cluster.ports[1 + (number + 1) % 3], clean=False).session_present
    assert sum(slowed(cluster, number) for number in cluster.ports) == before
    for client in lost:
        client.expect_closed(0x8E)
    for client in back:
        client.disconnect()
