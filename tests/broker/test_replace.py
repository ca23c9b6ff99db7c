"""A node loses its data and is replaced while the others serve."""

import os
import shutil

from cluster import Cluster, wait_until
from mqtt import Client
from test_failover import Publisher, first_deliveries, run_publishers


def data_of(cluster, number):
    return os.path.join(cluster.directory, f"node{number}", "data")


def start_as(cluster, number, replacement):
    cluster.environment["COTERIE_CLUSTER_REPLACE"] = str(replacement)
    try:
        return cluster.run("start", str(number), check=False)
    finally:
        del cluster.environment["COTERIE_CLUSTER_REPLACE"]


def test_every_node_is_wiped_and_replaced_under_load_and_nothing_is_lost(own_cluster):
    leader = own_cluster.leader()
    order = own_cluster.followers() + [leader]
    subscriber = Client("s", timeout=60)
    subscriber.open(own_cluster.ports[leader], clean=False)
    subscriber.subscribe(("t/#", 2))
    subscriber.close()
    ports = list(own_cluster.ports.values())
    publishers = [Publisher(f"p{n}", f"t/{n}", ports[n:] + ports[:n], 10 ** 9, 1 + n % 2) for n in range(3)]

    def harm():
        for victim in order:
            before = sum(len(p.acknowledged) for p in publishers)
            wait_until("the load goes on", lambda: sum(len(p.acknowledged) for p in publishers) > before + 300, 60)
            own_cluster.run("replace", str(victim))
        for publisher in publishers:
            publisher.count = max(publisher.numbers.values()) + 1    # what is on its way, and no more

    run_publishers(publishers, harm)
    own_cluster.wait_ready()
    own_cluster.wait_equal()
    assert subscriber.open(own_cluster.ports[order[0]], clean=False).session_present
    subscriber.collect(sum(len(p.acknowledged) for p in publishers), timeout=90)
    subscriber.collect(None, quiet=1.0)
    for publisher in publishers:
        got = [m for m in subscriber.received if m.topic == publisher.topic]
        numbers = first_deliveries(got)
        assert set(numbers) >= publisher.acknowledged
        assert numbers == sorted(numbers), "first deliveries out of order"
        if publisher.qos == 2:
            assert len(got) == len(numbers), "a QoS 2 message was delivered twice"

    own_cluster.kill(own_cluster.leader())    # replacements vote and lead like any other
    assert Client("q", timeout=20).open(own_cluster.ports[own_cluster.leader()]).reason == 0


def test_of_five_nodes_two_that_are_far_behind_are_replaced_one_after_the_other():
    five = Cluster(5)
    try:
        lost = five.followers()[:2]
        for number in lost:
            five.kill(number)
        client = Client("p", timeout=60)
        client.open(five.ports[five.leader()])
        for number in range(1200):    # an entry each: the dead are not near the end of the log
            client.publish("t", str(number), qos=1, retain=True)
        client.close()
        for number in lost:
            five.run("replace", str(number))
        five.wait_ready()
        five.wait_equal()
    finally:
        five.down()


def test_what_was_replaced_does_not_come_back(own_cluster):
    victim = own_cluster.followers()[0]
    own_cluster.stop(victim)
    shutil.move(data_of(own_cluster, victim), data_of(own_cluster, victim) + ".former")
    own_cluster.run("replace", str(victim))
    own_cluster.stop(victim)
    shutil.move(data_of(own_cluster, victim), data_of(own_cluster, victim) + ".present")
    shutil.move(data_of(own_cluster, victim) + ".former", data_of(own_cluster, victim))
    own_cluster.start(victim)
    wait_until("the refusal in its own log", lambda: "it has been replaced" in own_cluster.logs(victim))
    other = next(number for number in own_cluster.ports if number != victim)
    assert "it has been replaced" in own_cluster.logs(other)
    assert not own_cluster.ready(victim)
    own_cluster.stop(victim)
    shutil.rmtree(data_of(own_cluster, victim))
    shutil.move(data_of(own_cluster, victim) + ".present", data_of(own_cluster, victim))
    own_cluster.start(victim)
    own_cluster.wait_ready()


def test_a_number_that_stays_set_replaces_a_node_once_only(own_cluster):
    victim = own_cluster.followers()[0]
    own_cluster.wipe(victim)
    start_as(own_cluster, victim, 20260131)
    own_cluster.wait_ready()
    own_cluster.stop(victim)
    start_as(own_cluster, victim, 20260131)    # nothing is wrong: it is the same node
    own_cluster.wait_ready()
    own_cluster.wipe(victim)
    start_as(own_cluster, victim, 20260131)
    wait_until("the refusal", lambda: "was used before" in own_cluster.logs(victim))
    assert not own_cluster.ready(victim)
    own_cluster.wipe(victim)
    start_as(own_cluster, victim, 20260201)
    own_cluster.wait_ready()
    own_cluster.wait_equal()


def test_a_node_whose_log_was_moved_away_is_replaced(own_cluster):
    victim = own_cluster.followers()[0]
    own_cluster.stop(victim)
    shutil.move(os.path.join(data_of(own_cluster, victim), "log"), data_of(own_cluster, victim) + ".log")
    own_cluster.run("start", str(victim), check=False)
    wait_until("the refusal", lambda: "--replace NUMBER" in own_cluster.logs(victim))
    start_as(own_cluster, victim, 20260131)
    own_cluster.wait_ready()
    own_cluster.wait_equal()


def test_a_node_is_not_wiped_for_replacement_while_the_others_are_no_majority(own_cluster):
    one, other = own_cluster.followers()
    own_cluster.kill(one)
    own_cluster.run("replace", str(other), check=False)
    assert os.path.exists(os.path.join(data_of(own_cluster, other), "identity"))
    own_cluster.start(one)
    own_cluster.wait_ready()


def put_back(cluster, number):
    shutil.rmtree(data_of(cluster, number))
    shutil.copytree(data_of(cluster, number) + ".copy", data_of(cluster, number), symlinks=True)


def test_copies_of_all_nodes_that_were_put_back_go_on_where_they_were(own_cluster):
    client = Client("keeper", timeout=60)
    client.open(own_cluster.ports[1])
    client.publish("kept", "as of the copy", qos=1, retain=True)
    client.close()
    for number in own_cluster.ports:
        own_cluster.stop(number)
    for number in own_cluster.ports:
        shutil.copytree(data_of(own_cluster, number), data_of(own_cluster, number) + ".copy")
        own_cluster.start(number)
    own_cluster.wait_ready(timeout=60)
    client.open(own_cluster.ports[2])
    client.publish("kept", "later", qos=1, retain=True)
    client.close()
    for number in own_cluster.ports:
        own_cluster.kill(number)
    for number in own_cluster.ports:
        put_back(own_cluster, number)
        own_cluster.start(number)
    own_cluster.wait_ready(timeout=60)
    own_cluster.wait_equal(timeout=60)
    client.open(own_cluster.ports[3])
    client.subscribe(("kept", 1))
    client.expect_message("kept", "as of the copy")
    client.publish("kept", "new", qos=1, retain=True)
    client.close()
