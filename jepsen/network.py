"""The network of a run: one namespace for each node, one for the clients, and a switch without an uplink between them.

    n1 --+
    n2 --+-- switch namespace --- c (clients)          10.77.0.1, .2 ... and .100; nothing gets out, nothing gets in
    n3 --+

Two wirings with one face, so that every network fault works on both where it can:

  BridgeNetwork   veth pairs on a bridge; cuts by one nftables transaction at the bridge. Fast, cuts only.
  TapNetwork      one TAP device in each namespace, and our own switch (switch.c) between them: delay, jitter, loss,
                  duplication and reordering for each directed pair as well, from one seed.

Hosts are named by strings, "n1" ... and "c". A directed pair (a, b) is what a sends and b ought to receive.

A socket belongs to the namespace in which it was made, and a process to that of the thread which started it; so
`with inside(name):` around either is all that it takes to act as that host."""

import contextlib
import ctypes
import os
import subprocess
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SUBNET = "10.77.0"
CLIENT = "c"
CLIENT_NUMBER = 100
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


class NetworkError(Exception):
    pass


def command(*argv, text_in=None):
    """Runs a program; its complaint is the exception's text."""
    done = subprocess.run(argv, input=text_in, stdin=subprocess.DEVNULL if text_in is None else None,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise NetworkError(f"{' '.join(argv)}: {done.stdout.strip()}")
    return done.stdout


def _setns(descriptor):
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise NetworkError(f"setns: {os.strerror(ctypes.get_errno())}")


@contextlib.contextmanager
def inside(namespace):
    """This thread is in `namespace` for the length of the `with`."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(namespace)
        try:
            yield
        finally:
            _setns(before)
    finally:
        os.close(before)


def enter(namespace):
    """This thread, and those that it starts later, are in `namespace` from now on."""
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(there)
    finally:
        os.close(there)


def host_number(host):
    return CLIENT_NUMBER if host == CLIENT else int(host[1:])


def host_address(host):
    return f"{SUBNET}.{host_number(host)}"


class Network:
    """What both wirings share: the namespaces, and who is cut from whom."""

    shapes = False    # whether shape() works

    def __init__(self, hosts, undo, prefix):
        self.hosts = list(hosts)
        self.undo = undo
        self.names = {host: f"{prefix}-{host}" for host in self.hosts + ["sw"]}
        self.cuts = frozenset()
        self.lock = threading.Lock()
        for name in self.names.values():
            undo.command("ip", "netns", "del", name)
            command("ip", "netns", "add", name)
            command("ip", "-n", name, "link", "set", "lo", "up")

    def cut(self, pairs):
        """From now on exactly these directed pairs are cut: replaces what was cut before, at one instant."""
        with self.lock:
            self.cuts = frozenset(pairs)
            self._apply_cuts()

    def shape(self, pairs, delay_ms=0, jitter_ms=0, loss=0.0, duplicate=0.0, reorder=0.0):
        """What is sent over these pairs is late by delay ± jitter, lost, sent twice, or overtaken."""
        raise NetworkError("this wiring does not shape")

    def heal(self):
        """No cuts, no shape."""
        self.cut(())

    def close(self):
        """Ends what runs here; the namespaces go with the run's undo."""


class BridgeNetwork(Network):
    def __init__(self, hosts, undo, prefix):
        super().__init__(hosts, undo, prefix)
        switch = self.names["sw"]
        command("ip", "-n", switch, "link", "add", "br0", "type", "bridge")
        command("ip", "-n", switch, "link", "set", "br0", "up")
        for host in self.hosts:
            self._plug(host, switch)
        command("ip", "netns", "exec", switch, "nft", "-f", "-", text_in="""
            table bridge part {
                set cut { type ipv4_addr . ipv4_addr; }
                chain relay { type filter hook forward priority 0; ip saddr . ip daddr @cut counter drop; }
            }""")

    def _plug(self, host, switch):
        port, name = f"p-{host}", self.names[host]
        command("ip", "-n", switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
        command("ip", "-n", switch, "link", "set", port, "master", "br0", "up")
        command("ip", "-n", name, "addr", "add", f"{host_address(host)}/24", "dev", "eth0")
        command("ip", "-n", name, "link", "set", "eth0", "up")

    def _apply_cuts(self):
        rules = "flush set bridge part cut\n"
        if self.cuts:
            elements = ", ".join(f"{host_address(a)} . {host_address(b)}" for a, b in sorted(self.cuts))
            rules += f"add element bridge part cut {{ {elements} }}\n"
        command("ip", "netns", "exec", self.names["sw"], "nft", "-f", "-", text_in=rules)


class TapNetwork(Network):
    """Speaks to coterie-switch (switch.c) through its stdin; it answers each command with a line."""

    shapes = True

    def __init__(self, hosts, undo, prefix, program, seed):
        super().__init__(hosts, undo, prefix)
        argv = [program, str(seed)] + [f"{self.names[host]}:{host_number(host)}" for host in self.hosts]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        start_new_session=True)
        undo.process(self.process.pid)
        self._expect("ready")
        for host in self.hosts:
            self._address(host)

    def _address(self, host):
        name = self.names[host]
        command("ip", "-n", name, "addr", "add", f"{host_address(host)}/24", "dev", "eth0")
        command("ip", "-n", name, "link", "set", "eth0", "up")
        for other in self.hosts:
            if other != host:
                command("ip", "-n", name, "neigh", "replace", host_address(other), "lladdr",
                        f"02:00:00:00:00:{host_number(other):02x}", "dev", "eth0", "nud", "permanent")

    def _expect(self, answer):
        line = self.process.stdout.readline().strip()
        if line != answer:
            raise NetworkError(f"switch: {line or 'has ended'}")

    def _tell(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        self._expect("ok")

    def _apply_cuts(self):
        self._tell("cuts" + "".join(f" {host_number(a)} {host_number(b)}" for a, b in sorted(self.cuts)))

    def shape(self, pairs, delay_ms=0, jitter_ms=0, loss=0.0, duplicate=0.0, reorder=0.0):
        numbers = (round(delay_ms * 1000), round(jitter_ms * 1000), round(loss * 1e6), round(duplicate * 1e6),
                   round(reorder * 1e6))
        with self.lock:
            for a, b in pairs:
                self._tell(f"link {host_number(a)} {host_number(b)} " + " ".join(map(str, numbers)))

    def heal(self):
        with self.lock:
            self._tell("heal")
            self.cuts = frozenset()

    def close(self):
        self.process.stdin.close()
        self.process.wait()
