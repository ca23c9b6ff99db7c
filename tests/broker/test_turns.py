"""What a node does for many clients at once is spread over turns of its loop: counted, as time means little on a busy machine."""

import os
import re
import resource
import selectors
import signal
from contextlib import contextmanager

import pytest

from cluster import Cluster, wait_until
from mqtt import Client

CLIENTS = 1500                        # more than libuv hears of in one poll
READERS = 150
SOCKET_LOOKS_MAX = 30000 + 200 + 300  # a turn's share, and the socket that goes beyond it
WRITE_LOOKS_MAX = 30000 + 6300        # likewise, 256 KiB and a message to a socket


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


@contextmanager
def held(cluster):
    """The node stands still: all that happens to its sockets meanwhile it finds at once."""
    pid = cluster.node(1)["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def take_what_comes(made, quiet_s):
    """Until nothing has come for so long. Returns how many bytes."""
    taken = 0
    with selectors.DefaultSelector() as selector:
        for client in made:
            selector.register(client.socket, selectors.EVENT_READ)
        while ready := selector.select(quiet_s):
            taken += sum(len(key.fileobj.recv(1 << 20)) for key, _ in ready)
    return taken


def test_connections_that_break_at_once_are_closed_over_several_turns(node):
    made = clients(node, CLIENTS)
    with held(node):
        for client in made:
            client.close()
    wait_until("all are gone", lambda: metric(node, "coterie_connections") == 0)
    assert 15000 <= metric(node, "coterie_sockets_looks_max") <= SOCKET_LOOKS_MAX


def test_what_waits_for_slow_readers_that_read_at_once_is_written_over_several_turns(node):
    publisher, *readers = clients(node, 1 + READERS)
    for reader in readers:
        reader.subscribe(("slow", 0))
    while metric(node, "coterie_output_bytes") < READERS * 500000:
        publisher.publish("slow", b"x" * 50000, qos=1)
    with held(node):
        take_what_comes(readers, 0.3)
    before = metric(node, "coterie_connections")
    assert take_what_comes(readers, 1) > 0
    assert metric(node, "coterie_connections") == before
    assert metric(node, "coterie_sockets_looks_max") <= SOCKET_LOOKS_MAX + WRITE_LOOKS_MAX
    for client in [*readers, publisher]:
        client.close()
