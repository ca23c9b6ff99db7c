"""Three or five real nodes, each in its own network namespace, and everything that one may do to them.

    run ---> Cluster --start, kill, pause ...--> coterie processes (pids that we started, never found by name)
                |--network.cut, .shape---------> the switch between the namespaces            (network.py)
                |--node.disk.power_loss, ...---> the file system under a node's data          (disk.py)
                `--every thing made------------> undo.py, which takes it away whatever happens

For workloads and checkers (all of it may be called from any thread; `inside` switches the calling thread only):

    cluster = Cluster(nodes=3, seed=1)       starts nothing that outlives the process
    cluster.nodes                            list of Node: .id 1.., .name "n1".., .mqtt ("10.77.0.1", 1883)
    cluster.spares                           Nodes that nobody knows yet; cluster.known: those that configurations name
    cluster.node("n1"), cluster.node(1)      one of them
    cluster.enter_client()                   moves this thread, and those it starts later, into the clients' namespace:
                                             call it once in the main thread before the event loop opens sockets
    cluster.tls, .ca                         what clients need where listeners are TLS, else None: a context, the CA's file
    cluster.client_namespace                 its name, for `with inside(cluster.client_namespace): ...` or `ip netns exec`
    cluster.start(i), stop(i), kill(i), pause(i), resume(i), restart(i), wipe(i), replace(i)
                                             i: Node, id or name. start() returns when the node's admin port answers
    cluster.leader(timeout)                  the ready leader's Node; waits. leader_now(): or None, does not wait
    cluster.status(i)                        /status as a dict (role, term, applied_index, state_hash, ready, sessions,
                                             sessions_connected, wills_pending, in_flight, ...), or None
    cluster.metrics(i)                       /metrics as {name with labels: number}, or {}
    cluster.ready(i), wait_ready(timeout)    /readyz
    cluster.read_hash(i)                     (applied_index, state_hash), or None
    cluster.wait_equal(timeout)              all running nodes applied the same index; returns {name: (index, hash)} as
                                             soon as indexes are equal, so that a checker judges the hashes
    cluster.resources(i)                     {"pid", "descriptors", "resident_kib", "anonymous_kib"} of the process, or None;
                                             anonymous: what is resident without the pages of files, such as the store's
    cluster.waited(i)                        seconds that it had to wait for a processor so far, or None
    cluster.close()                          undoes everything; `with Cluster() as cluster:` does it too

Blocking calls belong into asyncio.to_thread() when an event loop runs.

A node's state for the schedule of faults is `node.running` (a process is there) and `node.paused`."""

import concurrent.futures
import http.client
import json
import os
import random
import resource
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import uuid

from disk import make_disk
from network import CLIENT, ROOT, BridgeNetwork, TapNetwork, enter, host_address, inside
from undo import Undo

BOOT_ID = "/proc/sys/kernel/random/boot_id"
OTHER_DISKS = '$2 ~ "/coterie-jepsen-" && $2 != own && $2 !~ "[.]disk$" { print $2 }'    # awk, of /proc/self/mounts
POWER_DISKS = ("xfs", "flaky")
MQTT_PORT, LINK_PORT, ADMIN_PORT = 1883, 7883, 8883
ASK_SECONDS = 1.5
SERVE_SECONDS = 60
STOP_SECONDS = 20
POLL_SECONDS = 0.02
FAKETIME_PATHS = ("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
                  "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1")


def descriptors_of(pid):
    """How many, but for the log's: it has as many as it has segments."""
    directory, count = f"/proc/{pid}/fd", 0
    for name in os.listdir(directory):
        try:
            count += "/log/" not in os.readlink(os.path.join(directory, name))
        except OSError:    # closed meanwhile
            pass
    return count


class ClusterError(Exception):
    """The world of a test could not be made, or did not become what it ought to be in time."""


def wait_until(what, condition, timeout=SERVE_SECONDS):
    """Polls `condition` until it returns something true, and returns that."""
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise ClusterError(f"not within {timeout:g} s: {what}")
        time.sleep(POLL_SECONDS)


def build_directory():
    return os.environ.get("COTERIE_BUILD") or os.path.join(ROOT, "build")


def build(*targets):
    """Builds what is missing; the release, unless COTERIE_BIN says which program to test."""
    directory = build_directory()
    subprocess.run(["cmake", "-S", ROOT, "-B", directory, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"],
                   check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", directory, "--target", *targets], check=True, stdout=subprocess.DEVNULL)


def waited_of(pid):
    """Seconds that a process's threads, together, were ready to run and had no processor; None: not known."""
    total = 0
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
                total += int(file.read().split()[1])
        return total / 1e9
    except (OSError, IndexError, ValueError):
        return None


def program(name):
    """Path of one of our programs: coterie ($COTERIE_BIN), coterie-switch, coterie-flakydisk."""
    path = os.environ.get("COTERIE_BIN") if name == "coterie" else None
    path = path or os.path.join(build_directory(), name)
    if not os.access(path, os.X_OK):
        build(name)
    return os.path.abspath(path)


class Node:
    """One node: where it is, and its process."""

    def __init__(self, cluster, number):
        self.cluster, self.id, self.name = cluster, number, f"n{number}"
        self.namespace = cluster.network.names[self.name]
        self.mqtt = (host_address(self.name), MQTT_PORT)
        self.directory = os.path.join(cluster.directory, self.name)
        self.config = os.path.join(self.directory, "coterie.yaml")
        self.log = os.path.join(cluster.logs, f"{self.name}.log")
        self.clock = os.path.join(self.directory, "clock")    # what libfaketime reads
        self.boot_id = os.path.join(self.directory, "boot_id")    # what it takes for the kernel's, where power can fail
        self.process, self.paused = None, False
        self.binary = cluster.binary
        self.replacement = 0    # the largest number that it was replaced with
        self.lock = threading.RLock()
        os.makedirs(self.directory)
        self.disk = make_disk(cluster.disks, os.path.join(self.directory, "data"), cluster.undo, cluster.flaky)
        self.disk.attach()
        self.new_boot()

    def __repr__(self):
        return self.name

    @property
    def data(self):
        return self.disk.path

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def ended(self):
        """How its process ended, once: a negative signal, or an exit status; None if it runs, or that was told before."""
        with self.lock:
            process = self.process
            if process is None or process.poll() is None:
                return None
            self.process = None
            return process.returncode

    @property
    def pid(self):
        return self.process.pid if self.running else None

    def write_config(self):
        members = "".join(f"    - {{id: {node.id}, link: '{node.mqtt[0]}:{LINK_PORT}', "
                          f"admin: '{node.mqtt[0]}:{ADMIN_PORT}'}}\n" for node in self.cluster.known)
        links = "".join(f"  {key}: {json.dumps(os.path.join(self.cluster.certificates, 'links', name))}\n" for key, name in
                        (("certificate", f"node{self.id}.pem"), ("key", f"node{self.id}.key"), ("ca", "ca.pem"), ("crl", "crl.pem")))
        with open(self.config, "w") as file:
            file.write(f"node:\n  id: {self.id}\n  data_dir: {json.dumps(self.data)}\n"
                       f"  client_address: {self.mqtt[0]}:{MQTT_PORT}\n"
                       f"cluster:\n  name: {self.cluster.name}\n{links}  members:\n{members}"
                       f"listeners:\n  - {{{self.listener()}, address: {self.mqtt[0]}, port: {MQTT_PORT}, anonymous: true}}\n"
                       f"admin:\n  address: 127.0.0.1\n  port: {ADMIN_PORT}\n{self.cluster.extra_config}")

    def listener(self):
        clients = os.path.join(self.cluster.certificates, "clients")
        if self.cluster.tls is None:
            return "kind: tcp"
        return f"kind: tls, certificate: {json.dumps(clients + '/server.pem')}, key: {json.dumps(clients + '/server.key')}"

    def environment(self, bootstrap, replacement=0):
        """Nothing of the caller's own COTERIE_* settings: two runs of one seed are to be alike."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("COTERIE_")}
        environment.update(self.cluster.settings)
        environment["COTERIE_CLUSTER_BOOTSTRAP"] = "true" if bootstrap else "false"
        if replacement:
            environment["COTERIE_CLUSTER_REPLACE"] = str(replacement)
        if self.cluster.clocks:
            environment.update(LD_PRELOAD=self.cluster.clocks, FAKETIME_TIMESTAMP_FILE=self.clock, FAKETIME_NO_CACHE="1",
                               FAKETIME_DONT_FAKE_MONOTONIC="1", COTERIE_NODE_CONFINE_WRITES="false")    # it shares memory
        return environment

    def new_boot(self):
        """The machine has started anew: what a node kept for this boot is void. (Its own boot id would be the old one.)"""
        with open(self.boot_id, "w") as file:
            file.write(f"{uuid.uuid4()}\n")

    def power_loss(self, seed):
        """For a node that was killed: what its disk had not been asked to keep may be gone, and the machine boots."""
        kept = self.disk.power_loss(seed)
        self.new_boot()
        return kept

    def command(self):
        argv = [self.binary, "--config", self.config]
        if self.cluster.disks not in POWER_DISKS:
            return argv
        # It must not keep other nodes' disks mounted, of this run or another: a disk that is still in use somewhere forgets nothing
        # when its power fails.
        return ["unshare", "--mount", "sh", "-c", f"awk -v own={shlex.quote(self.data)} '{OTHER_DISKS}' /proc/self/mounts | "
                f'while read -r disk; do umount -l "$disk"; done; mount --bind "$0" {BOOT_ID} && exec "$@"', self.boot_id, *argv]

    def spawn(self, bootstrap=False, replacement=0):
        """A new process; returns at once. `replacement`: the number to begin anew with, for a node without data."""
        with self.lock:
            if self.running:
                return
            self.cluster.note_end(self)
            if self.cluster.clocks and not os.path.exists(self.clock):
                self.set_clock("+0")
            with open(self.log, "ab") as log, inside(self.namespace):
                self.process = subprocess.Popen(self.command(), cwd=self.directory, env=self.environment(bootstrap, replacement),
                                                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
            self.cluster.undo.process(self.process.pid)
            self.paused = False

    def wait_alive(self):
        def answers():
            if not self.running:
                raise ClusterError(f"{self.name} has not started: {self.last_words()}")
            return self.get("/livez")[0] != 0
        wait_until(f"{self.name} answers", answers)

    def start(self, bootstrap=False, replacement=0):
        self.spawn(bootstrap, replacement)
        self.wait_alive()

    def signal(self, number):
        if self.running:
            os.kill(self.process.pid, number)

    def kill(self):
        with self.lock:
            self.signal(signal.SIGKILL)
            self.wait_gone()

    def stop(self):
        with self.lock:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            self.wait_gone()

    def wait_gone(self):
        if self.process is None:
            return
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise ClusterError(f"{self.name} does not end") from None
        self.cluster.note_end(self)
        self.paused = False

    def pause(self):
        self.signal(signal.SIGSTOP)
        self.paused = True

    def resume(self):
        self.signal(signal.SIGCONT)
        self.paused = False

    def wipe(self):
        self.kill()
        self.disk.empty()

    def set_clock(self, text):
        """What this node believes from now on: "+0" the truth, "+3600" an hour ahead, "+0 x2" twice as fast."""
        with open(self.clock + ".new", "w") as file:
            file.write(text + "\n")
        os.replace(self.clock + ".new", self.clock)

    def get(self, path, timeout=ASK_SECONDS):
        """(HTTP status, text) of its admin interface, or (0, reason)."""
        return self._ask("GET", path, None, timeout)

    def post(self, path, timeout=ASK_SECONDS, **fields):
        """The same, of a change."""
        return self._ask("POST", path, json.dumps(dict(fields, actor="jepsen")), timeout)

    def _ask(self, method, path, body, timeout):
        connection = http.client.HTTPConnection("127.0.0.1", ADMIN_PORT, timeout=timeout)
        try:
            with inside(self.namespace):
                connection.sock = socket.socket()
            connection.sock.settimeout(timeout)
            connection.sock.connect(("127.0.0.1", ADMIN_PORT))
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error)
        finally:
            connection.close()

    def events(self, event, since=0):
        """The lines that it has logged of one kind, from byte `since` of its log on."""
        return [line for line in self.log_text(since).splitlines() if f"event={event}" in line.split()]

    def log_text(self, since=0):
        try:
            with open(self.log, errors="replace") as file:
                file.seek(since)
                return file.read()
        except OSError:
            return ""

    def log_size(self):
        return os.path.getsize(self.log) if os.path.exists(self.log) else 0

    def last_words(self):
        lines = self.log_text().strip().split("\n")
        complaints = [line for line in lines if " level=error " in line or line.startswith("coterie: ")]
        return (complaints or lines)[-1]


class Cluster:
    """disks: "plain", "ext4", "xfs" or "flaky" (disk.py); shaping: the switch that delays and loses; clocks: nodes whose
    wall clocks can be set; settings: COTERIE_* for all nodes; tls: listeners are TLS only (links always are); spares: how many nodes
    there are beside, which nobody knows yet; logs: a directory that outlives the run."""

    def __init__(self, nodes=3, seed=0, disks="plain", shaping=False, clocks=False, settings=None, extra_config="",
                 logs=None, binary=None, tls=False, spares=0):
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        self.name = f"coterie-jepsen-{os.getpid()}-{random.SystemRandom().getrandbits(32):08x}"
        self.settings, self.extra_config, self.disks = dict(settings or {}), extra_config, disks
        self.clocks = faketime_library() if clocks else None
        self.binary = binary or program("coterie")
        self.flaky = program("coterie-flakydisk") if disks == "flaky" else None
        self.bootstrapped = False
        self.crashes = []    # (name, signal) of processes that ended by a signal which nobody here sent
        self.undo = Undo()
        try:
            self.directory = tempfile.mkdtemp(prefix="coterie-jepsen-")
            self.undo.directory(self.directory)
            os.chmod(self.directory, 0o755)
            self.logs = logs or os.path.join(self.directory, "logs")
            os.makedirs(self.logs, exist_ok=True)
            self.network = self._make_network(nodes + spares, seed, shaping)
            self.client_namespace = self.network.names[CLIENT]
            everybody = [Node(self, number) for number in range(1, nodes + spares + 1)]
            self.nodes, self.spares = everybody[:nodes], everybody[nodes:]
            self.known = list(self.nodes)    # the members that configurations name
            self._make_certificates()
            self.ca = os.path.join(self.certificates, "clients", "ca.pem") if tls else None
            self.tls = ssl.create_default_context(cafile=self.ca) if tls else None
            for node in self.nodes:
                node.write_config()
        except BaseException:
            self.undo.all()
            raise

    def _make_certificates(self):
        """Of links and listeners, as an operator would make them."""
        self.certificates = os.path.join(self.directory, "certificates")
        subprocess.run([os.path.join(ROOT, "deploy", "certificates"), "new", self.name, "--nodes", str(len(self.nodes + self.spares)),
                        "--dir", self.certificates, *(word for node in self.nodes for word in ("--host", node.mqtt[0]))], check=True, stdout=subprocess.DEVNULL)

    def _make_network(self, nodes, seed, shaping):
        hosts = [f"n{number}" for number in range(1, nodes + 1)] + [CLIENT]
        if shaping:
            return TapNetwork(hosts, self.undo, self.name, program("coterie-switch"), seed)
        return BridgeNetwork(hosts, self.undo, self.name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for node in getattr(self, "nodes", ()):
            self.note_end(node)
            if node.running:
                os.kill(node.pid, signal.SIGKILL)
                node.process.wait()
        self.undo.all()
        shutil.rmtree(self.directory, ignore_errors=True)

    # ---- nodes

    def note_end(self, node):
        code = node.ended()
        if code is not None and code < 0 and -code not in (signal.SIGKILL, signal.SIGTERM):
            self.crashes.append((node.name, signal.Signals(-code).name))

    def node(self, which):
        if isinstance(which, Node):
            return which
        for node in self.nodes:
            if which in (node.id, node.name):
                return node
        raise ClusterError(f"there is no node {which}")

    def up(self, timeout=SERVE_SECONDS):
        """Starts what is down, all at once; returns when all serve."""
        down = [node for node in self.nodes if not node.running]
        self.each(lambda node: node.start(bootstrap=not self.bootstrapped), down)
        self.wait_ready(timeout)
        self.bootstrapped = True

    def each(self, function, nodes=None):
        """Does something with several nodes at once; the results in their order."""
        nodes = self.nodes if nodes is None else nodes
        with concurrent.futures.ThreadPoolExecutor(max(1, len(nodes))) as pool:
            return list(pool.map(function, nodes))

    def start(self, which):
        self.node(which).start(bootstrap=not self.bootstrapped)

    def stop(self, which):
        self.node(which).stop()

    def kill(self, which):
        self.node(which).kill()

    def kill_all(self, nodes=None):
        """All at one instant: the signals first, then the waiting."""
        nodes = self.nodes if nodes is None else nodes
        for node in nodes:
            node.signal(signal.SIGKILL)
        for node in nodes:
            node.wait_gone()

    def pause(self, which):
        self.node(which).pause()

    def resume(self, which):
        self.node(which).resume()

    def restart(self, which):
        node = self.node(which)
        node.stop()
        node.start()

    def wipe(self, which):
        self.node(which).wipe()

    def replace(self, which):
        """Empties a node and starts it under a new number; returns when its admin port answers."""
        node = self.node(which)
        node.wipe()
        node.replacement = max(node.replacement + 1, int(time.time() * 1000))
        node.start(replacement=node.replacement)

    def remove(self, which, timeout=SERVE_SECONDS):
        """Takes a stopped node out of the cluster for good, as coteriectl does: once it has been silent for long enough."""
        number = self.node(which).id

        def removed():
            leader = self.leader_now()
            if leader:
                leader.post("/members", do="remove", node=number)
            return self.removed(number)
        wait_until(f"node {number} taken out", removed, timeout)

    def removed(self, number):
        """Whether a node that serves says so."""
        return any(member["removed"] for status in self.statuses().values() if status and status["ready"]
                   for member in status["members"] if member["id"] == number)

    # ---- what the nodes say

    def status(self, which, timeout=ASK_SECONDS):
        node = self.node(which)
        if not node.running or node.paused:
            return None
        code, text = node.get("/status", timeout)
        return json.loads(text) if code == 200 else None

    def statuses(self):
        """{name: status or None} of all, asked at once."""
        return dict(zip((node.name for node in self.nodes), self.each(self.status)))

    def metrics(self, which):
        code, text = self.node(which).get("/metrics")
        lines = [line for line in text.splitlines() if line and not line.startswith("#")] if code == 200 else []
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def ready(self, which):
        node = self.node(which)
        return node.running and not node.paused and node.get("/readyz")[0] == 200

    def wait_ready(self, timeout=SERVE_SECONDS, nodes=None):
        for node in self.nodes if nodes is None else nodes:
            wait_until(f"{node.name} ready", lambda one=node: self.ready(one), timeout)

    def leader_now(self):
        leaders = [status for status in self.statuses().values() if status and status["role"] == "leader"]
        return self.node(max(leaders, key=lambda status: status["term"])["id"]) if leaders else None

    def leader(self, timeout=SERVE_SECONDS):
        def ready_leader():
            found = self.leader_now()
            return found if found and self.ready(found) else None
        return wait_until("a ready leader", ready_leader, timeout)

    def followers(self):
        leader = self.leader()
        return [node for node in self.nodes if node is not leader]

    def read_hash(self, which):
        status = self.status(which)
        return (status["applied_index"], status["state_hash"]) if status else None

    def wait_equal(self, timeout=SERVE_SECONDS):
        def equal():
            found = {node.name: self.read_hash(node) for node in self.nodes if node.running and not node.paused}
            whole = found and all(found.values())
            return found if whole and len({index for index, _ in found.values()}) == 1 else None
        return wait_until("the same applied index on all nodes", equal, timeout)

    def resources(self, which):
        pid = self.node(which).pid
        try:
            with open(f"/proc/{pid}/status") as file:
                fields = dict(line.split(":", 1) for line in file)
            return {"pid": pid, "descriptors": descriptors_of(pid), "resident_kib": int(fields["VmRSS"].split()[0]),
                    "anonymous_kib": int(fields["RssAnon"].split()[0])}
        except (OSError, KeyError):
            return None

    def waited(self, which):
        """Seconds that the node's threads were ready to run and had no processor, since it was started; None: not known."""
        return waited_of(self.node(which).pid)

    # ---- the clients' side

    def connect(self, which, timeout):
        """A socket that is connected to a node's listener, for a thread that need not be in the clients' namespace."""
        node = self.node(which)
        with inside(self.client_namespace):
            connection = socket.socket()
        try:
            connection.settimeout(timeout)
            connection.connect(node.mqtt)
            return self.tls.wrap_socket(connection, server_hostname=node.mqtt[0]) if self.tls else connection
        except BaseException:
            connection.close()
            raise

    def enter_client(self):
        enter(self.client_namespace)


def faketime_library():
    found = [path for path in FAKETIME_PATHS if os.path.exists(path)]
    if not found:
        raise ClusterError("libfaketime is not installed")
    return found[0]
