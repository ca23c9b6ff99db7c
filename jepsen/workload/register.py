"""Retained messages as registers: written and read at all nodes at once (G6).

Writers at QoS 2 keep their session and resend; writers at QoS 1 begin anew after each connection and never resend, so each of
their writes is in the log at most once. A second set of topics is cleared as well: these go through the general search and
are left alone after OPERATIONS_MAX operations, when a fresh topic takes their place.

A sweeper subscribes to many topics by one filter, with so small a window that its retained messages take a while, in which some
of them are overwritten.
"""

import asyncio

from client import Broken

from .base import BaseWorkload

TOPICS = [f"register/{number}" for number in range(6)]
END = "register/~"          # sorts behind them; its retained message says that a read is complete
SWEPT = [f"swept/{number}" for number in range(150)]    # more than a node puts into a queue at once
OPERATIONS_MAX = 150        # per topic that is cleared
READ_AT_ONCE = 3
AT_ONCE = 20                # publishes on their way while the topics are filled
READERS_RECEIVE = 200       # more than there are topics: a read is never cut in two by the window


class Workload(BaseWorkload):
    name = "register"

    def build(self):
        for number in range(3):
            self.publisher(f"w{number}", stay=(2.0, 8.0))
        for number in range(2):
            self.publisher(f"once{number}", stay=(2.0, 8.0), clean=True, expiry=0)
        for number in range(self.options.get("readers", 4)):
            self.subscriber(f"r{number}", stay=(2.0, 8.0), receive_maximum=READERS_RECEIVE)
        self.sweeper = self.subscriber("sweeper", stay=(4.0, 9.0), receive_maximum=3)
        self.clearing = {}          # place -> [number of the topic, operations so far]

    async def setup(self):
        await super().setup()
        first = self.publishers[0]
        await first.ready.wait()
        topics = [END, *SWEPT]
        while topics:
            await asyncio.gather(*(first.client.publish(topic, 1, retain=True) for topic in topics[:AT_ONCE]))
            del topics[:AT_ONCE]

    def jobs(self):
        rate = self.rate / (len(self.publishers) + len(self.subscribers))
        for one in self.publishers:
            yield one.publish_at(rate, lambda one=one: self.choose(one), window=4)
        for one in self.subscribers[:-1]:
            yield self.read(one, rate / 4)
        yield self.sweep(self.sweeper)
        yield self.clear(self.publishers[0], rate / 4)
        yield self.clear(self.publishers[3], rate / 4)

    def choose(self, publisher):
        qos = 1 if publisher.clean else 2
        kind = publisher.random.random()
        if kind < 0.2:
            return self.cleared_topic(publisher.random), qos, True
        if kind < 0.6:
            return publisher.random.choice(SWEPT), qos, True
        return publisher.random.choice(TOPICS), qos, True

    def cleared_topic(self, chance):
        place = chance.randrange(2)
        number, used = self.clearing.get(place, (0, 0))
        if used == OPERATIONS_MAX:
            number, used = number + 1, 0
        self.clearing[place] = (number, used + 1)
        return f"register/cleared/{place}/{number}"

    async def sweep(self, device):
        while not self.stopping:
            await device.ready.wait()
            try:
                await asyncio.wait_for(device.client.subscribe([("swept/#", 1)]), 9)
                await asyncio.sleep(device.random.uniform(0.5, 1.5))
                await asyncio.wait_for(device.client.unsubscribe(["swept/#"]), 9)
            except (Broken, asyncio.TimeoutError):
                await asyncio.sleep(0.1)

    async def clear(self, device, rate):
        while not self.stopping:
            await asyncio.sleep(device.random.expovariate(rate))
            if device.client.connected and len(device.client.session.sending) < 4:
                device.client.publish(self.cleared_topic(device.random), 1 if device.clean else 2, True, clear=True)

    async def read(self, device, rate):
        while not self.stopping:
            await asyncio.sleep(device.random.expovariate(rate))
            await device.ready.wait()
            topics = device.random.sample(TOPICS, READ_AT_ONCE - 1) + [self.cleared_topic(device.random)]
            try:
                if device.random.random() < 0.5:    # the SUBSCRIBE then makes the subscription: no overlap may be
                    await asyncio.wait_for(device.client.unsubscribe(topics), 9)
                await asyncio.wait_for(device.client.read_retained(topics, END), 9)
            except (Broken, asyncio.TimeoutError):
                device.client.drop()
