"""Faults: one class each, in the files beside this one. `FAULTS` has them by name; run --list prints them.

    schedule (schedule.py) --start()--> in force --stop()--> ended, and what died of it is running again

A fault is made for one use: it draws what it needs (which node, how long) from its `rng` when it starts, so that the same
seed makes the same choices. start() and stop() block, are called in a worker thread, and return what they did as a dict for
the history; node names go under "nodes" (those that the fault hit: their clients may suffer) and cut pairs under "cut".
They have to bear whatever other faults did meanwhile: a node may be dead, or there may be no leader.

To add one: a class with a name and a docstring of one line in the fitting file; everything else finds it."""

import importlib
import pkgutil

from cluster import wait_until

HEAL_SECONDS = 60


class Fault:
    name = ""
    needs = ()              # of probe.PROBES, beyond namespaces
    world = {}              # what the Cluster must be made with: disks, shaping, clocks, settings
    nodes_min = 3
    hold = (2.0, 4.0)       # seconds in force, drawn by the schedule
    swarm = True            # may overlap with others

    def __init__(self, cluster, rng):
        self.cluster, self.rng = cluster, rng

    def start(self):
        raise NotImplementedError

    def stop(self):
        return {}

    @classmethod
    def describe(cls):
        return (cls.__doc__ or "").strip().split("\n")[0]

    # ---- choosing

    def leader(self):
        """The leader; where there is none, any node."""
        return self.cluster.leader_now() or self.any_node()

    def follower(self):
        leader = self.leader()
        return self.rng.choice([node for node in self.cluster.nodes if node is not leader])

    def any_node(self):
        return self.rng.choice(self.cluster.nodes)

    def minority(self):
        """As many nodes as the others can do without, the leader among them half of the time."""
        return self.rng.sample(self.cluster.nodes, (len(self.cluster.nodes) - 1) // 2)

    def others(self, *nodes):
        return [node for node in self.cluster.nodes if node not in nodes]

    # ---- mending

    def start_again(self, *nodes):
        """Starts what does not run, all at once; what refuses is replaced, as an operator would. {name: last words}."""
        refusals = {}

        def start(node):
            if node.running:
                return
            since = node.log_size()
            try:
                node.start(bootstrap=not self.cluster.bootstrapped)
            except Exception:
                refusals[node.name] = node.log_text(since).strip().split("\n")[-1]
        self.cluster.each(start, list(nodes))
        for name in refusals:
            self.replace(self.cluster.node(name))
        return refusals

    def replace(self, node):
        """The others have to serve first: they are asked for a vote on it."""
        self.cluster.wait_ready(HEAL_SECONDS, self.others(node))
        self.cluster.replace(node)
        wait_until(f"the replacement {node.name} ready", lambda: self.cluster.ready(node), HEAL_SECONDS)


def _find():
    found = {}
    for module in pkgutil.iter_modules(__path__):
        for one in vars(importlib.import_module(f"{__name__}.{module.name}")).values():
            if isinstance(one, type) and issubclass(one, Fault) and one.name:
                found[one.name] = one
    return found


def names(nodes):
    return [node.name for node in nodes]


FAULTS = _find()
