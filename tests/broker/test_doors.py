"""Listeners that are not TLS: unix sockets, proxies, limits of a listener's own, and what is refused at the start."""

import os
import resource
import socket
import struct
import subprocess
import tempfile

import pytest

from cluster import ROOT, wait_until
from doors import Door, mosquitto_pub
from mqtt import CONNACK, Client, Closed, encode_connect

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


@pytest.fixture(scope="module")
def place():
    with tempfile.TemporaryDirectory(prefix="coterie-doors-") as directory:
        yield directory


@pytest.fixture(scope="module")
def door(place):
    """0 plain, 1 behind proxies on this machine, 2 behind proxies elsewhere, 3 three connections, 4 slow, 5 small packets,
    and a unix socket."""
    made = Door("tcp:127.0.0.1:0 anonymous=true",
                "tcp:127.0.0.1:0 anonymous=true proxy_from=127.0.0.0/8+::1",
                "tcp:127.0.0.1:0 anonymous=true proxy_from=192.0.2.0/24",
                "tcp:127.0.0.1:0 anonymous=true connections_max=3",
                "tcp:127.0.0.1:0 anonymous=true connect_rate_max=20",
                "tcp:127.0.0.1:0 anonymous=true packet_bytes_max=2000",
                f"unix:{place}/socket anonymous=true mode=600",
                environment={"COTERIE_TIMEOUTS_HANDSHAKE_MS": "1500"})
    yield made
    made.down()


def dialled(port, name, first=b""):
    client = Client(name).dial(port)
    client.send(first + encode_connect(name))
    return client


def then_closed(client):
    with pytest.raises(Closed):
        client.receive(10)


def test_a_unix_socket_serves_whom_its_permissions_let_in(door, place):
    assert mosquitto_pub(None, "--unix", f"{place}/socket") == (0, "")
    assert os.stat(f"{place}/socket").st_mode & 0o777 == 0o600


def test_a_unix_socket_of_a_killed_node_is_taken_over(door, place):
    door.cluster.kill(1)
    assert os.path.exists(f"{place}/socket")
    door.cluster.start(1)
    door.cluster.wait_ready()
    assert mosquitto_pub(None, "--unix", f"{place}/socket") == (0, "")


@pytest.mark.parametrize("header", [
    b"PROXY TCP4 198.51.100.7 127.0.0.1 4711 1883\r\n", b"PROXY UNKNOWN\r\n", SIGNATURE + b"\x20\0\0\0",
    SIGNATURE + b"\x21\x11" + struct.pack("!H4s4sHH", 12, bytes([198, 51, 100, 7]), bytes([127, 0, 0, 1]), 4711, 1883),
])
def test_behind_a_proxy_its_header_comes_first(door, header):
    client = dialled(door.ports()[1], "proxied", header)
    assert client.expect(CONNACK).reason == 0
    client.ping()


def test_limits_look_at_the_address_behind_the_proxy():
    """One a second from each address: of many from one of them, at once, some are refused, and nobody from another."""
    made = Door("tcp:127.0.0.1:0 anonymous=true proxy_from=127.0.0.1",
                environment={"COTERIE_LIMITS_CONNECT_RATE_ADDRESS_MAX": "1"})
    try:
        header = "PROXY TCP4 198.51.100.{} 127.0.0.1 4711 1883\r\n"
        lasts = [1] * 30 + [2, 3, 4]
        clients = [dialled(made.ports()[0], f"located-{number}", header.format(last).encode())
                   for number, last in enumerate(lasts)]
        reasons = [client.expect(CONNACK).reason for client in clients]
        assert reasons[30:] == [0, 0, 0]
        assert 0 in reasons[:30] and 0x9F in reasons[:30]
    finally:
        made.down()


@pytest.mark.parametrize("header", [b"", b"PROXY TCP4 198.51.100.7\r\n", b"PROXY TCP9 1.2.3.4 1.2.3.4 1 1\r\n",
                                    SIGNATURE + b"\x31\x11\0\x0c" + bytes(12)])
def test_without_a_good_header_nobody_passes(door, header):
    then_closed(dialled(door.ports()[1], "bare", header))


def test_a_header_that_does_not_come_is_not_waited_for(door):
    with socket.create_connection(("127.0.0.1", door.ports()[1])) as raw:
        raw.settimeout(10)
        raw.sendall(b"PROXY ")
        assert raw.recv(1) == b""


def test_a_header_from_elsewhere_than_the_proxies_is_refused(door):
    with pytest.raises((Closed, ConnectionError)):
        dialled(door.ports()[2], "spoofed", b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 1883\r\n").receive(10)
    assert "proxy_from" in door.log()


def test_where_no_header_is_expected_it_is_no_mqtt(door):
    then_closed(dialled(door.ports()[0], "spoofing", b"PROXY TCP4 198.51.100.7 127.0.0.1 4711 1883\r\n"))


def test_a_listener_has_its_own_number_of_connections(door):
    port = door.ports()[3]
    clients = [dialled(port, f"counted-{number}") for number in range(3)]
    for client in clients:
        client.expect(CONNACK)
    with pytest.raises((Closed, ConnectionError)):
        dialled(port, "one-too-many").receive(10)
    clients[0].disconnect()
    wait_until("room for another", lambda: door.metric(f'coterie_listener_connections{{listener="tcp:127.0.0.1:{port}"}}') == 2)
    dialled(port, "in-its-place").expect(CONNACK)


def test_those_that_come_too_fast_wait(door):
    clients = [dialled(door.ports()[4], f"fast-{number}") for number in range(30)]
    for client in clients:
        assert client.expect(CONNACK).reason == 0
        client.close()


def test_a_listener_has_its_own_largest_packet(door):
    client = dialled(door.ports()[5], "small")
    assert client.expect(CONNACK).properties["maximum_packet_size"] == 2000
    client.publish("x", bytes(1900), qos=1)
    client.start_publish("x", bytes(2100), qos=1)
    client.expect_closed(0x95)


def test_those_that_only_connect_keep_nobody_out():
    """Beyond 8,192 connections in their handshakes the oldest gives way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 20000:
        pytest.skip(f"only {hard} descriptors for a process")
    made, stalled = Door("ws:127.0.0.1:0 anonymous=true", environment={"COTERIE_TIMEOUTS_HANDSHAKE_MS": "600000"}), []
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        port = made.ports()[0]
        for _ in range(8300):
            stalled.append(socket.create_connection(("127.0.0.1", port)))
        wait_until("some gave way", lambda: made.metric("coterie_openings_timed_out_total") >= 8300 - 8192)
        assert made.metric("coterie_openings") <= 8192
        with socket.create_connection(("127.0.0.1", port)) as late:
            late.settimeout(10)
            late.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert late.recv(100).startswith(b"HTTP/1.1 426 ")
        stalled[0].settimeout(10)
        assert stalled[0].recv(1) == b""
    finally:
        for one in stalled:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        made.down()


def check(text):
    binary = os.environ.get("COTERIE_BIN") or os.path.join(ROOT, "build", "coterie")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COTERIE_")}
    done = subprocess.run([binary, "--check-config"], env=dict(environment, COTERIE_LISTENERS=text),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20)
    return done.returncode, done.stdout


@pytest.mark.parametrize("text, sentence", [
    ("tcp:127.0.0.1:1 certificate=/x", "of no use to a listener of kind tcp"),
    ("tls:127.0.0.1:1", "expected a certificate"),
    ("tls:127.0.0.1:1 certificate=/x", "come together"),
    ("tls:127.0.0.1:1 certificate=/x key=/y client_certificate=required", "client_ca"),
    ("tls:127.0.0.1:1 certificate=/x key=/y client_certificate=maybe", "expected none, optional or required"),
    ("tls:127.0.0.1:1 certificate=/x key=/y crl=/z", "expected optional or required"),
    ("tcp:127.0.0.1:1 anonymous=perhaps", "expected true or false"),
    ("tcp:127.0.0.1:1 anonymous", "expected KEY=VALUE"),
    ("tcp:127.0.0.1:1 colour=red", "expected KEY=VALUE"),
    ("tcp:127.0.0.1:1 proxy_from=everywhere", "expected ADDRESS"),
    ("unix:socket", "expected an absolute path"),
    ("pigeon:127.0.0.1:1", "expected tcp, tls, ws, wss or unix"),
])
def test_what_cannot_be_meant_is_refused_with_its_reason(text, sentence):
    code, said = check(text)
    assert code == 2 and sentence in said, said
