"""Messages that expire: those who are here get them in time, those who come late do not get them at all (G11).

Publishers give their messages intervals from one second to half a minute. Some takers stay connected, some are away for longer than
most messages live, and one is connected but takes few at a time.
"""

from .base import BaseWorkload

INTERVALS = (1, 2, 2, 4, 6, 30)     # seconds
RATE_MAX = 24.0                     # messages/s: each is looked at for each taker
AWAY_SECONDS = (0.5, 8.0)


class Workload(BaseWorkload):
    name = "expiry"

    def build(self):
        self.subscriber("here", filters=[("expiry/#", 2)], stay=(4.0, 9.0))
        self.subscriber("narrow", filters=[("expiry/#", 1)], stay=(4.0, 9.0), receive_maximum=2)
        for number in range(self.options.get("absent", 2)):
            one = self.subscriber(f"absent{number}", filters=[("expiry/#", 1 + number % 2)], stay=(0.3, 1.5))
            one.away = AWAY_SECONDS
        for number in range(2):
            self.publisher(f"p{number}", stay=(3.0, 9.0))

    def jobs(self):
        rate = min(self.rate, RATE_MAX) / len(self.publishers)
        for number, one in enumerate(self.publishers):
            yield one.publish_at(rate, lambda n=number: (f"expiry/{n}", 1 + n % 2, False),
                                 expiry=lambda one=one: one.random.choice(INTERVALS))
