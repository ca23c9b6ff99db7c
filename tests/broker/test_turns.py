"""What a node does for many clients at once is spread over turns of its loop: counted, as time means little on a busy machine."""

import os
import re
import resource

import pytest

from cluster import Cluster, wait_until
from mqtt import Client

CLIENTS = 1500                        # more than libuv hears of in one poll
SOCKET_LOOKS_MAX = 30000 + 200 + 300  # a turn's share, and the socket that goes beyond it


@pytest.fixture(scope="module")
def node():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    cluster = Cluster(1, environment={"COTERIE_LIMITS_PENDING_ADDRESS_MAX": "100000"})
    cluster.wait_ready()
    yield cluster
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    cluster.down()


def metric(cluster, name):
    _, body = cluster.http(1, "/metrics")
    return float(re.search(rf"^{name} (\S+)$", body, re.MULTILINE).group(1))


def descriptor_table(cluster):
    with open(f"/proc/{cluster.node(1)['pid']}/status", encoding="ascii") as file:
        return int(re.search(r"^FDSize:\s*(\d+)$", file.read(), re.MULTILINE).group(1))


def clients(cluster, count):
    made = [Client(f"c{number}", 5) for number in range(count)]
    for client in made:
        client.open(cluster.ports[1])
    return made


def test_the_table_of_descriptors_does_not_grow_with_the_clients(node):
    """The kernel makes accept() wait for some 20 ms whenever it has to."""
    before = descriptor_table(node)
    made = clients(node, 300)
    assert descriptor_table(node) == before
    for client in made:
        client.close()


def test_connections_that_break_at_once_are_closed_over_several_turns(node):
    made = clients(node, CLIENTS)
    os.kill(node.node(1)["pid"], 19)
    for client in made:
        client.close()
    os.kill(node.node(1)["pid"], 18)
    wait_until("all are gone", lambda: metric(node, "coterie_connections") == 0)
    assert 15000 <= metric(node, "coterie_sockets_looks_max") <= SOCKET_LOOKS_MAX
