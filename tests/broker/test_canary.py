"""Secrets, recognisable ones in every input, are looked for wherever they must not turn up; and names that a terminal or a
browser would obey are looked for where people read them."""

import base64
import hashlib
import hmac
import json
import os
import re
import signal
import subprocess
import time

import pytest

from cluster import Cluster, wait_until
from identities import PENCIL, Guarded
from mqtt import Client, Closed, encode_publish

CANARIES = {name: f"canary{number}sings{name.replace(' ', '')}" for number, name in enumerate((
    "wrong password", "user password", "new password", "scram password", "scram message", "static password",
    "admin token", "wrong admin token", "token key", "read token", "write token"), start=10)}
PSK = b"canary sings psk".hex()
TERRIBLE = "\x1b[31mred\x07\n<script>alert(1)</script>\u202e"


def part(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


TOKEN_KEY = CANARIES["token key"].ljust(32, "!").encode()


def token(user):
    body = json.dumps({"sub": user, "exp": int(time.time()) + 86400}).encode()
    signed = part(b'{"alg": "HS256"}') + "." + part(body)
    return f"{signed}.{part(hmac.new(TOKEN_KEY, signed.encode(), hashlib.sha256).digest())}"


TOKEN = token("carl")
KEYS = []      # private ones, once there is a listener that has one


def secret_of(key):
    """The first line of a PEM file with an EC key, and the number in it."""
    with open(key, "rb") as file:
        lines = [line.strip() for line in file if not line.startswith(b"-----")]
    return lines[0], base64.b64decode(b"".join(lines)).split(b"\x02\x01\x01\x04\x20", 1)[1][:32]


class Watched(Cluster):
    """One node that logs all it can, with users of every kind."""

    ctl = Guarded.ctl

    def __init__(self, place, certificates):
        self.place = place
        certificate, key = certificates.path("clients", "server.pem"), certificates.path("clients", "server.key")
        KEYS.extend(secret_of(key))
        keys = self.secret("keys.json", json.dumps({"kty": "oct", "k": part(TOKEN_KEY)}))
        psk = self.secret("psk", f"device:{PSK}\n")
        super().__init__(1, environment={
            "COTERIE_LOG_LEVEL": "debug",
            "COTERIE_LISTENERS": f"tcp:127.0.0.1:0 anonymous=true,tls:127.0.0.1:0 anonymous=true psk_file={psk},"
                                 f"tls:127.0.0.1:0 anonymous=true certificate={certificate} key={key}",
            "COTERIE_ADMIN_TOKEN": CANARIES["admin token"],
            "COTERIE_ADMIN_TOKEN_FILE": self.secret(
                "tokens", f"read mon {CANARIES['read token']}\nwrite ann {CANARIES['write token']}\n"),
            "COTERIE_AUTHENTICATION_USERS": f"static:{CANARIES['static password']}",
            "COTERIE_AUTHENTICATION_PASSWORD_FILE": self.secret("passwords", f"bob:{PENCIL}\n"),
            "COTERIE_AUTHENTICATION_TOKEN_KEYS": keys})
        self.wait_ready()
        before = self.logs(1).split("event=data-opened")[0]
        self.port, self.tls_port, _ = (int(port) for port in re.findall(r"event=listening listener=\S+:(\d+) ", before))

    def secret(self, name, text):
        path = os.path.join(self.place, name)
        with open(path, "w", encoding="utf-8", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
            file.write(text)
        return path

    def data(self):
        """(name, content) of all files of the node's data."""
        for folder, _, names in os.walk(os.path.join(self.directory, "node1", "data")):
            for name in names:
                with open(os.path.join(folder, name), "rb") as file:
                    yield name, file.read()


@pytest.fixture(scope="module")
def watched(tmp_path_factory, certificates):
    environment = pytest.MonkeyPatch()
    environment.setenv("COTERIE_ADMIN_TOKEN", CANARIES["admin token"])     # of coteriectl
    made = Watched(str(tmp_path_factory.mktemp("secrets")), certificates)
    yield made
    environment.undo()
    made.down()


def connect(watched, name, user=None, password=None, **options):
    """A CONNECT and whatever comes of it; the reason, or None."""
    client = Client(name)
    try:
        return client.open(watched.port, expect=None, username=user, password=password, **options).reason
    except (Closed, AssertionError):
        return None
    finally:
        client.close()


def reload_with(watched, admin_token):
    """The status of a change that an operator with this token asks for."""
    return int(subprocess.run(["curl", "-s", "-o", os.devnull, "-w", "%{http_code}", "-d", "{}", "-H", "Content-Type: application/json",
                               "-H", f"Authorization: Bearer {admin_token}", f"http://127.0.0.1:{watched.admin_ports[1]}/reload"],
                              stdout=subprocess.PIPE, text=True, timeout=60).stdout)


@pytest.fixture(scope="module")
def used(watched):
    """Every secret has been used."""
    watched.ctl("user", "add", "ann", text=CANARIES["user password"] + "\n")
    assert connect(watched, "a", "ann", CANARIES["user password"]) == 0
    watched.ctl("user", "passwd", "ann", text=CANARIES["new password"] + "\n")
    assert connect(watched, "a", "ann", CANARIES["new password"]) == 0
    watched.ctl("user", "add", "sam", "--scram", text=CANARIES["scram password"] + "\n")
    assert connect(watched, "b", "static", CANARIES["static password"]) == 0
    assert connect(watched, "c", "carl", TOKEN) == 0
    for user in ("ann", "bob", "static", "nobody"):
        assert connect(watched, "d", user, CANARIES["wrong password"]) != 0
    connect(watched, "e", properties={"auth_method": "SCRAM-SHA-256",
                                      "auth_data": f"n,,n=sam,r={CANARIES['scram message']}".encode()})
    for name, status in (("read token", 403), ("write token", 200), ("wrong admin token", 401)):
        assert reload_with(watched, CANARIES[name]) == status
    done = subprocess.run(["mosquitto_pub", "-h", "127.0.0.1", "-p", str(watched.tls_port), "-t", "t", "-m", "m", "--psk", PSK,
                           "--psk-identity", "device"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30)
    assert done.returncode == 0, done.stdout
    return watched


def secrets():
    """What to look for: as it was typed, and as a program might write it."""
    typed = [value.encode() for value in CANARIES.values()] + [PSK.encode(), bytes.fromhex(PSK), TOKEN.encode(), TOKEN.split(".")[2].encode()]
    typed += KEYS
    return typed + [value.hex().encode() for value in typed] + [base64.b64encode(value)[:-4] for value in typed]


def then_none_in(text, where):
    found = [secret for secret in secrets() if secret in text]
    assert not found, f"{where}: {found}"


def test_no_secret_is_logged(used):
    log = used.logs(1)
    assert "level=debug" in log or "level=info" in log
    then_none_in(log.encode(), "log")


@pytest.mark.parametrize("path", ["/metrics", "/status", "/livez", "/readyz", "/users", "/roles", "/bans", "/audit", "/nothing"])
def test_no_secret_is_told_by_the_admin_http(used, path):
    then_none_in(used.http(1, path)[1].encode(), path)


@pytest.mark.parametrize("words", [["status"], ["status", "--json"], ["user", "list"], ["audit"], ["role", "list"], ["ban", "list"]],
                         ids=" ".join)
def test_no_secret_is_told_by_coteriectl(used, words):
    then_none_in(used.ctl(*words).encode(), words)


NAMES = {name: f"somebody{number}s{name.replace(' ', '')}" for number, name in enumerate(
    ("client id", "user", "will topic", "topic", "filter", "group", "retained", "payload", "property"), start=20)}


def test_monitoring_names_no_client_user_or_topic(watched):
    watched.ctl("user", "add", NAMES["user"], text="word\n")
    client = Client(NAMES["client id"])
    client.open(watched.port, clean=False, username=NAMES["user"], password="word",
                will={"topic": NAMES["will topic"], "payload": NAMES["payload"]}, properties={"session_expiry": 60})
    client.subscribe((NAMES["filter"], 1), (f"$share/{NAMES['group']}/x", 1))
    client.publish(NAMES["topic"], NAMES["payload"], qos=1, properties={"user_property": [(NAMES["property"], "x")]})
    client.publish(NAMES["retained"], NAMES["payload"], qos=2, retain=True)
    for path in ("/metrics", "/livez", "/readyz", "/status"):
        code, said = watched.http(1, path)
        assert code == 200 and not [name for name in NAMES.values() if name in said], path
    client.disconnect()
    Client(NAMES["client id"]).open(watched.port, username=NAMES["user"], password="word")    # ends the session


def test_a_wrong_admin_token_is_not_repeated(used, monkeypatch):
    monkeypatch.setenv("COTERIE_ADMIN_TOKEN", CANARIES["wrong admin token"])
    then_none_in(used.ctl("user", "add", "eve", text="word\n", check=False).encode(), "answer")
    then_none_in(used.logs(1).encode(), "log")


def test_no_secret_is_in_what_is_stored(used):
    files = list(used.data())
    assert any(b"ann" in content for _, content in files)      # the search would find something
    for name, content in files:
        then_none_in(content, name)


def test_no_secret_is_in_the_list_of_processes(used):
    with open(f"/proc/{used.node(1)['pid']}/cmdline", "rb") as file:
        then_none_in(file.read(), "command line")


def talk_of(watched, name):
    """In topics, filters, a will, a group and properties; and as what none of them may be."""
    client = Client("talker")
    client.open(watched.port, will={"topic": name, "payload": name})
    client.subscribe((name, 1), (f"$share/g{name}/x", 1), (f"a#{name}", 0))
    client.publish(name, name, qos=1, retain=True, properties={"user_property": [(name, name)], "content_type": name})
    client.publish(name, b"", qos=1, retain=True)
    client.send(encode_publish(f"#{name}", b"", 1, 9))
    client.expect_closed()


def test_names_that_a_terminal_obeys_are_written_so_that_it_does_not(used):
    connect(used, TERRIBLE, TERRIBLE, "word")
    connect(used, TERRIBLE)
    used.ctl("ban", "add", "client", TERRIBLE, "--reason", TERRIBLE, check=False)
    connect(used, TERRIBLE)
    talk_of(used, TERRIBLE)
    shown = used.logs(1) + used.ctl("ban", "list") + used.ctl("audit") + used.ctl("status")
    assert not set(shown) & {"\x1b", "\x07", "\u202e"}
    assert all(line.startswith("time=") for line in used.logs(1).splitlines() if "red" in line or "script" in line)


def test_names_are_no_markup_where_a_browser_would_look(used):
    with_type = subprocess.run(["curl", "-s", "-o", os.devnull, "-w", "%{content_type}",
                                f"http://127.0.0.1:{used.admin_ports[1]}/<script>"], stdout=subprocess.PIPE, text=True).stdout
    assert "html" not in with_type
    assert "<script>" not in used.http(1, "/metrics")[1]


def test_a_crash_shows_no_secret(used):
    os.kill(used.node(1)["pid"], signal.SIGABRT)
    wait_until("node gone", lambda: not used.node(1)["pid"])
    then_none_in(used.logs(1).encode(), "log")
    assert not [name for _, _, names in os.walk(used.directory) for name in names if name.startswith("core")]


@pytest.mark.parametrize("option, text", [
    ("PASSWORD_FILE", f"bob:{PENCIL}\n"), ("USERS_FILE", "bob:word\n"),
    ("TOKEN_KEYS", json.dumps({"kty": "oct", "k": part(TOKEN_KEY)}))])
def test_a_secret_file_that_everybody_may_read_stops_the_start(tmp_path, option, text):
    path = tmp_path / "secrets"
    path.write_text(text)
    path.chmod(0o604)
    with pytest.raises(AssertionError) as trouble:
        Cluster(1, environment={f"COTERIE_AUTHENTICATION_{option}": str(path)})
    assert f"{path}: everybody on this machine may read it" in str(trouble.value) and "bob" not in str(trouble.value)
