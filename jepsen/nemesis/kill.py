"""Nodes that die without a word (SIGKILL), and the orders in which they come back."""

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
