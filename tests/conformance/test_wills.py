"""Wills: published when they must be, once, and never when they must not be."""

import time

import pytest

from mqtt import encode_connect, encode_disconnect, encode_publish
from statements import BOTH, V4, V5, corner, statement


def will(world, **more):
    return {"topic": world.topic("will"), "payload": b"will", "qos": 1, **more}


@statement("MQTT-3.1.2-8", "MQTT-3.1.2-10", "MQTT-3.1.2-14", level=V4)
@statement("MQTT-3.1.2-7", "MQTT-3.1.2-8", "MQTT-3.1.2-10", "MQTT-3.1.2-12", level=V5)
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("cut", ["close", "abort"])
def test_a_will_is_published_once_at_its_qos_when_the_socket_drops(world, qos, cut):
    witness = world.subscriber()
    client = world.connect("w", 0, will=will(world, qos=qos))
    getattr(client, cut)()
    witness.expect_message(world.topic("will"), b"will", qos=qos, retain=False, dup=False)
    client.open(world.port(0))
    getattr(client, cut)()
    assert world.fence(witness) == []


@statement("MQTT-3.1.2-8", level=BOTH)
@corner(35, 119)
def test_a_second_connect_is_no_goodbye(world):
    witness = world.subscriber()
    client = world.connect("w", 0, will=will(world))
    client.send(encode_connect("second", world.level))
    client.expect_closed()
    witness.expect_message(world.topic("will"), b"will")
    assert world.fence(witness) == []


@statement("MQTT-3.1.2-12", level=V4)
@statement("MQTT-3.1.2-8", level=V5)
def test_without_a_will_nothing_is_published(world):
    witness = world.subscriber()
    client = world.connect("w", 0)
    client.abort()
    client.open(world.port(0))
    assert world.fence(witness) == []


@statement("MQTT-3.1.2-8", "MQTT-3.1.2-10", "MQTT-3.14.4-3", level=V4)
@statement("MQTT-3.1.2-8", "MQTT-3.1.2-10", "MQTT-3.14.4-3", level=V5)
@corner(119)
def test_disconnect_discards_the_will(world):
    witness = world.subscriber()
    client = world.connect("w", 0, will=will(world))
    client.disconnect()
    assert world.fence(witness) == []


@statement("MQTT-3.14.4-3", "MQTT-3.1.2-8", level=V5)
@corner(119, level=V5)
@pytest.mark.parametrize("reason", [0x04, 0x80, 0x81, 0x99])
def test_disconnect_with_another_reason_publishes_the_will(world, reason):
    witness = world.subscriber()
    client = world.connect("w", 0, will=will(world))
    client.disconnect(reason)
    witness.expect_message(world.topic("will"), b"will")
    assert world.fence(witness) == []


@statement("MQTT-3.1.2-16", "MQTT-3.1.2-17", level=V4)
@statement("MQTT-3.1.2-14", "MQTT-3.1.2-15", level=V5)
@pytest.mark.parametrize("retain", [False, True])
def test_a_will_is_retained_if_it_says_so(world, retain):
    witness = world.subscriber()
    client = world.connect("w", 0, will=will(world, retain=retain))
    client.abort()
    witness.expect_message(world.topic("will"), b"will", retain=False)
    late = world.connect("late", 2)
    late.subscribe((world.topic("#"), 1))
    before = world.fence(late)
    assert [(m.payload, m.retain) for m in before] == ([(b"will", True)] if retain else [])


@corner(122, level=V5)
@statement("MQTT-3.3.1-12", "MQTT-3.3.1-13", level=V5)
@pytest.mark.parametrize("as_published", [False, True])
def test_a_retained_will_keeps_its_flag_for_retain_as_published(world, as_published):
    witness = world.subscriber((world.topic("#"), 1 | (8 if as_published else 0)))
    world.connect("w", 0, will=will(world, retain=True)).abort()
    witness.expect_message(world.topic("will"), b"will", retain=as_published)


@statement("MQTT-3.1.3-10", level=V5)
def test_a_will_carries_its_properties(world):
    properties = {"user_property": [("a", "1"), ("b", "2"), ("a", "3"), ("a", "1")], "content_type": "text/plain",
                  "response_topic": "answer/here", "correlation_data": b"\0\1\xff", "payload_format": 1}
    witness = world.subscriber()
    world.connect("w", 0, will=will(world, properties=properties)).abort()
    found = witness.expect_message(world.topic("will"), b"will")
    assert found.properties == properties


@statement("MQTT-3.3.2-6", level=V5)
def test_a_will_carries_its_message_expiry(world):
    witness = world.subscriber()
    world.connect("w", 0, will=will(world, properties={"message_expiry": 100})).abort()
    found = witness.expect_message(world.topic("will"), b"will")
    assert 98 <= found.properties["message_expiry"] <= 100


@statement("MQTT-3.1.2-8", level=V5)
def test_a_will_waits_for_its_delay(world):
    witness = world.subscriber()
    client = world.connect("w", 0, clean=False, will=will(world, properties={"will_delay": 1}))
    start = time.monotonic()
    client.abort()
    witness.expect_message(world.topic("will"), b"will")
    assert 0.8 < time.monotonic() - start < 3.5


@statement("MQTT-3.1.2-8", "MQTT-3.1.3-9", level=V5)
@corner(117, level=V5)
@pytest.mark.parametrize("first", ["drops", "is-taken-over"])
def test_a_client_back_within_the_delay_has_no_will(world, resume_at, first):
    witness = world.subscriber()
    client = world.connect("w", 0, clean=False, will=will(world, properties={"will_delay": 1}))
    if first == "drops":
        client.abort()
    again = world.client("w")
    assert again.open(world.port(resume_at), clean=False).session_present
    time.sleep(1.6)
    assert world.fence(witness) == []


@statement("MQTT-3.1.2-8", "MQTT-3.1.3-9", level=V5)
@corner(116, level=V5)
def test_a_clean_start_ends_the_session_and_publishes_a_delayed_will_at_once(world, resume_at):
    witness = world.subscriber()
    world.connect("w", 0, clean=False, will=will(world, properties={"will_delay": 60}))
    world.client("w").open(world.port(resume_at), clean=True)
    witness.expect_message(world.topic("will"), b"will")
    assert world.fence(witness) == []


@statement("MQTT-3.1.2-8", level=V5)
@corner(118, level=V5)
@pytest.mark.parametrize("expiry", [0, 1])
def test_a_will_is_published_at_the_latest_when_the_session_ends(world, expiry):
    witness = world.subscriber()
    client = world.connect("w", 0, clean=False, properties={"session_expiry": expiry},
                           will=will(world, properties={"will_delay": 60}))
    start = time.monotonic()
    client.abort()
    witness.expect_message(world.topic("will"), b"will")
    assert expiry - 0.2 <= time.monotonic() - start < expiry + 2.5


@statement("MQTT-3.1.4-2", level=V4)
@statement("MQTT-3.1.4-3", level=V5)
def test_a_will_is_published_when_its_client_is_taken_over(world, resume_at):
    witness = world.subscriber()
    world.connect("w", 0, clean=False, will=will(world))
    world.client("w").open(world.port(resume_at), clean=False)
    witness.expect_message(world.topic("will"), b"will")
    assert world.fence(witness) == []


@statement("MQTT-3.1.2-10", level=V5)
def test_a_discarded_will_does_not_come_back_with_the_session(world, resume_at):
    witness = world.subscriber()
    client = world.connect("w", 0, clean=False, will=will(world))
    client.disconnect()
    client.open(world.port(resume_at), clean=False)
    client.abort()
    assert world.fence(witness) == []


@statement("MQTT-3.14.4-2", level=V4)
@statement("MQTT-3.14.4-1", "MQTT-3.14.4-2", level=V5)
@corner(80)
def test_nothing_behind_a_disconnect_is_processed(world):
    witness = world.subscriber()
    client = world.connect("w", 0, will=will(world))
    client.send(encode_disconnect(world.level) + encode_publish(world.topic("x"), b"late", 1, 1, level=world.level))
    assert client.expect_closed() is None
    assert world.fence(witness) == []


@statement("MQTT-3.14.4-1", level=V4)
@statement("MQTT-3.14.4-2", level=V5)
def test_the_server_closes_when_the_client_lingers_after_disconnect(world):
    client = world.connect()
    client.send(encode_disconnect(world.level))
    assert client.expect_closed() is None


@statement("MQTT-4.13.2-1", level=V5)
def test_a_disconnect_with_an_error_code_is_closed_too(world):
    client = world.connect()
    client.send(encode_disconnect(5, 0x83, {"reason_string": "something", "user_property": [("a", "b")]}))
    assert client.expect_closed() is None
