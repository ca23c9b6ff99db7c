"""The cluster as one broker: every promise with publisher and subscriber on different nodes."""

import pytest

from mqtt import (CONNACK, PUBACK, PUBCOMP, PUBLISH, PUBREC, SUBACK, Client, encode_ack, encode_connect, encode_publish,
                  encode_subscribe)

LEVELS = [4, 5]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_reaches_a_subscriber_at_another_node(cluster, client, unique, level, qos):
    subscriber = client("s", level)
    subscriber.open(cluster.ports[1])
    assert subscriber.subscribe((f"{unique}/+", qos)) == [qos]
    publisher = client("p", level)
    publisher.open(cluster.ports[2])
    publisher.publish(f"{unique}/x", b"hello", qos=qos)
    subscriber.expect_message(f"{unique}/x", b"hello", qos=qos, dup=False, retain=False)


@pytest.mark.parametrize("level", LEVELS)
def test_a_persistent_session_is_resumed_at_another_node(cluster, client, unique, level):
    subscriber = client("s", level)
    assert not subscriber.open(cluster.ports[1], clean=False).session_present
    subscriber.subscribe((unique, 2))
    subscriber.disconnect()
    publisher = client("p", level)
    publisher.open(cluster.ports[3])
    for number in range(20):
        publisher.publish(unique, str(number), qos=1 + number % 2)
    assert subscriber.open(cluster.ports[2], clean=False).session_present
    got = subscriber.collect(20)
    assert [message.payload.decode() for message in got] == [str(number) for number in range(20)]
    assert [message.qos for message in got] == [1 + number % 2 for number in range(20)]


def test_unacknowledged_deliveries_come_again_with_dup_and_the_same_packet_id(cluster, client, unique):
    subscriber = client("s")
    subscriber.open(cluster.ports[1], clean=False)
    subscriber.subscribe((unique, 1))
    publisher = client("p")
    publisher.open(cluster.ports[1])
    publisher.publish(unique, "once", qos=1)
    first = subscriber.receive()
    subscriber.close()
    subscriber.open(cluster.ports[2], clean=False)
    second = subscriber.receive()
    assert (first.dup, second.dup) == (False, True)
    assert second.packet_id == first.packet_id and second.payload == b"once"


def test_qos_2_goes_on_at_another_node_between_every_two_packets(cluster, client, unique):
    subscriber = client("s")
    subscriber.open(cluster.ports[3], clean=False)
    subscriber.subscribe((unique, 2))
    publisher = client("p")
    publisher.open(cluster.ports[1], clean=False)
    # PUBLISH sent, PUBREC not read.
    publisher.start_publish(unique, "a", qos=2)
    publisher.close()
    publisher.open(cluster.ports[2], clean=False)
    publisher.resend()
    rec = publisher.expect(PUBREC)
    publisher.unacknowledged[rec.packet_id] = None
    # PUBREC read, PUBREL not sent.
    publisher.close()
    publisher.open(cluster.ports[3], clean=False)
    publisher.resend()
    publisher.expect(PUBCOMP)
    publisher.unacknowledged.clear()
    publisher.publish(unique, "b", qos=2)
    assert [m.payload for m in subscriber.collect(2)] == [b"a", b"b"]
    assert [m.payload for m in subscriber.collect(None, quiet=0.3)] == [b"a", b"b"]


@pytest.mark.parametrize("level", LEVELS)
def test_a_second_connection_takes_over_from_another_node(cluster, client, unique, level):
    first = client("same", level)
    first.open(cluster.ports[1], clean=False)
    second = Client(first.client_id, level)
    assert second.open(cluster.ports[2], clean=False).session_present
    last = first.expect_closed(0x8E)
    assert level == 4 or last is not None
    second.ping()
    second.close()


def test_a_retained_message_is_found_at_every_node_by_wildcard(cluster, client, unique):
    publisher = client("p")
    publisher.open(cluster.ports[1])
    for name in ("a", "b/c", "b/d"):
        publisher.publish(f"{unique}/{name}", name, qos=1, retain=True)
    for number in cluster.ports:
        reader = client(f"r{number}")
        reader.open(cluster.ports[number])
        reader.subscribe((f"{unique}/#", 1))
        got = {m.topic: m for m in reader.collect(3)}
        assert sorted(got) == [f"{unique}/a", f"{unique}/b/c", f"{unique}/b/d"]
        assert all(m.retain for m in got.values())
    publisher.publish(f"{unique}/b/c", b"", qos=1, retain=True)
    reader = client("again")
    reader.open(cluster.ports[2])
    reader.subscribe((f"{unique}/b/+", 0))
    reader.expect_message(f"{unique}/b/d", "b/d", retain=True, qos=0)
    reader.expect_nothing()


def test_a_will_is_published_at_another_node_when_the_connection_breaks(cluster, client, unique):
    watcher = client("w")
    watcher.open(cluster.ports[2])
    watcher.subscribe((unique, 2))
    mortal = client("m")
    mortal.open(cluster.ports[1], will={"topic": unique, "payload": b"gone", "qos": 2})
    mortal.abort()
    watcher.expect_message(unique, b"gone", qos=2)
    polite = client("polite")
    polite.open(cluster.ports[1], will={"topic": unique, "payload": b"never", "qos": 1})
    polite.disconnect()
    watcher.expect_nothing()


def test_a_will_delay_is_cancelled_by_a_resumption_at_another_node(cluster, client, unique):
    watcher = client("w")
    watcher.open(cluster.ports[2])
    watcher.subscribe((unique, 1))
    mortal = client("m")
    will = {"topic": unique, "payload": b"gone", "qos": 1, "properties": {"will_delay": 2}}
    mortal.open(cluster.ports[1], clean=False, will=will)
    mortal.abort()
    mortal.open(cluster.ports[3], clean=False)
    mortal.ping()
    mortal.open(cluster.ports[1], clean=False, will=dict(will, payload=b"later"))
    mortal.abort()
    found = watcher.expect_message(unique, timeout=10)
    assert found.payload == b"later"


def test_properties_travel_with_the_message(cluster, client, unique):
    subscriber = client("s")
    subscriber.open(cluster.ports[1])
    subscriber.subscribe((unique, 1), properties={"subscription_id": 77})
    properties = {"payload_format": 1, "content_type": "text/plain", "response_topic": "r/t",
                  "correlation_data": b"\x00\x01", "user_property": [("a", "1"), ("a", "2"), ("b", "")],
                  "message_expiry": 100}
    publisher = client("p")
    publisher.open(cluster.ports[3])
    publisher.publish(unique, "x", qos=1, properties=properties)
    got = subscriber.expect_message(unique).properties
    assert got.pop("message_expiry") in (99, 100)
    assert got.pop("subscription_id") == [77]
    properties.pop("message_expiry")
    assert got == properties


def test_overlapping_subscriptions_give_one_copy_with_all_identifiers(cluster, client, unique):
    subscriber = client("s")
    subscriber.open(cluster.ports[1])
    subscriber.subscribe((f"{unique}/#", 1), properties={"subscription_id": 1})
    subscriber.subscribe((f"{unique}/+", 2), properties={"subscription_id": 2})
    publisher = client("p")
    publisher.open(cluster.ports[2])
    publisher.publish(f"{unique}/x", "x", qos=2)
    got = subscriber.expect_message(f"{unique}/x", qos=2)
    assert sorted(got.properties["subscription_id"]) == [1, 2]


def test_no_local_and_retain_as_published_are_honoured(cluster, client, unique):
    one = client("one")
    one.open(cluster.ports[1])
    one.subscribe((unique, 0x04 | 1))
    other = client("other")
    other.open(cluster.ports[2])
    other.subscribe((unique, 0x08 | 1))
    one.publish(unique, "x", qos=1, retain=True)
    other.expect_message(unique, "x", retain=True)
    one.expect_nothing()


def test_a_client_receive_maximum_of_one_is_respected(cluster, client, unique):
    subscriber = client("s")
    subscriber.open(cluster.ports[1], properties={"receive_maximum": 1})
    subscriber.subscribe((unique, 1))
    publisher = client("p")
    publisher.open(cluster.ports[2])
    for number in range(5):
        publisher.publish(unique, str(number), qos=1)
    for number in range(5):
        message = subscriber.receive()
        assert message.payload == str(number).encode()
        subscriber.expect_nothing()
        subscriber.send(encode_ack(PUBACK, message.packet_id))


def test_pipelined_packets_behind_connect_are_processed_in_order(cluster, unique):
    one = Client(f"{unique}-pipelined")
    one.dial(cluster.ports[1])
    one.send(encode_connect(one.client_id) + encode_subscribe(1, [(unique, 1)]) +
             encode_publish(unique, b"x", 1, 2))
    one.expect(CONNACK)
    kinds = [one.receive().type for _ in range(3)]   # in any order: 4.6 binds acknowledgements of one kind only
    assert sorted(kinds) == [PUBLISH, PUBACK, SUBACK], kinds
    one.close()


def test_an_expired_message_is_not_delivered(cluster, client, unique):
    subscriber = client("s")
    subscriber.open(cluster.ports[1], clean=False)
    subscriber.subscribe((unique, 1))
    subscriber.disconnect()
    publisher = client("p")
    publisher.open(cluster.ports[2])
    publisher.publish(unique, "short", qos=1, properties={"message_expiry": 1})
    publisher.publish(unique, "long", qos=1)
    from cluster import wait_until
    import time
    end = time.monotonic() + 1.3
    wait_until("the message has expired", lambda: time.monotonic() > end)
    subscriber.open(cluster.ports[3], clean=False)
    subscriber.expect_message(unique, "long")


def test_all_replicas_hold_the_same_state(cluster, client, unique):
    one = client("a")
    one.open(cluster.ports[1], clean=False)
    one.subscribe((f"{unique}/#", 2))
    for number in range(50):
        one.publish(f"{unique}/{number % 7}", str(number), qos=number % 3, retain=number % 5 == 0)
    one.close()
    cluster.wait_equal()
