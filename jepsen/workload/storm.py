"""Many clients that connect all at once, whenever their node dies or resets them: each has a persistent session and a command topic
of its own, so that a storm is CONNECT and resumption, not only TCP (row 26).

They come back at once, with up to `spread` seconds of random delay, at any node.
"""

import asyncio

from client import Broken, Refused

from .base import BaseWorkload, Device

CONNECTING_MAX = 300        # at once, in setup
SILENCE_SECONDS = 12.0


class Member(Device):
    async def _run(self):
        node = self.home
        while not self.leaving:
            try:
                await self._connect(node)
                self.ready.set()
                await self._live()
            except (Refused, Broken, asyncio.TimeoutError):
                self.client.drop()
            finally:
                self.ready.clear()
            await asyncio.sleep(self.random.uniform(0.0, self.workload.spread))
            node = self.random.choice(self.nodes)


class Workload(BaseWorkload):
    name = "storm"

    def build(self):
        self.spread = self.options.get("spread", 1.0)
        self.members = []
        nodes = sorted(self.addresses)
        for number in range(self.options.get("clients", 500)):
            member = Member(self, f"storm-m{number}", filters=[(f"storm/{number}", 1)], home=nodes[number % len(nodes)])
            member.silence = SILENCE_SECONDS    # so many pings would be a load of their own
            self.devices.append(member)
            self.subscribers.append(member)
            self.members.append(member)
        for number in range(2):
            self.publisher(f"p{number}")

    def describe(self):
        return f"storm: {len(self.members)} clients with persistent sessions, {self.rate:g} messages/s to them"

    async def setup(self):
        self.build()
        for start in range(0, len(self.devices), CONNECTING_MAX):
            wave = self.devices[start:start + CONNECTING_MAX]
            for device in wave:
                device.start()
            await asyncio.gather(*(device.ready.wait() for device in wave))

    def jobs(self):
        for one in self.publishers:
            yield one.publish_at(self.rate / len(self.publishers),
                                 lambda one=one: (f"storm/{one.random.randrange(len(self.members))}", 1, False))

    async def drain(self):
        """In waves: a drain is a SUBSCRIBE and a while of silence for each."""
        self.settling = True
        quiet = True
        for start in range(0, len(self.members), CONNECTING_MAX):
            quiet &= all(await asyncio.gather(*(one.drain() for one in self.members[start:start + CONNECTING_MAX])))
        return quiet
