"""What a running node can do to its machine: as little as possible. And the unit that systemd would start it by."""

import ctypes
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import tempfile

import pytest

from cluster import ROOT, Cluster, wait_until
from mqtt import Client

UNIT = os.path.join(ROOT, "deploy", "coterie.service")
EXPOSURE_MAX = 1.5

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def node():
    """Starts a node with options from the environment; of nodes that do not start, nothing is left."""
    made = []

    def start(**environment):
        made.append(Cluster(1, environment=environment))
        made[-1].wait_ready()
        return made[-1]

    yield start
    for one in made:
        one.down()


def facts(cluster):
    """/proc/PID/status of the node."""
    with open(f"/proc/{cluster.node(1)['pid']}/status", encoding="ascii") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def capabilities(cluster):
    return {int(facts(cluster)[f"Cap{name}"], 16) for name in ("Inh", "Prm", "Eff", "Amb")}


def sanitized(cluster):
    return "built with sanitizers" in cluster.logs(1)


def serves(cluster):
    """A client publishes and gets it back."""
    client = Client("visitor")
    client.open(cluster.ports[1])
    client.subscribe(("a", 1))
    client.publish("a", b"text", qos=1)
    client.expect_message("a", "text")
    client.close()
    return True


def files_below(directory):
    for folder, _, names in os.walk(directory):
        yield from (os.path.join(folder, name) for name in names)


def test_it_has_no_capabilities_and_cannot_get_any(node):
    made = node()
    assert capabilities(made) == {0} and facts(made)["NoNewPrivs"] == "1"


def test_nobody_else_reads_what_it_writes(node):
    made = node()
    serves(made)
    data = os.path.join(made.directory, "node1", "data")
    assert stat.S_IMODE(os.stat(data).st_mode) == 0o700
    open_ones = [path for path in files_below(data) if os.stat(path).st_mode & 0o177]
    assert list(files_below(data)) and not open_ones


def test_it_leaves_no_core_dump_unless_that_is_wanted(node):
    def limit(cluster):
        with open(f"/proc/{cluster.node(1)['pid']}/limits", encoding="ascii") as file:
            return next(line.split()[4] for line in file if line.startswith("Max core file size"))
    hidden, open_one = node(), node(COTERIE_NODE_CORE_DUMPS="true")
    owner = [os.stat(f"/proc/{made.node(1)['pid']}/mem").st_uid for made in (hidden, open_one)]
    assert limit(hidden) == "0" and owner == [0, os.geteuid()]


def test_the_kernel_refuses_what_it_has_no_need_to_call(node):
    made = node()    # without a word
    if sanitized(made):
        pytest.skip("there is no filter in builds with sanitizers")
    assert facts(made)["Seccomp"] == "2" and serves(made)
    threads = os.listdir(f"/proc/{made.node(1)['pid']}/task")
    for thread in threads:
        with open(f"/proc/{made.node(1)['pid']}/task/{thread}/status", encoding="ascii") as file:
            assert "Seccomp:\t2" in file.read()


def test_a_filter_that_only_logs_hinders_nothing(node):
    made = node(COTERIE_NODE_SYSTEM_CALL_FILTER="log")
    assert serves(made)


def test_behind_the_filter_it_stops_reloads_and_starts_again(node):
    made = node(COTERIE_NODE_SYSTEM_CALL_FILTER="on")
    os.kill(made.node(1)["pid"], signal.SIGHUP)
    serves(made)
    made.stop(1)
    assert "event=stopped" in made.logs(1)
    made.start(1)
    made.wait_ready()
    assert serves(made)


# ---- a node whose program has been taken over


INTRUDER = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void tell(const char *what, long result)
{
    dprintf(2, "intruder: %s: %s\n", what, result < 0 ? "refused" : "done");
}

/* What it calls once it has its loop. (From some version on libuv would die of a ring that may be made and not be used.) */
int listen(int listener, int backlog)
{
    char parameters[120] = {0};

    tell("an io_uring at the start", syscall(SYS_io_uring_setup, 4, parameters));
    return (int)syscall(SYS_listen, listener, backlog);
}

/* What it calls when somebody connects. */
int accept4(int listener, struct sockaddr *address, socklen_t *size, int flags)
{
    const char *inside = getenv("INSIDE"), *outside = getenv("OUTSIDE");
    char *const program[] = {"/bin/true", NULL};
    char path[4096];

    snprintf(path, sizeof(path), "%s/made", inside);
    tell("a file inside", open(path, O_WRONLY | O_CREAT, 0600));
    snprintf(path, sizeof(path), "%s/made", outside);
    tell("a file outside", open(path, O_WRONLY | O_CREAT, 0600));
    tell("a directory outside", mkdir(path, 0700));
    tell("a link outside", symlink("/etc/passwd", path));
    snprintf(path, sizeof(path), "%s/precious", outside);
    tell("changing what is outside", open(path, O_WRONLY));
    tell("emptying what is outside", truncate(path, 0));
    tell("removing what is outside", unlink(path));
    tell("taking it inside", rename(path, inside));
    tell("reading what is outside", open(path, O_RDONLY));
    tell("another program", execv(program[0], program));
    tell("another process", fork());
    tell("memory to write and execute",
         mmap(NULL, 4096, PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0);
    tell("a raw socket", socket(AF_PACKET, SOCK_RAW, 0));
    tell("a new namespace", syscall(SYS_unshare, 0x10000000));
    return (int)syscall(SYS_accept4, listener, address, size, flags);
}
"""
INTRUDER_MAY = {"a file inside", "reading what is outside"}


@pytest.fixture
def intruder(tmp_path):
    """A library to be loaded into a node; and a directory that is none of the node's."""
    source, library, outside = tmp_path / "intruder.c", tmp_path / "intruder.so", tmp_path / "outside"
    source.write_text(INTRUDER)
    outside.mkdir()
    (outside / "precious").write_text("text")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    return library, outside


def has_landlock():
    create_ruleset, version = 444, 1
    return ctypes.CDLL(None).syscall(create_ruleset, None, 0, version) >= 2


def test_who_takes_over_a_node_can_write_its_data_and_nothing_else(alone, intruder):
    library, outside = intruder
    made = alone(LD_PRELOAD=str(library), OUTSIDE=str(outside), INSIDE=str(outside.parent / "data"),
                 COTERIE_NODE_DATA_DIR=str(outside.parent / "data"), ASAN_OPTIONS="verify_asan_link_order=0")
    made.wait_log("clients can be served")
    if "built with sanitizers" in made.text():
        pytest.skip("there is no filter in builds with sanitizers")
    port = int(re.search(r"listener=tcp:127.0.0.1:(\d+)", made.text()).group(1))
    client = Client("visitor")
    client.open(port)
    client.close()
    told = dict(re.findall(r"^intruder: (.*): (done|refused)$", made.text(), re.M))
    outside_is_ours = {what for what in told if "outside" in what or what == "taking it inside"} - INTRUDER_MAY
    expected = INTRUDER_MAY | (set() if has_landlock() else outside_is_ours)
    assert {what for what in told if told[what] == "done"} == expected and len(told) == 15
    assert not has_landlock() or [path.name for path in outside.iterdir()] == ["precious"]


# ---- a node on its own, started by root


class Alone:
    """The program without a configuration, in a directory that everybody may look into."""

    def __init__(self, binary, **environment):
        self.directory = tempfile.mkdtemp(prefix="coterie-test-")
        os.chmod(self.directory, 0o777)
        self.data = os.path.join(self.directory, "data")
        self.log = open(os.path.join(self.directory, "log"), "w+", encoding="utf-8")
        self.process = subprocess.Popen([binary], stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL,
                                        env={**os.environ, "COTERIE_NODE_DATA_DIR": self.data, "COTERIE_ADMIN_PORT": "0",
                                             "COTERIE_LISTENERS": "tcp:127.0.0.1:0 anonymous=true", **environment})

    def text(self):
        with open(self.log.name, encoding="utf-8") as file:
            return file.read()

    def wait_log(self, text):
        return wait_until(text, lambda: text in self.text())

    def node(self, _):
        return {"pid": self.process.pid}

    def down(self):
        self.process.terminate()
        self.process.wait(20)
        self.log.close()
        shutil.rmtree(self.directory)


@pytest.fixture
def alone():
    made = []

    def start(**environment):
        binary = os.environ.get("COTERIE_BIN") or os.path.join(ROOT, "build", "coterie")
        made.append(Alone(binary, **environment))
        return made[-1]

    yield start
    for one in made:
        one.down()


@as_root
def test_root_becomes_the_user_that_it_is_told(alone):
    user = pwd.getpwnam("nobody")
    made = alone(COTERIE_NODE_USER="nobody")
    made.wait_log("clients can be served")
    assert facts(made)["Uid"].split() == [str(user.pw_uid)] * 4 and facts(made)["Gid"].split() == [str(user.pw_gid)] * 4
    assert facts(made)["Groups"].split() in ([], [str(user.pw_gid)]) and capabilities(made) == {0}
    assert os.stat(made.data).st_uid == user.pw_uid
    assert os.stat(f"/proc/{made.process.pid}/mem").st_uid == 0     # no core dump although its user has changed


@as_root
def test_root_that_stays_root_is_warned(alone):
    made = alone()
    made.wait_log("event=runs-as-root")
    made.wait_log("clients can be served")
    assert capabilities(made) == {0}


@as_root
@pytest.mark.parametrize("user", ["root", "nobody-of-that-name"])
def test_a_user_that_it_cannot_or_should_not_become_stops_the_start(alone, user):
    made = alone(COTERIE_NODE_USER=user)
    assert made.process.wait(20) == 1
    assert "node.user: expected a user of this machine other than root" in made.text()


def test_a_directory_that_others_may_read_is_warned_of(alone, tmp_path):
    tmp_path.chmod(0o755)
    made = alone(COTERIE_NODE_DATA_DIR=str(tmp_path))
    made.wait_log("event=readable-by-others")
    made.wait_log("clients can be served")


# ---- the unit


def analyze(*arguments):
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze here: the unit is not judged")
    done = subprocess.run(["systemd-analyze", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)


def test_the_unit_leaves_the_node_little_of_the_machine():
    judged = analyze("security", "--offline=yes", "--no-pager", UNIT)
    assert float(re.search(r"Overall exposure level for \S+: ([0-9.]+)", judged).group(1)) <= EXPOSURE_MAX, judged


def call_sets():
    """The names in each of systemd's sets of system calls."""
    sets, names = {}, None
    for line in analyze("syscall-filter", "--no-pager").splitlines():
        if line.startswith("@"):
            names = sets.setdefault(line.split()[0], set())
        elif line.startswith("    ") and not line.strip().startswith("#"):
            names.add(line.strip())
    return sets


def names_in(sets, one):
    return set().union(*(names_in(sets, name) if name.startswith("@") else {name} for name in sets[one]))


def test_the_unit_allows_what_the_node_says_that_it_calls():
    sets = call_sets()
    with open(UNIT, encoding="utf-8") as file:
        lines = [line.split("=", 1)[1].split() for line in file if line.startswith("SystemCallFilter=")]
    allowed = names_in(sets, "@default")
    for first, *rest in lines:
        refused = first.startswith("~")
        for name in [first.lstrip("~"), *rest]:
            named = names_in(sets, name) if name.startswith("@") else {name}
            allowed = allowed - named if refused else allowed | named
    with open(os.path.join(ROOT, "node", "process_filter.c"), encoding="utf-8") as file:
        table = file.read().split("allowed[] = {")[1].split("};")[0]
    spared = {"capset", "sched_setaffinity", "setrlimit", "mincore"}    # without capabilities and with limits set there is no need
    here = names_in(sets, "@known")
    assert (set(re.findall(r'"(\w+)"', table)) & here) - allowed <= spared
