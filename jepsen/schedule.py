"""When which fault is in force: a list of steps, drawn from a seed or taken from a row of the matrix, played one by one; or a
swarm, in which they overlap.

    Step --start()--> in force for `hold` seconds --stop()--> until all nodes are ready --calm--> next step

Each moment goes into the history (phases start, started, stop, stopped), and after it how long the cluster took to be whole
again ("healed"). A fault that cannot be had on this machine is left out, loudly."""

import asyncio
import random
import time

import probe
from cluster import ClusterError, wait_until
from nemesis import FAULTS

CALM_SECONDS = (1.5, 3.0)
HEALED_SECONDS = 60
RESTARTS_MAX = 6            # of all nodes together, after one fault
EQUAL_SECONDS = 30
SWARM_OVERLAP = 2           # faults in force at once
SWARM_SECONDS = (0.3, 3.0)  # from one beginning to the next


class Step:
    """One fault: which, for how long (None: it draws), and what must hold (matrix.py)."""

    def __init__(self, fault, hold=None, goals=None, row=None):
        self.fault, self.hold, self.goals, self.row = fault, hold, goals or {}, row

    def __repr__(self):
        return self.fault


def world_of(names):
    """What the Cluster must be made with for these faults; ClusterError if two of them want different disks."""
    world = {"settings": {}}
    for name in names:
        for key, value in FAULTS[name].world.items():
            if key == "settings":
                world["settings"].update(value)
            elif world.setdefault(key, value) != value:
                raise ClusterError(f"{name} needs {key} {value}, another fault needs {world[key]}: run them one after the other")
    return world


def missing(name):
    return probe.missing("namespaces", *FAULTS[name].needs)


def swarm_faults(nodes, world=None):
    """All that may overlap and that this machine, and a cluster made for `world`, can do."""
    world = world or {}
    return [name for name, fault in FAULTS.items() if fault.swarm and fault.nodes_min <= nodes and not missing(name) and
            all(world.get(key) == value for key, value in fault.world.items())]


class Schedule:
    """`whole`: a coroutine function, called each time that all nodes are whole again after a fault."""

    def __init__(self, cluster, recorder, seed, say, whole):
        self.cluster, self.recorder, self.seed, self.say, self.whole = cluster, recorder, seed, say, whole
        self.played = 0

    def _make(self, step):
        rng = random.Random(f"{self.seed}/{self.played}/{step.fault}")
        self.played += 1
        return FAULTS[step.fault](self.cluster, rng), rng

    def _note(self, step, phase, facts):
        described = {"describe": FAULTS[step.fault].describe(), "goals": step.goals, "row": step.row}
        self.recorder.fault(step.fault, phase, **dict(facts, **(described if phase == "start" else {})))

    async def play(self, steps):
        for step in steps:
            await asyncio.sleep(random.Random(f"{self.seed}/calm/{self.played}").uniform(*CALM_SECONDS))
            await self._play_one(step)
            await self.healed(step)

    async def _play_one(self, step):
        fault, rng = self._make(step)
        self._note(step, "start", {})
        began = time.monotonic()
        try:
            facts = await asyncio.to_thread(fault.start)
            self._note(step, "started", facts)
            await asyncio.sleep(rng.uniform(*fault.hold) if step.hold is None else step.hold)
        finally:
            self._note(step, "stop", {})
            facts = await asyncio.to_thread(fault.stop)
            self._note(step, "stopped", facts)
        self.say(f"{step.fault}: {', '.join(facts.get('nodes') or []) or 'the network'}, "
                 f"{time.monotonic() - began:.1f} s")

    async def healed(self, step=None):
        """Waits until every node serves and all have applied the same; how long that took goes into the history."""
        began = time.monotonic()
        restarted = await asyncio.to_thread(self._supervise)
        ready = time.monotonic() - began
        self.recorder.note("observer", "healed", {"fault": step.fault if step else None, "row": step.row if step else None,
                                                  "ready_s": round(ready, 3), "restarted": restarted})
        await self.whole()

    def _supervise(self):
        """Until all are ready: starts again what ended by itself, as the init system of a machine would. Which, and how often."""
        restarted = []

        def ready():
            for node in self.cluster.nodes:
                if not node.running and not node.paused:
                    restarted.append(node.name)
                    if len(restarted) > RESTARTS_MAX:
                        raise ClusterError(f"{node.name} does not stay up: {node.last_words()}")
                    node.spawn(bootstrap=not self.cluster.bootstrapped)
            return all(self.cluster.ready(node) for node in self.cluster.nodes)
        wait_until("all nodes ready", ready, HEALED_SECONDS)
        return restarted

    async def calm(self, seconds):
        """No fault: what the load does on its own."""
        await asyncio.sleep(seconds)

    async def swarm(self, names, seconds):
        """Faults that overlap, until the time is over; then everything is mended."""
        rng = random.Random(f"{self.seed}/swarm")
        names = [name for name in names if FAULTS[name].swarm]
        deadline, running = time.monotonic() + seconds, set()
        try:
            while time.monotonic() < deadline:
                await asyncio.sleep(rng.uniform(*SWARM_SECONDS))
                finished = {task for task in running if task.done()}
                running -= finished
                for task in finished:
                    task.result()
                in_force = {task.get_name() for task in running}
                network = {name for name in in_force if shares_network(name)}
                choice = rng.choice(names)
                if len(running) < SWARM_OVERLAP and choice not in in_force and not (network and shares_network(choice)):
                    running.add(asyncio.create_task(self._play_one(Step(choice)), name=choice))
        finally:
            await asyncio.gather(*running)
        await self.mend()
        await self.healed()

    async def mend(self):
        """Whatever overlapping faults left behind."""
        self.cluster.network.heal()
        fault = FAULTS["kill-all"](self.cluster, random.Random(0))
        for node in self.cluster.nodes:
            node.resume()
        await asyncio.to_thread(fault.start_again, *self.cluster.nodes)


def shares_network(name):
    """Two of these at once would undo each other: a cut replaces the cut before it."""
    return FAULTS[name].__module__ in ("nemesis.partition", "nemesis.links")


def draw_steps(names, seconds, seed):
    """Steps that take about so long, each fault in turn, in an order that the seed decides."""
    rng = random.Random(f"{seed}/steps")
    steps, expected, bag = [], 0.0, []
    while expected < seconds:
        if not bag:
            bag = rng.sample(names, len(names))
        name = bag.pop()
        steps.append(Step(name))
        expected += sum(FAULTS[name].hold) / 2 + sum(CALM_SECONDS) / 2 + 1.5
    return steps
