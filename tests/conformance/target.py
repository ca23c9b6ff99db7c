"""The brokers under test: a three-node cluster of ours, or one mosquitto.

  target.ports         where clients connect; a test uses several where several clients take part
  target.special(name) the port of a broker of the same make with another configuration (SPECIAL below), started when
                       a test first asks for it
  target.rights        the file of rules, in mosquitto's format, of the special broker "rights"; target.reload(name)
                       makes a special broker read its files again
"""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from cluster import Cluster

# What a test may ask for, and how each make is told. None: this make cannot do it.
SPECIAL = {
    "small-packets": {"cluster": {"COTERIE_LIMITS_PACKET_BYTES_MAX": "2000"},
                      "mosquitto": ["max_packet_size 2000"]},
    "short-keep-alive": {"cluster": {"COTERIE_TIMEOUTS_KEEP_ALIVE_MAX_S": "1"},
                         "mosquitto": ["max_keepalive 1"]},
    "qos-1-at-most": {"cluster": {"COTERIE_LIMITS_MAXIMUM_QOS": "1"},
                      "mosquitto": ["max_qos 1"]},
    "no-retain": {"cluster": {"COTERIE_LIMITS_RETAIN_AVAILABLE": "false"},
                  "mosquitto": ["retain_available false"]},
    "few-sessions": {"cluster": {"COTERIE_LIMITS_SESSIONS_MAX": "10"},
                     "mosquitto": None},
    "authentication": {"cluster": {"COTERIE_AUTHENTICATION_USERS": "user:pencil"},
                       "mosquitto": None},
    "little-offered": {"cluster": {"COTERIE_LIMITS_WILDCARDS_AVAILABLE": "false",
                                   "COTERIE_LIMITS_SUBSCRIPTION_IDS_AVAILABLE": "false",
                                   "COTERIE_LIMITS_PAYLOAD_FORMAT_CHECKED": "true",
                                   "COTERIE_LIMITS_TOPIC_ALIAS_MAX": "0",
                                   "COTERIE_LIMITS_RECEIVE_MAXIMUM": "2",
                                   "COTERIE_LIMITS_SESSION_EXPIRY_MAX_S": "100",
                                   "COTERIE_LIMITS_SUBSCRIPTIONS_MAX": "4",
                                   "COTERIE_LIMITS_RETAINED_MESSAGES_MAX": "3",
                                   "COTERIE_LIMITS_RESPONSE_INFORMATION": "answers/here"},
                       "mosquitto": None},
    "rights": {"cluster": {"COTERIE_AUTHORIZATION_ACL_FILE": "{rights}"},
               "mosquitto": ["acl_file {rights}", "check_retain_source false"]},
    "large-connect": {"cluster": {"COTERIE_LIMITS_CONNECT_BYTES_MAX": "1048576"},
                      "mosquitto": []},
    "wide-window": {"cluster": {"COTERIE_LIMITS_IN_FLIGHT_MAX": "1000"},
                    "mosquitto": ["max_inflight_messages 1000"]},
    "one-connect-a-second": {"cluster": {"COTERIE_LIMITS_CONNECT_RATE_ADDRESS_MAX": "1"},
                             "mosquitto": None},
}


class NotOffered(Exception):
    """This make of broker has no such feature."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Mosquitto:
    PROGRAM = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    CONFIG = ["allow_anonymous true", "persistence false", "set_tcp_nodelay true", "max_queued_messages 0",
              "max_inflight_messages 0", "log_dest none", f"user {getpass.getuser()}"]

    def __init__(self, lines=()):
        self.directory = tempfile.mkdtemp(prefix="conformance-")
        self.port, self.websocket_port = free_port(), free_port()
        path = os.path.join(self.directory, "mosquitto.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join([*self.CONFIG, f"listener {self.port} 127.0.0.1", *lines,
                                  f"listener {self.websocket_port}", "protocol websockets"]) + "\n")
        self.process = subprocess.Popen([self.PROGRAM, "-c", path], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        self._wait()

    def _wait(self):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        self.stop()
        raise NotOffered("mosquitto did not start with this configuration")

    def stop(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


RIGHTS = """topic readwrite open/#
topic read readable/#
topic write writable/#
"""


class RightsFile:
    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="conformance-")
        self.path = os.path.join(self.directory, "rights")
        self.write(RIGHTS)

    def write(self, text):
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(text)

    def remove(self):
        shutil.rmtree(self.directory, ignore_errors=True)


class MosquittoTarget:
    name = "mosquitto"

    def __init__(self, _nodes=1):
        self.rights = RightsFile()
        self.broker = Mosquitto()
        self.ports, self.websocket_port = [self.broker.port], self.broker.websocket_port
        self.specials = {}

    def special(self, name):
        lines = SPECIAL[name]["mosquitto"]
        if lines is None:
            raise NotOffered(f"mosquitto has no {name}")
        if name not in self.specials:
            self.specials[name] = Mosquitto([line.format(rights=self.rights.path) for line in lines])
        return self.specials[name].port

    def reload(self, name):
        self.specials[name].process.send_signal(signal.SIGHUP)

    def repair(self):
        """Puts what a test has killed back to life; returns what was found dead."""
        if self.broker.process.poll() is None:
            return []
        self.broker = Mosquitto()
        self.ports, self.websocket_port = [self.broker.port], self.broker.websocket_port
        return ["mosquitto"]

    def down(self):
        for broker in [self.broker, *self.specials.values()]:
            broker.stop()
        self.rights.remove()


class ClusterTarget:
    name = "cluster"

    def __init__(self, nodes=3):
        self.rights = RightsFile()
        self.cluster = Cluster(nodes)
        self.cluster.wait_ready(timeout=60)
        self.ports = [port for _, port in sorted(self.cluster.ports.items())]
        self.websocket_port = self.cluster.node(1)["ws_port"]
        self.specials = {}

    def special(self, name):
        if name not in self.specials:
            try:
                made = Cluster(1, environment={key: value.format(rights=self.rights.path)
                                               for key, value in SPECIAL[name]["cluster"].items()})
                made.wait_ready(timeout=20)
            except AssertionError as error:
                made = NotOffered(f"no broker with {SPECIAL[name]['cluster']}: {str(error)[-300:]}")
            self.specials[name] = made
        made = self.specials[name]
        if isinstance(made, NotOffered):
            raise made
        return made.ports[1]

    def reload(self, name):
        os.kill(self.specials[name].node(1)["pid"], signal.SIGHUP)

    def repair(self):
        dead = [node["id"] for node in self.cluster.status() if not node["pid"]]
        for number in dead:
            self.cluster.start(number)
        if dead:
            self.cluster.wait_ready(timeout=60)
        return [f"node {number}" for number in dead]

    def down(self):
        for made in [self.cluster, *self.specials.values()]:
            if isinstance(made, Cluster):
                made.down()
        self.rights.remove()


TARGETS = {"cluster": ClusterTarget, "mosquitto": MosquittoTarget}
