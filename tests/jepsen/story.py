"""Hand-made histories: a story is told in steps of one millisecond each, and the checkers get its events."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "jepsen"))

import check  # noqa: E402
from check.model import Model  # noqa: E402
from history import Recorder  # noqa: E402

MILLISECOND = 1_000_000
NODES = ["n1", "n2", "n3"]


class Story:
    """Every call is one event, or an operation with its answer, and takes one millisecond per event."""

    def __init__(self):
        self.clock = 0
        self.recorder = Recorder(clock=self._tick)
        self.sequence = {}
        self.conn = {}
        self.node = {}

    def _tick(self):
        self.clock += MILLISECOND
        return self.clock

    def wait(self, seconds):
        self.clock += int(seconds * 1e9)
        return self

    # ---- operations that are answered at once, unless `answer` says otherwise

    def _do(self, client, f, value, answer, result):
        operation = self.recorder.invoke(client, f, value, self.node.get(client, "n1"), self.conn.get(client))
        if answer == "later":
            return operation
        self.finish(operation, answer, result)
        return operation

    def finish(self, operation, answer="ok", result=None):
        if answer == "ok":
            self.recorder.ok(operation, result)
        elif answer == "fail":
            self.recorder.fail(operation, result or {}, "refused")
        elif answer == "info":
            self.recorder.info(operation, result or {}, "closed")

    def connect(self, client, present=False, clean=False, expiry=0xFFFFFFFF, will=None, node="n1", client_id=None, answer="ok",
                level=5):
        self.conn[client], self.node[client] = self.recorder.new_connection(), node
        value = {"client": client_id or client, "level": level, "clean": clean, "expiry": expiry, "keep_alive": 30,
                 "receive_maximum": None, "will": will}
        return self._do(client, "connect", value, answer, {"session_present": present, "reason": 0})

    def subscribe(self, client, *filters, qos=2, answer="ok", codes=None):
        pairs = [[name, qos] for name in filters]
        return self._do(client, "subscribe", {"filters": pairs}, answer, {"codes": codes or [qos] * len(filters)})

    def unsubscribe(self, client, *filters, codes=None, answer="ok"):
        return self._do(client, "unsubscribe", {"filters": list(filters)}, answer, {"codes": codes or [0] * len(filters)})

    def publish(self, client, topic="t", qos=2, retain=False, answer="ok", sends=1, clear=False, expiry=None):
        """Returns the message's id, or with answer "later" the operation (whose value has it)."""
        self.sequence[client] = self.sequence.get(client, 0) + 1
        mid = f"{client}-{self.sequence[client]}"
        value = {"mid": mid, "topic": topic, "qos": qos, "retain": retain, "pid": self.sequence[client]}
        if clear:
            value["clear"] = True
        if expiry is not None:
            value["expiry"] = expiry
        operation = self._do(client, "publish", value, answer, {"mid": mid, "stage": "pubrec", "reason": 0, "sends": sends})
        return operation if answer == "later" else mid

    def acknowledge(self, operation, sends=1, answer="ok"):
        self.finish(operation, answer, {"mid": operation["value"]["mid"], "stage": "puback", "reason": 0, "sends": sends})

    def deliver(self, client, mid, topic="t", qos=2, dup=False, retain=False, app=True, pid=1, session=None, expiry=None):
        value = {"mid": mid, "topic": topic, "session": session or client, "pid": pid, "qos": qos, "dup": dup, "retain": retain,
                 "app": app}
        if expiry is not None:
            value["expiry"] = expiry
        self.recorder.seen(client, "deliver", value, self.node.get(client, "n1"), self.conn.get(client))
        return self

    def read(self, client, values, answer="ok"):
        return self._do(client, "read", {"topics": list(values)}, answer, {"values": values})

    def drop(self, client):
        self.recorder.seen(client, "drop", {"reset": False}, self.node[client], self.conn[client])
        return self

    def closed(self, client, reason=None):
        self.recorder.seen(client, "closed", {"reason": reason, "error": None}, self.node[client], self.conn[client])
        return self

    def disconnect(self, client, reason=0, answer="ok"):
        return self._do(client, "disconnect", {"reason": reason}, answer, {"how": "closed by the node"})

    def drain(self, *clients):
        for client in clients:
            self._do(client, "drain", {"session": client}, "ok", {"session": client, "quiet": True})
        return self

    def fault(self, name, phase, **value):
        self.recorder.fault(name, phase, **value)
        return self

    def note(self, f, node, **value):
        self.recorder.note("observer", f, value, node=node)
        return self

    # ---- the judgement

    def verdict(self, checker, **facts):
        model = Model(self.recorder.events)
        model.settings.update({"nodes": NODES}, **facts)
        return checker(model)


def rules(verdict):
    return sorted({one["rule"] for one in verdict.violations})


def calm():
    """A subscriber of "t" and a publisher; the first message has been delivered."""
    story = Story()
    story.connect("sub")
    story.subscribe("sub", "t")
    story.connect("pub")
    story.deliver("sub", story.publish("pub"))
    return story


__all__ = ["Story", "calm", "check", "rules", "MILLISECOND", "NODES"]
