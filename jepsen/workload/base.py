"""What workloads are made of: devices that stay connected, publish at a rate, and drain in the end.

    Workload(cluster, recorder, seed, **options)
        setup()   connects and subscribes; returns when the load can begin
        drive()   loads until it is cancelled, or stop() is called
        stop()    no new operations; waits for those under way, STOP_SECONDS at most
        drain()   after the heal: every session is resumed, and receives until nothing comes any more
        close()   lets go of everything

A Device is a client with habits: it connects to one node after another, leaves in several ways (a reset, no word, an orderly
DISCONNECT, with deliveries unacknowledged), notices by a ping when its node is silent, and subscribes again when its session was lost.
All chance comes from one generator per device, seeded by the run's seed and the device's name.
"""

import asyncio
import random

from client import SESSION_FOR_EVER, Broken, Client, Refused

STOP_SECONDS = 20.0
SILENCE_SECONDS = 3.0       # without a sign of life a device leaves its node
QUIET_SECONDS = 1.5         # without a delivery: drained
DRAIN_SECONDS = 60.0
BACKOFF_SECONDS = (0.02, 0.3)
BEHIND_SECONDS = 0.2        # that a publisher makes up for


class Device:
    """One client that stays connected. `filters`: list of (filter, qos); `stay`: how long it keeps a connection, (least, most)
    seconds, or None for as long as it can."""

    def __init__(self, workload, name, filters=(), stay=None, home=None, clean=False, **client_options):
        self.workload, self.filters, self.stay, self.clean = workload, list(filters), stay, clean
        self.random = random.Random(f"{workload.seed} {name}")
        self.nodes = sorted(workload.addresses)
        self.home = home            # the node it prefers; None: any
        self.client = Client(workload.recorder, name, workload.addresses, seed=workload.seed, tls=workload.cluster.tls, **client_options)
        self.subscribed = False
        self.ready = asyncio.Event()
        self.leaving = False        # for good: do not connect again
        self.silence = SILENCE_SECONDS
        self.careless = 0.0         # how often it leaves with deliveries unacknowledged
        self.away = None            # how long it stays away between two connections, (least, most) seconds
        self.task = None

    @property
    def name(self):
        return self.client.name

    def start(self):
        self.task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self):
        node = self.home or self.random.choice(self.nodes)
        while not self.leaving:
            try:
                await self._connect(node)
                self.ready.set()
                await self._live()
            except (Refused, Broken, asyncio.TimeoutError):
                self.client.drop()
                await asyncio.sleep(self.random.uniform(*BACKOFF_SECONDS))
            finally:
                self.ready.clear()
            if self.away:
                await self._stay_away()
            node = self._next_node(node)

    async def _stay_away(self):
        until = asyncio.get_running_loop().time() + self.random.uniform(*self.away)
        while asyncio.get_running_loop().time() < until and not self.workload.settling:
            await asyncio.sleep(0.1)

    def _next_node(self, last):
        """Home again if there is one, else anywhere but where it was."""
        if self.home and self.random.random() < 0.5:
            return self.home
        return self.random.choice([node for node in self.nodes if node != last] or self.nodes)

    async def _connect(self, node):
        connack = await self.client.connect(node, clean=self.clean)
        if not connack.session_present:
            self.subscribed = False
        if self.filters and not self.subscribed:
            await asyncio.wait_for(self.client.subscribe(self.filters), SILENCE_SECONDS * 3)
            self.subscribed = True

    async def _live(self):
        loop = asyncio.get_running_loop()
        until = loop.time() + self.random.uniform(*self.stay) if self.stay else float("inf")
        if self.random.random() < self.careless:
            loop.call_later(max(0.0, until - loop.time() - 0.2) if self.stay else 1.0, self._hold_acks, self.client.conn)
        while not self.client.ended.is_set():
            now = loop.time()
            silent = now - self.client.last_heard
            if silent > self.silence:
                self.client.drop(reset=True, why="silence")
                return
            if now >= until and not self.workload.settling:
                await self._leave()
                return
            if silent > self.silence / 3:
                self.client.ping()
            try:
                await asyncio.wait_for(self.client.ended.wait(), max(0.01, min(self.silence / 6, until - now)))
            except asyncio.TimeoutError:
                pass

    def _hold_acks(self, conn):
        if self.client.conn == conn and self.client.connected and not self.workload.settling:
            self.client.hold_acks()

    async def _leave(self):
        way = self.random.random()
        if way < 0.25:
            await self.client.disconnect()
        else:
            self.client.drop(reset=way < 0.5)

    async def close(self):
        self.leaving = True
        if self.task:
            self.task.cancel()
            await asyncio.wait({self.task})
        self.client.abandon()
        if self.task and not self.task.cancelled():
            self.task.result()      # a fault of ours is not to go unseen

    # ---- as a publisher

    async def publish_at(self, rate, choose, window=20, expiry=lambda: None):
        """Publishes `rate` times a second on average until the workload stops; `choose()` gives (topic, qos, retain), `expiry()`
        the message's interval. What was missed on a busy machine is made up for, but not what was missed without a node."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not self.workload.stopping:
            due = max(due, loop.time() - BEHIND_SECONDS) + self.random.expovariate(rate)
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            while len(self.client.session.sending) >= min(window, self.client.window) and not self.workload.stopping:
                await asyncio.sleep(0.005)
            if not self.client.connected:
                await self.ready.wait()
            if self.client.connected and not self.workload.stopping:
                topic, qos, retain = choose()
                self.client.publish(topic, qos, retain, expiry=expiry())

    async def settled(self):
        """All that it has published is acknowledged."""
        while self.client.session.sending and not self.leaving:
            await asyncio.sleep(0.02)

    # ---- as a subscriber, in the end

    async def drain(self, seconds=DRAIN_SECONDS):
        """Receives until nothing has come for a while though the node can commit: it has answered a SUBSCRIBE in between."""
        loop, client = asyncio.get_running_loop(), self.client
        operation = self.workload.recorder.invoke(client.name, "drain", {"session": client.id}, None, None)
        deadline, quiet = loop.time() + seconds, False
        while loop.time() < deadline and not quiet:
            before = None
            try:
                if client.holding_acks is not None:
                    client.release_acks()
                await asyncio.wait_for(self.ready.wait(), 1.0)
                await asyncio.wait_for(client.subscribe([(f"drain/{client.id}", 1)]), 5.0)
                before = client.delivered
                await asyncio.wait_for(client.ended.wait(), QUIET_SECONDS)
            except asyncio.TimeoutError:
                quiet = client.connected and before == client.delivered
            except (Broken, Refused):
                await asyncio.sleep(0.1)
        self.workload.recorder.ok(operation, {"session": client.id, "quiet": quiet}, client.node, client.conn)
        return quiet


class BaseWorkload:
    name = "base"

    def __init__(self, cluster, recorder, seed, rate=200.0, **options):
        self.cluster, self.recorder, self.seed, self.rate, self.options = cluster, recorder, seed, rate, options
        self.addresses = {node.name: node.mqtt for node in cluster.nodes}
        self.random = random.Random(f"{seed} {self.name}")
        self.stopping = False       # no new operations
        self.settling = False       # nobody leaves any more
        self.devices, self.publishers, self.subscribers = [], [], []
        self.tasks = []

    def describe(self):
        return f"{self.name}: {len(self.publishers)} publishers, {len(self.subscribers)} subscribers, about {self.rate:g} messages/s"

    def device(self, name, **options):
        made = Device(self, f"{self.name}-{name}", **options)
        self.devices.append(made)
        return made

    def publisher(self, name, **options):
        made = self.device(name, **options)
        self.publishers.append(made)
        return made

    def subscriber(self, name, **options):
        made = self.device(name, **options)
        self.subscribers.append(made)
        return made

    def build(self):
        """Makes the devices."""
        raise NotImplementedError

    def jobs(self):
        """Coroutines that make the load; each ends when `stopping` is set."""
        raise NotImplementedError

    async def setup(self):
        self.build()
        for device in self.devices:
            device.start()
        await asyncio.gather(*(device.ready.wait() for device in self.subscribers))

    async def drive(self):
        self.tasks = [asyncio.get_running_loop().create_task(job) for job in self.jobs()]
        try:
            await asyncio.gather(*self.tasks)
        finally:
            for task in self.tasks:
                task.cancel()

    async def stop(self):
        self.stopping = True
        waits = [asyncio.get_running_loop().create_task(one.settled()) for one in self.publishers]
        waits += [task for task in self.tasks if not task.done()]
        if waits:
            await asyncio.wait(waits, timeout=STOP_SECONDS)
        for task in waits:
            task.cancel()
        self.settling = True

    async def drain(self):
        self.settling = True
        return all(await asyncio.gather(*(one.drain() for one in self.subscribers)))

    async def close(self):
        self.stopping = True
        for task in self.tasks:
            task.cancel()
        closed = await asyncio.gather(*(device.close() for device in self.devices), return_exceptions=True)
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for result in closed:
            if isinstance(result, Exception):
                raise result


__all__ = ["BaseWorkload", "Device", "SESSION_FOR_EVER"]
