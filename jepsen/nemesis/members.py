"""Members of the cluster that are replaced, added or removed."""

import time

from cluster import wait_until

from . import HEAL_SECONDS, Fault, names
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


class RemoveNode(Fault):
    """a follower is stopped and taken out of the cluster; started again it takes no part; then it joins as a replacement"""
    name = "remove-follower"
    hold = (1.0, 2.0)
    swarm = False

    def chosen(self):
        return self.follower()

    def start(self):
        self.gone = self.chosen()
        began = time.monotonic()
        self.gone.stop()
        self.cluster.remove(self.gone)
        return {"nodes": [self.gone.name], "taken_out_s": round(time.monotonic() - began, 3)}

    def told(self, since):
        """Whether its log says that the others have refused it."""
        return any("taken out of the cluster" in line for line in self.gone.events("link-refused", since))

    def stop(self):
        since = self.gone.log_size()
        self.gone.start()
        wait_until(f"{self.gone.name} refused", lambda: self.told(since), HEAL_SECONDS)
        took_part = self.cluster.ready(self.gone)
        self.replace(self.gone)
        return {"nodes": [self.gone.name], "took_part": took_part, "member": not self.cluster.removed(self.gone.id)}


class RemoveLeader(RemoveNode):
    """the leader is stopped and taken out of the cluster; started again it takes no part; then it joins as a replacement"""
    name = "remove-leader"

    def chosen(self):
        return self.leader()


class RemoveWhileCut(Fault):
    """one follower is dead, the other is cut off: there is no majority to take the dead one out"""
    name = "remove-while-cut"
    hold = (3.0, 4.0)
    swarm = False

    def start(self):
        cut_off, self.dead = self.rng.sample(self.others(self.leader()), 2)
        pairs = both_ways([cut_off], self.others(cut_off))
        self.cluster.network.cut(pairs)
        self.dead.kill()
        return {"nodes": names(self.cluster.nodes), "cut": pairs}

    def stop(self):
        answers = {node.name: node.post("/members", do="remove", node=self.dead.id) for node in self.others(self.dead)}
        self.cluster.network.heal()
        refused = self.start_again(*self.cluster.nodes)
        self.cluster.wait_ready(HEAL_SECONDS)
        return {"nodes": names(self.cluster.nodes), "refused": refused, "answers": answers,
                "taken_out": self.cluster.removed(self.dead.id) or any(code == 200 for code, _ in answers.values())}
