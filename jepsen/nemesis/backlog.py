"""Queues that grow: for clients that are not there, and for one that does not read."""

import re
import time

import flood
from cluster import wait_until

from . import HEAL_SECONDS, Fault, names

FILL_RATE_MIN = 1000        # messages/s; a machine that is slower than that fills less
DRAIN_RATE_MIN = 1000
FORGET_SECONDS = 600        # what sessions leave behind is worked off in small steps, each committed
FORGOTTEN = 500
TURN = re.compile(r'coterie_turn_seconds_bucket\{le="([^"]+)"\}')


class Backlog(Fault):
    """all nodes are killed together, with a million messages in their queues"""
    name = "kill-all-backlog"
    swarm = False
    hold = (0.2, 0.5)
    sessions, messages = 10, 100_000

    def fill(self):
        self.names = flood.queues(self.cluster, self.sessions, f"backlog-{self.rng.getrandbits(32):x}")
        return flood.publish(self.cluster, self.leader(), self.messages, self.messages / FILL_RATE_MIN)

    def start(self):
        filled = self.fill()
        queued = (self.cluster.status(self.leader()) or {}).get("queued")
        self.cluster.kill_all()
        return {"nodes": names(self.cluster.nodes), "published": filled, "queued": queued}

    def stop(self):
        """How long the start took is told; then the sessions, which nobody would drain, are ended."""
        began = time.monotonic()
        refused = self.start_again(*self.cluster.nodes)
        self.cluster.wait_ready(HEAL_SECONDS)
        took = round(time.monotonic() - began, 3)
        flood.end_sessions(self.cluster, self.names)
        return {"nodes": names(self.cluster.nodes), "refused": refused, "start_s": took}


class ManyQueues(Backlog):
    """nodes are killed and started with much in a thousand queues: that takes no longer, nor does a snapshot hold them up"""
    name = "restart-backlog"
    world = {"settings": {"COTERIE_LIMITS_LOG_BYTES_MAX": str(16 << 20)}}
    sessions, messages = 1000, 10_000

    def start(self):
        empty = self.restarted()
        began = {node.name: turns(self.cluster.metrics(node)) for node in self.cluster.nodes}
        filled = self.fill()
        slow = {node.name: slow_turns(began[node.name], turns(self.cluster.metrics(node))) for node in self.cluster.nodes}
        queued = (self.cluster.status(self.leader()) or {}).get("queued")
        return {"nodes": names(self.cluster.nodes), "published": filled, "queued": queued, "empty_s": empty, "full_s": self.restarted(),
                "turns_longer_than": slow}

    def restarted(self):
        self.cluster.kill_all()
        began = time.monotonic()
        self.start_again(*self.cluster.nodes)
        self.cluster.wait_ready(HEAL_SECONDS)
        return round(time.monotonic() - began, 3)

    def stop(self):
        flood.end_sessions(self.cluster, self.names)
        wait_until("what was queued is worked off", self.forgotten, FORGET_SECONDS)
        return {"nodes": names(self.cluster.nodes)}

    def forgotten(self):
        return (self.cluster.status(self.leader()) or {}).get("queued", self.messages) < FORGOTTEN


def turns(metrics):
    """Turns of the loop that took at most so long: {seconds: how many}."""
    return {float(found[1]): value for name, value in metrics.items() if (found := TURN.match(name)) and found[1] != "+Inf"}


def slow_turns(before, after):
    """{seconds: how many turns took longer} since `before`, as far as there were any."""
    total = max(after.values(), default=0) - max(before.values(), default=0)
    return {str(limit): longer for limit in sorted(after) if (longer := total - (after[limit] - before.get(limit, 0))) > 0 and limit >= 0.005}


class SlowConsumer(Fault):
    """a client that is connected reads nothing, while hundreds of thousands of messages come for it; then it takes all"""
    name = "slow-consumer"
    world = {"settings": {"COTERIE_LIMITS_QUEUE_MESSAGES_MAX": "1000000"}}
    swarm = False
    hold = (2.0, 3.0)
    messages = 200_000

    def start(self):
        self.node, self.client = self.any_node(), f"slow-{self.rng.getrandbits(32):x}"
        before = self.memory()
        self.taker = flood.Taker(self.cluster, self.node, self.client)
        self.sent = flood.publish(self.cluster, self.leader(), self.messages, self.messages / FILL_RATE_MIN)
        return {"nodes": [], "consumer_at": self.node.name, "published": self.sent, "memory_kib": [before, self.memory()],
                "queued": (self.cluster.status(self.node) or {}).get("queued")}

    def memory(self):
        """Of the node that needs most of it, the store's pages left out."""
        return max((self.cluster.resources(node) or {}).get("anonymous_kib", 0) for node in self.cluster.nodes)

    def stop(self):
        drained = self.taker.take(self.sent, self.messages / DRAIN_RATE_MIN)
        self.taker.close()
        flood.end_sessions(self.cluster, [self.client])
        return {"nodes": [], "drained": drained["taken"], "in_order": drained["in_order"], "drain_s": drained["seconds"],
                "drain_rate": round(drained["taken"] / max(drained["seconds"], 0.001))}
