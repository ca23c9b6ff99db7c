"""Bad input and bad days: one clear line, a defined state, nobody else harmed."""

import glob
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading

import pytest

from cluster import wait_until
from mqtt import Client, Closed, Timeout, encode_connect, encode_publish

BINARY = os.environ.get("COTERIE_BIN", "")


def data_directory(cluster, number):
    path = os.path.join(cluster.directory, f"node{number}", "data")
    assert os.path.isdir(os.path.join(path, "log")), os.listdir(cluster.directory)
    return path


@pytest.mark.parametrize("garbage", [
    b"\x00\x00", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"SSH-2.0-x\r\n",
    b"\x10\xff\xff\xff\xff\x7f", b"\x30\x03\x00\x01a", b"\xc0\x00", b"\x10\x0c\x00\x04MQTT\x09\x02\x00\x3c\x00\x00",
    encode_connect("x")[:-1] + b"\xff", b"\x10\xff\xff\xff\x7f",
])
def test_garbage_closes_that_connection_and_touches_nobody_else(cluster, client, unique, garbage):
    witness = client("w")
    witness.open(cluster.ports[1])
    with socket.create_connection(("127.0.0.1", cluster.ports[1]), timeout=20) as bad:
        bad.sendall(garbage)
        bad.shutdown(socket.SHUT_WR)
        while True:
            try:
                if not bad.recv(4096):
                    break
            except ConnectionError:
                break
    witness.ping()


def test_a_malformed_packet_after_connect_is_answered_with_its_reason(cluster, client, unique):
    one = client("m")
    one.open(cluster.ports[1])
    one.send(b"\x36\x05\x00\x01a\x00\x01")   # QoS 3
    last = one.expect_closed((0x81, 0x82))
    assert last is not None and last.reason in (0x81, 0x82)


def test_nonsense_on_the_link_port_is_refused(cluster):
    status = json.loads(cluster.http(1, "/status")[1])
    links = [member.get("link") for member in status["members"] if member.get("link")]
    assert links, status
    for link in links:
        host, port = link.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=10) as bad:
            bad.sendall(b"\xff" * 4096)
            try:
                while bad.recv(4096):
                    pass
            except ConnectionError:
                pass
    cluster.wait_ready()


def run_binary(*arguments, cwd=None, environment=None, timeout=20):
    return subprocess.run([BINARY, *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env=dict(os.environ, **(environment or {})), timeout=timeout)


@pytest.mark.skipif(not BINARY, reason="COTERIE_BIN does not name a binary")
class TestStart:
    def setup_method(self):
        self.directory = tempfile.mkdtemp(prefix="coterie-start-")

    def teardown_method(self):
        shutil.rmtree(self.directory, ignore_errors=True)

    def write(self, text):
        path = os.path.join(self.directory, "coterie.yaml")
        with open(path, "w") as file:
            file.write(text)
        return path

    def test_version_is_printed(self):
        done = run_binary("--version")
        assert done.returncode == 0 and done.stdout.startswith("coterie ")

    @pytest.mark.parametrize("text, expected", [
        ("node:\n  id: 1\n  colour: red\n", ["coterie.yaml:3", "colour"]),
        ("node:\n  id: many\n", ["coterie.yaml:2", "id"]),
        ("node:\n  id: 99\n", ["coterie.yaml:2", "1 to 63"]),
        ("listeners:\n  - kind: pigeon\n    port: 1\n", ["coterie.yaml", "pigeon"]),
        ("node: [\n", ["coterie.yaml"]),
    ])
    def test_a_wrong_configuration_is_refused_with_file_line_and_expectation(self, text, expected):
        done = run_binary("--config", self.write(text), "--check-config")
        assert done.returncode != 0
        for part in expected:
            assert part in done.stdout, done.stdout

    def test_a_port_in_use_is_one_clear_line(self):
        with socket.socket() as busy:
            busy.bind(("127.0.0.1", 0))
            busy.listen()
            port = busy.getsockname()[1]
            done = run_binary(environment={"COTERIE_LISTENERS": f"tcp:127.0.0.1:{port}", "COTERIE_ADMIN_PORT": "0"},
                              cwd=self.directory)
        assert done.returncode != 0
        assert str(port) in done.stdout and "in use" in done.stdout, done.stdout


def test_a_wiped_node_refuses_to_start_and_says_how_to_replace_it(own_cluster):
    victim = own_cluster.followers()[0]
    own_cluster.wipe(victim)
    own_cluster.run("start", str(victim), check=False)
    wait_until("the refusal", lambda: "replace" in own_cluster.logs(victim), 20)
    assert own_cluster.node(victim)["pid"] in (None, 0)
    publisher = Client("p")
    publisher.open(own_cluster.ports[own_cluster.leader()])
    assert publisher.publish("x", "y", qos=1) in (0, 0x10)


def test_a_flipped_byte_in_the_log_is_noticed_and_the_others_go_on(own_cluster):
    victim = own_cluster.followers()[0]
    publisher = Client("p", timeout=20)
    publisher.open(own_cluster.ports[own_cluster.leader()])
    for number in range(200):
        publisher.publish("x", str(number) * 50, qos=1)
    own_cluster.kill(victim)
    segments = sorted(glob.glob(os.path.join(data_directory(own_cluster, victim), "log", "*segment*")))
    assert segments
    with open(segments[0], "r+b") as file:
        file.seek(6000)
        byte = file.read(1)
        file.seek(6000)
        file.write(bytes([byte[0] ^ 0x40]))
    own_cluster.run("start", str(victim), check=False)
    wait_until("a line that names the file",
               lambda: os.path.basename(segments[0]) in own_cluster.logs(victim), 20)
    for number in range(20):
        publisher.publish("x", str(number), qos=1)


def test_an_isolated_minority_turns_clients_away_and_says_so(own_cluster):
    alone = own_cluster.followers()[0]
    others = [number for number in own_cluster.ports if number != alone]
    attached = Client("attached", timeout=30)
    attached.open(own_cluster.ports[alone], clean=False)
    for number in others:
        own_cluster.pause(number)
    try:
        wait_until("/readyz says no", lambda: not own_cluster.ready(alone), 20)
        attached.send(encode_publish("x", b"unsafe", 1, 1))
        with pytest.raises(Closed):
            while True:
                found = attached.receive(30)
                assert found.type != 4, "a PUBACK without a majority"
        late = Client("late", timeout=30)
        with pytest.raises((AssertionError, Closed, Timeout)) as refusal:
            late.open(own_cluster.ports[alone])
        if refusal.type is AssertionError:
            assert "136" in str(refusal.value) or "156" in str(refusal.value), refusal.value
    finally:
        for number in others:
            own_cluster.resume(number)
    own_cluster.wait_ready()
    own_cluster.wait_equal()


def test_nodes_return_one_by_one_in_any_order(own_cluster):
    publisher = Client("p", timeout=20)
    publisher.open(own_cluster.ports[1])
    publisher.publish("kept", "1", qos=1, retain=True)
    for order in ([3, 1, 2], [2, 3, 1]):
        for number in (1, 2, 3):
            own_cluster.kill(number)
        for number in order:
            own_cluster.start(number)
        own_cluster.wait_ready()
    reader = Client("r", timeout=20)
    reader.open(own_cluster.ports[2])
    reader.subscribe(("kept", 1))
    reader.expect_message("kept", "1")


def test_a_storm_of_connections_is_served_and_moves_to_the_other_nodes(own_cluster, request):
    """2,000 clients connect, their node is killed, all are back elsewhere. (The benchmark does it with 10,000.)"""
    count, threads = 2000, 8
    home = own_cluster.followers()[0]
    elsewhere = [number for number in own_cluster.ports if number != home]
    clients = [Client(f"storm-{n}", timeout=60) for n in range(count)]
    failures = []

    def each(part, port_of):
        for one in clients[part::threads]:
            try:
                one.open(port_of(one), clean=False)
            except Exception as error:
                failures.append(f"{one.client_id}: {error!r}")
                return

    def all_open(port_of):
        workers = [threading.Thread(target=each, args=(part, port_of)) for part in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(120)
        assert not failures, failures[:3]

    request.addfinalizer(lambda: [one.close() for one in clients])
    all_open(lambda one: own_cluster.ports[home])
    own_cluster.kill(home)
    own_cluster.leader()
    all_open(lambda one: own_cluster.ports[elsewhere[int(one.client_id.split("-")[1]) % 2]])
