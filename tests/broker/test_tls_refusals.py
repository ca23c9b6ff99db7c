"""Certificates that are wrong, at either end, tried with client programs as they are: OpenSSL's s_client, mosquitto_pub and
Paho, in TLS 1.2 and 1.3; each wrong one stands beside a right one, which passes in the same way. And what the two versions
do each in its own way: resumption, names, protocols."""

import os
import re
import signal
import ssl
import subprocess

import pytest

from doors import Certificates, Door, mosquitto_pub, openssl
from mqtt import Client, encode_connect

VERSIONS = ["1.2", "1.3"]
PAHO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "clients", "paho_tls.py")
PYTHON = "/usr/bin/python3"    # Debian's, which has paho
CONNACK_BYTES = "\x20\x02\0\0"
DISCONNECT_BYTES = b"\xe0\0"


# ---- programs: each says whether the listener took a client in, and what it has printed ----

def by_s_client(port, version, ca, pair):
    """Verifies the name as others do; ends when the server does, so that a late refusal is not missed."""
    more = ["-cert", pair[0], "-key", pair[1]] if pair else []
    said = openssl("s_client", "-connect", f"127.0.0.1:{port}", f"-tls{version.replace('.', '_')}", "-CAfile", ca, "-quiet",
                   "-verify_return_error", "-verify_hostname", "localhost", *more,
                   input=encode_connect("s-client", 4) + DISCONNECT_BYTES, check=False, timeout=60)
    return CONNACK_BYTES in said, said


def by_mosquitto(port, version, ca, pair):
    more = ["--cert", pair[0], "--key", pair[1]] if pair else []
    code, said = mosquitto_pub(port, "--tls-version", f"tlsv{version}", "--cafile", ca, *more, host="localhost")
    return code == 0, said


def by_paho(port, version, ca, pair):
    done = subprocess.run([PYTHON, PAHO, str(port), version, ca, *(pair or ())], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=60)
    return done.returncode == 0, done.stdout


PROGRAMS = {"s_client": by_s_client, "mosquitto_pub": by_mosquitto, "paho": by_paho}


def then_all(passes, port, version, ca, pair=None):
    for name, program in PROGRAMS.items():
        passed, said = program(port, version, ca, pair)
        assert passed == passes, f"{name}: {'refused' if passes else 'let in'}\n{said}"


def then_all_pass(*arguments):
    then_all(True, *arguments)


def then_all_fail(*arguments):
    then_all(False, *arguments)


# ---- certificates ----

FOR_SERVERS = "extendedKeyUsage=serverAuth\nsubjectAltName=DNS:{}"
FOR_CLIENTS = "extendedKeyUsage=clientAuth"


@pytest.fixture(scope="module")
def stranger():
    """Another CA."""
    made = Certificates()
    yield made
    made.remove()


def ca_of(certificates):
    return certificates.path("clients", "ca.pem")


def listener(pair, more=""):
    return f"tls:127.0.0.1:0 anonymous=true certificate={pair[0]} key={pair[1]} {more}"


@pytest.fixture(scope="module")
def servers(certificates):
    """Listeners whose certificate is: right, expired, of another host."""
    made = Door(listener(certificates.issued("clients", "right", ["-days", "9"], FOR_SERVERS.format("localhost"))),
                listener(certificates.expired("clients", "late", FOR_SERVERS.format("localhost"))),
                listener(certificates.issued("clients", "elsewhere", ["-days", "9"], FOR_SERVERS.format("other.example"))))
    yield dict(zip(("right", "expired", "of another name"), made.ports()))
    made.down()


@pytest.fixture(scope="module")
def strict(certificates):
    """A listener that wants a certificate."""
    pair = certificates.path("clients", "server.pem"), certificates.path("clients", "server.key")
    made = Door(listener(pair, f"client_ca={ca_of(certificates)} crl={certificates.path('clients', 'crl.pem')} "
                               "client_certificate=required"))
    yield made
    made.down()


# ---- the server's certificate ----

@pytest.mark.parametrize("version", VERSIONS)
def test_clients_accept_a_right_server_and_no_other_ca(servers, certificates, stranger, version):
    then_all_pass(servers["right"], version, ca_of(certificates))
    then_all_fail(servers["right"], version, ca_of(stranger))


@pytest.mark.parametrize("wrong", ["expired", "of another name"])
@pytest.mark.parametrize("version", VERSIONS)
def test_clients_leave_a_server_whose_certificate_is(servers, certificates, version, wrong):
    then_all_fail(servers[wrong], version, ca_of(certificates))


# ---- the client's certificate ----

@pytest.mark.parametrize("version", VERSIONS)
def test_a_right_client_is_let_in_and_one_without_a_certificate_is_not(strict, certificates, version):
    then_all_pass(strict.ports()[0], version, ca_of(certificates), certificates.client("alice"))
    then_all_fail(strict.ports()[0], version, ca_of(certificates))


@pytest.mark.parametrize("wrong", ["of another CA", "expired", "for servers"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_is_refused_whose_certificate_is(strict, certificates, stranger, version, wrong):
    pair = {"of another CA": lambda: stranger.client("alice"),
            "expired": lambda: certificates.expired("clients", f"late-{version}", FOR_CLIENTS),
            "for servers": lambda: certificates.issued("clients", f"server-{version}", ["-days", "9"],
                                                       FOR_SERVERS.format("localhost"))}[wrong]()
    then_all_fail(strict.ports()[0], version, ca_of(certificates), pair)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_is_refused_whose_certificate_is_revoked_and_who_is_connected_stays(strict, certificates, version):
    mallory, port = certificates.client(f"mallory-{version}"), strict.ports()[0]
    then_all_pass(port, version, ca_of(certificates), mallory)
    held = Client(f"held-{version}")
    held.tls = limited(certificates, version, mallory)
    held.open(port)
    certificates.run("revoke", mallory[0])
    reloaded = strict.log().count("event=certificate-reloaded")
    strict.signal(signal.SIGHUP)
    strict.wait_log("event=certificate-reloaded", reloaded + 1)
    then_all_fail(port, version, ca_of(certificates), mallory)
    then_all_pass(port, version, ca_of(certificates), certificates.client("alice"))
    held.ping()


# ---- other things that a version has its own way for ----

def limited(certificates, version, pair=None):
    """Python's, for one version of TLS alone."""
    context = ssl.create_default_context(cafile=ca_of(certificates))
    context.minimum_version = context.maximum_version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
    if pair:
        context.load_cert_chain(*pair)
    return context


def resuming(port, context, session=None):
    """(its session, whether it was resumed) of a connection that has served a client."""
    client = Client("resuming")
    client.tls, client.tls_session = context, session
    client.open(port)
    client.ping()    # tickets of TLS 1.3 have come by now
    found = client.socket.session, client.socket.session_reused
    client.disconnect()
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_is_resumed_until_the_certificates_are_read_again(strict, certificates, version):
    context, port = limited(certificates, version, certificates.client("alice")), strict.ports()[0]
    session, resumed = resuming(port, context)
    assert not resumed
    assert resuming(port, context, session)[1]
    reloaded = strict.log().count("event=certificate-reloaded")
    strict.signal(signal.SIGHUP)
    strict.wait_log("event=certificate-reloaded", reloaded + 1)
    assert not resuming(port, context, session)[1]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["localhost", "any.example", None])
def test_whatever_name_a_client_asks_for_it_gets_the_certificate_of_the_listener(servers, certificates, version, name):
    said = openssl("s_client", "-connect", f"127.0.0.1:{servers['right']}", f"-tls{version.replace('.', '_')}",
                   "-CAfile", ca_of(certificates), *(["-servername", name] if name else ["-noservername"]), input=b"")
    assert re.search(r"subject=CN ?= ?right", said) and "Verify return code: 0 (ok)" in said


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("offered, chosen", [("mqtt", "ALPN protocol: mqtt"), ("h2,mqtt", "ALPN protocol: mqtt"),
                                             ("h2", "no application protocol"), (None, "No ALPN negotiated")])
def test_of_the_protocols_that_a_client_offers_mqtt_is_chosen_or_none(servers, version, offered, chosen):
    said = openssl("s_client", "-connect", f"127.0.0.1:{servers['right']}", f"-tls{version.replace('.', '_')}",
                   *(["-alpn", offered] if offered else []), input=b"", check=False)
    assert chosen in said
