"""Nodes that lose their power: killed, and what they had not flushed is gone.

On xfs by its `shutdown` (all of it is gone), on the flaky disk sector by sector (a random half is there: torn, reordered)."""

from . import Fault, names


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
