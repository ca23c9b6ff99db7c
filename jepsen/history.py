"""The history of a run: what every client did and saw, and which faults were in force, on one monotonic clock.

    clients, nemeses --> Recorder --> history.jsonl --> History --> check/*.py --> verdicts
                                                          |
                                                          +--> EDN (Jepsen), register and queue histories, CSV

A history is a list of events. An event is a dict:

    index    place in the history, from 0
    time     nanoseconds since the run began; never smaller than that of the event before
    process  an integer for clients (below); "nemesis", "observer" or "runner" for what is not a client
    type     "invoke"; "ok" (happened), "fail" (certainly had no effect), "info" (unknown, or no operation at all)
    f        what was done: the table in OPERATIONS
    value    a dict; `error` says why for fail and info
    client, node, conn   client id, name of the node ("n1"), number of the connection in this run (clients only)

**Processes.** An MQTT client has many operations under way at once; a process of a history has at most one. So each
operation takes a process of its client's that is idle, or a new one, and gives it back when it ends. One that ended
"info" may still take effect at any later time: its process is not used again, which is Jepsen's rule.

An acknowledgement that comes only after a reconnect and a repetition with DUP completes the operation that began before:
it is one publish, however often it was sent (`sends` in the completion).
"""

import csv
import json
import time
from collections import defaultdict

# Operations of clients: what is in `value` at the invocation, and at the completion.
OPERATIONS = {
    "connect": "client level clean expiry keep_alive receive_maximum will -> session_present reason",
    "disconnect": "reason -> how (server closed it, or it broke)",
    "subscribe": "filters [[filter, qos]] -> codes",
    "unsubscribe": "filters -> codes",
    "publish": "mid topic qos retain pid expiry (seconds; if it has one) -> mid stage reason sends",
    "read": "topics: their retained messages as of a SUBSCRIBE -> values {topic: mid or null}",
    "drain": "session: resumed, and received until nothing came any more -> quiet (or the deadline came first)",
}

# What is no operation but is seen: recorded at once, without an invocation (type "ok" for deliver, else "info").
EVENTS = {
    "deliver": "mid topic session pid qos dup retain app (false: the client's QoS 2 state held it back) expiry (what is left of it)",
    "ack-sent": "mid pid kind (puback, pubrec, pubcomp)",
    "pubcomp": "mid: the handshake of a QoS 2 publish is complete",
    "resend": "mid pid stage: sent again after a reconnect",
    "drop": "the client cut the connection without a word; why: silence, or null",
    "closed": "the connection ended; reason of the server's DISCONNECT, or null",
    "forgotten": "mids: publishes given up since their session is gone",
    "status": "by the observer, of a node: role term leader ready applied hash ...; waited_s: for a processor, since it was started",
    "read-hash": "by the observer, of an idle node: index hash, source live or recomputed",
    "resources": "by the observer, of a node: pid descriptors resident_kib anonymous_kib sessions ..., phase before, cycle-N, after",
    "fault": "by the nemesis: name phase (start, started, stop, stopped) nodes cut ...",
}


class Recorder:
    """Writes a history, line by line, and keeps it in memory for the checkers of the same process."""

    def __init__(self, path=None, clock=time.monotonic_ns):
        self.events = []
        self.clock = clock
        self.began = clock()
        self._file = open(path, "w", buffering=1 << 16) if path else None
        self._next_process = self._connections = 0
        self._idle = defaultdict(list)     # client id -> processes that may be used again
        self._encode = json.JSONEncoder(separators=(",", ":"), default=str).encode

    def now(self):
        return self.clock() - self.began

    def new_connection(self):
        """The number of one more connection."""
        self._connections += 1
        return self._connections

    def add(self, event):
        event["index"] = len(self.events)
        event["time"] = self.now()
        self.events.append(event)
        if self._file:
            self._file.write(self._encode(event) + "\n")
        return event

    def invoke(self, client, f, value, node=None, conn=None):
        """Begins an operation; the event returned is what ok(), fail() and info() complete."""
        idle = self._idle[client]
        if idle:
            process = idle.pop()
        else:
            process = self._next_process
            self._next_process += 1
        return self.add({"process": process, "type": "invoke", "f": f, "value": value, "client": client, "node": node,
                         "conn": conn})

    def _complete(self, kind, operation, value, error, node, conn):
        event = {"process": operation["process"], "type": kind, "f": operation["f"], "value": value,
                 "client": operation["client"], "node": node or operation["node"], "conn": conn or operation["conn"]}
        if error:
            event["error"] = error
        if kind != "info":
            self._idle[operation["client"]].append(operation["process"])
        return self.add(event)

    def ok(self, operation, value, node=None, conn=None):
        return self._complete("ok", operation, value, None, node, conn)

    def fail(self, operation, value, error, node=None, conn=None):
        return self._complete("fail", operation, value, error, node, conn)

    def info(self, operation, value, error, node=None, conn=None):
        return self._complete("info", operation, value, error, node, conn)

    def seen(self, client, f, value, node=None, conn=None):
        """Something that is no operation: see EVENTS."""
        return self.add({"process": f"{client}/seen", "type": "ok" if f == "deliver" else "info", "f": f,
                         "value": value, "client": client, "node": node, "conn": conn})

    def note(self, process, f, value, node=None):
        """What the nemesis, the observer or the runner has to say."""
        return self.add({"process": process, "type": "info", "f": f, "value": value, "node": node})

    def fault(self, name, phase, **value):
        """phase: start (about to), started (in force), stop (about to end), stopped."""
        return self.note("nemesis", "fault", dict(value, name=name, phase=phase))

    def flush(self):
        if self._file:
            self._file.flush()

    def close(self):
        if self._file:
            self._file.close()
            self._file = None


def load(path):
    """The events of a history file. A last line that was cut short (the recorder was killed) is left out."""
    events = []
    with open(path) as file:
        for line in file:
            try:
                events.append(json.loads(line))
            except json.JSONDecodeError:
                if line.endswith("\n"):
                    raise
    return events


def completions(events):
    """index of an invocation -> its completion event, for those that have one."""
    open_operations, found = {}, {}
    for event in events:
        process = event["process"]
        if event["type"] == "invoke":
            if process in open_operations:
                raise ValueError(f"process {process} has two operations at once, at {event['index']}")
            open_operations[process] = event
        elif isinstance(process, int):
            invocation = open_operations.pop(process, None)
            if invocation is None:
                raise ValueError(f"a completion without an invocation, at {event['index']}")
            found[invocation["index"]] = event
    return found


# ---- for other people's tools ------------------------------------------------------------------------------

def edn(value):
    """A value in EDN. Keys of dicts that are plain words become keywords, as Jepsen expects; others stay strings."""
    if value is None:
        return "nil"
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{edn_key(key)} {edn(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(edn(inner) for inner in value) + "]"
    return json.dumps(str(value), ensure_ascii=False)


def edn_key(key):
    plain = isinstance(key, str) and key and key.replace("_", "").replace("-", "").isalnum() and key[0].isalpha()
    return ":" + key.replace("_", "-") if plain else edn(key)


def edn_event(event):
    process = event["process"]
    parts = [f":index {event['index']}", f":time {event['time']}",
             f":process {process if isinstance(process, int) else ':' + str(process).split('/')[-1]}",
             f":type :{event['type']}", f":f :{event['f']}", f":value {edn(event['value'])}"]
    parts += [f":{key} {edn(event[key])}" for key in ("client", "node", "conn", "error") if event.get(key) is not None]
    return "{" + ", ".join(parts) + "}"


def as_operations(events):
    """The events with nothing but whole operations for integer processes: what was merely seen of a delivery becomes an
    invocation and its completion, on a process of its own per session; other sights stay :info."""
    numbers, index = {}, 0
    first_free = 1 + max((e["process"] for e in events if isinstance(e["process"], int)), default=0)
    for event in events:
        if event["f"] == "deliver":
            number = numbers.setdefault(event["client"], first_free + len(numbers))
            yield dict(event, index=index, process=number, type="invoke", value=None)
            index += 1
            event = dict(event, process=number)
        yield dict(event, index=index)
        index += 1


def write_edn(events, path):
    """The whole history, one map per line, as jepsen.history reads it."""
    with open(path, "w") as file:
        for event in as_operations(events):
            file.write(edn_event(event) + "\n")


def queue_history(events, session):
    """For jepsen.checker/total-queue: the messages that `session` was owed or given, as enqueue and dequeue.

    The session is to have one subscription, made before the first publish; publishes are those to topics that the
    caller has filtered for."""
    operations = []
    taker = 1 + max((event["process"] for event in events if isinstance(event["process"], int)), default=0)
    for event in events:
        if event["f"] == "publish":
            operations.append({"time": event["time"], "process": event["process"], "type": event["type"], "f": "enqueue",
                               "value": event["value"]["mid"]})
        elif event["f"] == "deliver" and event["value"]["app"] and event["value"]["session"] == session:
            base = {"time": event["time"], "process": taker}
            operations.append(dict(base, type="invoke", f="dequeue", value=None))
            operations.append(dict(base, type="ok", f="dequeue", value=event["value"]["mid"]))
    return [dict(operation, index=index) for index, operation in enumerate(operations)]


def register_history(events, topic):
    """For knossos and porcupine: the retained message of one topic as a register with :read and :write. A read is of
    one topic here, of several in the history, so each (process, topic) has its own process number."""
    operations, written, topics_of = [], {}, {}
    for event in events:
        if not isinstance(event["process"], int):
            continue
        value = None
        if event["f"] == "publish":
            if event["type"] == "invoke":
                if not event["value"]["retain"] or event["value"]["topic"] != topic:
                    continue
                value = written[event["process"]] = event["value"]["mid"]
            elif event["process"] in written:
                value = written.pop(event["process"])
            else:
                continue
        elif event["f"] == "read":
            if event["type"] == "invoke":
                topics_of[event["process"]] = event["value"]["topics"]
            if topic not in topics_of[event["process"]]:
                continue
            value = event["value"]["values"][topic] if event["type"] == "ok" else None
        else:
            continue
        operations.append({"index": len(operations), "time": event["time"], "process": event["process"],
                           "type": event["type"], "f": "read" if event["f"] == "read" else "write", "value": value})
    return operations


def write_operations(operations, path):
    """Operations of queue_history or register_history as EDN; :f becomes a keyword."""
    with open(path, "w") as file:
        for one in operations:
            file.write(f"{{:process {one['process']}, :type :{one['type']}, "
                       f":f :{one['f']}, :value {edn(one['value'])}, :index {one['index']}, :time {one['time']}}}\n")


def write_csv(events, path):
    """One row per completed operation: when it began, how long it took, how it ended. For plots."""
    done = completions(events)
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["began_s", "seconds", "f", "type", "node", "client", "process"])
        for event in events:
            if event["type"] != "invoke":
                continue
            end = done.get(event["index"])
            kind = end["type"] if end else "info"
            seconds = f"{(end['time'] - event['time']) / 1e9:.6f}" if end else ""
            rows.writerow([f"{event['time'] / 1e9:.6f}", seconds, event["f"], kind, event["node"], event["client"],
                           event["process"]])
