"""The admin HTTP beyond this machine: certificates of both sides, files read again, coteriectl, and what does not start."""

import contextlib
import os
import re
import shutil
import socket
import ssl
import subprocess

import pytest

from cluster import wait_until
from doors import Certificates, openssl
from operators import READ_TOKEN, READER, TOKENS, WRITE_TOKEN, WRITER, Operated, read_all, secret_file, trickle

CLIENT = "extendedKeyUsage=clientAuth"


@pytest.fixture(scope="module")
def other_certificates():
    """Of a CA that nobody here trusts."""
    made = Certificates("other")
    yield made
    made.remove()


@pytest.fixture(scope="module")
def place(tmp_path_factory, certificates):
    """Files of a node, which a test may change: server.pem, server.key, tokens, crl.pem."""
    made = tmp_path_factory.mktemp("operated")
    for name in ("server.pem", "server.key", "crl.pem"):
        shutil.copy(certificates.path("clients", name), made / name)
    secret_file(made / "tokens", TOKENS)
    return made


@pytest.fixture(scope="module")
def node(place, certificates):
    """Knows operators by tokens and by certificates."""
    made = Operated(place, COTERIE_ADMIN_ADDRESS="0.0.0.0", COTERIE_ADMIN_TOKEN_FILE=str(place / "tokens"),
                    COTERIE_ADMIN_CERTIFICATE=str(place / "server.pem"), COTERIE_ADMIN_KEY=str(place / "server.key"),
                    COTERIE_ADMIN_CLIENT_CA=certificates.path("clients", "ca.pem"), COTERIE_ADMIN_CRL=str(place / "crl.pem"),
                    COTERIE_ADMIN_READERS="mon,watch", COTERIE_ADMIN_WRITERS="ann,eve", COTERIE_TIMEOUTS_HANDSHAKE_MS="60000")
    made.context = trusts(certificates)
    yield made
    made.down()


def trusts(certificates, pair=None):
    """What a client with this certificate and key would use."""
    context = ssl.create_default_context(cafile=certificates.path("clients", "ca.pem"))
    if pair:
        context.load_cert_chain(*pair)
    return context


def then_refused(node, context):
    """The certificate of the client is not taken: with TLS 1.3 that shows when one reads."""
    try:
        with node.connect(context) as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert connection.recv(100) == b""
    except (ssl.SSLError, ConnectionError):
        pass


# -- certificates of operators ---------------------------------------------------------------------------------


def test_a_certificate_has_the_role_that_its_name_is_listed_with(node, certificates):
    expected = {"mon": (200, 403), "ann": (200, 200), "guest": (401, 401)}
    for name, (read, write) in expected.items():
        context = trusts(certificates, certificates.client(name))
        assert node.ask("GET", "/users", context=context).status == read, name
        assert node.change("/reload", {}, context, actor="x").status == write, name
    assert 'event=admin-refused address=127.0.0.1 by=' in node.log()


def test_a_change_is_known_by_the_name_of_the_certificate(node, certificates):
    context = trusts(certificates, certificates.client("ann"))
    assert node.change("/roles", {}, context, do="add", name="certified", actor="somebody").status == 200
    assert node.change("/roles", {}, context, do="remove", name="certified").status == 200
    changes = node.ask("GET", "/audit", READER).json()["changes"]
    assert [change["by"] for change in changes if change["what"].endswith("certified")] == ["certificate:ann"] * 2


def test_a_wrong_token_is_not_made_good_by_a_certificate(node, certificates):
    context = trusts(certificates, certificates.client("ann"))
    assert node.ask("GET", "/livez", {"Authorization": "Bearer wrong-0123456789abcdef"}, context=context).status == 401
    assert node.change("/reload", READER, context).status == 403      # the token says who it is


def test_a_certificate_is_not_taken_from_another_ca_late_or_revoked(node, certificates, other_certificates, place):
    then_refused(node, trusts(certificates, other_certificates.client("ann")))
    then_refused(node, trusts(certificates, certificates.expired("clients", "late", CLIENT)))
    eve = trusts(certificates, certificates.client("eve"))
    assert node.ask("GET", "/users", context=eve).status == 200
    certificates.run("revoke", certificates.client("eve")[0])
    with node.connect(eve) as kept:
        assert lives(kept, "")      # the node has ended the handshake, too
        shutil.copy(certificates.path("clients", "crl.pem"), place / "crl.pem")
        before = node.log().count("certificate-reloaded listener=admin")
        node.reload()
        node.wait_log("certificate-reloaded listener=admin", before + 1)
        assert b" 200 " not in read_all(kept, b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    then_refused(node, eve)
    assert node.ask("GET", "/users", context=trusts(certificates, certificates.client("ann"))).status == 200


def test_a_certificate_of_a_server_is_no_operators(node, certificates):
    then_refused(node, trusts(certificates, (certificates.path("clients", "server.pem"), certificates.path("clients", "server.key"))))


# -- the wire --------------------------------------------------------------------------------------------------


def test_what_is_not_tls_is_not_answered(node):
    with socket.create_connection(("127.0.0.1", node.port), timeout=30) as plain:
        assert b"HTTP" not in read_all(plain, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")


@pytest.mark.parametrize("option, taken", [("-tls1_3", True), ("-tls1_2", True), ("-tls1_1", False),
                                           ("-tls1_2 -cipher AES128-SHA", False), ("-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA", False)])
def test_only_tls_as_clients_have_it(node, certificates, option, taken):
    request = f"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {READ_TOKEN}\r\n\r\n".encode()
    said = openssl("s_client", "-connect", f"127.0.0.1:{node.port}", "-CAfile", certificates.path("clients", "ca.pem"), *option.split(),
                   "-quiet", "-verify_return_error", input=request, check=False, timeout=60)
    assert ("alive" in said) == taken, said


def test_many_requests_go_over_one_connection(node):
    with node.connect() as connection:
        for _ in range(3):
            connection.sendall(f"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {READ_TOKEN}\r\n\r\n".encode())
            heard = b""
            while b"\r\n\r\n" not in heard:
                heard += connection.recv(65536)
            head, _, body = heard.partition(b"\r\n\r\n")
            length = int(re.search(rb"Content-Length: (\d+)", head).group(1))
            while len(body) < length:
                body += connection.recv(65536)
            assert body.startswith(b"# HELP") and len(body) == length


def test_a_connection_that_ends_anywhere_ends_nothing_else(node):
    request = (f"POST /users HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {WRITE_TOKEN}\r\n"
               "Content-Type: application/json\r\nContent-Length: 34\r\n\r\n").encode()
    for length in (0, 1, 50, len(request), len(request) + 10, len(request) + 34):
        with node.connect() as connection:
            connection.sendall((request + b'{"do": "remove", "name": "nobody"}')[:length])
    for length in (1, 10, 100, 5000):
        with socket.create_connection(("127.0.0.1", node.port)) as connection:
            connection.sendall(b"\x16\x03\x01\x02\x00\x01" + b"\x00" * length)
    assert node.ask("GET", "/readyz", READER).status == 200


def is_closed(connection):
    """By the other side; nothing is waited for."""
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


@contextlib.contextmanager
def strangers(node, count, *sources):
    """Connections that say nothing, from these addresses in turn."""
    with contextlib.ExitStack() as held:
        yield [held.enter_context(socket.create_connection(("127.0.0.1", node.port), source_address=(sources[i % len(sources)], 0)))
               for i in range(count)]


def closed(held):
    return sum(map(is_closed, held))


def test_strangers_of_one_address_keep_nobody_out(node):
    with node.connect() as kept:
        assert lives(kept)      # it has shown what it may
        with strangers(node, 60, "127.0.0.2") as held:
            wait_until("eight stay", lambda: closed(held) >= 52)
            assert closed(held) == 52
            assert answers(node, READER) and lives(kept)


def test_nor_do_they_at_the_address_of_an_operator(node):
    with node.connect() as kept:
        assert lives(kept)
        with strangers(node, 60, "127.0.0.1") as held:
            wait_until("eight stay", lambda: closed(held) >= 52)
            assert answers(node, READER) and lives(kept)
            assert closed(held) == 53      # the last one made room


def test_nor_do_they_from_many_addresses(node):
    with node.connect() as kept:
        assert lives(kept)
        with strangers(node, 60, *(f"127.0.3.{i}" for i in range(1, 31))) as held:
            wait_until("there are so many connections and no more", lambda: closed(held) >= 29)
            assert closed(held) == 29
            assert answers(node, READER) and lives(kept)


def test_who_may_does_not_give_way(node):
    kept = []
    try:
        while len(kept) < 33 and answers_over(node, kept):
            assert all(map(lives, kept))      # none is idle for long
        assert len(kept) == 32
    finally:
        for one in kept:
            one.close()
    wait_until("room again", lambda: answers(node, READER))


def answers_over(node, kept):
    """One more connection over which something was answered, or none."""
    try:
        kept.append(node.connect())
        return lives(kept[-1])
    except (ssl.SSLError, ConnectionError):
        return False


def answers(node, headers, context=None):
    try:
        return node.ask("GET", "/readyz", headers, context=context).status == 200
    except (ssl.SSLError, ConnectionError):
        return False


def test_a_stranger_does_not_stay(tmp_path, place, certificates):
    impatient = Operated(tmp_path, COTERIE_ADMIN_ADDRESS="0.0.0.0", COTERIE_ADMIN_TOKEN=WRITE_TOKEN, COTERIE_TIMEOUTS_HANDSHAKE_MS="3000",
                         COTERIE_ADMIN_CERTIFICATE=certificates.path("clients", "server.pem"),
                         COTERIE_ADMIN_KEY=certificates.path("clients", "server.key"))
    try:
        impatient.context = trusts(certificates)
        wait_until("an answer", lambda: answers(impatient, WRITER))
        strangers = [socket.create_connection(("127.0.0.1", impatient.port)), wait_until("TLS", lambda: connected(impatient))]
        for stranger in strangers:
            with stranger:
                assert trickle(stranger, b"GET /livez HTTP/1.1\r\nX-Slow: " + b"a" * 1000, 60)
    finally:
        impatient.down()


def connected(node):
    try:
        return node.connect()
    except (ssl.SSLError, ConnectionError):
        return None


# -- files read again ------------------------------------------------------------------------------------------


def test_tokens_are_read_again(node, place):
    fresh = {"Authorization": "Bearer fresh-0123456789abcdef"}
    try:
        secret_file(place / "tokens", "write bob fresh-0123456789abcdef\n")
        node.reload()
        wait_until("the new token", lambda: answers(node, fresh))
        assert node.ask("GET", "/readyz", WRITER).status == 401 and node.ask("GET", "/readyz", READER).status == 401
        for trouble, why in (("write bob\n", "tokens:1: expected"), (f"{TOKENS}nonsense {WRITE_TOKEN}\n", "tokens:3: expected")):
            secret_file(place / "tokens", trouble)
            node.reload()
            node.wait_log(why)
            assert node.ask("GET", "/readyz", fresh).status == 200
    finally:
        secret_file(place / "tokens", TOKENS)
        node.reload()
        wait_until("the old tokens", lambda: answers(node, WRITER))
    assert node.ask("GET", "/readyz", fresh).status == 401
    assert WRITE_TOKEN not in node.log()


def test_certificates_are_read_again_and_nobody_is_dropped(node, place, certificates):
    certificates.run("server", "newer", "--host", "localhost", "--host", "127.0.0.1")
    with node.connect() as kept:
        before = kept.getpeercert()["serialNumber"]
        shutil.copy(certificates.path("clients", "newer.pem"), place / "server.pem")
        shutil.copy(certificates.path("clients", "newer.key"), place / "server.key")
        node.reload()
        wait_until("the new certificate", lambda: lives(kept) and serial(node) != before)
        assert lives(kept)
    (place / "server.pem").write_text("no certificate\n")
    node.reload()
    node.wait_log("event=certificate-not-reloaded listener=admin")
    assert serial(node) != before and answers(node, READER)
    shutil.copy(certificates.path("clients", "newer.pem"), place / "server.pem")


def lives(connection, credentials=f"Authorization: Bearer {READ_TOKEN}\r\n"):
    """It is answered over this connection. It must not be idle for long."""
    connection.sendall(f"GET /livez HTTP/1.1\r\nHost: a\r\n{credentials}\r\n".encode())
    heard = b""
    while not heard.endswith(b"alive\n"):
        part = connection.recv(4096)
        assert part
        heard += part
    return True


def serial(node):
    with node.connect() as connection:
        return connection.getpeercert()["serialNumber"]


def test_the_end_of_the_certificate_is_told(node):
    assert 3000 * 86400 < node.metric('coterie_certificate_expires_seconds{listener="admin"}') < 4000 * 86400


# -- coteriectl ------------------------------------------------------------------------------------------------


def ctl(node, *words, host="localhost", **environment):
    program = os.path.join(os.path.dirname(os.environ["COTERIE_BIN"]), "coteriectl")
    done = subprocess.run([program, *words, "--address", f"{host}:{node.port}"], env={"PATH": os.environ["PATH"], **environment},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    return done.returncode, done.stdout


def test_coteriectl_shows_a_token_or_a_certificate(node, certificates, place, tmp_path):
    ca = ["--ca", certificates.path("clients", "ca.pem")]
    pair = certificates.client("ann")
    alone = secret_file(tmp_path / "token", READ_TOKEN + "\n")
    assert ctl(node, "status", *ca, "--token-file", alone)[0] == 0
    assert ctl(node, "role", "add", "r1", *ca, "--token-file", str(place / "tokens")) == (0, "done\n")
    assert ctl(node, "role", "remove", "r1", *ca, "--cert", pair[0], "--key", pair[1]) == (0, "done\n")
    assert ctl(node, "role", "list", COTERIE_CTL_CA=ca[1], COTERIE_CTL_CERT=pair[0], COTERIE_CTL_KEY=pair[1])[0] == 0
    assert ctl(node, "ready", COTERIE_CTL_CA=ca[1], COTERIE_ADMIN_TOKEN=READ_TOKEN) == (0, "ready\n")
    code, said = ctl(node, "role", "add", "r1", *ca, "--token-file", alone)
    assert code == 1 and "this needs the role write" in said
    code, said = ctl(node, "status", *ca)
    assert code == 1 and "401" in said


def test_coteriectl_asks_nobody_but_the_node_that_was_meant(node, certificates, other_certificates, place):
    token = ["--token-file", str(place / "tokens")]
    before = node.log().count("event=")
    for ca, host, why in ((other_certificates, "localhost", "certificate"), (certificates, "127.0.0.2", "127.0.0.2")):
        code, said = ctl(node, "status", "--ca", ca.path("clients", "ca.pem"), *token, host=host)
        assert code == 1 and "no answer" in said and why in said
    assert ctl(node, "status", *token)[0] == 1
    assert WRITE_TOKEN not in node.log() and node.log().count("event=") >= before


def test_coteriectl_does_not_show_a_token_in_the_clear_to_another_machine(tmp_path, place):
    """0.0.0.0 is this machine, but coteriectl does not know."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        for host, shown in (("127.0.0.1", True), ("0.0.0.0", False), ("localhost", True)):
            program = os.path.join(os.path.dirname(os.environ["COTERIE_BIN"]), "coteriectl")
            asks = subprocess.Popen([program, "ready", "--address", f"{host}:{server.getsockname()[1]}", "--token-file", str(place / "tokens")],
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            server.settimeout(30)
            connection, _ = server.accept()
            with connection:
                heard = connection.recv(4096)
            asks.wait(30)
            assert heard.startswith(b"GET /readyz") and (WRITE_TOKEN.encode() in heard) == shown, host


@pytest.mark.parametrize("address", ["localhost:1@127.0.0.1:{}", "127.0.0.1:{}/?", "127.0.0.1", "localhost:x", "127.0.0.1:{}#"])
def test_coteriectl_takes_nothing_else_for_an_address(node, place, address):
    program = os.path.join(os.path.dirname(os.environ["COTERIE_BIN"]), "coteriectl")
    done = subprocess.run([program, "ready", "--address", address.format(node.port), "--token-file", str(place / "tokens")],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30)
    assert done.returncode == 1 and "expected HOST:PORT" in done.stdout


# -- what does not start ---------------------------------------------------------------------------------------


def not_started(tmp_path, text):
    """What a node with this configuration says, which must not start."""
    path = tmp_path / "node.yaml"
    path.write_text(text)
    environment = {"PATH": os.environ["PATH"], "COTERIE_NODE_DATA_DIR": str(tmp_path / "data"), "COTERIE_LISTENERS": "tcp:127.0.0.1:0"}
    done = subprocess.run([os.environ["COTERIE_BIN"], "--config", str(path)], env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=60)
    assert done.returncode != 0
    return done.stdout.replace(str(tmp_path), "")


def test_beyond_this_machine_it_does_not_start_without_tls_and_operators(tmp_path, certificates):
    tls = f"  certificate: {certificates.path('clients', 'server.pem')}\n  key: {certificates.path('clients', 'server.key')}\n"
    assert "/node.yaml:2: admin.address: beyond this machine" in not_started(tmp_path, "admin:\n  address: 0.0.0.0\n")
    assert "/node.yaml:3: admin.address: beyond this machine" in not_started(
        tmp_path, f"admin:\n  token: {WRITE_TOKEN}\n  address: '::'\n")
    assert "/node.yaml:3: admin.certificate: " in not_started(tmp_path, f"admin:\n  address: 0.0.0.0\n{tls}")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("lines, mode, why", [("write ann\n", 0o600, "/tokens:1: expected"), (f"\nread a {READ_TOKEN} b\n", 0o600, "/tokens:2: expected"),
                                              (TOKENS, 0o604, "/tokens: everybody on this machine may read it"), (None, 0, "/tokens: No such file")])
def test_a_file_of_tokens_that_is_wrong_stops_the_start(tmp_path, lines, mode, why):
    if lines is not None:
        (tmp_path / "tokens").write_text(lines)
        (tmp_path / "tokens").chmod(mode)
    said = not_started(tmp_path, f"admin:\n  port: 0\n  token_file: {tmp_path}/tokens\n")
    assert why in said and READ_TOKEN not in said
