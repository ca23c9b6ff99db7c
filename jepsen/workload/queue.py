"""QoS 1 and 2 to persistent sessions that roam between the nodes: loss, duplicates, order (G1, G2, G4, G5).

Every topic is "q/PLACE/KIND". Some subscribers take all of it, some a part, with filters that overlap; some are careless and leave
without acknowledging; one changes its mind about a filter all the time. Half of the clients speak 3.1.1.
"""

import asyncio

from client import Broken

from .base import BaseWorkload

PLACES = ("attic", "cellar", "hall", "yard")
KINDS = ("a", "b", "c")


class Workload(BaseWorkload):
    name = "queue"

    def build(self):
        subscribers = self.options.get("subscribers", 5)
        filters = ([("q/#", 2)], [("q/+/a", 1), ("q/attic/#", 2)], [("q/+/b", 2)], [("q/#", 1)], [("q/cellar/+", 2)])
        for number in range(subscribers):
            one = self.subscriber(f"s{number}", filters=filters[number % len(filters)], stay=(1.0, 6.0),
                                  level=5 if number % 2 == 0 else 4, receive_maximum=50 if number % 3 == 0 else None)
            one.careless = 0.3
        self.fickle = self.subscriber("fickle", filters=[("q/hall/#", 2)], stay=(3.0, 8.0))
        for number in range(self.options.get("publishers", 6)):
            self.publisher(f"p{number}", stay=(2.0, 8.0), level=4 if number % 2 == 0 else 5)

    def jobs(self):
        rate = self.rate / len(self.publishers)
        for number, publisher in enumerate(self.publishers):
            yield publisher.publish_at(rate, lambda one=publisher, qos=1 + number % 2: self.choose(one, qos))
        yield self.change_mind(self.fickle)

    def choose(self, publisher, qos):
        if publisher.random.random() < 0.1:
            qos = 3 - qos
        return f"q/{publisher.random.choice(PLACES)}/{publisher.random.choice(KINDS)}", qos, False

    async def change_mind(self, device):
        """A filter comes and goes: what is published outside of its time must not come, what is published within must."""
        topic, asked = [("q/yard/c", 1)], False
        while not self.stopping:
            await asyncio.sleep(device.random.uniform(0.2, 1.0))
            await device.ready.wait()
            try:
                if asked:
                    await asyncio.wait_for(device.client.unsubscribe(["q/yard/c"]), 9)
                else:
                    await asyncio.wait_for(device.client.subscribe(topic), 9)
                asked = not asked
            except (Broken, asyncio.TimeoutError):
                asked = False
