"""Draws a sequence of steps from a seed: sequence(seed) -> [Step]. The same seed is always the same sequence.

Three clients, each of 3.1.1 or 5.0, do what clients do, in any order that the standard allows, and now and then send a packet
that it does not (wrong.py). How often each thing is done is drawn first, once per sequence, so that some have nothing but
resumptions and others nothing but retained messages.

What is drawn so that two right servers have to give the same answers:

  * nothing fires while a sequence is played: times are 0 or at least 1,000 s
  * after a wrong packet the client is gone, whether the server thought so or not: what follows is the same for both
  * a QoS 2 message that waits for its PUBREL may be delivered before or after it (4.3.3): only its publisher does anything
    meanwhile, and all that is compared as one
  * messages of groups are drawn on topics below s/, which no other filter of such a sequence matches; who gets them is the
    server's choice, so they are counted at the end, when all members have been back

The last steps bring every client back and let it answer everything: so sessions, queues and windows are compared, too."""

import random

import wrong
from steps import Step

CLIENTS = ("c1", "c2", "c3")
TOPICS = ("a", "a/b", "a/b/c", "a/c", "b", "b/", "/b", "/", "a//c", "b/B")
GROUP_TOPICS = ("s/a", "s/b", "s/a/b")
FILTERS = TOPICS + ("#", "+", "a/#", "a/+", "+/b", "+/+", "a/+/c", "/+", "+/", "/#", "b/#", "+/+/#", "a/b/#", "$x/#", "+/c", "$x/a")
FILTERS_BESIDE_GROUPS = TOPICS + ("a/#", "a/+", "a/+/c", "/+", "/#", "b/#")
GROUP_FILTERS = ("$share/g/s/#", "$share/h/s/+", "$share/i/s/a", "$share/g/s/a/#")
EXPIRY = (None, 0, 1000, 0xFFFFFFFF)
LARGE, LARGEST_FOR_SMALL = 500, 300     # bytes: payloads are far from a maximum that a client sets

ACTIONS = {    # name: weights to draw from, per sequence
    "publish": (4, 8), "subscribe": (2, 6), "unsubscribe": (0, 1, 2), "cut": (0, 1, 3), "disconnect": (0, 1, 3), "takeover": (0, 1),
    "wrong": (0, 1), "wrong_first": (0, 1), "withhold": (0, 2), "answer": (1,), "slow_exchange": (0, 1, 2), "burst": (0, 2),
    "release_nothing": (0, 1), "die": (0, 1), "nameless": (0, 0, 1),
}
TAKEOVERS_MAX = 2    # of one client id: a server may slow those who fight for one


class Model:
    """What the one who draws knows of a client."""

    def __init__(self, name, level):
        self.name, self.level = name, level
        self.connected, self.next_id, self.takeovers = False, 0, 0
        self.aliases, self.expiry = {}, None

    def new_id(self):
        self.next_id += 1
        return self.next_id


class Drawer:
    def __init__(self, seed):
        self.draw = random.Random(seed)
        self.steps, self.messages = [], 0
        self.groups = self.chance(0.2)
        self.weights = {name: self.draw.choice(weights) for name, weights in ACTIONS.items()}
        self.length = self.draw.randint(6, 24)
        mixed = self.draw.choice([(4, 4, 4), (5, 5, 5), (5, 5, 4), (4, 5, 5), (4, 4, 5)])
        self.models = {name: Model(name, level) for name, level in zip(CLIENTS, mixed)}

    def chance(self, probability):
        return self.draw.random() < probability

    def add(self, model, action, joined=False, **fields):
        self.steps.append(Step(model.name, action, fields, joined))

    def sequence(self):
        for model in self.models.values():
            self.connect(model)
            if self.chance(0.7):
                self.subscribe(model)
        if self.groups:
            self.join_groups()
        for _ in range(self.length):
            self.any_step()
        self.bring_all_back()
        return self.steps

    def any_step(self):
        model = self.draw.choice(list(self.models.values()))
        if not model.connected:
            if self.weights["wrong_first"] and self.chance(0.2):
                self.wrong_first(model)
            else:
                self.connect(model)
            return
        action = self.draw.choices(list(self.weights), list(self.weights.values()))[0]
        getattr(self, action)(model)

    # -- connections ---------------------------------------------------------------------------------------------

    def connect(self, model, clean=None):
        fields = {"level": model.level, "clean": self.chance(0.3) if clean is None else clean}
        if self.groups:
            fields["clean"] = False
        if model.level == 5:
            fields["properties"] = self.connect_properties()
            model.expiry = fields["properties"].get("session_expiry", 0)
        if self.chance(0.3 + 0.5 * self.weights["die"]):
            fields["will"] = self.will(model)
        model.connected, model.aliases = True, {}
        self.add(model, "connect", **fields)

    def connect_properties(self):
        properties = {"session_expiry": self.draw.choice(EXPIRY)}
        if self.groups:
            properties["session_expiry"] = 0xFFFFFFFF
        properties["receive_maximum"] = self.draw.choice([None, None, None, 1, 2, 10])
        properties["topic_alias_maximum"] = self.draw.choice([None, None, 1, 5])
        properties["maximum_packet_size"] = self.draw.choice([None, None, None, LARGEST_FOR_SMALL])
        properties["request_problem_info"] = self.draw.choice([None, None, 0, 1])
        properties["user_property"] = self.draw.choice([None, None, [("k", "v"), ("k", "v")]])
        if self.groups:
            properties["receive_maximum"] = properties["maximum_packet_size"] = None
        return {name: value for name, value in properties.items() if value is not None}

    def will(self, model):
        will = {"topic": self.topic(), "payload": self.payload("will"), "qos": self.qos(), "retain": self.chance(0.3)}
        if model.level == 5:
            properties = self.message_properties()
            delay = self.draw.choice([None, None, 0, 1000])
            if delay is not None:
                properties["will_delay"] = delay
            will["properties"] = properties
        return will

    def gone(self, model):
        model.connected = False

    def cut(self, model):
        self.add(model, "cut")
        self.gone(model)

    def disconnect(self, model):
        reason, properties = 0, {}
        if model.level == 5:
            reason = self.draw.choice([0, 0, 0, 4])
            if model.expiry and not self.groups and self.chance(0.3):
                properties = {"session_expiry": self.draw.choice([0, 1000])}
        self.add(model, "disconnect", reason=reason, properties=properties)
        self.gone(model)

    def takeover(self, model):
        if model.takeovers < TAKEOVERS_MAX:
            model.takeovers += 1
            self.connect(model)

    def nameless(self, model):
        """Somebody without a client id, who publishes and goes."""
        self.add(model, "nameless", level=model.level, topic=self.topic(), payload=self.payload("nameless"), qos=self.draw.choice([0, 1]))

    def wrong(self, model):
        names = sorted(name for name, (levels, _) in wrong.CONNECTED.items() if model.level in levels)
        name = self.draw.choice(names)
        self.add(model, "wrong", what=name, data=wrong.CONNECTED[name][1](model.level, self.draw))
        self.gone(model)

    def wrong_first(self, model):
        names = sorted(name for name, (levels, _) in wrong.FIRST.items() if model.level in levels)
        name = self.draw.choice(names)
        self.add(model, "wrong_first", level=model.level, what=name,
                 data=wrong.FIRST[name][1](model.level, f"wrong-{model.name}", self.draw))

    # -- subscriptions -------------------------------------------------------------------------------------------

    def options(self, model):
        qos = self.draw.choice([0, 1, 1, 2, 2])
        if model.level < 5:
            return qos
        return qos | self.draw.choice([0, 0, 4]) | self.draw.choice([0, 0, 8]) | self.draw.choice([0, 0, 0x10, 0x20])

    def some_filters(self):
        return self.draw.sample(FILTERS_BESIDE_GROUPS if self.groups else FILTERS, self.draw.choice([1, 1, 1, 2, 3]))

    def subscribe(self, model):
        filters = [(name, self.options(model)) for name in self.some_filters()]
        properties = {"subscription_id": self.draw.choice([1, 7, 200, 268435455])} if model.level == 5 and self.chance(0.4) else {}
        self.add(model, "subscribe", id=model.new_id(), filters=filters, properties=properties)

    def join_groups(self):
        """Each filter of a group has one QoS, above 0: then it does not matter who gets what, nor whether it is there."""
        chosen = [(name, self.draw.choice([1, 2])) for name in self.draw.sample(GROUP_FILTERS, self.draw.choice([1, 1, 2]))]
        for model in self.models.values():
            if model.level == 5 or self.chance(0.5):
                self.add(model, "subscribe", id=model.new_id(), filters=chosen, properties={})

    def unsubscribe(self, model):
        self.add(model, "unsubscribe", id=model.new_id(), filters=self.some_filters())

    # -- messages ------------------------------------------------------------------------------------------------

    def topic(self):
        if self.groups:
            return self.draw.choice(GROUP_TOPICS + TOPICS[:4])
        return self.draw.choice(TOPICS[:4] if self.chance(0.6) else TOPICS)

    def qos(self):
        return self.draw.choice([1, 2] if self.groups else [0, 1, 1, 2])

    def payload(self, who):
        self.messages += 1
        made = f"{who}.{self.messages}"
        return made.ljust(LARGE, "_") if self.chance(0.05) else made

    def message_properties(self):
        properties = {}
        for name, values in (("payload_format", (0, 1)), ("message_expiry", (1000, 100000)), ("content_type", ("text/plain", "")),
                             ("response_topic", ("r/t",)), ("correlation_data", (b"\0\xff", b"")),
                             ("user_property", ([("k", "v")], [("k", "v"), ("a", ""), ("k", "v")]))):
            if self.chance(0.12):
                properties[name] = self.draw.choice(values)
        return properties

    def publication(self, model, qos=None, topic=None):
        qos = self.qos() if qos is None else qos
        topic = self.topic() if topic is None else topic
        retain = self.chance(0.3) and not topic.startswith("s/")
        fields = {"topic": topic, "payload": self.payload(model.name), "qos": qos, "retain": retain}
        if qos:
            fields["id"] = model.new_id()
        if retain and self.chance(0.3):
            fields["payload"] = ""
        if model.level == 5:
            fields["properties"] = self.message_properties()
            if self.chance(0.25):
                self.use_alias(model, fields)
        return fields

    def use_alias(self, model, fields):
        known = [alias for alias, topic in model.aliases.items() if topic == fields["topic"]]
        if known and self.chance(0.8):
            fields["properties"]["topic_alias"], fields["topic"] = self.draw.choice(known), ""
        else:
            alias = self.draw.choice([1, 2, 5])
            model.aliases[alias] = fields["topic"]
            fields["properties"]["topic_alias"] = alias

    def publish(self, model):
        if not self.groups and self.chance(0.03):
            self.add(model, "publish", **self.publication(model, topic="$x/a"))
        else:
            self.add(model, "publish", **self.publication(model))

    def burst(self, model):
        """Several in one piece."""
        messages = [self.publication(model) for _ in range(self.draw.randint(2, 4))]
        for fields in messages:
            fields["retain"] &= fields["qos"] < 2    # what is retained last depends on when QoS 2 messages are let through
            fields["payload"] = fields["payload"] or self.payload(model.name)
        self.add(model, "burst", messages=messages)

    def slow_exchange(self, model):
        """A QoS 2 message sent, sent again, over connections, and released at last, once or twice."""
        fields = self.publication(model, qos=2)
        fields["retain"] = False
        fields["payload"] = fields["payload"] or self.payload(model.name)
        if model.level == 5:
            fields["properties"].pop("topic_alias", None)    # it would not outlive the connection
            fields["topic"] = fields["topic"] or "a"
        self.add(model, "publish", joined=True, complete=False, **fields)
        kept = model.level == 5 and model.expiry or self.groups
        if self.chance(0.5):    # once: some servers think that whoever does it more often means harm (CVE-2023-28366)
            self.add(model, "publish", joined=True, complete=False, dup=True, **fields)
        for _ in range(self.draw.randint(0, 2)):
            if kept:
                self.add(model, "cut", joined=True)
                self.steps.append(Step(model.name, "connect", {"level": 5, "clean": False, "properties": {
                    "session_expiry": model.expiry}} if model.level == 5 else {"level": 4, "clean": False}, True))
                model.aliases = {}
        for _ in range(self.draw.choice([0, 0, 1])):
            self.add(model, "pubrel", joined=True, id=fields["id"])
        self.add(model, "pubrel", id=fields["id"])

    def release_nothing(self, model):
        self.add(model, "pubrel", id=60000)

    # -- answers -------------------------------------------------------------------------------------------------

    def withhold(self, model):
        if self.groups:
            return
        how = self.draw.choice(["never", "half", "never"] + (["refuse"] if model.level == 5 else []))
        self.add(model, "answers", how=how)

    def answer(self, model):
        self.add(model, "answers", how="always")

    def die(self, model):
        """Once more, in sequences in which most clients leave wills."""
        self.cut(model)

    def bring_all_back(self):
        for model in self.models.values():
            if model.connected:
                self.answer(model)
        for model in self.models.values():
            if not model.connected:
                self.add(model, "connect", level=model.level, clean=False,
                         **({"properties": {"session_expiry": 1000}} if model.level == 5 else {}))


def sequence(seed):
    return Drawer(seed).sequence()
