"""Nodes that die without a word (SIGKILL), and the orders in which they come back."""

import os
import time

from . import Fault, names


class Kill(Fault):
    hold = (1.0, 4.0)

    def victims(self):
        raise NotImplementedError

    def start(self):
        self.killed = self.victims()
        self.cluster.kill_all(self.killed)
        return {"nodes": names(self.killed)}

    def stop(self):
        return {"nodes": names(self.killed), "refused": self.start_again(*self.killed)}


class KillLeader(Kill):
    """the leader is killed"""
    name = "kill-leader"

    def victims(self):
        return [self.leader()]


class KillFollower(Kill):
    """a follower is killed"""
    name = "kill-follower"

    def victims(self):
        return [self.follower()]


class KillMinority(Kill):
    """as many nodes as the others can do without are killed"""
    name = "kill-minority"

    def victims(self):
        return self.minority()


class KillAll(Kill):
    """all nodes are killed at one instant, and started together"""
    name = "kill-all"
    hold = (0.1, 1.0)

    def victims(self):
        return list(self.cluster.nodes)


class ReturnInAnyOrder(Fault):
    """all nodes are killed, and started one by one in a random order"""
    name = "return-in-any-order"
    hold = (0.1, 0.5)

    def start(self):
        self.cluster.kill_all()
        return {"nodes": names(self.cluster.nodes)}

    def stop(self):
        order = self.rng.sample(self.cluster.nodes, len(self.cluster.nodes))
        refused = {}
        for node in order[:-1]:
            refused.update(self.start_again(node))
            time.sleep(self.rng.uniform(0.0, 1.0))
        refused.update(self.start_again(order[-1]))
        return {"nodes": names(order), "refused": refused}


class Restart(Fault):
    """one node after the other is stopped in order and started, as in an upgrade"""
    name = "rolling-restart"
    hold = (0.0, 0.0)

    def start(self):
        gone = {}
        for node in self.rng.sample(self.cluster.nodes, len(self.cluster.nodes)):
            began = time.monotonic()
            node.stop()
            gone.update(self.start_again(node))
            self.cluster.wait_ready()
            gone[f"{node.name}_s"] = round(time.monotonic() - began, 3)
        return {"nodes": names(self.cluster.nodes), "took": gone}


class Upgrade(Fault):
    """one node after the other hands over, is stopped, and is started as another version; in the middle one goes back"""
    name = "rolling-upgrade"
    hold = (0.0, 0.0)
    swarm = False

    def start(self):
        """$COTERIE_BIN_OLD names the version to go back to in the middle; without it every version is the same."""
        new, old = self.cluster.binary, os.environ.get("COTERIE_BIN_OLD") or self.cluster.binary
        steps = [(node, old) for node in self.cluster.nodes] if old != new else []
        nodes = self.rng.sample(self.cluster.nodes, len(self.cluster.nodes))
        steps += [(nodes[0], new), (nodes[1], new), (nodes[1], old), (nodes[1], new)] + [(node, new) for node in nodes[2:]]
        took = {}
        for place, (node, binary) in enumerate(steps):
            began = time.monotonic()
            node.stop()
            node.binary = binary
            refused = self.start_again(node)
            self.cluster.wait_ready()
            took[f"{place + 1} {node.name}"] = round(time.monotonic() - began, 3)
            if refused:
                return {"nodes": [], "took": took, "refused": refused}
        return {"nodes": [], "took": took, "versions": 1 if old == new else 2}

    def stop(self):
        for node in self.cluster.nodes:
            node.binary = self.cluster.binary
        return {"nodes": [], "refused": self.start_again(*self.cluster.nodes)}
