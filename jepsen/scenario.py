"""One run: a cluster, its load, faults, the mending, the draining, the judgement, and the files that tell of it.

    Scenario --Cluster.up--> workload.setup --> drive + schedule + observer --> stop --> mend --> drain --> judge --> files

All coroutines are on one event loop; its thread is in the clients' namespace, and it alone writes the history. What blocks
goes through asyncio.to_thread.

    workload/NAME.py   Workload(cluster, recorder, seed, **options), with coroutines
                         setup()    connects and subscribes; returns when the load can begin
                         drive()    keeps loading until stop()
                         stop()     no new operations; waits for those under way, with a limit
                         drain()    after the mending: resumes every session and receives until nothing comes any more
                         close()
    check              judge(events, facts) -> list of verdicts
    report             write(path, events, verdicts, facts)

Files in the directory of a run: history.jsonl, history.edn, verdicts.json, report.html, n1.log ... (what the nodes said)."""

import asyncio
import importlib
import json
import logging
import os
import shutil
import subprocess
import time

import check
import history
import matrix
from cluster import Cluster, ClusterError, waited_of
from network import inside
from schedule import Schedule, swarm_faults

logging.getLogger("asyncio").setLevel(logging.ERROR)    # it warns of each write to a connection that was just reset

OBSERVED_SECONDS = 0.25
EQUAL_SECONDS = 30
SETUP_SECONDS = 60
PATIENCE = 3
QUIET_SECONDS = 15
DRAIN_SECONDS = 150         # the workloads have limits of their own, which are shorter
CLOSE_SECONDS = 30
COMPLAINTS = ("Assertion ", "Sanitizer: ", "runtime error: ")
CALM_SECONDS = 2.0          # load without faults, before the first and after the last
STATUS_FIELDS = ("role", "term", "leader", "ready", "applied_index", "commit_index", "state_hash", "sessions",
                 "sessions_connected", "clients", "queued", "in_flight", "commands_pending", "wills_pending")


class Scenario:
    """`play(schedule)` is a coroutine: which faults, when. rows: those of the matrix that are judged on their own."""

    def __init__(self, name, workload, play, seed, out, nodes=3, world=None, options=None, rows=(), faults=(), repeat="", say=print):
        self.name, self.workload, self.play, self.seed, self.out = name, workload, play, seed, out
        self.nodes, self.world, self.options, self.rows = nodes, dict(world or {}), dict(options or {}), list(rows)
        self.faults, self.repeat, self.say = list(faults), repeat, say
        self.numbers = {}

    def run(self):
        """Blocks; the verdicts. The cluster and all that belongs to it is gone afterwards, whatever happened."""
        os.makedirs(self.out, exist_ok=True)
        self.recorder = history.Recorder(os.path.join(self.out, "history.jsonl"))
        try:
            with Cluster(nodes=self.nodes, seed=self.seed, logs=self.out, **self.world) as cluster:
                self.cluster = cluster
                cluster.up()
                with inside(cluster.client_namespace):
                    asyncio.run(self._run())
        finally:
            self.recorder.close()
        self._judge(self.recorder.events, self._facts())
        return self.verdicts

    async def _run(self):
        facts, self.cycles = self._facts(), 0
        self.recorder.note("runner", "settings", facts)
        module = importlib.import_module(f"workload.{self.workload}")
        load = module.Workload(self.cluster, self.recorder, self.seed, **self.options)
        await self._resources("before")
        observer = asyncio.create_task(self._observe())
        try:
            await within("the clients' setup", SETUP_SECONDS, load.setup(), self._waited)
            driving = asyncio.create_task(load.drive())
            try:
                await asyncio.sleep(CALM_SECONDS)
                schedule = Schedule(self.cluster, self.recorder, self.seed, self.say, self._cycle)
                await finish_first(self.play(schedule), driving)
                await asyncio.sleep(CALM_SECONDS)
            finally:
                await load.stop()
                await asyncio.gather(driving, return_exceptions=True)
            if not driving.cancelled():    # stop() cancels what would not end
                driving.result()
            await schedule.mend()
            await schedule.healed()
            self.recorder.note("runner", "drain", {})
            await asyncio.wait_for(load.drain(), DRAIN_SECONDS)
        finally:
            observer.cancel()
            await asyncio.gather(observer, return_exceptions=True)
            await asyncio.wait({asyncio.ensure_future(load.close())}, timeout=CLOSE_SECONDS)
        await self._after()
        self.recorder.note("runner", "crashes", {"crashes": self.cluster.crashes + self._complaints()})

    def _facts(self):
        return {"seed": self.seed, "nodes": [node.name for node in self.cluster.nodes], "workload": self.workload,
                "faults": self.faults, "rows": [row.number for row in self.rows], "repeat": self.repeat, "scenario": self.name,
                "node_settings": self.cluster.settings, "version": version(self.cluster.binary),
                "world": {key: value for key, value in self.world.items() if key != "settings"}}

    async def _observe(self):
        while True:
            statuses = await asyncio.to_thread(self.cluster.statuses)
            for name, status in statuses.items():
                if status:    # a node that has failed says less
                    value = {key: status[key] for key in STATUS_FIELDS if key in status}
                    self.recorder.note("observer", "status", dict(value, waited_s=self.cluster.waited(name)), node=name)
            await asyncio.sleep(OBSERVED_SECONDS)

    def _waited(self):
        """Seconds that the most unfortunate of all processes has waited for a processor."""
        return max([waited_of("self") or 0.0] + [self.cluster.waited(node) or 0.0 for node in self.cluster.nodes])

    async def _cycle(self):
        """One fault more is over, and all nodes are whole again."""
        self.cycles += 1
        await self._resources(f"cycle-{self.cycles}")

    async def _resources(self, phase):
        for node in self.cluster.nodes:
            status = await asyncio.to_thread(self.cluster.status, node) or {}
            value = dict(self.cluster.resources(node) or {}, phase=phase)
            value.update((key, status[key]) for key in STATUS_FIELDS if key in status)
            self.recorder.note("observer", "resources", value, node=node.name)

    async def _after(self):
        """All clients are gone: nothing of them may be left, and all nodes hold the same."""
        await asyncio.to_thread(self._wait_quiet)
        found = await asyncio.to_thread(self.cluster.wait_equal, EQUAL_SECONDS)
        for name, (index, state) in found.items():
            self.recorder.note("observer", "read-hash", {"applied_index": index, "state_hash": state, "source": "live"},
                               node=name)
        await self._resources("after")
        statuses = await asyncio.to_thread(self.cluster.statuses)
        if any((status or {}).get("sessions_connected") for status in statuses.values()):
            await asyncio.to_thread(self._keep_store)

    def _keep_store(self):
        """Somebody is connected who is not there: the store says who."""
        node = self.cluster.nodes[0]
        node.stop()
        shutil.copytree(os.path.join(node.data, "store"), os.path.join(self.out, f"store-{node.name}"), dirs_exist_ok=True)

    def _complaints(self):
        """[(name, line)] of what assertions and sanitizers have said."""
        return [(node.name, line.strip()) for node in self.cluster.nodes for line in node.log_text().splitlines()
                if any(word in line for word in COMPLAINTS)]

    def _wait_quiet(self):
        deadline = time.monotonic() + QUIET_SECONDS
        while time.monotonic() < deadline:
            statuses = [status for status in self.cluster.statuses().values() if status]
            if not any(status.get(what) for status in statuses for what in ("clients", "sessions_connected", "commands_pending")):
                return
            time.sleep(0.1)

    # ---- judging

    @classmethod
    def of_history(cls, directory, say=print):
        """A run of the past, judged anew."""
        events = history.load(os.path.join(directory, "history.jsonl"))
        facts = next(event["value"] for event in events if event["f"] == "settings")
        found = cls(facts["scenario"], facts["workload"], None, facts["seed"], directory, nodes=len(facts["nodes"]),
                    rows=[matrix.row(number) for number in facts["rows"]], repeat=facts["repeat"], say=say)
        found._judge(events, facts)
        return found

    def _judge(self, events, facts):
        self.events = events
        self.verdicts = check.judge(self.events, facts) + [crash_verdict(events)]
        self.facts = facts
        with open(os.path.join(self.out, "verdicts.json"), "w") as file:
            json.dump({"facts": facts, "verdicts": self.verdicts}, file, indent=1)
        history.write_edn(self.events, os.path.join(self.out, "history.edn"))
        write_report(os.path.join(self.out, "report.html"), self.events, self.verdicts, facts)

    @property
    def valid(self):
        """Whether the guarantees held. Recovery in time is for the rows to judge, where there are any."""
        return all(verdict["valid"] is not False for verdict in self.verdicts
                   if not (self.rows and verdict["name"] == "recovery in time"))

    def forget(self):
        """The history is on disk; it is large."""
        self.events = self.recorder.events = []

    def judge_rows(self):
        """[(row, measured, complaints)]."""
        return [(row, *matrix.judge_row(row, self.events, self.verdicts)) for row in self.rows]


def matrix_scenario(rows, seed, out, say, workload=None, times=1):
    """The faults of some rows, one after the other on one cluster. All of them have the same key."""
    steps = [step for row in rows for step in row.steps(times)]
    swarm = max(row.swarm_seconds for row in rows)

    async def play(schedule):
        await schedule.play(steps)
        if swarm:
            await schedule.swarm(swarm_faults(rows[0].nodes, matrix.SWARM_WORLD), swarm)
    names = ",".join(row.number for row in rows)
    return Scenario(f"rows {names}", workload or rows[0].workload, play, seed, out, nodes=rows[0].nodes, world=rows[0].world(),
                    options=rows[0].options, rows=rows, faults=[step.fault for step in steps],
                    repeat=f"jepsen/run --row {names} --seed {seed}", say=say)


async def within(what, seconds, doing, waited):
    """As asyncio.wait_for, but the time for which somebody waited() for a processor does not count, up to PATIENCE times as much."""
    doing, began, before = asyncio.ensure_future(doing), time.monotonic(), waited()
    while not doing.done():
        lost = max(0.0, waited() - before)
        left = began + seconds + min(lost, PATIENCE * seconds) - time.monotonic()
        if left <= 0:
            doing.cancel()
            await asyncio.gather(doing, return_exceptions=True)
            raise ClusterError(f"{what}: not within {seconds:g} s, besides {lost:.1f} s of waiting for a processor")
        await asyncio.wait({doing}, timeout=left)
    return doing.result()


async def finish_first(playing, driving):
    """Waits for the faults to be played; a load that breaks down meanwhile ends the run."""
    playing = asyncio.ensure_future(playing)
    done, _ = await asyncio.wait({playing, driving}, return_when=asyncio.FIRST_COMPLETED)
    if driving in done and playing not in done:
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)
        driving.result()
        raise RuntimeError("the load ended before the faults did")
    playing.result()


def crash_verdict(events):
    """In the form of those of check/."""
    crashes = [crash for event in events if event["f"] == "crashes" for crash in event["value"]["crashes"]]
    told = [{"rule": "crash", "message": f"{name} ended by {which}", "events": []} for name, which in crashes]
    return {"name": "no crash", "guarantee": "G15", "promise": "no node ends by a signal that nobody sent", "valid": not crashes,
            "why": told[0]["message"] if told else "", "numbers": {"crashes": len(crashes)}, "counts": {"crashes": len(crashes)},
            "notes": [], "violations": told, "violations_total": len(told)}


def version(binary):
    done = subprocess.run([binary, "--version"], stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def write_report(path, events, verdicts, facts):
    try:
        report = importlib.import_module("report")
    except ImportError:
        return
    report.write(path, events, verdicts, facts)
