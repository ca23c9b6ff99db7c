"""Members of the cluster that are replaced or added. (None can be removed: the product has no word for it.)"""

import time

from . import Fault, names
from .data import Wipe
from .partition import both_ways


class ReplaceLeader(Wipe):
    """the leader's data is gone; it is replaced"""
    name = "replace-leader"

    def any_node(self):
        return self.leader()


class ReplaceWhileCut(Fault):
    """one follower is cut off, the other has lost its data and asks to be replaced: there is no majority to take it in"""
    name = "replace-while-cut"
    hold = (3.0, 4.0)
    swarm = False

    def start(self):
        leader = self.leader()
        self.cut_off, self.lost = self.rng.sample(self.others(leader), 2)
        pairs = both_ways([self.cut_off], self.others(self.cut_off))
        self.cluster.network.cut(pairs)
        self.cluster.replace(self.lost)
        return {"nodes": names(self.cluster.nodes), "cut": pairs}

    def stop(self):
        """Whether it has become a member, which nobody could decide, is told before the cut is healed."""
        taken_in = self.cluster.ready(self.lost)
        self.cluster.network.heal()
        return {"nodes": names(self.cluster.nodes), "taken_in": taken_in, "refused": self.start_again(*self.cluster.nodes)}


class AddNode(Fault):
    """a node with a new id joins: the others learn of it one after the other, then it starts without data, as a replacement does"""
    name = "add-node"
    world = {"spares": 1}
    hold = (0.5, 1.0)
    swarm = False

    def start(self):
        self.fresh = self.cluster.spares.pop()
        old, self.cluster.known = list(self.cluster.nodes), [*self.cluster.nodes, self.fresh]
        for node in self.cluster.known:
            node.write_config()
        for node in self.rng.sample(old, len(old)):
            node.stop()
            node.start()
            self.cluster.wait_ready()
        return {"nodes": []}

    def stop(self):
        began = time.monotonic()
        self.cluster.replace(self.fresh)
        self.cluster.nodes.append(self.fresh)
        return {"nodes": [], "joins": self.fresh.name, "answers_s": round(time.monotonic() - began, 3)}
