"""deploy/certificates: what it makes, what it refuses, and that it never changes what exists."""

import os
import stat
import subprocess

import pytest

from cluster import ROOT
from doors import Certificates, openssl

SCRIPT = os.path.join(ROOT, "deploy", "certificates")


@pytest.fixture(scope="module")
def made():
    certificates = Certificates("plant", nodes=2)
    yield certificates
    certificates.remove()


def facts(file):
    return openssl("x509", "-in", file, "-noout", "-text")


def refused(*arguments):
    done = subprocess.run([SCRIPT, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode != 0, done.stdout
    return done.stdout


def test_only_the_owner_can_read_any_of_it(made):
    for folder, _, files in os.walk(made.directory):
        for name in files:
            mode = stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode)
            assert mode & 0o077 == 0, f"{folder}/{name} has mode {mode:o}"


def test_a_node_is_named_by_cluster_and_number(made):
    text = facts(made.path("links", "node2.pem"))
    assert "URI:coterie://plant/2" in text and "ASN1 OID: prime256v1" in text
    assert "TLS Web Server Authentication, TLS Web Client Authentication" in text and "CA:FALSE" in text
    openssl("verify", "-x509_strict", "-CAfile", made.path("links", "ca.pem"), made.path("links", "node2.pem"))


def test_clients_and_nodes_have_different_authorities(made):
    certificate, _ = made.client("alice")
    openssl("verify", "-CAfile", made.path("clients", "ca.pem"), certificate)
    assert "failed" in openssl("verify", "-CAfile", made.path("links", "ca.pem"), certificate, check=False)
    assert "TLS Web Client Authentication" in facts(certificate) and "Server" not in facts(certificate)
    assert "coterie://" not in facts(certificate)


def test_doing_it_again_changes_nothing(made):
    def contents():
        return {name: open(made.path("links", name)).read() for name in ("ca.pem", "ca.key", "node1.pem", "node1.key")}
    before = contents()
    made.run("new", "plant", "--nodes", "3")
    assert contents() == before
    assert "URI:coterie://plant/3" in facts(made.path("links", "node3.pem"))
    assert "are those of plant" in refused("new", "other", "--dir", made.directory)


def test_a_revoked_certificate_is_on_the_list(made):
    certificate, _ = made.client("mallory")
    made.run("revoke", certificate)
    said = openssl("verify", "-crl_check", "-CAfile", made.path("clients", "ca.pem"), "-CRLfile",
                   made.path("clients", "crl.pem"), certificate, check=False)
    assert "certificate revoked" in said


def test_the_clocks_of_machines_may_differ_by_hours(made):
    from_yesterday = ["-attime", str(int(os.stat(made.path("links", "ca.key")).st_mtime) - 20 * 3600)]
    openssl("verify", *from_yesterday, "-crl_check", "-CAfile", made.path("links", "ca.pem"), "-CRLfile",
            made.path("links", "crl.pem"), made.path("links", "node1.pem"))


def test_an_operator_has_a_token_and_others_can_be_added(made):
    def tokens():
        with open(os.path.join(made.directory, "tokens")) as file:
            return [line.split() for line in file]
    before = tokens()
    assert [line[:2] for line in before] == [["write", "operator"]] and len(before[0][2]) == 64
    made.run("token", "mon", "read")
    made.run("new", "plant", "--nodes", "2")
    assert tokens()[:1] == before and [line[:2] for line in tokens()[1:]] == [["read", "mon"]]


@pytest.mark.parametrize("arguments, sentence", [
    (["new", "a/b"], "expected a name"), (["new", "x", "--nodes", "0"], "--nodes"), (["new"], "deploy/certificates new"),
    (["node", "64", "--dir", "."], "1 to 63"), (["client", "ca"], "another meaning"), (["client", "../x"], "expected a name"),
    (["client", "alice", "--dir", "/nonexistent"], "begin with"), (["revoke", "/etc/hostname"], "no certificate that was made"),
    (["server", "web", "--dir", "."], "--host"), (["token", "ann", "admin"], "read or write"), (["token", "a b", "read"], "expected a name"),
    (["token", "ann", "read", "--dir", "/nonexistent"], "begin with"), (["paint"], "deploy/certificates new"),
])
def test_what_makes_no_sense_is_refused(arguments, sentence):
    assert sentence in refused(*arguments)
