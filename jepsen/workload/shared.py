"""Groups of shared subscriptions whose members roam, crash and come back: each message once per group (G13)."""

from .base import BaseWorkload


class Workload(BaseWorkload):
    name = "shared"

    def build(self):
        for group, qos in (("one", 1), ("two", 2)):
            for number in range(self.options.get("members", 3)):
                member = self.subscriber(f"{group}{number}", filters=[(f"$share/{group}/work/#", qos)], stay=(1.5, 6.0),
                                         receive_maximum=20 if number == 0 else None)
                member.careless = 0.2
        self.subscriber("whole", filters=[("work/#", 2)])
        for number in range(self.options.get("publishers", 4)):
            self.publisher(f"p{number}", stay=(3.0, 9.0))

    def jobs(self):
        for number, one in enumerate(self.publishers):
            yield one.publish_at(self.rate / len(self.publishers), lambda q=1 + number % 2, n=number: (f"work/{n}", q, False))
