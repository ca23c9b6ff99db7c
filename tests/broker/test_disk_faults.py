"""Disks that fail, lie or are full: that node says why and stops, the others go on, and it is repaired from what it has or
from them. Needs strace, and root for the full disk; skips loudly without."""

import glob
import os
import shutil
import signal
import subprocess

import pytest

from cluster import Cluster, wait_until
from mqtt import Client

TEXT = b"a retained message that is easy to find in a file"
IMAGE_BYTES = 160 << 20
PATIENCE = 180


@pytest.fixture
def own_cluster():
    made = Cluster(3, environment={"COTERIE_NODE_CORE_DUMPS": "true"})    # else only root may trace a node
    yield made
    made.down()


@pytest.fixture
def publisher(own_cluster, victim):
    """Connected to a node that nothing happens to."""
    home = next(number for number in own_cluster.ports if number != victim)
    made = Client("publisher", timeout=PATIENCE)
    made.open(own_cluster.ports[home])
    yield made
    made.close()


def data_of(cluster, number):
    return os.path.join(cluster.directory, f"node{number}", "data")


def events(cluster, number, event):
    """The lines that a node has logged of one kind."""
    return [line for line in cluster.logs(number).splitlines() if f"event={event}" in line.split()]


def wait_event(cluster, number, event, *parts):
    def found():
        return [line for line in events(cluster, number, event) if all(part in line for part in parts)]
    return wait_until(f"event {event} {parts} at node {number}", found, PATIENCE)[0]


def wait_stopped(cluster, number):
    wait_until(f"node {number} stopped", lambda: not cluster.node(number)["pid"], PATIENCE)


def then_the_node_comes_back(cluster, number):
    """It serves, holds what the others hold, and what it holds is right."""
    cluster.wait_ready(timeout=PATIENCE)
    cluster.wait_equal(PATIENCE)
    reader = Client("reader", timeout=PATIENCE)
    reader.open(cluster.ports[number])
    reader.subscribe(("kept", 1))
    reader.expect_message("kept", TEXT.decode())
    reader.close()


# ---- what was written reads back as something else


def flip(path, text):
    """Changes one byte wherever `text` stands in a file; old copies of a page included."""
    with open(path, "r+b") as file:
        content = file.read()
        places = []
        at = content.find(text)
        while at >= 0:
            places.append(at)
            file.seek(at)
            file.write(bytes([text[0] ^ 0x20]))
            at = content.find(text, at + 1)
    assert places, f"{text} is not in {path}"


def test_a_store_whose_rows_changed_while_its_node_was_dead_is_rebuilt(own_cluster, victim, publisher):
    publisher.publish("kept", TEXT, qos=1, retain=True)
    own_cluster.wait_equal()
    own_cluster.kill(victim)
    flip(os.path.join(data_of(own_cluster, victim), "store", "data.mdb"), TEXT)
    publisher.publish("x", "while it is down", qos=1)
    own_cluster.start(victim)
    wait_event(own_cluster, victim, "node-failed", "hash")
    publisher.publish("x", "and after", qos=1)
    wait_event(own_cluster, victim, "store-rebuilt")
    then_the_node_comes_back(own_cluster, victim)


def test_a_store_left_by_a_killed_process_is_verified_and_kept(own_cluster, victim, publisher):
    publisher.publish("kept", TEXT, qos=1, retain=True)
    own_cluster.wait_equal()
    own_cluster.kill(victim)
    own_cluster.start(victim)
    wait_event(own_cluster, victim, "store-verified")
    assert not events(own_cluster, victim, "store-rebuilding")
    then_the_node_comes_back(own_cluster, victim)


# ---- a flush fails


class Fault:
    """System calls of a running node on some files fail, until the end of the `with`."""

    def __init__(self, cluster, number, paths, inject):
        self.output = os.path.join(cluster.directory, f"strace-{number}")
        command = ["strace", "-f", "-q", "-p", str(cluster.node(number)["pid"]), "-o", self.output,
                   "-e", "trace=" + inject.split(":")[0], "-e", "inject=" + inject]
        for path in paths:
            command += ["-P", path]
        self.command = command

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stderr=subprocess.PIPE, text=True)
        try:
            _, complaint = self.process.communicate(timeout=0.5)
        except subprocess.TimeoutExpired:
            return self
        if complaint.strip():
            pytest.skip(f"strace cannot attach: {complaint.strip()}")
        return self   # the node has met the fault already, and is gone

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=20)


@pytest.fixture
def strace():
    if not shutil.which("strace"):
        pytest.skip("no strace")


def publish_until(publisher, condition):
    """Keeps publishing, which must go on to work whatever happens to the node under test."""
    def published():
        publisher.publish("x", "the others go on", qos=1)
        return condition()
    wait_until("the fault to be met", published, PATIENCE)


def test_a_failing_flush_of_the_log_stops_the_node_and_no_other(strace, own_cluster, victim, publisher):
    publisher.publish("kept", TEXT, qos=1, retain=True)
    segments = glob.glob(os.path.join(data_of(own_cluster, victim), "log", "*"))
    with Fault(own_cluster, victim, segments, "fdatasync:error=EIO"):
        publish_until(publisher, lambda: events(own_cluster, victim, "node-failed"))
        wait_stopped(own_cluster, victim)
    assert len(events(own_cluster, victim, "node-failed")) == 1
    publisher.publish("x", "still", qos=1)
    own_cluster.start(victim)
    then_the_node_comes_back(own_cluster, victim)


@pytest.mark.parametrize("call", ["sync_file_range", "fdatasync"])
def test_a_failing_flush_of_the_store_stops_the_node_which_then_rebuilds_it(strace, own_cluster, victim, publisher, call):
    publisher.publish("kept", TEXT, qos=1, retain=True)
    store = os.path.join(data_of(own_cluster, victim), "store", "data.mdb")
    with Fault(own_cluster, victim, [store], f"{call}:error=EIO:when=1"):
        publish_until(publisher, lambda: events(own_cluster, victim, "node-failed"))
        wait_stopped(own_cluster, victim)
    assert len(events(own_cluster, victim, "node-failed")) == 1
    publisher.publish("x", "still", qos=1)
    own_cluster.start(victim)
    wait_event(own_cluster, victim, "store-rebuilt")
    then_the_node_comes_back(own_cluster, victim)


# ---- a full disk


class SmallDisk:
    """A file system of its own under the data directory of a stopped node."""

    def __init__(self, cluster, number):
        self.path, self.image = data_of(cluster, number), os.path.join(cluster.directory, f"disk-{number}")
        self.ballast = os.path.join(self.path, "ballast")

    def mount(self):
        aside = self.path + ".aside"
        os.rename(self.path, aside)
        os.mkdir(self.path)
        with open(self.image, "wb") as file:
            file.truncate(IMAGE_BYTES)
        done = subprocess.run(f"mkfs.ext4 -qF -m 0 '{self.image}' && mount -o loop '{self.image}' '{self.path}'",
                              shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={IMAGE_BYTES}", "tmpfs", self.path],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            pytest.skip(f"cannot mount a small disk: {done.stdout.strip()}")
        subprocess.run(["cp", "-a", aside + "/.", self.path], check=True)
        shutil.rmtree(aside)

    def fill(self):
        with open(self.ballast, "wb") as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
                    file.flush()
            except OSError:
                pass

    def clear(self):
        os.unlink(self.ballast)

    def unmount(self):
        subprocess.run(["umount", "-l", self.path], stderr=subprocess.DEVNULL)


@pytest.fixture
def small_disk(own_cluster, victim):
    if os.geteuid() != 0:
        pytest.skip("not root: cannot mount a small disk")
    disk = SmallDisk(own_cluster, victim)
    own_cluster.stop(victim)
    try:
        disk.mount()
        own_cluster.start(victim)
        own_cluster.wait_ready()
        yield disk
    finally:
        if own_cluster.node(victim)["pid"]:
            own_cluster.kill(victim)
        disk.unmount()


def test_a_full_disk_stops_the_node_until_there_is_space(own_cluster, victim, small_disk):
    publisher = Client("publisher", timeout=PATIENCE)
    publisher.open(own_cluster.ports[next(number for number in own_cluster.ports if number != victim)])
    publisher.publish("kept", TEXT, qos=1, retain=True)
    small_disk.fill()

    def published():
        for _ in range(20):
            publisher.publish("x", bytes(100_000), qos=1)
        return events(own_cluster, victim, "node-failed")
    wait_until("the disk to be full", published, PATIENCE)
    assert "no space" in events(own_cluster, victim, "node-failed")[0]
    assert own_cluster.node(victim)["pid"], "it waits for space"
    code, text = own_cluster.http(victim, "/readyz")
    assert code == 503 and "space" in text, text
    publisher.publish("x", "the others go on", qos=1)

    small_disk.clear()
    then_the_node_comes_back(own_cluster, victim)
    publisher.publish("x", "all of them", qos=1)
    own_cluster.wait_equal()
    publisher.close()


def test_a_node_does_not_start_on_a_full_disk_and_says_why(own_cluster, victim, small_disk):
    publisher = Client("publisher", timeout=PATIENCE)
    publisher.open(own_cluster.ports[next(number for number in own_cluster.ports if number != victim)])
    publisher.publish("kept", TEXT, qos=1, retain=True)
    own_cluster.kill(victim)
    small_disk.fill()
    own_cluster.run("start", str(victim), check=False)
    publisher.publish("x", "the others go on", qos=1)
    small_disk.clear()
    if not own_cluster.node(victim)["pid"]:
        assert "space" in own_cluster.logs(victim), own_cluster.logs(victim)[-500:]
        own_cluster.start(victim)
    then_the_node_comes_back(own_cluster, victim)
    publisher.close()
