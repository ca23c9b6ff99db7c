"""The history, sorted into what the checkers speak of: publishes, sessions, subscriptions, deliveries, faults.

One pass, no judgement. Times are nanoseconds; NEVER stands for "not within this history".

A *session* is a client id. Its *generations* are the lives between two CONNECTs that found no session. Several devices may
use one client id (a take-over): `devices` tells, and checkers that need the state of one device leave such sessions out.
"""

from functools import lru_cache

NEVER = float("inf")
SECOND = 1_000_000_000


@lru_cache(maxsize=200_000)
def matches(pattern, topic):
    """Whether a topic filter (not a shared one) matches a topic."""
    levels, names = pattern.split("/"), topic.split("/")
    if topic.startswith("$") and levels[0] in ("+", "#"):
        return False
    for index, level in enumerate(levels):
        if level == "#":
            return True
        if index == len(names) or level not in ("+", names[index]):
            return False
    return len(levels) == len(names)


class Publish:
    """invoked, returned (NEVER when unknown); outcome ok, fail or info; sends: how often PUBLISH was sent."""

    def __init__(self, event):
        value = event["value"]
        self.mid, self.topic, self.qos, self.retain = value["mid"], value["topic"], value["qos"], value["retain"]
        self.clear, self.expiry = value.get("clear", False), value.get("expiry")
        self.publisher, self.index, self.invoked = event["client"], event["index"], event["time"]
        self.node, self.conn = event["node"], event["conn"]
        self.returned, self.outcome, self.end_index, self.end_node, self.sends = NEVER, "info", None, None, 1
        self.end_conn = event["conn"]

    def end(self, event):
        self.outcome, self.end_index, self.end_node = event["type"], event["index"], event["node"]
        self.end_conn = event["conn"]
        self.sends = max(self.sends, (event["value"] or {}).get("sends", 1))
        if event["type"] != "info":
            self.returned = event["time"]


class Subscription:
    """One filter of one session, from SUBSCRIBE to UNSUBSCRIBE or the session's end. asked..granted: the SUBSCRIBE; ending..over:
    what ended it."""

    def __init__(self, session, pattern, qos, asked, granted, generation, index):
        self.session, self.pattern, self.qos, self.asked, self.granted = session, pattern, qos, asked, granted
        self.generation, self.index = generation, index
        self.ending = self.over = NEVER
        self.again = NEVER          # when it was asked for again while it was in force: its retained messages come again


class Delivery:
    __slots__ = ("index", "time", "mid", "topic", "pid", "qos", "dup", "retain", "app", "conn", "node", "device", "expiry")

    def __init__(self, event):
        value = event["value"]
        self.index, self.time, self.conn, self.node = event["index"], event["time"], event["conn"], event["node"]
        self.mid, self.topic, self.pid, self.qos = value["mid"], value["topic"], value["pid"], value["qos"]
        self.dup, self.retain, self.app, self.device = value["dup"], value["retain"], value["app"], event["client"]
        self.expiry = value.get("expiry")


class Connection:
    """One CONNECT and what came of it. `ended` is when the client saw the end, `heard` when it last got something before."""

    def __init__(self, event):
        value = event["value"]
        self.id, self.device, self.node, self.conn = value["client"], event["client"], event["node"], event["conn"]
        self.clean, self.expiry, self.will, self.level = value["clean"], value["expiry"], value["will"], value["level"]
        self.index, self.invoked = event["index"], event["time"]
        self.outcome, self.returned, self.session_present, self.reason = "info", NEVER, None, None
        self.end_index, self.ended, self.heard = None, NEVER, NEVER
        self.cause = None           # "drop", "closed", "disconnect"; "silence": dropped since nothing came from the node
        self.close_reason = None    # of the node's DISCONNECT
        self.goodbye = None         # the client's own DISCONNECT: its event, and its completion
        self.goodbye_end = None
        self.end_event = None

    def answer(self, event):
        self.outcome, self.end_index = event["type"], event["index"]
        if event["type"] != "info":
            self.returned = event["time"]
        if event["type"] == "ok":
            self.session_present = event["value"]["session_present"]
        elif event["value"]:
            self.reason = event["value"].get("reason")


class Session:
    def __init__(self, client_id):
        self.id = client_id
        self.devices = set()
        self.connections = []       # in the order of their CONNECTs
        self.subscriptions = []
        self.deliveries = []
        self.acknowledged = []      # (time, conn, mid, kind)
        self.generation = 0
        self.drained = None         # completion of the last drain


class Fault:
    """One fault, from `start` (about to be) to `stopped` (certainly over); `started`..`stop` is when it was surely in force."""

    def __init__(self, event):
        self.value = event["value"]
        self.name, self.index = self.value["name"], event["index"]
        self.nodes = self.value.get("nodes") or []
        self.cut = [tuple(pair) for pair in self.value.get("cut") or []]
        self.start, self.started, self.stop, self.stopped = event["time"], NEVER, NEVER, NEVER


class Model:
    def __init__(self, events):
        self.events = events
        self.end = events[-1]["time"] if events else 0
        self.publishes, self.sessions, self.by_conn = {}, {}, {}
        self.operations = []        # (invocation, completion or None)
        self.faults, self.statuses, self.hashes, self.resources, self.counters = [], [], [], [], []
        self.drops = None           # messages that the nodes say they dropped by a limit; None: nobody asked
        self.settings = {}          # what the runner says about the run
        self._open = {}
        for event in events:
            self._take(event)
        self.operations += [(event, None) for event in self._open.values()]
        self.operations.sort(key=lambda pair: pair[0]["index"])
        for session in self.sessions.values():
            bound_subscriptions(session, self.end)

    def session(self, client_id):
        if client_id not in self.sessions:
            self.sessions[client_id] = Session(client_id)
        return self.sessions[client_id]

    def session_of(self, event):
        connection = self.by_conn.get(event["conn"])
        return self.session(connection.id if connection else event["client"])

    def _take(self, event):
        kind = event["type"]
        if kind == "invoke":
            self._open[event["process"]] = event
            begin = getattr(self, "_begin_" + event["f"], None)
            if begin:
                begin(event)
        elif isinstance(event["process"], int):
            invocation = self._open.pop(event["process"])
            if kind == "ok" and event["f"] != "disconnect":
                self._hear(event)
            self.operations.append((invocation, event))
            finish = getattr(self, "_end_" + event["f"], None)
            if finish:
                finish(invocation, event)
        else:
            see = getattr(self, "_see_" + event["f"].replace("-", "_"), None)
            if see:
                see(event)

    # ---- operations

    def _begin_publish(self, event):
        self.publishes[event["value"]["mid"]] = Publish(event)

    def _end_publish(self, invocation, event):
        self.publishes[invocation["value"]["mid"]].end(event)

    def _see_resend(self, event):
        publish = self.publishes.get(event["value"]["mid"])
        if publish and event["value"]["stage"] == "publish":
            publish.sends += 1

    def _begin_connect(self, event):
        connection = Connection(event)
        session = self.session(connection.id)
        session.devices.add(connection.device)
        session.connections.append(connection)
        self.by_conn[connection.conn] = connection

    def _end_connect(self, invocation, event):
        connection = self.by_conn[invocation["conn"]]
        connection.answer(event)
        if connection.outcome == "ok":
            connection.heard = event["time"]
            if not connection.session_present:
                self.session(connection.id).generation += 1
        else:
            connection.ended = event["time"]

    def _end_subscribe(self, invocation, event):
        """A subscription that may have been granted counts from its asking; only one that was is owed anything."""
        if event["type"] == "fail":
            return
        session = self.session_of(invocation)
        codes = event["value"].get("codes") if event["type"] == "ok" else None
        for place, (pattern, qos) in enumerate(invocation["value"]["filters"]):
            if codes and codes[place] >= 0x80:
                continue
            granted = event["time"] if codes else NEVER
            qos = codes[place] if codes else qos
            if self._covered(session, pattern, qos, invocation["time"]):
                continue
            session.subscriptions.append(Subscription(session, pattern, qos, invocation["time"], granted,
                                                      session.generation, invocation["index"]))

    def _covered(self, session, pattern, qos, time):
        """Asked for again while it is in force: nothing new but the retained messages."""
        for known in session.subscriptions:
            if known.pattern == pattern and known.qos == qos and known.generation == session.generation and (
                    known.granted != NEVER and known.ending == NEVER):
                known.again = min(known.again, time)
                return True
        return False

    def _end_unsubscribe(self, invocation, event):
        if event["type"] == "fail":
            return
        for subscription in self.session_of(invocation).subscriptions:
            if subscription.pattern in invocation["value"]["filters"] and subscription.over == NEVER:
                subscription.ending = min(subscription.ending, invocation["time"])
                if event["type"] == "ok":
                    subscription.over = event["time"]

    def _begin_disconnect(self, event):
        self.by_conn[event["conn"]].goodbye = event

    def _end_disconnect(self, invocation, event):
        connection = self.by_conn[invocation["conn"]]
        connection.goodbye_end = event
        self._connection_ended(connection, event, "disconnect")

    def _end_drain(self, invocation, event):
        self.session(invocation["value"]["session"]).drained = event

    # ---- what is seen

    def _see_deliver(self, event):
        self.session(event["value"]["session"]).deliveries.append(Delivery(event))
        self._hear(event)

    def _see_ack_sent(self, event):
        value = event["value"]
        self.session_of(event).acknowledged.append((event["time"], event["conn"], value["mid"], value["kind"]))

    def _hear(self, event):
        connection = self.by_conn.get(event["conn"])
        if connection and connection.outcome == "ok":
            connection.heard = event["time"]

    def _connection_ended(self, connection, event, cause):
        if connection.cause is None:
            connection.cause, connection.ended, connection.end_event = cause, event["time"], event

    def _see_drop(self, event):
        self._connection_ended(self.by_conn[event["conn"]], event, event["value"].get("why") or "drop")

    def _see_closed(self, event):
        connection = self.by_conn[event["conn"]]
        connection.close_reason = event["value"]["reason"]
        if connection.goodbye is None:
            self._connection_ended(connection, event, "closed")

    def _see_fault(self, event):
        value = event["value"]
        if value["phase"] == "start":
            self.faults.append(Fault(event))
            return
        for fault in reversed(self.faults):
            if fault.name == value["name"] and fault.stopped == NEVER:
                fault.nodes = value.get("nodes") or fault.nodes
                fault.cut = [tuple(pair) for pair in value.get("cut") or []] or fault.cut
                fault.value = dict(fault.value, **value)
                setattr(fault, value["phase"], event["time"])
                if value["phase"] == "stopped":
                    fault.stop = min(fault.stop, event["time"])
                return

    def _see_status(self, event):
        self.statuses.append(event)

    def _see_read_hash(self, event):
        self.hashes.append(event)

    def _see_resources(self, event):
        self.resources.append(event)

    def _see_dropped(self, event):
        self.drops = (self.drops or 0) + event["value"]["messages"]

    def _see_settings(self, event):
        self.settings.update(event["value"])


def bound_subscriptions(session, end):
    """A subscription ends with its session's generation: at the CONNECT that found, or wanted, none. `ending` is the earliest
    time at which that may have happened."""
    for number, connection in enumerate(session.connections):
        fresh = connection.clean or (connection.outcome == "ok" and not connection.session_present)
        if not fresh or connection.outcome == "fail":
            continue
        ending = connection.invoked
        if not connection.clean and number:
            ending = min(ending, earliest_expiry(session.connections[:number]))
        for subscription in session.subscriptions:
            if subscription.asked < connection.invoked:
                subscription.ending = min(subscription.ending, ending)
                if connection.outcome == "ok":
                    subscription.over = min(subscription.over, connection.returned)


def earliest_expiry(connections):
    """When the session of these connections may have ended by itself, at the earliest."""
    last = [one for one in connections if one.outcome != "fail"][-1:]
    if not last or last[0].expiry >= 0xFFFFFFFF:
        return NEVER
    since = last[0].heard if last[0].heard != NEVER else last[0].invoked
    return since + last[0].expiry * SECOND * 9 // 10
