"""Wall clocks that jump or run at another speed (libfaketime); the monotonic clocks of the nodes are right."""

from . import Fault, names

HOUR, DAY = 3600, 86400


class Clock(Fault):
    needs = ("faketime",)
    world = {"clocks": True}

    def plan(self):
        """(nodes, what libfaketime is told)."""
        raise NotImplementedError

    def start(self):
        self.wrong, text = self.plan()
        for node in self.wrong:
            node.set_clock(text)
        return {"nodes": names(self.wrong), "clock": text}

    def stop(self):
        for node in self.wrong:
            node.set_clock("+0")
        return {"nodes": names(self.wrong)}


class LeaderHourAhead(Clock):
    """the leader's clock jumps ahead by an hour, and back"""
    name = "clock-leader-ahead"

    def plan(self):
        return [self.leader()], f"+{HOUR}"


class LeaderHourBehind(Clock):
    """the leader's clock jumps back by an hour, and ahead"""
    name = "clock-leader-behind"

    def plan(self):
        return [self.leader()], f"-{HOUR}"


class FollowerDayOff(Clock):
    """a follower's clock is wrong by a day"""
    name = "clock-follower-day"

    def plan(self):
        return [self.follower()], self.rng.choice(["+", "-"]) + str(DAY)


class Fast(Clock):
    """the clock of one node runs twice as fast"""
    name = "clock-fast"

    def plan(self):
        return [self.any_node()], "+0 x2"


class EverybodyElsewhere(Clock):
    """every clock jumps, each to another time"""
    name = "clock-all"

    def plan(self):
        return list(self.cluster.nodes), None

    def start(self):
        steps = {node.name: self.rng.randrange(-DAY, DAY) for node in self.cluster.nodes}
        self.wrong = list(self.cluster.nodes)
        for node in self.wrong:
            node.set_clock(f"{steps[node.name]:+d}")
        return {"nodes": names(self.wrong), "clock": steps}
