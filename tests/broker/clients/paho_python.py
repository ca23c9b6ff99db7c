"""Eclipse Paho's Python client, steered by lines on stdin; tests/broker/makes.py has the other end and the manual."""

import sys

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

# name in our lines -> (name in paho, from text)
PROPERTIES = {
    "payload_format": ("PayloadFormatIndicator", int),
    "message_expiry": ("MessageExpiryInterval", int),
    "content_type": ("ContentType", str),
    "response_topic": ("ResponseTopic", str),
    "correlation_data": ("CorrelationData", str.encode),
    "subscription_id": ("SubscriptionIdentifier", int),
    "session_expiry": ("SessionExpiryInterval", int),
    "topic_alias": ("TopicAlias", int),
}


def say(verb, users=(), **values):
    words = [f"{name}={value}" for name, value in values.items() if value is not None]
    words += [f"user={key}:{value}" for key, value in users]
    sys.stdout.write(" ".join([verb, *words]) + "\n")
    sys.stdout.flush()


class Driver:
    def __init__(self):
        self.client, self.version, self.reasons = None, 4, {}

    def properties(self, kind, words, only=None):
        if self.version < 5:
            return None
        found = Properties(kind)
        for name, value in words:
            if name in PROPERTIES and only in (None, name):
                theirs, convert = PROPERTIES[name]
                setattr(found, theirs, convert(value))
            elif name == "user" and only is None:
                found.UserProperty = tuple(value.split(":", 1))   # adds one
        return found

    def make(self, name, clean):
        options = {"client_id": name, "protocol": self.version}
        if self.version < 5:
            options["clean_session"] = clean
        if hasattr(paho, "CallbackAPIVersion"):
            return paho.Client(paho.CallbackAPIVersion.VERSION1, **options)
        return paho.Client(**options)

    def connect(self, get, words):
        self.version = int(get("version", "4"))
        clean = get("clean", "1") == "1"
        self.client = self.make(get("id", ""), clean)
        self.client.on_connect = self.on_connect
        self.client.on_subscribe = lambda *rest: say("subscribed", code=self.first(rest[3]))
        self.client.on_unsubscribe = lambda *rest: say("unsubscribed", code=self.first(rest[4] if len(rest) > 4 else None))
        self.client.on_message = self.on_message
        self.client.on_publish = lambda client, data, packet_id: say("published", reason=self.reasons.pop(packet_id, None))
        self.client.on_disconnect = lambda client, data, reason, *rest: say("lost", reason=self.number(reason))
        self.hear_reasons()
        if get("will_topic"):
            self.client.will_set(get("will_topic"), get("will_payload", ""), int(get("will_qos", "0")),
                                 get("will_retain") == "1")
        more = {}
        if self.version == 5:
            more = {"clean_start": clean, "properties": self.properties(PacketTypes.CONNECT, words, "session_expiry")}
        self.client.connect("127.0.0.1", int(get("port")), **more)
        self.client.loop_start()

    def hear_reasons(self):
        """The library reads the reason of PUBACK and PUBREC, but tells nobody: its log has it in no version."""
        handle = self.client._packet_handle  # pylint: disable=protected-access

        def listen():
            packet = self.client._in_packet  # pylint: disable=protected-access
            kind, body = packet["command"] & 0xF0, bytes(packet["packet"])
            if self.version == 5 and kind in (0x40, 0x50):
                self.reasons[int.from_bytes(body[:2], "big")] = body[2] if len(body) > 2 else 0
            return handle()

        self.client._packet_handle = listen  # pylint: disable=protected-access

    @staticmethod
    def number(reason):
        return getattr(reason, "value", reason)

    def first(self, codes):
        found = codes[0] if isinstance(codes, (list, tuple)) else codes
        return self.number(found)

    def on_connect(self, client, data, flags, reason, *rest):
        say("connected", reason=self.number(reason), present=flags["session present"])

    def on_message(self, client, data, message):
        words = {"topic": message.topic, "payload": message.payload.decode(), "qos": message.qos,
                 "retain": int(message.retain)}
        properties = getattr(message, "properties", None)
        for name, (theirs, _) in PROPERTIES.items():
            value = getattr(properties, theirs, None)
            value = value[0] if isinstance(value, list) else value
            words[name] = value.decode() if isinstance(value, bytes) else value
        say("message", getattr(properties, "UserProperty", []), **words)

    def subscribe(self, get, words):
        if self.version == 5:
            self.client.subscribe(get("filter"), options=SubscribeOptions(qos=int(get("qos", "0"))),
                                  properties=self.properties(PacketTypes.SUBSCRIBE, words, "subscription_id"))
        else:
            self.client.subscribe(get("filter"), int(get("qos", "0")))

    def unsubscribe(self, get, words):
        self.client.unsubscribe(get("filter"))

    def publish(self, get, words):
        self.client.publish(get("topic", ""), get("payload", ""), int(get("qos", "0")), get("retain") == "1",
                            self.properties(PacketTypes.PUBLISH, words))

    def disconnect(self, get, words):
        self.client.on_disconnect = None
        self.client.disconnect()
        self.client.loop_stop()
        say("disconnected")


def main():
    driver = Driver()
    for line in sys.stdin:
        verb, *rest = line.split()
        words = [tuple(word.split("=", 1)) for word in rest]
        getattr(driver, verb)(lambda name, otherwise=None, said=dict(words): said.get(name, otherwise), words)


main()
