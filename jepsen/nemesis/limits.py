"""Nodes that have too little of something: descriptors, memory, processor time."""

import contextlib
import os
import resource
import socket
import time

from network import inside

from . import Fault

CGROUPS = "/sys/fs/cgroup"
FEW_DESCRIPTORS = 8
GREEDY_SOCKETS = 200
ACCEPT_SECONDS = 20


class FewDescriptors(Fault):
    """a node has almost no file descriptors left, and many want to connect"""
    name = "few-descriptors"
    needs = ("prlimit",)
    hold = (3.0, 5.0)
    sockets = ()

    def start(self):
        self.node = self.any_node()
        self.since = self.node.log_size()
        used = (self.cluster.resources(self.node) or {}).get("descriptors", 64)
        if self.node.running:
            hard = resource.prlimit(self.node.pid, resource.RLIMIT_NOFILE)[1]
            self.before = hard
            resource.prlimit(self.node.pid, resource.RLIMIT_NOFILE, (used + FEW_DESCRIPTORS, hard))
        self.sockets = self.connect(GREEDY_SOCKETS)
        return {"nodes": [self.node.name], "descriptors": used + FEW_DESCRIPTORS, "sockets": len(self.sockets)}

    def connect(self, count):
        """Sockets that ask for a connection and say nothing."""
        made = []
        with inside(self.cluster.client_namespace):
            for _ in range(count):
                one = socket.socket()
                one.setblocking(False)
                one.connect_ex(self.node.mqtt)
                made.append(one)
        return made

    def stop(self):
        alive = self.node.running and self.cluster.ready(self.node)
        if self.node.running:
            resource.prlimit(self.node.pid, resource.RLIMIT_NOFILE, (self.before, self.before))
        for one in self.sockets:
            one.close()
        return {"nodes": [self.node.name], "ready_meanwhile": alive, "accepts_after_s": self.accepts_after(),
                "said": bool(self.node.log_text(self.since).count("descriptor")), "refused": self.start_again(self.node)}

    def accepts_after(self):
        """Seconds until the node answers a CONNECT again; None: not in time."""
        began = time.monotonic()
        while time.monotonic() - began < ACCEPT_SECONDS:
            with contextlib.suppress(OSError), self.cluster.connect(self.node, 1.0) as probe:
                probe.sendall(b"\x10\x1d\x00\x04MQTT\x04\x02\x00\x3c\x00\x11jepsen-accept-ask"[:31])
                if probe.recv(4)[:1] == b"\x20":
                    return round(time.monotonic() - began, 3)
            time.sleep(0.05)
        return None


class ControlGroup(Fault):
    """One node's process in a control group (cgroups v1) of its own."""
    controller = ""
    hold = (4.0, 8.0)

    def victim(self):
        return self.any_node()

    def limits(self):
        """[(file, value)] of the group."""
        raise NotImplementedError

    def start(self):
        self.node = self.victim()
        self.group = f"{CGROUPS}/{self.controller}/{self.cluster.name}-{self.node.name}"
        self.cluster.undo.command("rmdir", self.group)
        os.makedirs(self.group, exist_ok=True)
        for file, value in self.limits():
            self.put(file, value)
        if self.node.running:
            self.put("cgroup.procs", self.node.pid)
        return {"nodes": [self.node.name], "limits": self.limits()}

    def put(self, file, value, group=None):
        with open(os.path.join(group or self.group, file), "w") as out:
            out.write(str(value))

    def stop(self):
        killed = not self.node.running
        if not killed:
            with contextlib.suppress(OSError):
                self.put("cgroup.procs", self.node.pid, f"{CGROUPS}/{self.controller}")
        with contextlib.suppress(OSError):
            os.rmdir(self.group)
        return {"nodes": [self.node.name], "killed": killed, "refused": self.start_again(self.node)}


class SlowProcessor(ControlGroup):
    """one node gets 5 to 20 % of a processor"""
    name = "slow-cpu"
    needs = ("cpu",)
    controller = "cpu"

    def limits(self):
        self.quota = getattr(self, "quota", None) or self.rng.choice([5000, 10000, 20000])
        return [("cpu.cfs_period_us", 100000), ("cpu.cfs_quota_us", self.quota)]


class SlowProcessorLeader(SlowProcessor):
    """the leader gets 5 to 20 % of a processor"""
    name = "slow-cpu-leader"

    def victim(self):
        return self.leader()


class LittleMemory(ControlGroup):
    """one node may use 256 MiB of memory"""
    name = "little-memory"
    needs = ("memory",)
    controller = "memory"

    def limits(self):
        return [("memory.limit_in_bytes", 256 << 20)]
