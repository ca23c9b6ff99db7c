"""The compose cluster: built from deploy/Dockerfile, killed, restarted and partitioned as its README says.

Needs root and a container engine. Where none runs, one is started for the time of the test (Debian's docker.io); where
that is not possible every test here is skipped, with the reason in its output. Where no base image can be pulled, one is
made with debootstrap. COTERIE_BASE names another base than Debian 12's: debian:trixie-slim.
"""

import os
import random
import re
import shutil
import socket
import subprocess
import tempfile
import time

import pytest

from cluster import ROOT, wait_until
from mqtt import Client, Closed, Timeout

COMPOSE_FILE = os.path.join(ROOT, "deploy", "compose.yaml")
BASE = os.environ.get("COTERIE_BASE", "debian:bookworm-slim")
PROJECT = "coterietest"
SERVER_UNAVAILABLE = 3


def free_ports(count):
    """Ports that nobody listens on, below those of outgoing connections; the usual ones may serve the user's cluster."""
    found = []
    while len(found) < count:
        port = random.randrange(24000, 32000)
        try:
            socket.create_server(("127.0.0.1", port)).close()
            found.append(port)
        except OSError:
            pass
    return found


PORTS = dict(enumerate(free_ports(3), start=1))
ENVIRONMENT = dict(os.environ, COMPOSE_PROJECT_NAME=PROJECT, COTERIE_BASE=BASE,
                   **{f"COTERIE_PORT{node}": str(port) for node, port in PORTS.items()})


def sh(*arguments, check=True, timeout=900):
    done = subprocess.run(arguments, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=timeout, cwd=ROOT)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(arguments)}: {done.returncode}\n{done.stdout[-4000:]}")
    return done.stdout


def works(*arguments):
    return shutil.which(arguments[0]) is not None and \
        subprocess.run(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60).returncode == 0


def may_start_an_engine():
    """Root with all its rights; root in an ordinary container cannot mount or make networks."""
    with open("/proc/self/status") as status:
        rights = int(re.search(r"^CapEff:\s*(\w+)", status.read(), re.M).group(1), 16)
    net_admin, sys_admin = 1 << 12, 1 << 21
    return os.geteuid() == 0 and rights & net_admin and rights & sys_admin


def install_engine():
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    quiet = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "timeout": 900}
    subprocess.run(["apt-get", "update", "-qq"], **quiet)
    packages = ["docker.io", "docker-compose", "debootstrap", "iptables"]
    if works("apt-cache", "show", "docker-cli"):    # Debian 13 has the client in a package of its own
        packages.append("docker-cli")
    subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], check=True, **quiet)


def start_engine(directory):
    """A dockerd of our own, in the background; None if one runs already. Raises where it cannot be."""
    have_compose = shutil.which("docker-compose") or works("docker", "compose", "version")
    if works("docker", "info") and have_compose:
        return None
    if not may_start_an_engine():
        raise OSError("none is running, and only root outside of a container can start one")
    if not have_compose or not all(shutil.which(program) for program in ("docker", "dockerd", "debootstrap")):
        install_engine()
    if works("docker", "info"):
        return None
    log = open(os.path.join(directory, "dockerd.log"), "wb")
    engine = subprocess.Popen(["dockerd"], stdout=log, stderr=log)
    deadline = time.monotonic() + 30
    while not works("docker", "info"):
        if engine.poll() is not None or time.monotonic() > deadline:
            engine.terminate()
            with open(log.name, errors="replace") as text:
                raise OSError("dockerd does not start: " + text.read().strip().splitlines()[-1])
        time.sleep(0.2)
    return engine


def have_base_image(directory):
    if works("docker", "image", "inspect", BASE) or works("docker", "pull", "-q", BASE):
        return
    root = os.path.join(directory, "root")
    release = re.search(r"bookworm|trixie", BASE)
    if not release:
        raise OSError(f"the image {BASE} cannot be pulled")
    subprocess.run(["debootstrap", "--variant=minbase", release.group(), root], check=True, stdout=subprocess.DEVNULL,
                   timeout=900)
    subprocess.run(f"tar -C {root} -c . | docker import - {BASE}", shell=True, check=True, stdout=subprocess.DEVNULL)


def try_a_container():
    """An engine may run and yet be unable to start anything, for example inside of a container."""
    done = subprocess.run(["docker", "run", "--rm", BASE, "true"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=300)
    if done.returncode != 0:
        raise OSError("it cannot start a container: " + done.stdout.strip()[:300].replace("\n", " "))


@pytest.fixture(scope="module")
def compose():
    directory = tempfile.mkdtemp(prefix="coterie-compose-")
    engine = None
    try:
        engine = start_engine(directory)
        have_base_image(directory)
        try_a_container()
    except (OSError, subprocess.SubprocessError) as error:
        if engine:
            engine.terminate()
        shutil.rmtree(directory, ignore_errors=True)
        pytest.skip(f"no container engine can run here: {error}")
    command = ["docker", "compose"] if works("docker", "compose", "version") else ["docker-compose"]
    run = lambda *arguments, **options: sh(*command, "-f", COMPOSE_FILE, *arguments, **options)
    try:
        run("build")
        run("up", "-d")
        wait_healthy()
        yield run
    finally:
        run("down", "--volumes", check=False)
        if engine:
            engine.terminate()
            engine.wait(60)
        shutil.rmtree(directory, ignore_errors=True)


def containers():
    lines = sh("docker", "ps", "--filter", f"label=com.docker.compose.project={PROJECT}", "--filter", "label=coterie.node",
               "--format", '{{.Label "coterie.node"}} {{.ID}} {{.Status}}').split("\n")
    return {int(line.split()[0]): line for line in lines if line}


def wait_healthy(*nodes):
    nodes = nodes or PORTS
    wait_until("healthy containers", lambda: all("(healthy)" in containers().get(n, "") for n in nodes), 90)


def opened(name, port, **options):
    """A client connected to `port`, as soon as the node there takes it."""
    client = Client(name, timeout=5)

    def attempt():
        try:
            client.open(port, **options)
            return True
        except (OSError, Closed, Timeout, AssertionError):
            return False

    wait_until(f"a connection to {port}", attempt, 60)
    client.timeout = 20
    return client


def test_the_image_is_small_and_has_no_build_tools(compose):
    image = sh("docker", "inspect", "-f", "{{.Config.User}} {{.Size}}", "coterie:latest").split()
    base = int(sh("docker", "inspect", "-f", "{{.Size}}", BASE))
    assert image[0] == "coterie"
    assert int(image[1]) - base < 60 * 1000 * 1000, "the image adds more than 60 MB to its base"
    listed = sh("docker", "run", "--rm", "--entrypoint", "/bin/sh", "coterie:latest", "-c",
                "command -v gcc cc cmake make apt-config >/dev/null; command -v gcc cc cmake make || echo none")
    assert listed.strip().endswith("none"), listed


def test_a_container_has_no_rights_and_cannot_change_its_image(compose):
    node = containers()[1].split()[1]
    assert sh("docker", "exec", node, "id", "-un").strip() == "coterie"
    rights = sh("docker", "exec", node, "grep", "-E", "^Cap(Prm|Eff|Bnd)", "/proc/1/status")
    assert set(re.findall(r"\t(\w+)", rights)) == {"0" * 16}, rights
    assert "Read-only" in sh("docker", "exec", node, "touch", "/usr/local/bin/x", check=False)


def test_messages_cross_the_containers(compose):
    reader = opened("c-reader", PORTS[1], clean=False)
    reader.subscribe(("c/#", 1))
    writer = opened("c-writer", PORTS[3])
    writer.publish("c/x", "hello", qos=1)
    reader.expect_message("c/x", "hello")


@pytest.mark.parametrize("victims", [(1,), (2, 3), (1, 2, 3)])
@pytest.mark.parametrize("how", ["restart", "kill"])
def test_any_containers_come_back_with_everything(compose, how, victims):
    name = f"v-{how}-{len(victims)}"
    reader = opened(name, PORTS[2], clean=False)
    reader.subscribe((f"{name}/#", 2))
    reader.disconnect()
    writer = opened(f"{name}-w", PORTS[1])
    for number in range(20):
        writer.publish(f"{name}/x", str(number), qos=2)
    services = [f"node{number}" for number in victims]
    if how == "restart":
        compose("restart", *services)
    else:
        compose("kill", *services)
        compose("start", *services)
    wait_healthy()
    reader = opened(name, PORTS[3], clean=False)
    assert [m.payload.decode() for m in reader.collect(20)] == [str(number) for number in range(20)]


def test_the_cluster_survives_down_and_up_with_other_addresses(compose):
    writer = opened("d-w", PORTS[1])
    writer.publish("d/kept", "here", qos=1, retain=True)
    compose("down")
    compose("up", "-d", "node3")
    compose("up", "-d", "node2")
    compose("up", "-d", "node1")
    wait_healthy()
    reader = opened("d-r", PORTS[2])
    reader.subscribe(("d/#", 1))
    reader.expect_message("d/kept", "here", retain=True)


def answer_to_connect(port):
    """The return code of the CONNACK that an MQTT 3.1.1 client gets."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01r")
        return connection.recv(4)[3]


def rules_in_containers():
    """Firewall rules of ours that are left in any container, or on this machine."""
    found = sh("nft", "list", "tables")
    for line in containers().values():
        pid = sh("docker", "inspect", "-f", "{{.State.Pid}}", line.split()[1]).strip()
        found += sh("nsenter", f"--net=/proc/{pid}/ns/net", "nft", "list", "tables")
    return "\n".join(line for line in found.splitlines() if "coterie" in line)


def test_an_isolated_container_acknowledges_nothing_and_catches_up(compose):
    script = os.path.join(ROOT, "deploy", "partition")
    assert "no partition" in sh(script, "status")
    cut = opened("p-cut", PORTS[1])
    assert "node1 is cut from node2 node3" in sh(script, "isolate", "1")
    try:
        wait_until("the isolated node says that it is not ready",
                   lambda: "(healthy)" not in containers()[1], 60)
        with pytest.raises((Closed, Timeout, AssertionError, OSError)):
            cut.timeout = 3
            cut.publish("p/x", "not safe", qos=1)
        assert answer_to_connect(PORTS[1]) == SERVER_UNAVAILABLE, "clients must reach a node that is cut off"
        writer = opened("p-w", PORTS[2])
        writer.publish("p/x", "safe", qos=1, retain=True)
    finally:
        assert "no partition" in sh(script, "heal")
    assert rules_in_containers() == ""
    wait_healthy()
    reader = opened("p-r", PORTS[1])
    reader.subscribe(("p/#", 1))
    reader.expect_message("p/x", "safe", retain=True)


def test_a_split_leaves_the_larger_side_working(compose):
    script = os.path.join(ROOT, "deploy", "partition")
    out = sh(script, "split", "1,2", "3")
    assert re.search(r"node3 is cut from node1 node2", out), out
    try:
        writer = opened("s-w", PORTS[1])
        writer.publish("s/x", "1", qos=1)
    finally:
        sh(script, "heal")
    wait_healthy()
