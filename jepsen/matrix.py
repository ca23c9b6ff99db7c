"""The matrix of faults: what is done, what must hold beyond the guarantees (which hold always), how fast all is well again.

A row is data. `do` lists its faults with how long they are in force and their goals in seconds:

    interruption  longest time without an acknowledgement, for 99 % of the publishers at nodes that were neither hit nor cut off
    gap           longest time without an acknowledgement of anybody at those nodes
    moved         until 99 % of the clients of a node that was hit have a connection elsewhere
    recovery      from the fault's end until 99 % of the publishers have their next acknowledgement
    ready         from the fault's end until all nodes serve and are full members
    accepts       from the fault's end until the node that was hit answers a new client
    starts        from the start of all nodes until they serve
    drain         until a client that had read nothing has taken all

`holds` names functions of this file: (events of the run, facts of the row's faults) -> complaints. One that a machine which is too
slow brings about as well is a Late.

Tier P runs with every submission (tests/run jepsen), N by night (jepsen/nightly)."""

from schedule import Step, world_of

NODE_TIMEOUT = 2.0
BACKLOG_MEMORY_KIB = 128 << 10
CALM = 2_000_000_000
SHORT = 50_000_000      # nanoseconds of a publish
START_SLACK = 1.0       # an election more or less
SWARM_WORLD = {"shaping": True, "clocks": True}


class Row:
    def __init__(self, number, name, tier, do, workload="fleet", nodes=3, holds=(), options=None,
                 swarm_seconds=0, tls=False):
        self.number, self.name, self.tier, self.workload, self.nodes = str(number), name, tier, workload, nodes
        self.do, self.holds, self.options, self.swarm_seconds, self.tls = do, holds, options or {}, swarm_seconds, tls

    def steps(self, times=1):
        return [Step(fault, hold, goals, self.number) for fault, hold, goals in self.do * times]

    def faults(self):
        return [fault for fault, _, _ in self.do]

    def world(self):
        world = dict(SWARM_WORLD, settings={}) if self.swarm_seconds else world_of(self.faults())
        return dict(world, tls=True) if self.tls else world

    def over_tls(self, tier):
        """The same with nothing but TLS, as a row of its own."""
        return Row(f"{self.number}-tls", f"{self.name}, over TLS", tier, self.do, self.workload, self.nodes, self.holds, self.options,
                   self.swarm_seconds, tls=True)

    def key(self):
        """Rows with the same key can share a cluster and its load."""
        world = self.world()
        return (self.workload, self.nodes, world.get("disks", "plain"), world.get("shaping", False), world.get("clocks", False), self.tls,
                world.get("spares", 0),
                tuple(sorted(world["settings"].items())), tuple(sorted(self.options.items())))


class Late(str):
    """A complaint about time: `seconds` is how much less it ought to have been."""

    def __new__(cls, text, seconds):
        complaint = super().__new__(cls, text)
        complaint.seconds = seconds
        return complaint


# ---- what else must hold


def largest_term(events, begin, end):
    """That any node told of within these times; 0: none did."""
    return max((event["value"].get("term") or 0 for event in events if event["f"] == "status" and begin <= event["time"] <= end),
               default=0)


def no_election_when_healed(events, facts):
    """When a fault ended, the leader of that moment was left alone."""
    return elections(events, facts, lambda fact: fact["stop"], "an election when it was healed")


def no_election(events, facts):
    return elections(events, facts, lambda fact: fact["began"], "an election")


def elections(events, facts, since, what):
    """Of each fault: the largest term until the moment `since(fact)`, against the largest until all was well again."""
    told = []
    for fact in facts:
        before = largest_term(events, 0, since(fact))
        after = largest_term(events, since(fact), fact["whole"])
        if before and after > before:
            told.append(f"{fact['name']} at {fact['began'] / 1e9:.1f} s: term {before}, then {after}: {what}")
    return told


def refused_and_replaced(_events, facts):
    return [f"{one['name']}: the node started without its data" for one in facts if not one.get("refused")]


def damage_was_noticed(_events, facts):
    """Refused at the start, or repaired; `skipped` means that there was nothing to damage."""
    return [f"{one['name']}: {one['skipped']}" for one in facts if one.get("skipped")]


def nobody_was_replaced(_events, facts):
    return [f"{one['name']}: {name} refused to start: {why}" for one in facts for name, why in (one.get("refused") or {}).items()]


def full_disk_was_noticed(_events, facts):
    """When most have nothing left to write to, nothing is committed, and the rest has nothing to write."""
    return [f"{one['name']}: {', '.join(sorted(set(one['nodes']) - set(one['noticed'])))} has not noticed" for one in facts
            if 2 * len(one["noticed"]) <= len(one["nodes"])] + \
           [f"{one['name']}: {', '.join(one['dead'])} had to be started again" for one in facts if one["dead"]]


def nobody_was_taken_in(_events, facts):
    return [f"{one['name']}: became a member without a majority" for one in facts if one.get("taken_in")]


def who_was_removed_is_out(_events, facts):
    return [f"{one['name']}: {'it took part' if one['took_part'] else 'it is no member again'}" for one in facts
            if "took_part" in one and (one["took_part"] or not one["member"])]


def nobody_was_taken_out(_events, facts):
    return [f"{one['name']}: taken out without a majority: {one['answers']}" for one in facts if one.get("taken_out")]


def drained_in_order(_events, facts):
    return [f"{one['name']}: of {one['published']} messages {one['drained']} came, {'in order' if one['in_order'] else 'not in order'}"
            for one in facts if one["drained"] != one["published"] or not one["in_order"]]


def memory_is_bounded(_events, facts):
    """What waits in queues is on the disk."""
    return [f"{one['name']}: {one['memory_kib'][0]} KiB before, {one['memory_kib'][1]} KiB with {one['queued']} messages in queues"
            for one in facts if one["memory_kib"][1] > one["memory_kib"][0] + BACKLOG_MEMORY_KIB]


def others_go_on(events, facts):
    """Their publishes take no longer while the fault is in force than before it began; both short, that says nothing."""
    told = []
    for one in facts:
        calm, loaded = (slowest(events, begin, end) for begin, end in ((one["began"] - CALM, one["began"]), (one["started"], one["stop"])))
        most = 2 * max(calm, SHORT)
        if loaded > most:
            told.append(Late(f"{one['name']}: 99 % of publishes took {calm / 1e6:.0f} ms before, {loaded / 1e6:.0f} ms with it",
                             (loaded - most) / 1e9))
    return told


def slowest(events, begin, end):
    """What 99 % of the publishes that were acknowledged between two times took at most, in nanoseconds."""
    sent, took = {}, []
    for event in events:
        if event["f"] == "publish" and event["type"] == "invoke":
            sent[event["process"]] = event["time"]
        elif event["f"] == "publish" and event["type"] == "ok" and begin <= event["time"] < end:
            took.append(event["time"] - sent[event["process"]])
    return sorted(took)[len(took) * 99 // 100] if took else 0


def start_is_flat(_events, facts):
    return [Late(f"{one['name']}: {one['full_s']} s with {one['queued']} messages in queues, {one['empty_s']} s without",
                 one["full_s"] - 1.2 * one["empty_s"] - START_SLACK)
            for one in facts if one["full_s"] > 1.2 * one["empty_s"] + START_SLACK]


def node_stopped(_events, facts):
    return [f"{one['name']}: the node went on as if nothing had been" for one in facts if not one.get("failed")]


def was_not_killed(_events, facts):
    return [f"{one['name']}: killed for its memory" for one in facts if one.get("killed")]


FAILOVER = {"interruption": 1.0, "recovery": 2.0}

ROWS = (
    Row(1, "leader killed under load", "P", [("kill-leader", 2, {"interruption": 1.0, "moved": 3.0, "ready": 3.0})] * 2,
        holds=(nobody_was_replaced,)),
    Row(2, "follower killed, back after ten seconds", "P", [("kill-follower", 6, {"gap": 0.1, "ready": 2.0})],
        holds=(no_election, nobody_was_replaced)),
    Row(3, "leader isolated", "P", [("isolate-leader", 4, {"interruption": 1.0, "ready": 2.0})], holds=(no_election_when_healed,)),
    Row(4, "clients on a node that is cut off", "P", [("isolate-follower", 5, {"gap": 0.1, "moved": NODE_TIMEOUT + 1.0,
                                                                               "ready": 2.0})], holds=(no_election,)),
    Row(5, "leader deaf, leader mute", "P", [("leader-deaf", 3, {"interruption": 1.6, "ready": 2.0}),
                                             ("leader-mute", 3, {"interruption": 1.1, "ready": 2.0})]),
    Row(6, "follower deaf, follower mute", "N", [("follower-deaf", 5, {"gap": 0.1, "ready": 2.0}),
                                                 ("follower-mute", 5, {"gap": 0.1, "ready": 2.0})]),
    Row(7, "majority ring and bridge", "N", [("ring", 6, {"gap": 1.0, "ready": 2.0}),
                                             ("bridge", 6, {"gap": 1.0, "ready": 2.0})], nodes=5),
    Row(8, "flapping link", "N", [("flapping", 10, {"recovery": 2.0})] * 2),
    Row(9, "slow, lossy, repeating network", "N", [("slow-links", 8, {}), ("lossy-links", 8, {}), ("repeating-links", 8, {}),
                                                   ("bad-links", 10, {"recovery": 2.0})]),
    Row(10, "leader stands still", "P", [("hiccup-leader", 0.1, {"interruption": 1.0}),
                                         ("pause-leader", 1, FAILOVER), ("pause-leader", 5, FAILOVER)]),
    Row(11, "all nodes killed together", "P", [("kill-all", 0.2, {"recovery": 3.0, "ready": 3.0})], holds=(nobody_was_replaced,)),
    Row("11b", "all nodes killed together, a million messages in their queues", "N", [("kill-all-backlog", 0.2, {"starts": 3.0})],
        holds=(nobody_was_replaced,)),
    Row(12, "power loss of all nodes", "P", [("power-loss", 0.2, {"recovery": 10.0, "ready": 10.0})],
        holds=(nobody_was_replaced,)),
    Row("12b", "power loss of all nodes, torn sectors", "N", [("power-loss-torn", 0.2, {"recovery": 10.0, "ready": 10.0})] * 4,
        holds=(nobody_was_replaced,)),
    Row(13, "power loss of one node, again and again", "N", [("power-loss-one-torn", 0.5, {"ready": 10.0})] * 6,
        holds=(nobody_was_replaced,)),
    Row(14, "lying disk at one node", "N", [("lying-disk", 5, {})] * 2),
    Row(15, "disk full: follower, leader, all", "P", [("full-disk", 2, {"interruption": 2.0, "ready": 5.0}),
                                                      ("full-disk-leader", 2, {"interruption": 2.0, "ready": 5.0}),
                                                      ("full-disk-all", 2, {"recovery": 5.0, "ready": 5.0})],
        holds=(full_disk_was_noticed,)),
    Row(16, "slow disk under the leader", "N", [("slow-disk-leader", 6, {"interruption": 3.0, "recovery": 3.0})] * 3,
        holds=(nobody_was_replaced,)),
    Row(17, "hung disk: leader, follower", "P", [("hung-disk-leader", 4, {"interruption": 3.0}), ("hung-disk-follower", 4, {})],
        holds=(nobody_was_replaced,)),
    Row(18, "disk errors", "P", [("failing-flush", 2, {"interruption": 1.0}), ("failing-write", 2, {"interruption": 1.0})],
        holds=(node_stopped,)),
    Row(19, "damaged files", "P", [(f"corrupt-{what}", 1, {"ready": 60.0}) for what in (
        "open-segment", "closed-segment", "metadata", "both-metadata", "store", "snapshot", "identity", "config")],
        holds=(damage_was_noticed,)),
    Row(20, "wiped node", "P", [("wipe", 0.5, {"ready": 30.0})], holds=(refused_and_replaced,)),
    Row(21, "old backup put back", "N", [("old-backup", 1, {"ready": 30.0})]),
    Row(22, "slow follower", "N", [("slow-cpu", 15, {})]),
    Row(23, "clocks: leader an hour off, follower a day, one at double speed", "P",
        [("clock-leader-ahead", 2, {"gap": 0.5}), ("clock-leader-behind", 2, {"gap": 0.5}),
         ("clock-follower-day", 2, {"gap": 0.5}), ("clock-fast", 2, {"gap": 0.5})],
        holds=(no_election,)),
    Row(24, "rolling upgrade", "P", [("rolling-upgrade", 0, {"gap": 0.5})], holds=(nobody_was_replaced,)),
    Row(25, "members replaced: the leader, and one without a majority to take it in", "N",
        [("replace-leader", 0.5, {"ready": 5.0}), ("replace-while-cut", 3, {"ready": 5.0})], holds=(nobody_was_taken_in,)),
    Row("25b", "a member added", "N", [("add-node", 0.5, {"ready": 5.0})]),
    Row("25c", "members removed: a follower, the leader, and one without a majority to take it out", "N",
        [("remove-follower", 1, {"gap": 1.0, "ready": 5.0}), ("remove-leader", 1, {"gap": 1.0, "ready": 5.0}),
         ("remove-while-cut", 3, {"ready": 5.0})], holds=(who_was_removed_is_out, nobody_was_taken_out)),
    Row(26, "2,000 clients move when their node dies", "P", [("kill-follower", 4, {"moved": 5.0})], workload="storm",
        options={"clients": 2000}),
    Row("26b", "10,000 clients move when their node dies", "N", [("kill-follower", 4, {"moved": 5.0})], workload="storm",
        options={"clients": 10000}),
    Row(27, "a consumer that does not read", "N", [("slow-consumer", 3, {"drain": 10.0})],
        holds=(drained_in_order, memory_is_bounded, others_go_on)),
    Row(28, "ten million messages in a thousand queues", "N", [("restart-backlog", 0.5, {})], holds=(start_is_flat,)),
    Row(29, "descriptors exhausted", "P", [("few-descriptors", 2, {"accepts": 1.0})]),
    Row(30, "little memory", "N", [("little-memory", 15, {"recovery": 2.0})], holds=(was_not_killed,)),
    Row(31, "little processor time for the leader", "N", [("slow-cpu-leader", 10, {"recovery": 5.0})] * 2),
    Row(32, "every connection reset, every two seconds", "P", [("reset-all", 5, {"recovery": 2.0})]),
    Row(33, "power loss at one flush of a start after the other", "N", [("power-loss-at-flush", 0.5, {"ready": 10.0})] * 4,
        holds=(nobody_was_replaced,)),
    Row(34, "quorum lost, nodes return one by one", "P", [("return-in-any-order", 0.2, {"recovery": 2.0, "ready": 3.0})] * 2,
        holds=(nobody_was_replaced,)),
    Row(35, "swarm of all faults that may overlap", "N", [], nodes=3, swarm_seconds=300),
    Row("35b", "swarm of all faults that may overlap, five nodes", "N", [], nodes=5, swarm_seconds=300),
)


# Every listener TLS, as every link is in all rows; CONNECT takes more of a processor.
ROWS += tuple(one.over_tls("P") for one in ROWS if one.number in ("1", "3", "32"))
ROWS += tuple(one.over_tls("N") for one in ROWS if one.number in ("4", "10", "12", "26", "34", "35"))


def row(number):
    """The row of this number; "7-tls": row 7 over TLS, also if it is in no tier."""
    for one in ROWS:
        if one.number == str(number):
            return one
    plain, tls, _ = str(number).partition("-tls")
    if not tls:
        raise KeyError(number)
    return row(plain).over_tls("N")


def tier(*names):
    return [one for one in ROWS if one.tier in names]


def groups(rows, largest=None):
    """Rows that can share a cluster, together, `largest` at most; in the order of their first."""
    found = {}
    for one in rows:
        found.setdefault((one.tier, *one.key()), []).append(one)
    size = largest or len(rows)
    return [together[at:at + size] for together in found.values() for at in range(0, len(together), size)]


# ---- judging one row of a run


def judge_row(one, events, verdicts):
    """[(what, measured, goal)] and [complaint] for a row of a run."""
    if not one.do:
        return [], []
    facts = facts_of(one, events)
    if not facts:
        return [], ["its faults were not played"]
    measured = recovery(one, facts, events, verdicts)
    waited = max((waited_for_processor(events, fact["began"], fact["whole"]) for fact in facts), default=0.0)
    complaints = [Late(f"{what} {value} s, the goal is {goal:g} s{f' (a node waited {waited:.1f} s for a processor)' if waited > 0.1 else ''}",
                       float("inf") if value is None else value - goal)
                  for what, value, goal in measured if value is None or value > goal]
    for check in one.holds:
        complaints += check(events, facts)
    return measured, complaints


def facts_of(one, events):
    """What the history says of each fault of a row: merge(), when all was well again ("whole"), and how long that took."""
    indices = one_span(one, events)
    facts = merge([event for event in events if event["index"] in indices])
    healed = [event for event in events if event["f"] == "healed" and event["value"]["row"] == one.number]
    for place, fact in enumerate(facts):
        there = place < len(healed)
        fact["whole"], fact["ready_s"] = (healed[place]["time"], healed[place]["value"]["ready_s"]) if there else (fact["ended"], None)
    return facts


def one_span(one, events):
    """Indices of this row's fault events: from each start with its number to the next stopped."""
    indices, inside = set(), False
    for event in events:
        if event["f"] != "fault":
            continue
        value = event["value"]
        if value["phase"] == "start":
            inside = value.get("row") == one.number
        if inside:
            indices.add(event["index"])
    return indices


def merge(fault_events):
    """One dict per fault, of all that its phases said, and when: began, started, stop, ended."""
    facts = []
    for event in fault_events:
        if event["value"]["phase"] == "start":
            facts.append({"index": event["index"], "began": event["time"]})
        facts[-1].update(event["value"], ended=event["time"])
        facts[-1].setdefault(event["value"]["phase"], event["time"])
    return facts


def waited_for_processor(events, begin, end):
    """Seconds that the most unfortunate node was ready to run between two times, and this machine had no processor for it."""
    last, waited = {}, {}
    for event in events:
        if event["f"] == "status" and begin <= event["time"] <= end and event["value"].get("waited_s") is not None:
            node, now = event["node"], event["value"]["waited_s"]
            waited[node] = waited.get(node, 0.0) + max(0.0, now - last.get(node, now))
            last[node] = now
    return max(waited.values(), default=0.0)


def only_late(complaints):
    return all(isinstance(complaint, Late) for complaint in complaints)


def busy_machine(one, events, complaints):
    """Whether all was late by no more than what a node waited for a processor meanwhile."""
    waits = [waited_for_processor(events, fact["began"], fact["whole"]) for fact in facts_of(one, events)]
    return bool(waits) and only_late(complaints) and all(complaint.seconds <= max(waits) for complaint in complaints)


def longest_gap(fact, events):
    """Seconds without an acknowledged publish at any node that the fault did not hit, while it was in force."""
    hit = set(fact.get("nodes") or [])
    times = [event["time"] for event in events if event["f"] == "publish" and event["type"] == "ok" and
             event["node"] not in hit and fact["began"] <= event["time"] <= fact["ended"]]
    points = [fact["began"]] + times + [fact["ended"]]
    return round(max(b - a for a, b in zip(points, points[1:])) / 1e9, 3)


TOLD = {"ready": "ready_s", "accepts": "accepts_after_s", "starts": "start_s", "drain": "drain_s"}    # goal -> where a fault's facts say it


def recovery(one, facts, events, verdicts):
    """Each goal of the row with its worst measure."""
    table = next((verdict.get("rows") or [] for verdict in verdicts if verdict["name"] == "recovery in time"), [])
    by_index = {line["index"]: line for line in table}
    worst = {}
    for fact in facts:
        for what, goal in fact.get("goals", {}).items():
            if what == "gap":
                value = longest_gap(fact, events)
            elif what in TOLD:
                value = fact.get(TOLD[what])
            else:
                value = by_index.get(fact["index"], {}).get(what, 0.0) or 0.0
            key = (what, goal)
            worst[key] = value if key not in worst or value is None else max(worst[key] or 0.0, value)
    return [(what, value, goal) for (what, goal), value in worst.items()]
