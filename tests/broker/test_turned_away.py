"""A node that cannot serve says so with the right words: cut off from the majority (0x88, 0x89, or 0x9C and where else to go;
3.1.1: return code 3, or a close), and when it is stopped (0x8B). The words reach the client before the connection ends.

A CONNECT is held while a leader may be found, here for longer than any test waits; but not by a node that knows better."""

import os

import pytest

from cluster import ROOT, Cluster, wait_until
from mqtt import CONNACK, DISCONNECT, Client, Closed, Timeout, encode_connect


@pytest.fixture
def small_cluster():
    made = Cluster(3, environment={"COTERIE_TIMEOUTS_HOLD_MS": "60000"})
    made.wait_ready()
    yield made
    made.down()


def last_packet(client):
    """What came before the server closed."""
    last = None
    while True:
        try:
            last = client.receive(30)
        except Closed:
            return last


def connected(cluster, node, level, name):
    client = Client(f"{name}-{level}", level, timeout=30)
    client.open(cluster.ports[node])
    return client


def test_a_node_without_a_majority_sends_its_clients_to_the_others(small_cluster):
    alone, *others = small_cluster.followers() + [small_cluster.leader()]
    addresses = {f"127.0.0.1:{node['client_port']}" for node in small_cluster.status()    # as node.client_address says
                 if node["id"] in others}                                            # one may be known to be down
    old, new = (connected(small_cluster, alone, level, "held") for level in (4, 5))
    for number in others:
        small_cluster.pause(number)
    try:
        assert last_packet(old) is None
        goodbye = last_packet(new)
        assert (goodbye.type, goodbye.reason) == (DISCONNECT, 0x9C)
        named = set(goodbye.properties["server_reference"].split())
        assert named and named <= addresses
        for level, reason in ((3, 3), (4, 3), (5, 0x9C)):
            late = Client("late", level, timeout=30).dial(small_cluster.ports[alone])
            late.send(encode_connect("late", level))
            answer = last_packet(late)
            assert (answer.type, answer.reason, answer.session_present) == (CONNACK, reason, False)
            if level == 5:
                assert set(answer.properties["server_reference"].split()) == named
    finally:
        for number in others:
            small_cluster.resume(number)
    small_cluster.wait_ready()
    connected(small_cluster, alone, 5, "again").ping()


def test_without_an_address_to_name_it_is_server_unavailable():
    cluster = Cluster(3, environment={"COTERIE_TIMEOUTS_HOLD_MS": "60000", "COTERIE_NODE_CLIENT_ADDRESS": ""})
    try:
        cluster.wait_ready()
        alone, *others = cluster.followers() + [cluster.leader()]
        held = connected(cluster, alone, 5, "held")
        for number in others:
            cluster.kill(number)
        assert last_packet(held).reason == 0x89
        for level, reason in ((4, 3), (5, 0x88)):
            late = Client("late", level, timeout=30).dial(cluster.ports[alone])
            late.send(encode_connect("late", level))
            assert last_packet(late).reason == reason
    finally:
        cluster.down()


def test_a_node_that_stops_tells_its_clients_and_only_them(small_cluster):
    stopped, other = small_cluster.followers()
    leaving = [connected(small_cluster, stopped, level, "leaving") for level in (3, 4, 5)]
    staying = connected(small_cluster, other, 5, "staying")
    small_cluster.stop(stopped)
    assert [last_packet(client) for client in leaving[:2]] == [None, None]
    goodbye = last_packet(leaving[2])
    assert (goodbye.type, goodbye.reason) == (DISCONNECT, 0x8B)
    staying.ping()
    small_cluster.start(stopped)
    wait_until("it is back", lambda: small_cluster.ready(stopped))
    staying.ping()


@pytest.fixture
def few_descriptors(tmp_path):
    """One node that may open 200 files."""
    program = tmp_path / "coterie"
    binary = os.environ.get("COTERIE_BIN") or os.path.join(ROOT, "build", "coterie")
    program.write_text(f'#!/bin/sh\nulimit -n 200\nexec "{binary}" "$@"\n')
    program.chmod(0o755)
    made = Cluster(1, binary=str(program))
    made.wait_ready()
    yield made
    made.down()


def try_to_connect(port, name, seconds):
    """The client, or None: refused, or left waiting in the kernel's queue until somebody leaves."""
    client = Client(name, 5, timeout=seconds)
    try:
        if client.open(port, expect=None).reason == 0:
            return client
    except (Closed, Timeout, OSError):
        pass
    client.close()
    return None


def test_at_the_limit_of_descriptors_newcomers_wait_and_the_others_are_served(few_descriptors):
    port, inside = few_descriptors.ports[1], []
    while len(inside) < 200:
        client = try_to_connect(port, f"c{len(inside)}", 3)
        if client is None:
            break
        inside.append(client)
    assert 20 < len(inside) < 200
    for client in inside:
        client.timeout = 20
        client.ping()
    inside[0].publish("x", "still durable", qos=1)   # the log can be written, too
    for client in inside[:10]:
        client.disconnect()
    wait_until("room again", lambda: try_to_connect(port, "new", 3))
