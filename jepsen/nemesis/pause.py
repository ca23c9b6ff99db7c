"""Nodes that stand still (SIGSTOP) and go on as if nothing had been: what they believe is old by then."""

from . import Fault, names


class Pause(Fault):
    def victims(self):
        raise NotImplementedError

    def start(self):
        self.paused = self.victims()
        for node in self.paused:
            node.pause()
        return {"nodes": names(self.paused)}

    def stop(self):
        for node in self.paused:
            node.resume()
        return {"nodes": names(self.paused), "refused": self.start_again(*self.paused)}


class PauseLeader(Pause):
    """the leader stands still for seconds"""
    name = "pause-leader"
    hold = (1.0, 6.0)

    def victims(self):
        return [self.leader()]


class HiccupLeader(PauseLeader):
    """the leader stands still for less than an election takes"""
    name = "hiccup-leader"
    hold = (0.05, 0.25)


class PauseFollower(Pause):
    """a follower stands still"""
    name = "pause-follower"
    hold = (1.0, 6.0)

    def victims(self):
        return [self.follower()]


class PauseMinority(Pause):
    """as many nodes as the others can do without stand still"""
    name = "pause-minority"
    hold = (1.0, 6.0)

    def victims(self):
        return self.minority()


class PauseAll(Pause):
    """all nodes stand still, and go on together"""
    name = "pause-all"
    hold = (1.0, 4.0)

    def victims(self):
        return list(self.cluster.nodes)
