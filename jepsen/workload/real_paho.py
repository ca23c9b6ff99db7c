"""A paho client beside our own: it publishes to itself and to the others, keeps a persistent session, and goes to the next node when
its own is gone.

It resends as it sees fit, on our event loop. How often it sent a message nobody says: at most once more for each connection since.
"""

import asyncio
from random import Random

from client import SESSION_FOR_EVER, make_payload, read_payload

try:
    import paho.mqtt.client as paho
except ImportError:
    paho = None

PERIOD_SECONDS = 0.3
QUIET_SECONDS = 3.0
DRAINED_SECONDS = 30.0
CONNECT_SECONDS = 0.3       # between two tries
KEEP_ALIVE = 5              # which is how it notices that a node is silent
NAME = "paho"
TOPIC = "paho/1"


def available():
    return paho is not None


class PahoClient:
    def __init__(self, recorder, addresses, seed):
        self.recorder, self.addresses, self.seed = recorder, addresses, seed
        self.chance = Random(f"{seed} {NAME}")
        versions = getattr(paho, "CallbackAPIVersion", None)
        options = {"callback_api_version": versions.VERSION1} if versions else {}
        self.client = paho.Client(client_id=NAME, clean_session=False, **options)
        self.loop = asyncio.get_running_loop()
        self.node = self.conn = self.connecting = self.subscribing = None
        self.connections = self.delivered = self.sequence = 0
        self.sent = {}              # paho's number -> (operation, mid, connections when it was sent)
        self.subscribed, self.up, self.stopping, self.task = asyncio.Event(), False, False, None
        self._join_loop()

    def _join_loop(self):
        """paho's sockets are read and written by our event loop."""
        client, loop = self.client, self.loop
        client.on_socket_open = lambda _c, _u, sock: loop.add_reader(sock, client.loop_read)
        client.on_socket_close = lambda _c, _u, sock: loop.remove_reader(sock)
        client.on_socket_register_write = lambda _c, _u, sock: loop.add_writer(sock, client.loop_write)
        client.on_socket_unregister_write = lambda _c, _u, sock: loop.remove_writer(sock)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_subscribe, client.on_publish, client.on_message = self._on_subscribe, self._on_publish, self._on_message

    # ---- what paho tells

    def _on_connect(self, _client, _userdata, flags, code):
        operation, self.connecting = self.connecting, None
        if code:
            self.recorder.fail(operation, {"reason": int(code)}, f"CONNACK {int(code)}")
            return
        self.connections += 1
        self.up, present = True, bool(flags["session present"])
        self.recorder.ok(operation, {"session_present": present, "reason": 0})
        if not present or not self.subscribed.is_set():
            self.subscribing = self.recorder.invoke(NAME, "subscribe", {"filters": [["paho/#", 1]]}, self.node, self.conn)
            self.client.subscribe("paho/#", 1)

    def _on_disconnect(self, *_):
        for operation in (self.connecting, self.subscribing):
            if operation:
                self.recorder.info(operation, {}, "the connection ended")
        if self.up:
            self.recorder.seen(NAME, "closed", {"reason": None, "error": None}, self.node, self.conn)
        self.connecting, self.subscribing, self.up = None, None, False

    def _on_subscribe(self, _client, _userdata, _number, codes):
        if self.subscribing:
            self.recorder.ok(self.subscribing, {"codes": [int(code) for code in codes]})
            self.subscribing = None
            self.subscribed.set()

    def _on_publish(self, _client, _userdata, number):
        operation, mid, since = self.sent.pop(number, (None, None, 0))
        if operation:
            self.recorder.ok(operation, {"mid": mid, "stage": "puback", "reason": 0, "sends": 1 + self.connections - since},
                             self.node, self.conn)

    def _on_message(self, _client, _userdata, message):
        self.delivered += 1
        self.recorder.seen(NAME, "deliver", {"mid": read_payload(message.payload, self.seed), "topic": message.topic,
                                             "session": NAME, "pid": message.mid, "qos": message.qos, "dup": message.dup,
                                             "retain": message.retain, "app": True}, self.node, self.conn)

    # ---- staying connected

    def start(self):
        self.task = self.loop.create_task(self._stay_connected())

    async def _stay_connected(self):
        while True:
            if not self.up and self.connecting is None:
                self._connect(self.chance.choice(sorted(self.addresses)))
            await asyncio.sleep(CONNECT_SECONDS)
            self.client.loop_misc()

    def _connect(self, node):
        self.node, self.conn = node, self.recorder.new_connection()
        value = {"client": NAME, "level": 4, "clean": False, "expiry": SESSION_FOR_EVER, "keep_alive": KEEP_ALIVE,
                 "receive_maximum": None, "will": None}
        self.connecting = self.recorder.invoke(NAME, "connect", value, node, self.conn)
        try:
            self.client.connect(*self.addresses[node], keepalive=KEEP_ALIVE)
        except OSError as error:
            if self.connecting:
                self.recorder.fail(self.connecting, {}, f"no TCP connection: {error}")
                self.connecting = None

    # ---- the workload's side

    def publish(self):
        self.sequence += 1
        mid = f"{NAME}-{self.sequence}"
        value = {"mid": mid, "topic": TOPIC, "qos": 1, "retain": False, "pid": 0}
        operation = self.recorder.invoke(NAME, "publish", value, self.node, self.conn)
        number = self.client.publish(TOPIC, make_payload(mid, self.seed), 1).mid
        self.sent[number] = (operation, mid, self.connections)

    async def drive(self):
        while not self.stopping:
            await asyncio.sleep(self.chance.uniform(0.5, 1.5) * PERIOD_SECONDS)
            if self.up and len(self.sent) < 10:
                self.publish()

    async def drain(self):
        operation = self.recorder.invoke(NAME, "drain", {"session": NAME}, self.node, self.conn)
        deadline, quiet = self.loop.time() + DRAINED_SECONDS, False
        while self.loop.time() < deadline and not quiet:
            before = (self.delivered, self.conn)
            await asyncio.sleep(QUIET_SECONDS)
            quiet = self.up and before == (self.delivered, self.conn)
        self.recorder.ok(operation, {"session": NAME, "quiet": quiet}, self.node, self.conn)
        return quiet

    async def close(self):
        self.stopping = True
        if self.task:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        self.client.disconnect()
        for operation, mid, since in self.sent.values():
            self.recorder.info(operation, {"mid": mid, "sends": 1 + self.connections - since}, "the run ended")
        self.sent.clear()
