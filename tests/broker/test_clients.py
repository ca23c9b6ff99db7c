"""Ordinary clients against the cluster: mosquitto's tools, paho C, paho Python and MQTT.js (makes.py), in each version
that they speak. Publisher and subscriber are at different nodes; who comes back, comes back at another one.

Scenarios are the tests; makes and versions are their parameters. What a make cannot do is skipped with the reason.
"""

import time

import pytest

from makes import MAKES, VERSION_NAMES, CannotDo

ALL_VERSIONS = [(make, version) for make in MAKES for version in (3, 4, 5)]
VERSION_5 = [(make, 5) for make in MAKES]


def name_of(parameter):
    return VERSION_NAMES.get(parameter, str(parameter))


def every_make(pairs):
    return pytest.mark.parametrize("make, version", pairs, ids=name_of)


@pytest.fixture(autouse=True, scope="module")
def are_there():
    """Reasons why a make cannot run, asked for once."""
    return {name: made.missing() for name, made in MAKES.items()}


@pytest.fixture
def real(cluster, unique, are_there):
    """Makes clients by make and version; skips if there is none; ends them with the test."""
    made = []

    def create(make, version, name):
        if are_there[make]:
            pytest.skip(f"{make}: {are_there[make]}")
        made.append(MAKES[make](f"{unique}{name}", version))
        return made[-1]

    yield create
    for one in made:
        one.close()


def needs(client, *features):
    try:
        client.able(*features)
    except CannotDo as reason:
        pytest.skip(f"{type(client).__name__}: {reason}")


def pair(real, cluster, make, version):
    """(publisher at node 2, subscriber yet to connect)."""
    publisher, subscriber = real(make, version, "p"), real(make, version, "s")
    publisher.connect(cluster.ports[2])
    return publisher, subscriber


# ---- all versions ----

@pytest.mark.parametrize("qos", [0, 1, 2])
@every_make(ALL_VERSIONS)
def test_messages_arrive_in_order_at_another_node(real, cluster, unique, make, version, qos):
    publisher, subscriber = pair(real, cluster, make, version)
    subscriber.connect(cluster.ports[1])
    assert subscriber.subscribe(f"{unique}/+", qos) in (qos, None)
    for number in range(5):
        publisher.publish(f"{unique}/x", f"text-{number}", qos)
    got = [subscriber.message() for _ in range(5)]
    assert [(m["topic"], m["payload"], m["qos"], m["retain"]) for m in got] == \
        [(f"{unique}/x", f"text-{number}", qos, 0) for number in range(5)]


@every_make(ALL_VERSIONS)
def test_a_retained_message_comes_to_a_later_subscriber_until_it_is_removed(real, cluster, unique, make, version):
    publisher, subscriber = pair(real, cluster, make, version)
    publisher.publish(f"{unique}/kept", "first", 1, retain=1)
    publisher.publish(f"{unique}/kept", "second", 2, retain=1)
    subscriber.connect(cluster.ports[3])
    subscriber.subscribe(f"{unique}/#", 2)
    found = subscriber.message()
    assert (found["payload"], found["retain"], found["qos"]) == ("second", 1, 2)
    publisher.publish(f"{unique}/kept", "", 1, retain=1)
    assert subscriber.message()["payload"] == ""
    later = real(make, version, "later")
    later.connect(cluster.ports[1])
    later.subscribe(f"{unique}/#", 2)
    publisher.publish(f"{unique}/live", "live", 1)
    assert later.message()["payload"] == "live"


@every_make(ALL_VERSIONS)
def test_the_will_of_a_killed_client_comes_at_another_node_and_is_retained(real, cluster, unique, make, version):
    mourner, doomed = real(make, version, "m"), real(make, version, "d")
    mourner.connect(cluster.ports[1])
    mourner.subscribe(f"{unique}/will", 1)
    doomed.connect(cluster.ports[3], will={"topic": f"{unique}/will", "payload": "gone", "qos": 1, "retain": 1})
    doomed.subscribe(f"{unique}/other", 0)
    doomed.close()
    found = mourner.message()
    assert (found["payload"], found["qos"], found["retain"]) == ("gone", 1, 0)
    late = real(make, version, "late")
    late.connect(cluster.ports[2])
    late.subscribe(f"{unique}/will", 1)
    assert late.message()["retain"] == 1


@every_make(ALL_VERSIONS)
def test_a_clean_disconnect_discards_the_will(real, cluster, unique, make, version):
    mourner, polite = real(make, version, "m"), real(make, version, "d")
    needs(polite, "goodbye")
    mourner.connect(cluster.ports[1])
    mourner.subscribe(f"{unique}/#", 1)
    polite.connect(cluster.ports[3], will={"topic": f"{unique}/will", "payload": "gone", "qos": 1})
    polite.subscribe(f"{unique}/other", 0)
    polite.disconnect()
    fence = real(make, version, "f")
    fence.connect(cluster.ports[2])
    fence.publish(f"{unique}/fence", "fence", 1)
    assert mourner.message()["payload"] == "fence"


@pytest.mark.parametrize("ended", ["disconnected", "killed"])
@every_make(ALL_VERSIONS)
def test_a_session_is_resumed_at_another_node_with_what_was_queued(real, cluster, unique, make, version, ended):
    publisher, subscriber = pair(real, cluster, make, version)
    keep = {"session_expiry": 3600} if version == 5 else {}
    subscriber.connect(cluster.ports[1], clean=False, **keep)
    subscriber.subscribe(f"{unique}/+", 2)
    if ended == "killed":
        subscriber.close()
    else:
        subscriber.disconnect()
    for number in range(6):
        publisher.publish(f"{unique}/x", f"text-{number}", 1 + number % 2)
    answer = subscriber.resume(cluster.ports[3], f"{unique}/+", 2, **keep)
    if subscriber.shows_present:
        assert (answer["reason"], answer["present"]) == (0, 0 if version == 3 else 1)  # 3.1 has no Session Present
    got = [subscriber.message() for _ in range(6)]
    for qos in (1, 2):  # a client may show QoS 1 at once and QoS 2 when it is released: order holds within each
        assert [m["payload"] for m in got if m["qos"] == qos] == [f"text-{n}" for n in range(6) if 1 + n % 2 == qos]


@every_make(ALL_VERSIONS)
def test_a_client_id_that_connects_elsewhere_ends_the_former_connection(real, cluster, unique, make, version):
    first, second = real(make, version, "same"), real(make, version, "same")
    needs(first, "loss")
    first.connect(cluster.ports[1])
    first.subscribe(f"{unique}/x", 1)
    second.connect(cluster.ports[2])
    second.subscribe(f"{unique}/x", 1)
    reason = first.lost()
    if version == 5 and first.shows_end:
        assert reason == 0x8E


@every_make(ALL_VERSIONS)
def test_after_unsubscribe_nothing_comes(real, cluster, unique, make, version):
    publisher, subscriber = pair(real, cluster, make, version)
    needs(subscriber, "unsubscribe")
    subscriber.connect(cluster.ports[1])
    subscriber.subscribe(f"{unique}/a", 1)
    subscriber.subscribe(f"{unique}/b", 1)
    assert subscriber.unsubscribe(f"{unique}/a") in (None, 0)
    publisher.publish(f"{unique}/a", "unwanted", 1)
    publisher.publish(f"{unique}/b", "wanted", 1)
    assert subscriber.message()["payload"] == "wanted"


# ---- 5.0 ----

PROPERTIES = {"content_type": "text/plain", "response_topic": "answers/here", "correlation_data": "case-4711",
              "payload_format": 1, "user": [("a", "1"), ("a", "2"), ("b", "x:y")]}


@pytest.mark.parametrize("receiver", list(MAKES))
@pytest.mark.parametrize("sender", list(MAKES))
def test_every_make_gets_every_property_that_another_make_sent(real, cluster, unique, sender, receiver):
    publisher, subscriber = real(sender, 5, "p"), real(receiver, 5, "s")
    publisher.connect(cluster.ports[2])
    subscriber.connect(cluster.ports[1])
    subscriber.subscribe(f"{unique}/#", 1, subscription_id=268435455)
    publisher.publish(f"{unique}/x", "text", 1, message_expiry=1000, **PROPERTIES)
    found = subscriber.message()
    assert {name: found.get(name) for name in PROPERTIES} == PROPERTIES
    assert 990 <= found["message_expiry"] <= 1000
    assert found["subscription_id"] == 268435455


@every_make(VERSION_5)
def test_properties_survive_being_retained_and_being_queued(real, cluster, unique, make, version):
    publisher, subscriber = pair(real, cluster, make, version)
    subscriber.connect(cluster.ports[1], clean=False, session_expiry=3600)
    subscriber.subscribe(f"{unique}/+", 1, subscription_id=7)
    subscriber.disconnect()
    publisher.publish(f"{unique}/kept", "queued", 1, retain=1, message_expiry=1000, **PROPERTIES)
    late = real(make, version, "late")
    late.connect(cluster.ports[1])
    late.subscribe(f"{unique}/+", 1)
    subscriber.resume(cluster.ports[3], f"{unique}/+", 1, session_expiry=3600)
    for client in (late, subscriber):
        found = client.message()
        assert {name: found.get(name) for name in PROPERTIES} == PROPERTIES
        assert 900 <= found["message_expiry"] <= 1000


@every_make(VERSION_5)
def test_what_expired_while_the_session_was_away_does_not_come(real, cluster, unique, make, version):
    publisher, subscriber = pair(real, cluster, make, version)
    subscriber.connect(cluster.ports[1], clean=False, session_expiry=3600)
    subscriber.subscribe(f"{unique}/x", 1)
    subscriber.disconnect()
    publisher.publish(f"{unique}/x", "short-lived", 1, message_expiry=1)
    time.sleep(1.2)   # a second of the message's life: what the test is about
    publisher.publish(f"{unique}/x", "lasting", 1)
    subscriber.resume(cluster.ports[3], f"{unique}/x", 1, session_expiry=3600)
    assert subscriber.message()["payload"] == "lasting"


@every_make(VERSION_5)
def test_a_session_lives_as_long_as_its_expiry_says(real, cluster, unique, make, version):
    publisher, subscriber = pair(real, cluster, make, version)
    subscriber.connect(cluster.ports[1], clean=False, session_expiry=1)
    subscriber.subscribe(f"{unique}/x", 1)
    subscriber.disconnect()
    publisher.publish(f"{unique}/x", "for-nobody", 1)
    time.sleep(1.5)   # longer than the session's expiry: what the test is about
    answer = subscriber.resume(cluster.ports[3], f"{unique}/x", 1, session_expiry=1)
    if subscriber.shows_present:
        assert answer["present"] == 0
    if not subscriber.subscribes_again:
        subscriber.subscribe(f"{unique}/x", 1)
    publisher.publish(f"{unique}/x", "for-somebody", 1)
    assert subscriber.message()["payload"] == "for-somebody"


@every_make(VERSION_5)
def test_the_server_resolves_the_aliases_of_a_publisher(real, cluster, unique, make, version):
    publisher, subscriber = pair(real, cluster, make, version)
    subscriber.connect(cluster.ports[1])
    subscriber.subscribe(f"{unique}/#", 1)
    publisher.publish_with_alias(f"{unique}/long/topic", "same", "same", "same")
    for _ in range(3):
        found = subscriber.message()
        assert (found["topic"], found["payload"]) == (f"{unique}/long/topic", "same")


@every_make(VERSION_5)
def test_a_subscriber_understands_the_aliases_of_the_server(real, cluster, unique, make, version):
    publisher, subscriber = pair(real, cluster, make, version)
    needs(subscriber, "incoming alias")
    subscriber.connect(cluster.ports[1], alias_maximum=2)
    subscriber.subscribe(f"{unique}/#", 1)
    topics = [f"{unique}/{number % 3}/a-topic-that-is-long-enough-to-be-worth-it" for number in range(9)]
    for topic in topics:
        publisher.publish(topic, "x", 1)
    assert [subscriber.message()["topic"] for _ in topics] == topics


@every_make(VERSION_5)
def test_reason_codes_are_told(real, cluster, unique, make, version):
    publisher, subscriber = pair(real, cluster, make, version)
    assert publisher.publish(f"{unique}/nobody", "x", 1) == 0x10
    assert publisher.publish(f"{unique}/nobody", "x", 2) in (0x10, 0)   # some show that of PUBCOMP
    subscriber.connect(cluster.ports[1])
    assert subscriber.subscribe(f"$share/{unique}/x", 1) == 1
    assert publisher.publish(f"{unique}/nobody", "x", 1) == 0x10
    needs(subscriber, "unsubscribe")
    assert subscriber.unsubscribe(f"{unique}/never-had") == 0x11
    assert subscriber.subscribe(f"$share/{unique}/", 1) >= 0x80
