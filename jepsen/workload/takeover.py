"""Several devices fight for one client id: one owner at a time, and what the loser still sends has no effect (G3).

Each client id is fought for by a few devices, each of which connects wherever it likes, asks for and gives up filters, publishes, and
does not care whether it has been taken over: it goes on sending on its old connection until that is closed. A client id is
retired after a while, so that its history stays small enough for an exhaustive search. They publish at QoS 1: the packet ids of QoS 2 belong to
the session, and devices that do not know of each other would use one for two messages.
"""

import asyncio
from random import Random

from client import SESSION_FOR_EVER, Broken, Client, Refused

from .base import BACKOFF_SECONDS, BaseWorkload

DEVICES = 3
OPERATIONS = (30, 30, 200)  # per client id: some are new most of the time, some live long
IDS_APART = 20000           # packet ids of one device from those of the next
BURSTS = (1, 1, 1, 10)      # publishes at once: some are still on their way when the next device takes over
FILTERS = tuple(f"own/{number}" for number in range(6))


class Workload(BaseWorkload):
    name = "takeover"

    def build(self):
        self.subscriber("watch", filters=[("fought/#", 2)], stay=(5.0, 12.0))
        self.fighters = []

    def describe(self):
        return f"takeover: {self.options.get('ids', 4)} client ids at a time, {DEVICES} devices fight for each"

    def jobs(self):
        for number in range(self.options.get("ids", 4)):
            yield self.fights(number)

    async def fights(self, number):
        chance, round_ = Random(f"{self.seed} fight {number}"), 0
        while not self.stopping:
            round_ += 1
            self.left = getattr(self, "left", {})
            name = f"fought-{number}-{round_}"
            self.left[name] = chance.choice(OPERATIONS)
            persistent = chance.random() < 0.7
            devices = [Client(self.recorder, f"{name}-{letter}", self.addresses, seed=self.seed, client_id=name,
                              expiry=SESSION_FOR_EVER if persistent else 0, tls=self.cluster.tls) for letter in "abc"[:DEVICES]]
            for place, device in enumerate(devices):    # one session: an id of QoS 2 that another has open is no new message
                device.session.next_id = place * IDS_APART
            self.fighters += devices
            tasks = [asyncio.get_running_loop().create_task(self.fight(name, device, Random(f"{self.seed} {device.name}")))
                     for device in devices]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                for device in devices:
                    device.abandon()

    async def fight(self, name, device, chance):
        while not self.stopping and self.left[name] > 0:
            try:
                self.left[name] -= 1
                await device.connect(chance.choice(sorted(self.addresses)), clean=chance.random() < 0.15)
                await self.act(name, device, chance)
            except (Broken, Refused, asyncio.TimeoutError):
                pass
            await asyncio.sleep(chance.uniform(*BACKOFF_SECONDS) * 2)

    async def act(self, name, device, chance):
        loop = asyncio.get_running_loop()
        until = loop.time() + chance.uniform(0.1, 1.5)
        while loop.time() < until and not device.ended.is_set() and self.left[name] > 0:
            await asyncio.sleep(chance.uniform(0.005, 0.2))
            what = chance.random()
            self.left[name] -= 1
            if what < 0.3 and device.connected:
                for _ in range(chance.choice(BURSTS)):
                    device.publish(f"fought/{name}", 1)
            elif what < 0.65:
                await asyncio.wait_for(device.subscribe([(chance.choice(FILTERS), 1)]), 9)
            elif what < 0.95:
                await asyncio.wait_for(device.unsubscribe([chance.choice(FILTERS)]), 9)
            else:
                await asyncio.wait_for(asyncio.shield(device.ping()), 3)
        if chance.random() < 0.3 and not device.ended.is_set():
            if chance.random() < 0.5:
                await device.disconnect()
            else:
                device.drop()

    async def close(self):
        for device in self.fighters:
            device.abandon()
        await super().close()
