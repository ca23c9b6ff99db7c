"""Nodes that lose their power: killed, and what they had not flushed is gone.

On xfs by its `shutdown` (all of it is gone), on the flaky disk sector by sector (a random half is there: torn, reordered)."""

import time

import pump

from . import Fault, names

STARTS = 6                  # of one node, each cut short
FLUSHES_APART = 4
FLUSH_SECONDS = 6.0         # for the flush that was chosen to come
PUMPED_BYTES = 20 << 20     # more than the log may hold


class PowerLoss(Fault):
    """all nodes lose their power at one instant (whole writes are lost)"""
    name = "power-loss"
    needs = ("xfs",)
    world = {"disks": "xfs"}
    hold = (0.1, 1.0)
    swarm = False

    def victims(self):
        return list(self.cluster.nodes)

    def start(self):
        self.lost = self.victims()
        self.cluster.kill_all(self.lost)
        seeds = {node.name: self.rng.getrandbits(32) for node in self.lost}
        kept = self.cluster.each(lambda node: node.power_loss(seeds[node.name]), self.lost)
        return {"nodes": names(self.lost), "sectors_kept": kept}

    def stop(self):
        return {"nodes": names(self.lost), "refused": self.start_again(*self.lost)}


class PowerLossTorn(PowerLoss):
    """all nodes lose their power at one instant (sectors are torn and reordered)"""
    name = "power-loss-torn"
    needs = ("fuse",)
    world = {"disks": "flaky"}


class PowerLossOne(PowerLoss):
    """one node loses its power (whole writes are lost)"""
    name = "power-loss-one"

    def victims(self):
        return [self.any_node()]


class PowerLossOneTorn(PowerLossTorn):
    """one node loses its power (sectors are torn and reordered)"""
    name = "power-loss-one-torn"

    def victims(self):
        return [self.any_node()]


class PowerLossAtFlush(PowerLossOneTorn):
    """one node loses its power at one flush of its start after the other, until it has got through"""
    name = "power-loss-at-flush"
    world = {"disks": "flaky", "settings": {"COTERIE_LIMITS_LOG_BYTES_MAX": str(16 << 20)}}

    def start(self):
        """With a log that is long enough for a snapshot and for its front to be cut off, so that flushes of these are hit too."""
        self.lost = self.victims()
        node, flush, hit = self.lost[0], 0, []
        pump.publish(self.cluster, self.others(node), PUMPED_BYTES)
        self.lose(node)
        for _ in range(STARTS):
            flush += self.rng.randint(1, FLUSHES_APART)
            node.disk.tell("cut", flush)
            node.spawn()
            if self.reached(node):
                hit.append(flush)
            self.lose(node)
        return {"nodes": names(self.lost), "flushes": hit}

    def lose(self, node):
        node.kill()
        node.power_loss(self.rng.getrandbits(32))

    def reached(self, node):
        """Whether the power failed at the flush that was chosen, before the node had nothing more to flush."""
        deadline = time.monotonic() + FLUSH_SECONDS
        while time.monotonic() < deadline and not node.disk.tell("left", 0) == 0:
            time.sleep(0.02)
        return node.disk.tell("left", 0) == 0
