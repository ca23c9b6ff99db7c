"""A member is taken out of the cluster for good, the others serve, and it comes back as a replacement only."""

import json

import pytest

from cluster import wait_until
from mqtt import Client


@pytest.fixture
def others(own_cluster, victim):
    return [number for number in own_cluster.ports if number != victim]


def members(cluster, number):
    return {member["id"]: member for member in json.loads(cluster.http(number, "/status")[1])["members"]}


def take_out(cluster, number, asked):
    """As an operator does: it is stopped, and has been silent for long enough at some time."""
    cluster.stop(number)
    wait_until("it is missed", lambda: "no member any more" in cluster.ctl("remove", str(number), node=asked, check=False), 20)


def test_the_others_serve_without_it_and_have_what_it_held(own_cluster, victim, others):
    keeper = Client("keeper", timeout=30)
    keeper.open(own_cluster.ports[victim], clean=False)
    keeper.subscribe(("t", 1))
    take_out(own_cluster, victim, others[0])
    wait_until("both know", lambda: all(members(own_cluster, other)[victim]["removed"] for other in others))
    wait_until("it is given up", lambda: not any(members(own_cluster, other)[victim]["up"] for other in others))
    publisher = Client("publisher", timeout=30)
    publisher.open(own_cluster.ports[others[0]])
    publisher.publish("t", "without it", qos=1)
    assert keeper.open(own_cluster.ports[others[1]], clean=False).session_present
    keeper.expect_message("t", "without it")
    keeper.close()
    publisher.close()
    own_cluster.wait_ready(*others)


def test_started_again_it_takes_no_part_until_it_is_a_replacement(own_cluster, victim, others):
    take_out(own_cluster, victim, others[1])
    own_cluster.start(victim)
    leader = wait_until("a leader", lambda: next((n for n in others if own_cluster.node(n)["role"] == "leader"), None))
    wait_until("it hears why", lambda: "says of it: it was taken out of the cluster" in own_cluster.logs(victim))
    term = own_cluster.node(leader)["term"]
    publisher = Client("publisher", timeout=30)
    publisher.open(own_cluster.ports[leader])
    for number in range(200):
        publisher.publish("t", str(number), qos=1, retain=True)
    assert not own_cluster.ready(victim)
    assert own_cluster.node(leader)["role"] == "leader" and own_cluster.node(leader)["term"] == term
    assert own_cluster.node(victim)["applied_index"] < own_cluster.node(leader)["applied_index"]

    own_cluster.stop(victim)
    shown = own_cluster.ctl("status", node=leader)
    assert "no: it was taken out of the cluster" in shown, shown

    own_cluster.run("replace", str(victim))
    own_cluster.wait_ready()
    wait_until("it is a member", lambda: not members(own_cluster, leader)[victim]["removed"])
    own_cluster.wait_equal()
    reader = Client("reader", timeout=30)
    reader.open(own_cluster.ports[victim])
    reader.subscribe(("t", 1))
    reader.expect_message("t", "199")
    reader.close()
    publisher.close()


def test_what_cannot_be_taken_out_is_refused_with_the_reason(own_cluster):
    leader, follower = own_cluster.leader(), own_cluster.followers()[0]
    for asked in (leader, follower):
        assert "is still heard" in own_cluster.ctl("remove", str(follower), node=asked, check=False)
        assert "is still heard" in own_cluster.ctl("remove", str(leader), node=asked, check=False)
        assert "node 9 is no member" in own_cluster.ctl("remove", "9", node=asked, check=False)
    for wrong in ("0", "-1", "x", "2x", ""):
        assert "usage" in own_cluster.ctl("remove", wrong, check=False), wrong
    own_cluster.stop(follower)
    asked = own_cluster.leader()
    own_cluster.kill(next(number for number in own_cluster.ports if number not in (asked, follower)))
    wait_until("nobody leads", lambda: "no leader is known" in own_cluster.ctl("remove", str(follower), node=asked, check=False))
