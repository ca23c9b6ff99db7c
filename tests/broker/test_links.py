"""Links between nodes: who is let in. A cluster of three in which one node's certificate, or its way to speak, is wrong.

The others serve meanwhile; the node that is wrong says so, and so do they.
"""

import json
import os
import re
import socket
import ssl
import subprocess

import pytest

from cluster import Cluster, wait_until
from doors import Certificates, openssl
from mqtt import Client


@pytest.fixture(scope="module")
def made():
    cluster = Cluster(3)
    cluster.wait_ready()
    yield cluster
    cluster.down()


@pytest.fixture
def links(made):
    """The cluster whose node 3 may be changed; afterwards it is as before."""
    config = os.path.join(made.directory, "node3", "coterie.yaml")
    with open(config) as file:
        before = file.read()
    yield made
    if made.node(3)["pid"]:
        made.kill(3)
    with open(config, "w") as file:
        file.write(before)
    made.start(3)
    made.wait_ready()


def node_3_with(cluster, **changes):
    """Starts node 3 anew with other lines in its `cluster` section; None takes a line out."""
    config = os.path.join(cluster.directory, "node3", "coterie.yaml")
    cluster.kill(3)
    with open(config) as file:
        text = file.read()
    for key, value in changes.items():
        line = "" if value is None else f"  {key}: {json.dumps(value)}\n"
        text = re.sub(rf"^  {key}: .*\n", lambda _: line, text, flags=re.M)
    with open(config, "w") as file:
        file.write(text)
    with open(os.path.join(cluster.directory, "node3", "log"), "w"):
        pass
    cluster.start(3)


def then_it_stays_out(cluster, words):
    """It is told why, and can never be ready. (The others say so too, but not more than once a minute.)"""
    wait_until(f"node 3 says: {words}", lambda: re.search(f"link-refused .*{words}", cluster.logs(3)))
    assert not cluster.ready(3)
    cluster.wait_ready(1, 2)
    client = Client("beside")
    client.open(cluster.ports[1])
    client.publish("links/x", "served", qos=1)
    client.disconnect()


def own(cluster, name):
    return os.path.join(cluster.directory, "certificates", "links", name)


def cluster_name(cluster):
    with open(os.path.join(cluster.directory, "certificates", "cluster")) as file:
        return file.read().strip()


def link_port(cluster, number):
    with open(os.path.join(cluster.directory, "cluster.json")) as file:
        return json.load(file)["ports"][number - 1]["link"]


def test_a_node_of_another_ca_stays_out(links):
    stranger = Certificates(cluster_name(links), nodes=3)
    try:
        node_3_with(links, certificate=stranger.path("links", "node3.pem"), key=stranger.path("links", "node3.key"))
        then_it_stays_out(links, "unknown ca|certificate is refused")
    finally:
        stranger.remove()


def test_a_node_with_another_ones_certificate_stays_out(links):
    node_3_with(links, certificate=own(links, "node2.pem"), key=own(links, "node2.key"))
    then_it_stays_out(links, "the peer refuses this node .*: its certificate is not that of this node of this cluster")


def with_extensions(cluster, name, extensions, dates=("-days", "3")):
    directory = os.path.join(cluster.directory, "certificates")
    issuer = Certificates.__new__(Certificates)
    issuer.directory = directory
    return issuer.issued("links", name, list(dates), extensions)


USAGE = "extendedKeyUsage=serverAuth,clientAuth\n"


def test_a_certificate_of_another_cluster_by_the_same_ca_is_refused(links):
    pair = with_extensions(links, "elsewhere", USAGE + "subjectAltName=URI:coterie://elsewhere/3")
    node_3_with(links, certificate=pair[0], key=pair[1])
    then_it_stays_out(links, "the peer refuses this node .*: its certificate is not that of this node of this cluster")


def test_a_certificate_without_a_name_is_refused(links):
    pair = with_extensions(links, "nameless", USAGE + "subjectAltName=DNS:node3")
    node_3_with(links, certificate=pair[0], key=pair[1])
    then_it_stays_out(links, "the peer refuses this node .*: its certificate is not that of this node of this cluster")


def test_an_expired_certificate_is_refused(links):
    pair = with_extensions(links, "late", USAGE + f"subjectAltName=URI:coterie://{cluster_name(links)}/3",
                           ("-startdate", "20200101000000Z", "-enddate", "20200102000000Z"))
    node_3_with(links, certificate=pair[0], key=pair[1])
    assert "event=certificate-expired" in links.logs(3)
    then_it_stays_out(links, "certificate expired")


def test_a_node_without_tls_is_refused(links):
    node_3_with(links, certificate=None, key=None, ca=None, crl=None)
    then_it_stays_out(links, "the peer closed the connection|nonsense instead of HELLO|impossible length")


def test_a_revoked_node_is_refused_after_a_reload(links):
    pair = with_extensions(links, "spare", USAGE + f"subjectAltName=URI:coterie://{cluster_name(links)}/3")
    node_3_with(links, certificate=pair[0], key=pair[1])
    links.wait_ready(3)
    revoked = subprocess.run([os.path.join(os.path.dirname(__file__), "..", "..", "deploy", "certificates"), "revoke", pair[0]],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert revoked.returncode == 0, revoked.stdout
    for number in (1, 2):
        before = links.logs(number).count("certificate-reloaded listener=links")
        os.kill(links.node(number)["pid"], 1)
        wait_until("the list is read again",
                   lambda: links.logs(number).count("certificate-reloaded listener=links") > before)
    links.kill(3)
    links.start(3)
    then_it_stays_out(links, "certificate revoked")


@pytest.mark.parametrize("shown", [None, "server"])
def test_the_port_of_links_opens_to_no_other_certificate(made, shown):
    clients = os.path.join(made.directory, "certificates", "clients")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if shown:
        context.load_cert_chain(os.path.join(clients, f"{shown}.pem"), os.path.join(clients, f"{shown}.key"))
    with socket.create_connection(("127.0.0.1", link_port(made, 1))) as raw, pytest.raises(OSError):
        with context.wrap_socket(raw) as wrapped:
            wrapped.settimeout(10)
            if not wrapped.recv(1):
                raise ConnectionError("closed")


@pytest.mark.parametrize("nonsense", [b"\xff" * 100, bytes(100), b"\x10\x0e\0\4MQTT", os.urandom(70_000), b""],
                         ids=["lengths", "zeros", "mqtt", "random", "silence"])
def test_a_node_with_a_good_certificate_and_nothing_good_to_say_is_cut_off(made, nonsense):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(own(made, "node3.pem"), own(made, "node3.key"))
    with socket.create_connection(("127.0.0.1", link_port(made, 1))) as raw, context.wrap_socket(raw) as wrapped:
        wrapped.settimeout(10)
        try:
            wrapped.sendall(nonsense)
            while wrapped.recv(1000):
                pass
        except (ConnectionError, ssl.SSLError):
            pass
    made.wait_ready()


def test_the_port_of_links_speaks_tls_1_3_alone(made):
    said = openssl("s_client", "-connect", f"127.0.0.1:{link_port(made, 1)}", "-tls1_2", input=b"", check=False)
    assert "alert protocol version" in said


def test_strangers_that_stall_do_not_keep_nodes_out(made):
    follower = made.followers()[0]
    target = min(number for number in made.ports if number != follower)
    stalled = []
    for _ in range(150):
        stalled.append(socket.create_connection(("127.0.0.1", link_port(made, target))))
    made.kill(follower)
    made.start(follower)
    made.wait_ready(follower)
    for one in stalled:
        one.close()


def test_links_that_leave_the_machine_need_tls_or_a_word(made):
    member = {"COTERIE_CLUSTER_MEMBERS": "1=192.0.2.1:1,2=192.0.2.2:1"}
    binary = made.environment.get("COTERIE_BIN") or os.path.join(os.path.dirname(__file__), "..", "..", "build", "coterie")
    check = lambda **more: subprocess.run([binary, "--check-config"], env=dict(os.environ, **member, **more),
                                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    refused = check()
    assert refused.returncode == 2 and "need TLS" in refused.stdout
    assert check(COTERIE_CLUSTER_PLAIN_LINKS="true").returncode == 0
