"""Whatever ends a run, nothing of it is left: no process, no namespace, no mount, no file."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
JEPSEN = os.path.join(ROOT, "jepsen")
sys.path.insert(0, JEPSEN)

from probe import missing    # noqa: E402
from undo import start_time    # noqa: E402

PATIENCE_SECONDS = 60
RUN = """
import sys, time
sys.path.insert(0, sys.argv[1])
from cluster import Cluster
with Cluster(3, disks="ext4") as cluster:
    cluster.up()
    print(cluster.name, cluster.directory, *(node.pid for node in cluster.nodes), flush=True)
    if sys.argv[2] == "fail":
        raise RuntimeError("on purpose")
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def able():
    reason = missing("namespaces", "nft", "ext4")
    if reason:
        pytest.skip(reason)


def hear_interrupts():
    """A shell's background jobs begin deaf to them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Run:
    def __init__(self, how):
        self.process = subprocess.Popen([sys.executable, "-c", RUN, JEPSEN, how], stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True, preexec_fn=hear_interrupts)
        words = self.process.stdout.readline().split()
        assert words, "the run did not start"
        self.name, self.directory, self.pids = words[0], words[1], [int(word) for word in words[2:]]

    def left(self):
        """What there still is of it."""
        namespaces = [name for name in os.listdir("/run/netns") if name.startswith(self.name)]
        with open("/proc/mounts") as file:
            mounts = [line.split()[1] for line in file if self.directory in line]
        processes = [pid for pid in self.pids if start_time(pid) is not None]
        return namespaces + mounts + processes + [path for path in [self.directory] if os.path.exists(path)]

    def wait_gone(self):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.left() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert self.left() == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_ended_leaves_nothing(number):
    run = Run("wait")
    assert len(run.left()) >= 5 + 3 + 3 + 1
    run.process.send_signal(number)
    run.process.wait(PATIENCE_SECONDS)
    run.wait_gone()


def test_a_run_that_fails_leaves_nothing():
    run = Run("fail")
    run.process.wait(PATIENCE_SECONDS)
    assert run.process.returncode != 0
    run.wait_gone()


def test_somebody_elses_process_with_a_number_of_ours_is_let_live():
    other = subprocess.Popen([shutil.which("sleep"), "600"])
    try:
        from undo import undo_process
        undo_process(other.pid, start_time(other.pid) - 1)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
