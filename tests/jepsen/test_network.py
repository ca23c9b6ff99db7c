"""What one host sends and another receives, on both wirings: cuts, and what only the user-space switch can do."""

import os
import socket
import sys
import time

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "jepsen"))

from cluster import program    # noqa: E402
from network import BridgeNetwork, TapNetwork, host_address, inside    # noqa: E402
from probe import missing    # noqa: E402
from undo import Undo    # noqa: E402

HOSTS = ["n1", "n2", "n3", "c"]
PORT = 9000


def make(kind, seed=1):
    undo = Undo()
    prefix = f"coterie-test-{os.getpid()}"
    try:
        if kind == "bridge":
            return BridgeNetwork(HOSTS, undo, prefix)
        return TapNetwork(HOSTS, undo, prefix, program("coterie-switch"), seed)
    except BaseException:
        undo.all()
        raise


@pytest.fixture(params=["bridge", "switch"])
def network(request):
    reason = missing("namespaces", "nft" if request.param == "bridge" else "tap")
    if reason:
        pytest.skip(reason)
    made = make(request.param)
    yield made
    made.undo.all()


@pytest.fixture
def switch():
    reason = missing("namespaces", "tap")
    if reason:
        pytest.skip(reason)
    made = make("switch")
    yield made
    made.undo.all()


def send(network, sender, receiver, count=1, wait=0.1):
    """[(number, seconds after it was sent)] of the datagrams that arrived, in the order of their arrival."""
    with inside(network.names[receiver]):
        ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        ear.bind((host_address(receiver), PORT))
    with inside(network.names[sender]):
        mouth = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with ear, mouth:
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        for number in range(count):
            mouth.sendto(f"{number} {time.monotonic()}".encode(), (host_address(receiver), PORT))
        arrived = []
        ear.settimeout(wait)
        try:
            while count > 1 or not arrived:
                number, sent = ear.recv(100).split()
                arrived.append((int(number), time.monotonic() - float(sent)))
        except TimeoutError:
            pass
        return arrived


def arrives(network, sender, receiver):
    return len(send(network, sender, receiver)) == 1


def test_everybody_reaches_everybody(network):
    assert all(arrives(network, a, b) for a in HOSTS for b in HOSTS if a != b)


def test_a_cut_is_of_one_direction_and_a_heal_ends_it(network):
    network.cut([("n1", "n2"), ("c", "n3")])
    assert not arrives(network, "n1", "n2")
    assert not arrives(network, "c", "n3")
    assert arrives(network, "n2", "n1")
    assert arrives(network, "n1", "n3")
    network.cut([("n2", "n1")])
    assert arrives(network, "n1", "n2")
    assert not arrives(network, "n2", "n1")
    network.heal()
    assert all(arrives(network, a, b) for a in HOSTS for b in HOSTS if a != b)


def test_nothing_leaves_the_switch(network):
    with inside(network.names["n1"]), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
        with pytest.raises(OSError):
            mouth.sendto(b"x", ("192.0.2.1", PORT))


def test_delayed_datagrams_are_late_in_their_order(switch):
    switch.shape([("n1", "n2")], delay_ms=50, jitter_ms=20)
    arrived = send(switch, "n1", "n2", count=200, wait=0.3)
    assert [number for number, _ in arrived] == list(range(200))
    assert all(0.029 < late < 0.3 for _, late in arrived)
    assert send(switch, "n2", "n1")[0][1] < 0.025


def test_some_are_lost(switch):
    switch.shape([("n1", "n2")], loss=0.3)
    assert 80 < len(send(switch, "n1", "n2", count=200)) < 190
    assert len(send(switch, "n2", "n1", count=200)) == 200


def test_some_come_twice_and_some_are_overtaken(switch):
    switch.shape([("n1", "n2")], duplicate=0.3)
    arrived = [number for number, _ in send(switch, "n1", "n2", count=200)]
    assert set(arrived) == set(range(200)) and len(arrived) > 220
    switch.shape([("n1", "n2")], reorder=0.2)
    arrived = [number for number, _ in send(switch, "n1", "n2", count=200)]
    assert sorted(arrived) == list(range(200)) and arrived != sorted(arrived)


def test_the_same_seed_loses_the_same_datagrams():
    reason = missing("namespaces", "tap")
    if reason:
        pytest.skip(reason)

    def lost(seed):
        network = make("switch", seed)
        try:
            send(network, "n1", "n2")
            network.shape([("n1", "n2")], loss=0.5)
            return {number for number, _ in send(network, "n1", "n2", count=100)}
        finally:
            network.undo.all()
    assert lost(1) == lost(1) != lost(2)
