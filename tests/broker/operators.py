"""One node and its admin HTTP, asked byte by byte: what a client library would not send is asked here too."""

import json
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import time

from cluster import wait_until

READ_TOKEN, WRITE_TOKEN = "reads-0123456789abcdef", "writes-0123456789abcdef"
READER, WRITER = {"Authorization": f"Bearer {READ_TOKEN}"}, {"Authorization": f"Bearer {WRITE_TOKEN}"}
TOKENS = f"read mon {READ_TOKEN}\nwrite ann {WRITE_TOKEN}\n"
JSON = {"Content-Type": "application/json"}


def secret_file(path, text):
    with open(path, "w", encoding="utf-8", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
        file.write(text)
    return str(path)


class Answer:
    """status 0: the connection was closed without one."""

    def __init__(self, raw):
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split(" ")[1]) if lines[0].startswith("HTTP/") else 0
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}

    def json(self):
        return json.loads(self.body)


class Operated:
    """A node of its own, with these settings; on a port that nobody listens on, below those of outgoing connections."""

    def __init__(self, directory, **environment):
        self.directory, self.context = str(directory), None
        for _ in range(20):
            self.port = random.randrange(24000, 32000)
            if self._start(environment):
                return
        raise AssertionError(self.log())

    def _start(self, environment):
        with open(os.path.join(self.directory, "log"), "w", encoding="utf-8") as log:
            self.process = subprocess.Popen([os.environ["COTERIE_BIN"]], stdout=log, stderr=log, env={
                "PATH": os.environ["PATH"], "COTERIE_NODE_DATA_DIR": os.path.join(self.directory, "data"),
                "COTERIE_ADMIN_PORT": str(self.port), "COTERIE_CLUSTER_BOOTSTRAP": "true", "COTERIE_LISTENERS": "tcp:127.0.0.1:0",
                **environment})
        wait_until("a node that serves, or does not", lambda: self.process.poll() is not None or "clients can be served" in self.log(),
                   timeout=60)
        if self.process.poll() is None:
            return True
        assert "cannot listen for admin HTTP" in self.log(), self.log()
        return False

    def log(self):
        with open(os.path.join(self.directory, "log"), encoding="utf-8") as file:
            return file.read()

    def wait_log(self, text, count=1):
        wait_until(f"{count} x {text} in the log", lambda: self.log().count(text) >= count)

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def down(self):
        self.process.terminate()
        self.process.wait(60)
        found = [line for line in self.log().splitlines() if "runtime error:" in line or "Sanitizer" in line]
        assert not found, "\n".join(found)

    # -- asking ----------------------------------------------------------------------------------------------------

    def connect(self, context=None):
        """A socket, with TLS if this node has it; `context`: another than usual."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        context = context or self.context
        return context.wrap_socket(plain, server_hostname="localhost") if context else plain

    def say(self, raw, context=None):
        """Sends this and reads until the node closes."""
        with self.connect(context) as connection:
            return Answer(read_all(connection, raw))

    def ask(self, method, target, headers=None, body=None, context=None):
        """One request; a body is sent with its length, if the headers do not say how."""
        lines = {"Host": f"localhost:{self.port}", "Connection": "close", **(headers or {})}
        if body is not None and "Transfer-Encoding" not in lines:
            lines.setdefault("Content-Length", str(len(body)))
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
        return self.say(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + (body or b""), context)

    def change(self, path, headers, context=None, **fields):
        return self.ask("POST", path, {**JSON, **headers}, json.dumps(fields).encode(), context)

    def metric(self, name):
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.ask("GET", "/metrics", READER).body.decode(), re.M)
        assert found, f"no metric {name}"
        return float(found.group(1))


def read_all(connection, raw):
    """What is answered; a node that refuses early may close while we still send."""
    heard = b""
    try:
        connection.sendall(raw)
    except OSError:
        pass
    try:
        while True:
            part = connection.recv(65536)
            if not part:
                return heard
            heard += part
    except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
        return heard


def trickle(connection, raw, seconds):
    """Sends byte after byte; whether the node ended it within this time."""
    deadline = time.monotonic() + seconds
    connection.settimeout(0.2)
    while time.monotonic() < deadline:
        try:
            connection.sendall(raw[:1])
            raw = raw[1:] or raw
            if connection.recv(1) == b"":
                return True
        except (TimeoutError, ssl.SSLWantReadError):
            continue
        except OSError:
            return True
    return False
