"""Wills: clients end well or badly, with and without a delay, and sometimes come back in time (G7).

Every connection has a will of its own, so it is known of each whether it may, must or must not have been published. Two
observers subscribe to all of them at QoS 2.
"""

import asyncio
from random import Random

from client import SESSION_FOR_EVER, Broken, Client, Refused

from .base import BACKOFF_SECONDS, BaseWorkload

LATEST_NOTICE = 6.0         # from a bad end to the will, without its delay; with room (check/will.py NOTICED)
DELAYS = (0, 0, 0, 1, 2)
PERSISTENT = (True, True, False)


class Workload(BaseWorkload):
    name = "wills"

    def build(self):
        for number in range(2):
            self.subscriber(f"watch{number}", filters=[("will/#", 2)], stay=(4.0, 10.0))
        self.doomed = []

    def describe(self):
        return f"wills: {self.options.get('clients', 12)} clients that end in every way, 2 observers"

    def jobs(self):
        for number in range(self.options.get("clients", 12)):
            yield self.live_and_die(number)

    async def live_and_die(self, number):
        chance = Random(f"{self.seed} will {number}")
        client = Client(self.recorder, f"wills-d{number}", self.addresses, seed=self.seed, level=5 if number % 4 else 4,
                        tls=self.cluster.tls)
        self.doomed.append(client)
        lives = 0
        while not self.stopping:
            lives += 1
            persistent = chance.choice(PERSISTENT)
            delay = chance.choice(DELAYS) if persistent and client.level == 5 else 0
            will = {"mid": f"will-{number}-{lives}", "topic": f"will/{number}", "qos": 2, "delay": delay, "retain": False}
            try:
                await client.connect(chance.choice(sorted(self.addresses)), clean=not persistent or chance.random() < 0.1,
                                     will=will, expiry=SESSION_FOR_EVER if persistent else 0)
                await self.live(client, chance)
            except (Broken, Refused, asyncio.TimeoutError):
                client.drop()
            await asyncio.sleep(chance.uniform(*BACKOFF_SECONDS) if chance.random() < 0.5 else chance.uniform(0.5, 3.0))

    async def live(self, client, chance):
        until = asyncio.get_running_loop().time() + chance.uniform(0.1, 2.0)
        while not client.ended.is_set() and asyncio.get_running_loop().time() < until and not self.stopping:
            await asyncio.wait_for(asyncio.shield(client.ping()), 3.0)
            await asyncio.sleep(0.2)
        if client.ended.is_set():
            return
        way = chance.random()
        if way < 0.3:
            await client.disconnect()
        elif way < 0.4 and client.level == 5:
            await client.disconnect(reason=4)
        elif way < 0.85:
            client.drop(reset=way < 0.6)
        # else: it connects again while it is connected, and so takes itself over

    async def stop(self):
        await super().stop()
        for client in self.doomed:
            client.drop()

    async def drain(self):
        """All wills that are to come have come before the observers are drained."""
        self.settling = True
        await asyncio.sleep(LATEST_NOTICE + max(DELAYS))
        return await super().drain()

    async def close(self):
        for client in self.doomed:
            client.abandon()
        await super().close()
