"""Networks that work, but badly. Needs the user-space switch: this kernel, like many, has no netem."""

from . import Fault


class BadLinks(Fault):
    needs = ("tap",)
    world = {"shaping": True}
    hold = (4.0, 8.0)

    def fate(self):
        """Arguments of network.shape."""
        raise NotImplementedError

    def pairs(self):
        return [(a.name, b.name) for a in self.cluster.nodes for b in self.cluster.nodes if a is not b]

    def start(self):
        fate = self.fate()
        self.cluster.network.shape(self.pairs(), **fate)
        return dict(fate, nodes=[])

    def stop(self):
        self.cluster.network.heal()
        return {}


class SlowLinks(BadLinks):
    """everything between nodes takes 50 ms, give or take 20"""
    name = "slow-links"

    def fate(self):
        return {"delay_ms": 50, "jitter_ms": 20}


class LossyLinks(BadLinks):
    """of all that nodes send to each other, 1 to 5 % is lost"""
    name = "lossy-links"

    def fate(self):
        return {"delay_ms": 1, "loss": round(self.rng.uniform(0.01, 0.05), 4)}


class RepeatingLinks(BadLinks):
    """packets between nodes come twice, or overtake each other"""
    name = "repeating-links"

    def fate(self):
        return {"delay_ms": 2, "jitter_ms": 1, "duplicate": 0.1, "reorder": 0.1}


class BadNetwork(BadLinks):
    """links between nodes are slow and lossy, repeat and reorder, all at once"""
    name = "bad-links"

    def fate(self):
        return {"delay_ms": 50, "jitter_ms": 20, "loss": round(self.rng.uniform(0.01, 0.05), 4), "duplicate": 0.02,
                "reorder": 0.05}


class BadClientLinks(BadLinks):
    """what clients send and get is late, and some is lost"""
    name = "bad-client-links"

    def pairs(self):
        return [pair for node in self.cluster.nodes for pair in ((node.name, "c"), ("c", node.name))]

    def fate(self):
        return {"delay_ms": 20, "jitter_ms": 15, "loss": 0.02}
