"""Fixtures: a cluster shared by the tests of a module that do no harm, and a fresh one for those that do."""

import itertools

import pytest

from cluster import Cluster
from doors import Certificates
from mqtt import Client

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def shared_cluster():
    made = Cluster(3)
    yield made
    made.down()


@pytest.fixture
def cluster(shared_cluster):
    """Three nodes, all of them running; a test that kills one leaves it running again."""
    shared_cluster.wait_ready(timeout=60)
    yield shared_cluster
    for node in shared_cluster.status():
        if not node["pid"]:
            shared_cluster.start(node["id"])


@pytest.fixture
def own_cluster():
    """A cluster of this test's own, which it may ruin."""
    made = Cluster(3)
    yield made
    made.down()


@pytest.fixture(params=["follower", "leader"])
def victim(request, own_cluster):
    return own_cluster.leader() if request.param == "leader" else own_cluster.followers()[0]


@pytest.fixture(scope="module")
def certificates():
    """A CA, and what it makes for clients and nodes."""
    made = Certificates()
    yield made
    made.remove()


@pytest.fixture
def unique():
    """A name that no other test uses: for client ids and topics."""
    return f"t{next(_numbers)}"


@pytest.fixture
def client(unique):
    """Makes clients with ids of this test's own; closes their sockets at the end."""
    made = []

    def make(name="", level=5, **options):
        made.append(Client(f"{unique}-{name}" if name is not None else "", level, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()
