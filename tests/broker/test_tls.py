"""TLS of listeners, against OpenSSL's own client, mosquitto's, and Python's."""

import concurrent.futures
import os
import re
import shutil
import signal
import socket
import ssl

import pytest

from cluster import wait_until
from doors import Certificates, Door, mosquitto_pub, openssl
from mqtt import Client, Closed, Timeout

PSK = "00112233445566778899aabbccddeeff"


@pytest.fixture(scope="module")
def door(certificates):
    """Listeners: 0 certificate only, 1 client certificate required, 2 optional, 3 PSK, 4 TLS 1.3 alone, 5 wss."""
    server = f"certificate={certificates.path('clients', 'server.pem')} key={certificates.path('clients', 'server.key')}"
    ca = f"client_ca={certificates.path('clients', 'ca.pem')} crl={certificates.path('clients', 'crl.pem')}"
    keys = certificates.path("clients", "keys")
    with open(keys, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(f"# keys of devices\nbob:{PSK}\n")
    made = Door(f"tls:127.0.0.1:0 anonymous=true {server}",
                f"tls:127.0.0.1:0 anonymous=true {server} {ca} client_certificate=required",
                f"tls:127.0.0.1:0 anonymous=true {server} {ca} client_certificate=optional",
                f"tls:127.0.0.1:0 anonymous=true psk_file={keys}",
                f"tls:127.0.0.1:0 anonymous=true {server} tls_min=1.3",
                f"wss:127.0.0.1:0 anonymous=true {server}",
                environment={"COTERIE_TIMEOUTS_HANDSHAKE_MS": "3000"})
    yield made
    made.down()


def ca_of(certificates):
    return certificates.path("clients", "ca.pem")


def s_client(port, certificates, *options):
    """What `openssl s_client` says of a handshake; it hangs up at once."""
    return openssl("s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", ca_of(certificates), *options, input=b"", check=False)


def connected(port, certificates, name, pair=None, context=None):
    context = context or ssl.create_default_context(cafile=ca_of(certificates))
    if pair:
        context.load_cert_chain(*pair)
    client = Client(name)
    client.tls = context
    client.open(port)
    return client


def test_a_client_with_the_right_ca_talks(door, certificates):
    port = door.ports()[0]
    assert mosquitto_pub(port, "--cafile", ca_of(certificates)) == (0, "")
    said = s_client(port, certificates, "-verify_return_error", "-verify_hostname", "localhost")
    assert "Verification: OK" in said and "TLSv1.3" in said and "Compression: NONE" in said


def test_large_messages_cross_tls_both_ways(door, certificates):
    port = door.ports()[0]
    reader, writer = connected(port, certificates, "tls-reader"), connected(port, certificates, "tls-writer")
    reader.subscribe(("tls/#", 1))
    payload = os.urandom(900_000)
    for turn in range(5):
        writer.publish(f"tls/{turn}", payload, qos=1)
    for turn in range(5):
        assert reader.expect_message(f"tls/{turn}").payload == payload
    for turn in range(2000):
        writer.start_publish("tls/small", b"x", qos=0)
    reader.collect(2000)
    writer.ping()


def test_a_client_with_another_ca_refuses_the_server(door, certificates):
    stranger = Certificates()
    try:
        code, said = mosquitto_pub(door.ports()[0], "--cafile", ca_of(stranger))
        assert code != 0 and "TLS error" in said
        said = s_client(door.ports()[0], stranger, "-verify_return_error")
        assert "verify error" in said
    finally:
        stranger.remove()


def test_the_name_in_the_certificate_is_checked_by_clients(door, certificates):
    said = s_client(door.ports()[0], certificates, "-verify_return_error", "-verify_hostname", "other.example")
    assert "hostname mismatch" in said


@pytest.mark.parametrize("options", [
    "-tls1 -cipher ALL:@SECLEVEL=0", "-tls1_1 -cipher ALL:@SECLEVEL=0", "-tls1_2 -cipher AES128-GCM-SHA256",
    "-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA", "-tls1_2 -cipher ECDHE-ECDSA-AES256-SHA384",
    "-tls1_2 -cipher NULL:aNULL:@SECLEVEL=0", "-alpn x-amzn-mqtt-ca"])
def test_what_is_old_or_weak_is_refused(door, certificates, options):
    refused = door.metric("coterie_openings_refused_total")
    said = s_client(door.ports()[0], certificates, *options.split())
    assert "Cipher is (NONE)" in said and "alert" in said, said
    wait_until("a refusal", lambda: door.metric("coterie_openings_refused_total") > refused)


def test_alpn_and_tls_1_2_are_spoken(door, certificates):
    said = s_client(door.ports()[0], certificates, "-tls1_2", "-alpn", "mqtt")
    assert "ALPN protocol: mqtt" in said and "TLSv1.2" in said and "ECDHE" in said
    said = s_client(door.ports()[4], certificates, "-tls1_2")
    assert "alert protocol version" in said
    said = s_client(door.ports()[5], certificates, "-alpn", "http/1.1")
    assert "ALPN protocol: http/1.1" in said


def test_nobody_renegotiates(door, certificates):
    said = openssl("s_client", "-connect", f"127.0.0.1:{door.ports()[0]}", "-CAfile", ca_of(certificates), "-tls1_2",
                   input=b"R\n", check=False)
    assert "RENEGOTIATING" in said and ("no renegotiation" in said or "wrong" in said or "error" in said)


def test_a_session_is_resumed(door, certificates):
    port, kept = door.ports()[0], certificates.path("clients", "session")
    openssl("s_client", "-connect", f"127.0.0.1:{port}", "-tls1_2", "-sess_out", kept, input=b"")
    assert "Reused, " in openssl("s_client", "-connect", f"127.0.0.1:{port}", "-tls1_2", "-sess_in", kept, input=b"")


def test_a_certificate_is_required_where_it_is(door, certificates):
    required, optional = door.ports()[1:3]
    pair = certificates.client("alice")
    options = ["--cafile", ca_of(certificates)]
    assert mosquitto_pub(required, *options)[0] != 0
    assert mosquitto_pub(optional, *options)[0] == 0
    for port in (required, optional):
        assert mosquitto_pub(port, *options, "--cert", pair[0], "--key", pair[1])[0] == 0
    door.wait_log("peer did not return a certificate")


@pytest.mark.parametrize("which", ["another CA", "expired", "for servers only", "self-signed"])
def test_a_wrong_certificate_is_refused_also_where_none_is_needed(door, certificates, which):
    name = "wrong-" + which.replace(" ", "-")
    stranger = Certificates()
    try:
        if which == "another CA":
            pair = stranger.client("alice")
        elif which == "expired":
            pair = certificates.expired("clients", name, "extendedKeyUsage=clientAuth")
        elif which == "for servers only":
            pair = certificates.path("clients", "server.pem"), certificates.path("clients", "server.key")
        else:
            pair = stranger.path("clients", "self.pem"), stranger.path("clients", "self.key")
            openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=alice",
                    "-keyout", pair[1], "-out", pair[0])
        for port in door.ports()[1:3]:
            with pytest.raises((ssl.SSLError, Closed, ConnectionError)):
                connected(port, certificates, name, pair)
    finally:
        stranger.remove()


def test_a_revoked_certificate_is_refused_after_a_reload(door, certificates):
    pair = certificates.client("mallory")
    before = connected(door.ports()[1], certificates, "mallory-1", pair)
    certificates.run("revoke", pair[0])
    reloaded = door.log().count("event=certificate-reloaded")
    door.signal(signal.SIGHUP)
    door.wait_log("event=certificate-reloaded", reloaded + 6)
    with pytest.raises((ssl.SSLError, Closed, ConnectionError)):
        connected(door.ports()[1], certificates, "mallory-2", pair)
    before.ping()    # a reload drops nobody
    connected(door.ports()[1], certificates, "alice-2", certificates.client("alice"))


def serial_at(port):
    return openssl("x509", "-noout", "-serial", input=openssl("s_client", "-connect", f"127.0.0.1:{port}", input=b"").encode())


def test_new_files_are_taken_in_and_bad_ones_change_nothing(door, certificates):
    port, file = door.ports()[0], certificates.path("clients", "server.pem")
    held, serial = connected(port, certificates, "held"), serial_at(port)
    shutil.copy(file, file + ".kept")
    try:
        with open(file, "w") as broken:
            broken.write("nonsense\n")
        door.signal(signal.SIGHUP)
        door.wait_log("event=certificate-not-reloaded")
        assert serial_at(port) == serial
        held.ping()
    finally:
        os.replace(file + ".kept", file)
    reloaded = door.log().count("event=certificate-reloaded")
    certificates.run("server", "server", "--host", "localhost", "--host", "127.0.0.1")
    door.signal(signal.SIGHUP)
    door.wait_log("event=certificate-reloaded", reloaded + 6)
    assert f":{door.ports()[3]} days_left=none" in door.log()      # it has keys, and no certificate
    assert serial_at(port) != serial
    held.ping()
    connected(port, certificates, "fresh").ping()


def test_a_key_known_beforehand_opens(door, certificates):
    port = door.ports()[3]
    assert mosquitto_pub(port, "--psk", PSK, "--psk-identity", "bob") == (0, "")
    assert mosquitto_pub(port, "--psk", PSK, "--psk-identity", "bob", "--tls-version", "tlsv1.2")[0] == 0
    assert mosquitto_pub(port, "--psk", PSK, "--psk-identity", "eve")[0] != 0
    assert mosquitto_pub(port, "--psk", PSK[::-1], "--psk-identity", "bob")[0] != 0
    assert mosquitto_pub(port, "--cafile", ca_of(certificates))[0] != 0
    assert PSK not in door.log()


def test_handshakes_that_never_end_are_ended_and_hold_nobody_up(door, certificates):
    port = door.ports()[0]
    stalled = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
    for number, one in enumerate(stalled):
        one.settimeout(10)
        if number % 2:
            one.sendall(b"\x16\x03\x01\x02\x00\x01\x00")    # the beginning of a ClientHello
    connected(port, certificates, "beside-the-stalled").ping()
    for one in stalled:
        assert one.recv(100) == b""
        one.close()
    assert door.metric("coterie_openings_timed_out_total") >= 60
    wait_until("nobody is opening", lambda: door.metric("coterie_openings") == 0)


def test_nonsense_instead_of_tls_is_refused_and_told(door):
    for bytes_sent in (b"\x10\x0e\0\4MQTT\4\2\0\x3c\0\2id", b"GET / HTTP/1.1\r\n\r\n", os.urandom(3000)):
        with socket.create_connection(("127.0.0.1", door.ports()[0])) as raw:
            raw.settimeout(10)
            raw.sendall(bytes_sent)
            try:
                while raw.recv(1000):
                    pass
            except ConnectionError:
                pass
    assert "event=connection-refused" in door.log()


def test_who_is_refused_and_does_not_wait_for_it_is_named_too(certificates):
    """The kernel forgets the other end as soon as an answer is not wanted."""
    server = f"certificate={certificates.path('clients', 'server.pem')} key={certificates.path('clients', 'server.key')}"
    made = Door(f"tls:127.0.0.1:0 anonymous=true {server}")
    try:
        port = made.ports()[0]
        made.signal(signal.SIGSTOP)
        with socket.create_connection(("127.0.0.1", port)) as hasty:
            hasty.sendall(b"\x16\x03\x01\0\x04\x01\0\0\0")      # an empty ClientHello, which is answered with an alert
            address = "%s:%u" % hasty.getsockname()
        made.signal(signal.SIGCONT)
        made.wait_log("event=connection-refused")
        assert f" address={address} " in made.log()
    finally:
        made.signal(signal.SIGCONT)
        made.down()


def test_expiry_is_a_metric_and_a_warning(door, certificates):
    names = [f'coterie_certificate_expires_seconds{{listener="tls:127.0.0.1:{door.ports()[0]}"}}']
    assert door.metric(names[0]) > 9 * 365 * 86400
    soon = Certificates()
    soon.issued("clients", "soon", ["-days", "5"], "extendedKeyUsage=serverAuth")
    made = Door(f"tls:127.0.0.1:0 anonymous=true certificate={soon.path('clients', 'soon.pem')} "
                f"key={soon.path('clients', 'soon.key')}")
    try:
        assert re.search(r"event=certificate-expires .*days_left=[45]\b", made.log())
    finally:
        made.down()
        soon.remove()


def client_hello():
    out = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost").do_handshake()
    return out.read()


def test_many_shake_hands_at_once_and_some_leave_in_the_middle(certificates):
    made = Door(f"tls:127.0.0.1:0 anonymous=true certificate={certificates.path('clients', 'server.pem')} "
                f"key={certificates.path('clients', 'server.key')}", environment={"COTERIE_TIMEOUTS_HANDSHAKE_MS": "60000"})
    try:
        port, hello = made.ports()[0], client_hello()
        strays = [socket.create_connection(("127.0.0.1", port)) for _ in range(90)]
        for number, one in enumerate(strays):
            one.sendall(hello)
            if number % 3 == 0:    # at once, without reading: its handshake waits, or is under way
                one.close()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            clients = list(pool.map(lambda number: connected(port, certificates, f"many-{number}"), range(40)))
        for client in clients:
            client.ping()
        for one in strays:
            one.close()
        wait_until("nobody is opening", lambda: made.metric("coterie_openings") == 0)
    finally:
        made.down()
