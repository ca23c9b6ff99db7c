"""Ordinary client software beside our own: mosquitto_sub with a persistent session at each node, mosquitto_pub, and paho
(real_paho.py). What is not installed is left out, and the description says so.

They do as their authors thought right. Their debug output tells enough for the history: mosquitto_pub ends with 0 when its QoS 1
message is acknowledged; mosquitto_sub says when its CONNACK and SUBACK came, of each PUBLISH its DUP, and of each message its QoS,
RETAIN and packet id. (Not Session Present: that is taken to be right, and a lost session shows as lost messages.)
mosquitto_sub reconnects to its own node only, so it stays where it is; when it is turned away it ends, and is started again: it
then has forgotten its QoS 2 state, so that its session counts as one of several devices. It hands over QoS 2 at PUBREL and QoS 1 at PUBLISH, so each
listens to one of them only: else it would see an order that the node did not send.
"""

import asyncio
import contextlib
import re
import shutil
from random import Random

from client import SESSION_FOR_EVER, make_payload, read_payload

from . import real_paho

PUBLISH = re.compile(r"received PUBLISH \(d(\d), q\d, r\d, m(\d+), ")
MESSAGE = re.compile(r"^MESSAGE q(\d) r(\d) m(\d+) (\S+) (.*)$")
FORMAT = "MESSAGE q%q r%r m%m %t %p"
DRAINED_SECONDS = 30.0
QUIET_SECONDS = 3.0         # longer than mosquitto_sub waits before it connects again
PERIOD_SECONDS = 0.5
RESTART_SECONDS = 0.3


class Listener:
    """One mosquitto_sub, from its debug output to events."""

    def __init__(self, owner, node, qos):
        self.owner, self.node, self.name, self.qos = owner, node, f"mosquitto-{node}", qos
        self.recorder, self.process, self.task, self.device = owner.recorder, None, None, self.name
        self.conn = self.connecting = self.subscribing = None
        self.repeated = {}          # packet id -> DUP of the PUBLISH whose message is still to come
        self.subscribed = asyncio.Event()
        self.delivered = 0

    def start(self):
        self.task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self):
        host, port = self.owner.addresses[self.node]
        arguments = ["-d", "-h", host, "-p", str(port), "-i", self.name, "-c", "-q", str(self.qos), "-t", f"real/{self.qos}/#",
                     "-k", "10", "-F", FORMAT, *self.owner.trust]
        starts = 0
        while True:
            self.process = await asyncio.create_subprocess_exec(
                "stdbuf", "-oL", "mosquitto_sub", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
                stdin=asyncio.subprocess.DEVNULL)
            await self._read()
            self._unknown()
            starts += 1
            if self.qos == 2:
                self.device = f"{self.name}.{starts}"
            await asyncio.sleep(RESTART_SECONDS)

    async def _read(self):
        async for raw in self.process.stdout:
            line = raw.decode(errors="replace").rstrip("\n")
            message, publish = MESSAGE.match(line), PUBLISH.search(line)
            if message:
                self._deliver(*message.groups())
            elif publish:
                self.repeated[int(publish[2])] = publish[1] == "1"
            elif "sending CONNECT" in line:
                self._connect()
            elif "received CONNACK (0)" in line and self.connecting:
                self.recorder.ok(self.connecting, {"session_present": self.subscribed.is_set(), "reason": 0})
                self.connecting = None
            elif "received CONNACK" in line and self.connecting:
                self.recorder.fail(self.connecting, {"reason": 3}, line)
                self.connecting = None
            elif "sending SUBSCRIBE" in line:
                filters = {"filters": [[f"real/{self.qos}/#", self.qos]]}
                self.subscribing = self.recorder.invoke(self.device, "subscribe", filters, self.node, self.conn)
            elif "received SUBACK" in line and self.subscribing:
                self.recorder.ok(self.subscribing, {"codes": [self.qos]})
                self.subscribing = None
                self.subscribed.set()

    def _connect(self):
        self._unknown()
        self.conn = self.recorder.new_connection()
        value = {"client": self.name, "level": 4, "clean": False, "expiry": SESSION_FOR_EVER, "keep_alive": 10,
                 "receive_maximum": None, "will": None}
        self.connecting = self.recorder.invoke(self.device, "connect", value, self.node, self.conn)

    def _unknown(self):
        for operation in (self.connecting, self.subscribing):
            if operation:
                self.recorder.info(operation, {}, "the connection ended")
        self.connecting = self.subscribing = None

    def _deliver(self, qos, retain, packet_id, topic, payload):
        self.delivered += 1
        self.recorder.seen(self.device, "deliver",
                           {"mid": read_payload(payload.encode(), self.owner.seed), "topic": topic, "session": self.name,
                            "pid": int(packet_id), "qos": int(qos), "dup": self.repeated.pop(int(packet_id), False),
                            "retain": retain == "1", "app": True}, self.node, self.conn)

    async def drain(self):
        loop = asyncio.get_running_loop()
        operation = self.recorder.invoke(self.name, "drain", {"session": self.name}, self.node, self.conn)
        deadline, quiet = loop.time() + DRAINED_SECONDS, False
        while loop.time() < deadline and not quiet:
            before = (self.delivered, self.conn)
            await asyncio.sleep(QUIET_SECONDS)
            quiet = before == (self.delivered, self.conn) and self.connecting is None
        self.recorder.ok(operation, {"session": self.name, "quiet": quiet}, self.node, self.conn)
        return quiet

    async def close(self):
        if self.task:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        if self.process and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        self._unknown()


class RealClients:
    name = "real"

    def __init__(self, cluster, recorder, seed):
        self.recorder, self.seed = recorder, seed
        self.addresses = {node.name: node.mqtt for node in cluster.nodes}
        self.trust = ["--cafile", cluster.ca] if cluster.ca else []
        self.listeners, self.stopping, self.publishing, self.paho = [], False, set(), None

    def describe(self):
        mosquitto = f"mosquitto_sub at each of {len(self.addresses)} nodes, mosquitto_pub" if self.available() else "no mosquitto"
        return mosquitto + (", paho" if real_paho.available() else ", no paho")

    @staticmethod
    def available():
        return shutil.which("mosquitto_sub") and shutil.which("mosquitto_pub")

    async def setup(self):
        if real_paho.available() and not self.trust:    # its handshake would hold up our event loop
            self.paho = real_paho.PahoClient(self.recorder, self.addresses, self.seed)
            self.paho.start()
            await self.paho.subscribed.wait()
        if self.available():
            self.listeners = [Listener(self, node, 1 + place % 2) for place, node in enumerate(sorted(self.addresses))]
            for one in self.listeners:
                one.start()
            await asyncio.gather(*(one.subscribed.wait() for one in self.listeners))

    async def drive(self):
        await asyncio.gather(self.drive_mosquitto(), *([self.paho.drive()] if self.paho else []))

    async def drive_mosquitto(self):
        chance, sequence = Random(f"{self.seed} real"), 0
        while not self.stopping:
            await asyncio.sleep(chance.uniform(0.5, 1.5) * PERIOD_SECONDS)
            if self.listeners and len(self.publishing) < 4:
                sequence += 1
                task = asyncio.get_running_loop().create_task(self.publish(sequence, chance.choice(sorted(self.addresses))))
                self.publishing.add(task)
                task.add_done_callback(self.publishing.discard)

    async def publish(self, sequence, node):
        host, port = self.addresses[node]
        mid, qos = f"mosquitto-pub-{sequence}", 1 + sequence % 2
        value = {"mid": mid, "topic": f"real/{qos}/{sequence % 3}", "qos": qos, "retain": False, "pid": 1}
        operation = self.recorder.invoke(mid, "publish", value, node, None)
        process = await asyncio.create_subprocess_exec(
            "mosquitto_pub", "-h", host, "-p", str(port), "-t", value["topic"], "-q", str(qos), "-m",
            make_payload(mid, self.seed).decode(), *self.trust, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL)
        try:
            code = await asyncio.wait_for(process.wait(), 10.0)
        except asyncio.TimeoutError:
            with contextlib.suppress(ProcessLookupError):    # it may have ended at the last moment
                process.kill()
            code = await process.wait()
        if code == 0:
            self.recorder.ok(operation, {"mid": mid, "stage": "exit", "reason": 0, "sends": 1})
        else:
            self.recorder.info(operation, {"mid": mid, "sends": 1}, f"mosquitto_pub ended with {code}")

    async def stop(self):
        self.stopping = True
        if self.paho:
            self.paho.stopping = True
        if self.publishing:
            await asyncio.wait(set(self.publishing))

    async def drain(self):
        return all(await asyncio.gather(*(one.drain() for one in self.everybody())))

    def everybody(self):
        return self.listeners + ([self.paho] if self.paho else [])

    async def close(self):
        self.stopping = True
        await asyncio.gather(*(one.close() for one in self.everybody()), return_exceptions=True)
