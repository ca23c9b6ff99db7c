"""The client software that our users have, behind one face: see MAKES at the end.

Most of them are a small program under clients/ which one line tells what to do, and which tells by lines what happened:

    connect port= id= version=3|4|5 [clean=0] [will_topic= will_payload= will_qos= will_retain=] [session_expiry=]
                                        -> connected reason= present=
    subscribe filter= qos= [subscription_id=]   -> subscribed code=
    unsubscribe filter=                         -> unsubscribed code=
    publish topic= payload= qos= [retain=1] [PROPERTY=...] [user=KEY:VALUE...]
                                        -> published reason=      (once the handshake is complete)
    disconnect                          -> disconnected
    at any time:                        message topic= payload= qos= retain= [PROPERTY=...]  ·  lost reason=

Values contain no white space. PROPERTY is a name of mqtt.PROPERTIES. What a library hides, it leaves out. One process is
one client, so that a test can kill it as if a device lost its power. To add a make: a program that does the above, and a
class with its command line. What a make cannot do, it raises as CannotDo, and the test is skipped with that reason.
"""

import os
import queue
import shutil
import signal
import subprocess
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
TIMEOUT = 20
VERSION_NAMES = {3: "3.1", 4: "3.1.1", 5: "5.0"}


class CannotDo(Exception):
    """This make has no such feature, or does not show it."""


class Process:
    """A program whose lines are sorted into answers, messages and losses by their first word."""

    def __init__(self, arguments, environment=None):
        self.heard, self.other = {"message": queue.Queue(), "lost": queue.Queue()}, queue.Queue()
        self.log = []
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, env=dict(os.environ, **(environment or {})))
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.log.append(line.rstrip())
            self.heard.get(line.partition(" ")[0].strip(), self.other).put(line.strip())

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def next(self, of, timeout=TIMEOUT):
        try:
            return of.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError("nothing within the time; so far:\n" + "\n".join(self.log[-30:])) from None

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.reader.join()


def parse_words(line):
    """(verb, {name: value}); `user` is a list of (key, value), numbers are numbers, empty values are left out."""
    verb, *words = line.split()
    found = {"user": []}
    for word in words:
        name, _, value = word.partition("=")
        if name == "user":
            found["user"].append(tuple(value.split(":", 1)))
        elif name in ("topic", "payload"):
            found[name] = value
        elif value not in ("", "undefined", "None", "null"):
            found[name] = int(value) if value.isdigit() else value
    return verb, found


def format_words(verb, values):
    words = [verb]
    for name, value in values.items():
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                words.append(f"{name}={one[0]}:{one[1]}" if isinstance(one, tuple) else f"{name}={one}")
    return " ".join(words)


class Spoken:
    """A client of a library, in a process of ours (clients/) that understands the lines above."""

    subscribes_again = False   # when it resumes
    shows_present = True   # Session Present
    shows_end = True       # the reason of the server's DISCONNECT
    cannot = {}   # feature -> reason

    def __init__(self, name, version):
        self.name, self.version, self.process = name, version, None

    @classmethod
    def missing(cls):
        """Why this make cannot run here, or None."""
        return None

    def ask(self, answer, verb, **values):
        self.process.say(format_words(verb, values))
        found, words = parse_words(self.process.next(self.process.other))
        assert found == answer, "\n".join(self.process.log[-30:])
        return words

    def able(self, *features):
        for feature in features:
            if feature in self.cannot:
                raise CannotDo(self.cannot[feature])

    def connect(self, port, clean=True, will=None, **options):
        """Returns {"reason", "present"}; a refused client has reason != 0."""
        self.close()
        self.process = Process(self.arguments(), self.environment())
        more = {f"will_{name}": value for name, value in (will or {}).items()}
        return self.ask("connected", "connect", port=port, id=self.name, version=self.version, clean=int(clean), **more,
                        **options)

    def environment(self):
        return {}

    def resume(self, port, filter_, qos, **options):
        """Connects to an existing session. (The filter is for makes that must subscribe again.)"""
        return self.connect(port, clean=False, **options)

    def subscribe(self, filter_, qos, **options):
        return self.ask("subscribed", "subscribe", filter=filter_, qos=qos, **options).get("code")

    def unsubscribe(self, filter_):
        return self.ask("unsubscribed", "unsubscribe", filter=filter_).get("code")

    def publish(self, topic, payload, qos=1, **options):
        """Until the handshake is complete; returns the reason, if the make shows it."""
        return self.ask("published", "publish", topic=topic, payload=payload, qos=qos, **options).get("reason")

    def publish_with_alias(self, topic, *payloads):
        """The first one sets the alias, the others have no topic."""
        for number, payload in enumerate(payloads):
            self.publish("" if number else topic, payload, topic_alias=1)

    def message(self):
        return parse_words(self.process.next(self.process.heard["message"]))[1]

    def lost(self):
        """Waits until the server has ended the connection; the reason of its DISCONNECT, if shown."""
        return parse_words(self.process.next(self.process.heard["lost"]))[1].get("reason")

    def disconnect(self):
        self.ask("disconnected", "disconnect")
        self.close()

    def close(self):
        """Without a word to the server, if still connected."""
        if self.process is not None:
            self.process.kill()
            self.process = None


class PahoC(Spoken):
    cannot = {"incoming alias": "hands the empty topic of an alias to the application"}

    def __init__(self, name, version):
        super().__init__(name, version)
        self.shows_present = version == 4   # the library looks at Session Present in 3.1.1 only

    @classmethod
    def program(cls):
        for binary in ("COTERIE_BIN", "COTERIE_BIN_SANITIZED"):
            path = os.path.join(os.path.dirname(os.environ.get(binary, "")), "tests", "client-paho-c")
            if os.path.isabs(path) and os.path.exists(path):
                return path
        return None

    @classmethod
    def missing(cls):
        return None if cls.program() else "client-paho-c was not built (libpaho-mqtt-dev) beside COTERIE_BIN"

    def arguments(self):
        return [self.program()]

    def environment(self):
        return {"ASAN_OPTIONS": "detect_leaks=0"}   # the library's, not ours


class MqttJs(Spoken):
    @classmethod
    def missing(cls):
        if not shutil.which("nodejs"):
            return "nodejs is not installed"
        found = subprocess.run(["nodejs", "-e", "require('mqtt')"], env=cls.with_modules(), check=False,
                               stderr=subprocess.DEVNULL)
        return "node-mqtt is not installed" if found.returncode else None

    @staticmethod
    def with_modules():
        return dict(os.environ, NODE_PATH="/usr/share/nodejs", NODE_NO_WARNINGS="1")   # where Debian has them

    def environment(self):
        return self.with_modules()

    def arguments(self):
        return ["nodejs", os.path.join(HERE, "clients", "mqtt_js.js")]

    def publish_with_alias(self, topic, *payloads):
        self.publish(topic, payloads[0], topic_alias=1)
        for payload in payloads[1:]:     # it chooses by itself what to leave out
            self.publish("", payload, topic_alias=1)


class PahoPython(Spoken):
    shows_end = False   # 1.6 overlooks the reason of a DISCONNECT that has no properties
    cannot = {"incoming alias": "hands the empty topic of an alias to the application"}

    @classmethod
    def missing(cls):
        found = subprocess.run(["/usr/bin/python3", "-c", "import paho.mqtt.client"], check=False,
                               stderr=subprocess.DEVNULL)
        return "python3-paho-mqtt is not installed" if found.returncode else None

    def arguments(self):
        return ["/usr/bin/python3", os.path.join(HERE, "clients", "paho_python.py")]


class Mosquitto(Spoken):
    """mosquitto_sub, which connects and subscribes at once, and a mosquitto_pub for each message."""

    subscribes_again = True
    shows_present = False
    cannot = {"incoming alias": "libmosquitto hands the empty topic of an alias to the application",
              "unsubscribe": "mosquitto_sub cannot unsubscribe while it runs",
              "several subscriptions": "one mosquitto_sub subscribes once"}
    PROTOCOL = {3: "mqttv31", 4: "mqttv311", 5: "mqttv5"}
    FORMAT = "message topic=%t payload=%p qos=%q retain=%r"
    FORMAT_5 = FORMAT + (" content_type=%C response_topic=%R correlation_data=%D message_expiry=%E payload_format=%F"
                         " subscription_id=%S USER %P")
    PUBLISH_PROPERTIES = {"payload_format": "payload-format-indicator", "message_expiry": "message-expiry-interval",
                          "content_type": "content-type", "response_topic": "response-topic",
                          "correlation_data": "correlation-data", "topic_alias": "topic-alias"}

    def __init__(self, name, version):
        super().__init__(name, version)
        self.port, self.options = None, []
        if version == 5:
            self.cannot = dict(self.cannot, goodbye="asks for its will when it is interrupted (DISCONNECT 0x04)")
        else:
            self.cannot = dict(self.cannot, loss="connects again at once and says nothing about it")

    @classmethod
    def missing(cls):
        return None if shutil.which("mosquitto_sub") else "mosquitto-clients is not installed"

    def connect(self, port, clean=True, will=None, session_expiry=None):
        self.close()
        self.port, self.options = port, [] if clean else ["-c"]
        if session_expiry is not None:
            self.options += ["-x", str(session_expiry)]
        for name, value in (will or {}).items():
            self.options += [f"--will-{name}"] + ([] if name == "retain" else [str(value)])
        return {}

    def resume(self, port, filter_, qos, **options):
        self.connect(port, clean=False, **options)
        self.subscribe(filter_, qos)
        return {}

    def subscribe(self, filter_, qos, subscription_id=None):
        more = ["-D", "subscribe", "subscription-identifier", str(subscription_id)] if subscription_id else []
        self.process = Process(["stdbuf", "-oL", "mosquitto_sub", "-d", "-p", str(self.port), "-i", self.name, "-t", filter_,
                                "-q", str(qos), "-V", self.PROTOCOL[self.version], "-F",
                                self.FORMAT_5 if self.version == 5 else self.FORMAT, *self.options, *more])
        while True:
            line = self.process.next(self.process.other)
            if line.startswith("Subscribed"):
                return int(line.rpartition(" ")[2])

    def message(self):
        fixed, _, users = self.process.next(self.process.heard["message"]).partition(" USER ")
        found = parse_words(fixed)[1]
        found["user"] = [tuple(word.split(":", 1)) for word in users.split()]
        return found

    def _publish(self, topic, payload, qos, more):
        done = subprocess.run(["mosquitto_pub", "-d", "-p", str(self.port), "-t", topic, "-q", str(qos), "-V",
                               self.PROTOCOL[self.version], *(["-m", payload] if payload else ["-n"]), *more],
                              check=True, timeout=TIMEOUT, stdout=subprocess.PIPE, text=True)
        return [int(line.partition("RC:")[2].rstrip(")")) for line in done.stdout.splitlines() if "RC:" in line]

    def publish(self, topic, payload, qos=1, retain=0, user=(), **properties):
        more = ["-r"] if retain else []
        for name, value in properties.items():
            more += ["-D", "publish", self.PUBLISH_PROPERTIES[name], str(value)]
        for key, value in user:
            more += ["-D", "publish", "user-property", key, value]
        reasons = self._publish(topic, payload, qos, more)
        return reasons[0] if reasons else None

    def publish_with_alias(self, topic, *payloads):
        assert len(set(payloads)) == 1, "mosquitto_pub repeats one payload"
        self._publish(topic, payloads[0], 1, ["-D", "publish", "topic-alias", "1", "--repeat", str(len(payloads))])

    def lost(self):
        while True:
            line = self.process.next(self.process.other)
            if "eceived DISCONNECT" in line:
                return int(line.rpartition("(")[2].rstrip(")"))

    def disconnect(self):
        """Ctrl-C makes it say DISCONNECT (5.0: with its will)."""
        if self.process is not None:
            self.process.process.send_signal(signal.SIGINT)
            self.process.process.wait(TIMEOUT)
        self.close()


MAKES = {"mosquitto": Mosquitto, "paho-c": PahoC, "paho-python": PahoPython, "mqtt-js": MqttJs}
