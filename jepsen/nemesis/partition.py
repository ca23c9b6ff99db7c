"""Nodes that cannot reach each other. Clients reach all of them: what a node answers while it is cut off is the point.

A pair (a, b) in "cut" is what a sends and b does not get."""

import threading

from . import Fault, names


def both_ways(left, right):
    return [pair for a in left for b in right for pair in ((a.name, b.name), (b.name, a.name))]


def one_way(senders, receivers):
    return [(a.name, b.name) for a in senders for b in receivers]


class Partition(Fault):
    hold = (2.0, 6.0)

    def plan(self):
        """(the nodes that are without a majority, the directed pairs to cut)."""
        raise NotImplementedError

    def start(self):
        self.cut_off, self.pairs = self.plan()
        self.cluster.network.cut(self.pairs)
        return {"nodes": names(self.cut_off), "cut": self.pairs}

    def stop(self):
        self.cluster.network.heal()
        return {"nodes": names(self.cut_off)}


class IsolateLeader(Partition):
    """the leader is cut from all other nodes"""
    name = "isolate-leader"

    def plan(self):
        leader = self.leader()
        return [leader], both_ways([leader], self.others(leader))


class IsolateFollower(Partition):
    """a follower is cut from all other nodes"""
    name = "isolate-follower"

    def plan(self):
        follower = self.follower()
        return [follower], both_ways([follower], self.others(follower))


class Halves(Partition):
    """a random minority is cut from the rest"""
    name = "split"

    def plan(self):
        minority = self.minority()
        return minority, both_ways(minority, self.others(*minority))


class Shattered(Partition):
    """every node is cut from every other"""
    name = "shatter"

    def plan(self):
        nodes = self.cluster.nodes
        return nodes, [(a.name, b.name) for a in nodes for b in nodes if a is not b]


class LeaderDeaf(Partition):
    """the leader hears no other node, but they hear it"""
    name = "leader-deaf"

    def plan(self):
        leader = self.leader()
        return [leader], one_way(self.others(leader), [leader])


class LeaderMute(Partition):
    """the leader hears the other nodes, but they do not hear it"""
    name = "leader-mute"

    def plan(self):
        leader = self.leader()
        return [leader], one_way([leader], self.others(leader))


class FollowerDeaf(Partition):
    """a follower hears no other node"""
    name = "follower-deaf"

    def plan(self):
        follower = self.follower()
        return [follower], one_way(self.others(follower), [follower])


class FollowerMute(Partition):
    """no other node hears a follower"""
    name = "follower-mute"

    def plan(self):
        follower = self.follower()
        return [follower], one_way([follower], self.others(follower))


class Ring(Partition):
    """every node of five sees a majority, but no two see the same one"""
    name = "ring"
    nodes_min = 5

    def plan(self):
        nodes = self.rng.sample(self.cluster.nodes, len(self.cluster.nodes))
        count = len(nodes)
        apart = [(a, b) for a in range(count) for b in range(count) if (a - b) % count in (2, count - 2)]
        return [], [(nodes[a].name, nodes[b].name) for a, b in apart]


class Bridge(Partition):
    """two groups that only one node in the middle can reach"""
    name = "bridge"

    def plan(self):
        nodes = self.rng.sample(self.cluster.nodes, len(self.cluster.nodes))
        half = (len(nodes) - 1) // 2
        return [], both_ways(nodes[:half], nodes[half + 1:])


class Flapping(Partition):
    """a node is cut off and joined again several times a second"""
    name = "flapping"
    hold = (4.0, 8.0)

    def plan(self):
        node = self.any_node()
        return [node], both_ways([node], self.others(node))

    def start(self):
        self.cut_off, self.pairs = self.plan()
        self.over = threading.Event()
        period = self.rng.uniform(0.2, 1.0)
        self.thread = threading.Thread(target=self.flap, args=(period,))
        self.thread.start()
        return {"nodes": names(self.cut_off), "cut": self.pairs, "period_s": round(period, 3)}

    def flap(self, period):
        cut = True
        while not self.over.is_set():
            self.cluster.network.cut(self.pairs if cut else [])
            cut = not cut
            self.over.wait(period / 2)

    def stop(self):
        self.over.set()
        self.thread.join()
        return super().stop()
