"""The disks under a node: what was flushed survives a power loss, what was not need not; and each of the other faults."""

import os
import subprocess
import sys
import tempfile
import time

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "jepsen"))

from cluster import program    # noqa: E402
from disk import DiskError, make_disk    # noqa: E402
from probe import missing    # noqa: E402
from undo import Undo    # noqa: E402

NEEDS = {"ext4": "ext4", "xfs": "xfs", "flaky": "fuse"}


def make(kind, request):
    reason = missing(NEEDS[kind])
    if reason:
        pytest.skip(reason)
    undo = Undo()
    request.addfinalizer(undo.all)
    directory = tempfile.mkdtemp(prefix="coterie-test-disk-")
    undo.directory(directory)
    disk = make_disk(kind, os.path.join(directory, "data"), undo, program("coterie-flakydisk") if kind == "flaky" else None)
    disk.attach()
    return disk


@pytest.fixture(params=["ext4", "xfs", "flaky"])
def disk(request):
    return make(request.param, request)


@pytest.fixture(params=["xfs", "flaky"])
def forgetful(request):
    return make(request.param, request)


@pytest.fixture
def flaky(request):
    return make("flaky", request)


def write(disk, name, content, flush):
    with open(os.path.join(disk.path, name), "wb") as file:
        file.write(content)
        file.flush()
        if flush:
            os.fsync(file.fileno())


def read(disk, name):
    try:
        with open(os.path.join(disk.path, name), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def test_a_full_disk_takes_no_byte_until_it_is_cleared(disk):
    disk.fill()
    with pytest.raises(OSError):
        write(disk, "x", bytes(100_000), True)
    disk.clear()
    write(disk, "x", bytes(100_000), True)


def test_what_was_flushed_survives_a_power_loss_and_the_rest_does_not(forgetful):
    write(forgetful, "flushed", b"kept" * 10_000, True)
    write(forgetful, "cached", b"lost" * 10_000, False)
    forgetful.power_loss(1)
    assert read(forgetful, "flushed") == b"kept" * 10_000
    assert read(forgetful, "cached") != b"lost" * 10_000
    write(forgetful, "after", b"the disk works again", True)


def test_an_emptied_disk_is_empty(disk):
    write(disk, "x", b"x", True)
    disk.empty()
    assert os.listdir(disk.path) == []


def test_a_write_without_flush_is_torn_by_a_power_loss(flaky):
    write(flaky, "x", b"a" * 1_000_000, True)
    file = os.open(os.path.join(flaky.path, "x"), os.O_WRONLY | os.O_DIRECT)
    import mmap
    page = mmap.mmap(-1, 1 << 20)
    page.write(b"b" * (1 << 20))
    os.pwritev(file, [memoryview(page)[:999_936 // 4096 * 4096]], 0)
    os.close(file)
    assert flaky.power_loss(7) > 0
    content = read(flaky, "x")
    assert b"a" * 512 in content and b"b" * 512 in content


def test_a_lying_disk_forgets_what_it_confirmed(flaky):
    flaky.tell("lie", 1)
    write(flaky, "x", b"y" * 100_000, True)
    flaky.power_loss(3)
    flaky.tell("lie", 0)
    assert read(flaky, "x") != b"y" * 100_000


def test_a_slow_disk_is_slow_and_a_failing_flush_fails(flaky):
    flaky.tell("delay", 100)
    began = time.monotonic()
    write(flaky, "x", b"x", True)
    assert time.monotonic() - began > 0.1
    flaky.tell("delay", 0)
    write(flaky, "x", b"x", True)
    flaky.tell("eio_flush", 1)
    with pytest.raises(OSError):
        write(flaky, "y", b"y" * 10_000, True)
    flaky.tell("eio_flush", 0)


def test_the_power_fails_at_the_flush_that_was_chosen(flaky):
    write(flaky, "first", b"kept" * 1000, True)
    flaky.tell("cut", 3)    # a file's flush is more than one of the disk's
    with pytest.raises(OSError):
        for number in range(10):
            write(flaky, f"later-{number}", b"lost" * 1000, True)
    assert flaky.tell("left", 0) == 0
    flaky.power_loss(1)
    assert read(flaky, "first") == b"kept" * 1000 and read(flaky, "later-9") is None
    write(flaky, "after", b"the disk works again", True)


def test_a_disk_that_another_namespace_has_mounted_is_not_taken_for_detached(flaky, monkeypatch):
    monkeypatch.setattr("disk.RELEASE_SECONDS", 0.2)
    other = subprocess.Popen(["unshare", "--mount", "sh", "-c", "echo; exec sleep 60"], stdout=subprocess.PIPE)
    try:
        other.stdout.readline()
        with pytest.raises(DiskError):
            flaky.detach()
    finally:
        other.kill()
        other.wait()
