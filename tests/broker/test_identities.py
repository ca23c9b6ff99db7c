"""Who may connect: users in the replicated state, files, tokens; and whose a session is."""

import base64
import hashlib
import hmac
import json
import os
import re
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from cluster import wait_until
from doors import Door, mosquitto_pub
from identities import PENCIL, Guarded
from mqtt import Client

BAD_PASSWORD, NOT_AUTHORIZED, BANNED = 0x86, 0x87, 0x8A
SECRET = bytes(range(32))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def part(value):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def token(user, seconds, key=SECRET, algorithm="HS256"):
    signed = f"{part({'alg': algorithm})}.{part({'sub': user, 'exp': int(time.time()) + seconds})}"
    return f"{signed}.{part(hmac.new(key, signed.encode(), hashlib.sha256).digest())}"


@pytest.fixture(scope="module")
def guarded():
    keys = f"/tmp/coterie-test-{os.getpid()}-keys.json"
    with open(keys, "w", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        json.dump({"kty": "oct", "k": part(SECRET)}, file)
    made = Guarded(COTERIE_AUTHENTICATION_TOKEN_KEYS=keys, COTERIE_AUTHENTICATION_TOKEN_LEEWAY_S="0",
                   COTERIE_AUTHORIZATION_ACL_FILE="")
    yield made
    made.down()
    os.unlink(keys)


@pytest.fixture
def connect(unique):
    made = []

    def make(port, user=None, password="pencil", name="client", **options):
        made.append(Client(f"{unique}-{name}"))
        if user is not None:
            options.update(username=user, password=password)
        made[-1].connack = made[-1].open(port, **options)
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_user_made_at_one_node_is_known_at_all(guarded, connect, unique):
    guarded.ctl("user", "add", unique, node=2, text="first\n")
    guarded.caught_up()
    for port in guarded.ports.values():
        connect(port, unique, "first")
        connect(port, unique, "other", expect=BAD_PASSWORD)
    guarded.ctl("user", "passwd", unique, node=3, text="second\n")
    guarded.caught_up()
    connect(guarded.ports[1], unique, "first", expect=BAD_PASSWORD)
    connect(guarded.ports[1], unique, "second")
    assert "first" not in guarded.http(1, "/users")[1] + guarded.http(1, "/audit")[1]
    assert unique in guarded.ctl("user", "list") and f"user passwd {unique}" in guarded.ctl("audit")


def test_who_is_disabled_goes_at_once_wherever_it_is(guarded, connect, unique):
    guarded.ctl("user", "add", unique, text="word\n")
    guarded.caught_up()
    here = [connect(port, unique, "word", name=str(port)) for port in guarded.ports.values()]
    guarded.ctl("user", "disable", unique, node=2)
    for client in here:
        assert client.expect_closed().reason == NOT_AUTHORIZED
    connect(guarded.ports[3], unique, "word", expect=NOT_AUTHORIZED)
    guarded.ctl("user", "enable", unique)
    guarded.caught_up()
    again = connect(guarded.ports[3], unique, "word")
    guarded.ctl("user", "remove", unique)
    assert again.expect_closed().reason == NOT_AUTHORIZED
    connect(guarded.ports[3], unique, "word", expect=BAD_PASSWORD)


def test_users_of_the_state_outlive_the_nodes(guarded, connect, unique):
    guarded.ctl("user", "add", unique, text="word\n")
    guarded.caught_up()
    for number in guarded.ports:
        guarded.kill(number)
    for number in guarded.ports:
        guarded.start(number)
    guarded.wait_ready()
    connect(guarded.ports[2], unique, "word")


def test_a_password_file_of_mosquitto(guarded, connect):
    connect(guarded.ports[1], "bob")
    connect(guarded.ports[1], "bob", "Pencil", expect=BAD_PASSWORD)


def test_a_token_is_as_good_as_its_key_and_its_time(guarded, connect, unique):
    connect(guarded.ports[1], "whoever", token(unique, 60))
    connect(guarded.ports[1], "whoever", token(unique, -5), expect=BAD_PASSWORD)
    connect(guarded.ports[1], "whoever", token(unique, 60, key=b"another key of some thirty bytes"), expect=BAD_PASSWORD)
    connect(guarded.ports[1], "whoever", token(unique, 60, algorithm="none"), expect=BAD_PASSWORD)
    short = connect(guarded.ports[2], "whoever", token(unique, 2), name="short")
    assert short.expect_closed(timeout=10).reason == 0xA0


def test_a_session_belongs_to_who_made_it_at_every_node(guarded, connect, unique):
    for user in ("ann", "eve"):
        guarded.ctl("user", "add", f"{unique}{user}", text="word\n")
    guarded.caught_up()
    owner = connect(guarded.ports[1], f"{unique}ann", "word", clean=False)
    assert owner.subscribe(("a", 1)) == [1]
    for port in guarded.ports.values():
        connect(port, f"{unique}eve", "word", expect=NOT_AUTHORIZED)
        connect(port, expect=NOT_AUTHORIZED)     # anonymous
    owner.ping()
    owner.disconnect()
    connect(guarded.ports[3], f"{unique}eve", "word", clean=False, expect=NOT_AUTHORIZED)
    back = connect(guarded.ports[2], f"{unique}ann", "word", clean=False)
    assert back.connack.session_present


def test_a_ban_ends(guarded, connect, unique):
    client = connect(guarded.ports[1], name="banned")
    guarded.ctl("ban", "add", "client", client.client_id, "--for", "2", "--reason", "test", node=3)
    assert client.expect_closed().reason == NOT_AUTHORIZED
    assert Client(client.client_id).open(guarded.ports[2], expect=BANNED)
    assert client.client_id in guarded.ctl("ban", "list")
    wait_until("the end of a ban", lambda: Client(client.client_id).open(guarded.ports[2], expect=None).reason == 0)


def test_an_address_may_be_banned_with_its_network(guarded, connect):
    guarded.ctl("ban", "add", "address", "127.0.0.0/8", "--for", "60")
    guarded.caught_up()
    connect(guarded.ports[1], expect=BANNED)
    guarded.ctl("ban", "remove", "address", "127.0.0.0/8")
    guarded.caught_up()
    connect(guarded.ports[1])


def test_names_are_shown_without_what_a_terminal_would_obey(guarded):
    refused = guarded.ctl("user", "add", "a\x1b[2Jb\nc", text="word\n", check=False)
    assert "control characters" in refused


def test_guessing_is_slow_and_unknown_names_cost_the_same(guarded, connect, unique):
    guarded.ctl("user", "add", unique, text="word\n")
    guarded.caught_up()
    for number in range(4):
        connect(guarded.ports[1], unique, f"guess {number}", expect=BAD_PASSWORD)
    began = time.monotonic()
    connect(guarded.ports[1], unique, "word")
    assert time.monotonic() - began > 0.2
    assert 'coterie_logins_slowed_total 0\n' not in guarded.http(1, "/metrics")[1]


def post(guarded, path, data, **headers):
    """The status of the answer."""
    request = urllib.request.Request(f"http://127.0.0.1:{guarded.admin_ports[1]}{path}", data,
                                     {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_changes_come_from_operators_and_make_sense(guarded, unique):
    add = json.dumps({"do": "add", "name": unique}).encode()
    assert post(guarded, "/roles", add, Origin="http://example.com") == 403       # a web page that an operator looks at
    assert post(guarded, "/roles", add, **{"Content-Type": "text/plain"}) == 403
    assert post(guarded, "/roles", b"x" * 100_000) == 413
    for nonsense in (b"", b"[]", b"{}", b'{"do": "add"}', b'{"do": "explode", "name": "x"}', b'{"do": 1, "name": "x"}',
                     b'{"do": "add", "do": "remove", "name": "x"}', json.dumps({"do": "add", "name": "x" * 129}).encode()):
        assert post(guarded, "/roles", nonsense) == 400, nonsense
    rule = {"do": "allow", "name": unique, "rights": ["publish"], "filter": "a/#"}
    for change in ({"filter": "a/#/b"}, {"filter": "$share/g/a"}, {"filter": ""}, {"rights": []}, {"rights": ["fly"]},
                   {"priority": 1 << 40}):
        assert post(guarded, "/roles", json.dumps({**rule, **change}).encode()) == 400, change
    assert post(guarded, "/roles", json.dumps(rule).encode()) == 404              # there is no such role
    assert post(guarded, "/status", add) == 405 and post(guarded, "/nothing", add) == 404
    assert guarded.http(1, "/reload")[0] == 405
    assert guarded.asked(1, "/roles")["roles"] == []


# -- one node alone --------------------------------------------------------------------------------------------


@pytest.fixture
def alone(tmp_path):
    """Starts a node with one listener of these options; returns its port."""
    running = []

    def start(options, **environment):
        log = open(tmp_path / "log", "w+", encoding="utf-8")
        running.append(subprocess.Popen(
            [os.environ["COTERIE_BIN"]], stdout=log, stderr=log,
            env={"PATH": os.environ["PATH"], "COTERIE_NODE_DATA_DIR": str(tmp_path / "data"), "COTERIE_ADMIN_PORT": "0",
                 "COTERIE_CLUSTER_BOOTSTRAP": "true", "COTERIE_LISTENERS": f"tcp:127.0.0.1:0 {options}", **environment}))
        said = wait_until("a node that serves", lambda: "clients can be served" in read(log) and read(log))
        return int(re.search(r"listener=tcp:127.0.0.1:(\d+)", said).group(1))

    def read(log):
        log.seek(0)
        return log.read()

    yield start
    for process in running:
        process.terminate()
        process.wait(20)


def test_nobody_is_anonymous_without_a_word(alone, connect):
    port = alone("")
    connect(port, expect=NOT_AUTHORIZED)
    connect(port, "somebody", expect=BAD_PASSWORD)


def test_a_listener_asks_its_own_methods(alone, connect, tmp_path):
    path = tmp_path / "passwords"
    path.write_text(f"bob:{PENCIL}\n")
    path.chmod(0o600)
    port = alone("authentication=users", COTERIE_AUTHENTICATION_PASSWORD_FILE=str(path), COTERIE_AUTHENTICATION_USERS="ann:word")
    connect(port, "ann", "word")
    connect(port, "bob", expect=BAD_PASSWORD)


def test_the_log_tells_at_start_who_may_connect_where(certificates, tmp_path):
    """And does not name ways that are none at this listener."""
    server = f"certificate={certificates.path('clients', 'server.pem')} key={certificates.path('clients', 'server.key')}"
    path = tmp_path / "passwords"
    path.write_text(f"bob:{PENCIL}\n")
    path.chmod(0o600)
    told = {
        "": "by scram,users,password_file",
        "anonymous=true": "ANYBODY without a name; named ones by scram,users,password_file",
        "anonymous=true authentication=psk": "ANYBODY, without a name only",
        "authentication=certificate": "NOBODY: none of its methods can know anyone",
        "proxy_from=192.0.2.1 authentication=users": "behind a proxy, by users",
    }
    required = f"{server} client_ca={certificates.path('clients', 'ca.pem')} client_certificate=required authentication=certificate"
    listeners = [f"tcp:127.0.0.1:0 {options}".rstrip() for options in told] + [f"tls:127.0.0.1:0 {required}"]
    made = Door(*listeners, environment={"COTERIE_AUTHENTICATION_PASSWORD_FILE": str(path)})
    try:
        lines = re.findall(r'event=listening .* clients="([^"]*)"', made.log())
        assert lines == [*told.values(), "with a certificate, by certificate"]
    finally:
        made.down()


@pytest.fixture
def door(certificates, tmp_path):
    """TLS listeners that know clients by their certificates, and by their keys; rules that name them."""
    server = f"certificate={certificates.path('clients', 'server.pem')} key={certificates.path('clients', 'server.key')}"
    keys, rules = tmp_path / "keys", tmp_path / "acl"
    keys.write_text("sensor:00112233445566778899aabbccddeeff\n")
    keys.chmod(0o600)
    rules.write_text("pattern readwrite own/%u/#\n")
    made = Door(f"tls:127.0.0.1:0 authentication=certificate {server} client_ca={certificates.path('clients', 'ca.pem')} "
                "client_certificate=optional",
                f"tls:127.0.0.1:0 authentication=psk psk_file={keys}",
                environment={"COTERIE_AUTHORIZATION_ACL_FILE": str(rules)})
    yield made
    made.down()


def test_a_certificate_and_a_key_are_names(door, certificates):
    by_certificate, by_key = door.ports()
    context = ssl.create_default_context(cafile=certificates.path("clients", "ca.pem"))
    client = Client("by-certificate")
    client.tls = context
    client.open(by_certificate, expect=NOT_AUTHORIZED)
    context.load_cert_chain(*certificates.client("device"))
    client.open(by_certificate, username="another", password="name")    # is not asked
    assert client.publish("own/device/x", "x") == 0x10
    assert client.publish("own/another/x", "x") == NOT_AUTHORIZED
    for topic, allowed in (("own/sensor/x", True), ("own/device/x", False)):
        code, said = mosquitto_pub(by_key, "--psk", "00112233445566778899aabbccddeeff", "--psk-identity", "sensor", "-V", "5",
                                   topic=topic)
        assert ("Not authorized" not in said) == allowed, (code, said)


def test_changes_need_the_token_where_there_is_one(alone, tmp_path):
    port = free_port()
    alone("anonymous=true", COTERIE_ADMIN_PORT=str(port), COTERIE_ADMIN_TOKEN="a token that is long enough")

    def ask(path, token=None, data=None):
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    role = b'{"do": "add", "name": "r"}'
    for path, data in (("/users", None), ("/audit", None), ("/roles", role), ("/reload", b"{}")):
        assert ask(path, data=data) == 401
        assert ask(path, "a token that is long enougH", data) == 401
    assert ask("/readyz") == 200
    assert ask("/roles", "a token that is long enough", role) == 200
    assert ask("/roles", "a token that is long enough") == 200


# -- starting --------------------------------------------------------------------------------------------------


def started(tmp_path, environment):
    """What a node says that must not start."""
    program = os.environ["COTERIE_BIN"]
    done = subprocess.run([program], env={"PATH": os.environ["PATH"], "COTERIE_NODE_DATA_DIR": str(tmp_path / "data"),
                                          "COTERIE_LISTENERS": "tcp:127.0.0.1:0", "COTERIE_ADMIN_PORT": "0", **environment},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20)
    assert done.returncode != 0
    return done.stdout


@pytest.mark.parametrize("option, lines, place", [
    ("COTERIE_AUTHENTICATION_PASSWORD_FILE", f"ann:{PENCIL}\nbob:pencil\n", ":2: "),
    ("COTERIE_AUTHENTICATION_PASSWORD_FILE", "ann\n", ":1: "),
    ("COTERIE_AUTHORIZATION_ACL_FILE", "user ann\ntopic read a\nallow everything\n", ":3: "),
    ("COTERIE_AUTHENTICATION_TOKEN_KEYS", '{"keys": []}', ": expected"),
])
def test_a_file_that_is_wrong_stops_the_start_with_its_line(tmp_path, option, lines, place):
    path = tmp_path / "file"
    path.write_text(lines)
    path.chmod(0o600)
    said = started(tmp_path, {option: str(path)})
    assert f"{path}{place}" in said, said
    assert "pencil" not in said


def test_a_file_that_is_missing_or_open_to_all_stops_the_start(tmp_path):
    assert "No such file" in started(tmp_path, {"COTERIE_AUTHENTICATION_PASSWORD_FILE": str(tmp_path / "none")})
    path = tmp_path / "file"
    path.write_text(f"ann:{PENCIL}\n")
    path.chmod(0o644)
    assert "everybody" in started(tmp_path, {"COTERIE_AUTHENTICATION_PASSWORD_FILE": str(path)})
