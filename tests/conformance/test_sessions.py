"""CONNECT that is accepted, what CONNACK says, and what is remembered of a client: on this node and the others."""

import time

import pytest

from mqtt import (CONNACK, DISCONNECT, PING, PINGRESP, PUBACK, PUBLISH, SUBACK, Closed, encode_connect,
                  encode_disconnect, encode_publish, encode_subscribe, packet, text)
from statements import BOTH, V4, V5, corner, statement


@statement("MQTT-3.1.4-4", "MQTT-3.2.0-1", "MQTT-3.2.2-1", "MQTT-7.0.0-2", level=V4)
@statement("MQTT-3.1.4-5", "MQTT-3.2.0-1", "MQTT-3.2.2-1", "MQTT-3.2.2-2", "MQTT-3.2.2-8", "MQTT-2.2.2-1", level=V5)
def test_a_connect_is_accepted_with_connack_0(world):
    client = world.client()
    client.dial(world.port())
    client.send(encode_connect(client.client_id, world.level))
    connack = client.receive()
    assert (connack.type, connack.reason, connack.session_present) == (CONNACK, 0, False)
    assert client.ping()


@statement("MQTT-3.1.2-4", "MQTT-3.1.2-5", "MQTT-3.1.4-3", "MQTT-3.2.2-2", "MQTT-3.2.2-3", "MQTT-4.1.0-1",
           "MQTT-3.1.3-2",
           "MQTT-4.5.0-1", level=V4)
@statement("MQTT-3.1.2-5", "MQTT-3.1.2-6", "MQTT-3.1.2-23", "MQTT-3.1.4-4", "MQTT-3.2.2-3", "MQTT-3.1.3-2",
           "MQTT-4.5.0-1",
           level=V5)
@pytest.mark.parametrize("ending", ["disconnect", "cut", "reset"])
def test_a_session_is_kept_and_resumed(world, resume_at, ending):
    client = world.client("s")
    assert not client.open(world.port(0), clean=False).session_present
    client.subscribe((world.topic("1"), 1), (world.topic("2"), 2))
    {"disconnect": client.disconnect, "cut": client.close, "reset": client.abort}[ending]()
    publisher = world.publisher()
    for number in range(6):
        publisher.publish(world.topic(str(1 + number % 2)), str(number), qos=1 + number % 2)
    assert client.open(world.port(resume_at), clean=False).session_present
    got = client.collect(6)
    assert [(m.payload, m.qos) for m in got] == [(str(n).encode(), 1 + n % 2) for n in range(6)]
    publisher.publish(world.topic("1"), "live", qos=1)
    client.expect_message(world.topic("1"), "live")


@statement("MQTT-3.2.0-1", level=BOTH)
@statement("MQTT-3.1.2-5", level=V4)
def test_connack_comes_before_what_is_queued(world, resume_at):
    client = world.connect("s", 0, clean=False)
    client.subscribe((world.topic(), 1))
    client.disconnect()
    publisher = world.publisher()
    for number in range(20):
        publisher.publish(world.topic(), str(number))
    client.dial(world.port(resume_at))
    client.send(encode_connect(client.client_id, world.level, clean=False,
                               properties={"session_expiry": 100} if world.level == 5 else None))
    assert client.receive().type == CONNACK
    assert client.receive().type == PUBLISH


@statement("MQTT-3.1.2-6", "MQTT-3.1.4-3", "MQTT-3.2.2-1", "MQTT-3.2.2-3", level=V4)
@statement("MQTT-3.1.2-4", "MQTT-3.1.4-4", "MQTT-3.2.2-2", "MQTT-3.2.2-3", level=V5)
def test_a_clean_start_wipes_the_old_session(world, resume_at):
    client = world.connect("s", 0, clean=False)
    client.subscribe((world.topic("#"), 1))
    client.disconnect()
    publisher = world.publisher()
    publisher.publish(world.topic("x"), "queued", qos=1)
    assert not client.open(world.port(resume_at), clean=True).session_present
    publisher.publish(world.topic("x"), "live", qos=1)
    client.subscribe((world.topic("fence"), 1))
    assert world.fence(client, publisher=publisher) == []
    client.disconnect()
    assert not client.open(world.port(0), clean=False).session_present
    client.subscribe((world.topic("fence"), 1))
    assert world.fence(client, publisher=publisher) == []


@statement("MQTT-3.1.2-6", level=V4)
@statement("MQTT-3.1.2-23", "MQTT-4.1.0-2", level=V5)
def test_nothing_of_a_clean_session_reappears(world, resume_at):
    client = world.connect("s", 0, clean=True)
    client.subscribe((world.topic("#"), 1))
    client.disconnect()
    world.publisher().publish(world.topic("x"), "lost", qos=1)
    assert not client.open(world.port(resume_at), clean=False).session_present
    client.subscribe((world.topic("fence"), 1))
    assert world.fence(client) == []


@statement("MQTT-3.1.3-2", level=BOTH)
def test_a_session_belongs_to_its_client_id_only(world, resume_at):
    client = world.connect("s", 0, clean=False)
    client.subscribe((world.topic("#"), 1))
    client.disconnect()
    other = world.client("S")
    assert not other.open(world.port(resume_at), clean=False).session_present
    assert client.open(world.port(resume_at), clean=False).session_present


@statement("MQTT-3.1.3-5", level=BOTH)
@pytest.mark.parametrize("client_id", ["a", "Z", "0", "0123456789abcdefghijklm", "nopqrstuvwxyzABCDEFGHIJ",
                                       "KLMNOPQRSTUVWXYZ0123456"])
def test_client_ids_of_1_to_23_letters_and_digits_are_accepted(world, client_id):
    client = world.client()
    client.client_id = client_id
    client.open(world.port())
    client.ping()
    client.disconnect()


@statement("MQTT-3.1.3-6", level=V4)
@statement("MQTT-3.1.3-6", "MQTT-3.1.3-7", "MQTT-3.2.2-16", level=V5)
@corner(32)
def test_clients_without_an_id_get_one_each(world):
    first, second = world.client(None), world.client(None)
    ids = []
    for at, client in ((0, first), (1, second)):
        connack = client.open(world.port(at))
        ids.append(connack.properties.get("assigned_client_id"))
    first.ping()
    second.ping()
    if world.level == 5:
        assert ids[0] and ids[1] and ids[0] != ids[1]


@statement("MQTT-3.1.3-7", "MQTT-3.1.3-6", level=V5)
def test_an_assigned_client_id_can_be_used_to_resume(world, resume_at):
    client = world.client(None)
    client.open(world.port(0), clean=False)
    assert client.client_id
    client.disconnect()
    connack = client.open(world.port(resume_at), clean=False)
    assert connack.session_present


@statement("MQTT-3.2.2-16", level=V5)
def test_no_client_id_is_assigned_to_a_client_that_has_one(world):
    assert "assigned_client_id" not in world.connect().connack.properties


@statement("MQTT-3.1.3-1", "MQTT-3.1.2-9", "MQTT-3.1.2-19", "MQTT-3.1.2-21", level=V4)
@statement("MQTT-3.1.3-1", "MQTT-3.1.2-9", "MQTT-3.1.2-17", "MQTT-3.1.2-19", level=V5)
@corner(23)
def test_all_fields_of_the_payload_are_taken_in_their_order(world):
    witness = world.subscriber()
    client = world.connect("full", 0, username="name", password=b"\0\xff\xfe",
                           will={"topic": world.topic("will"), "payload": b"\0\xffwill", "qos": 1})
    client.abort()
    witness.expect_message(world.topic("will"), b"\0\xffwill")


@statement("MQTT-3.1.2-19", level=V5)
@corner(29, level=V5)
def test_a_password_without_user_name_is_allowed(world):
    world.connect(password=b"secret").ping()


@statement("MQTT-3.1.4-2", level=V4)
@statement("MQTT-3.1.4-3", "MQTT-3.14.4-2", "MQTT-4.13.2-1", level=V5)
def test_a_second_connection_takes_over(world, resume_at):
    first = world.connect("same", 0, clean=False)
    second = world.client("same")
    assert second.open(world.port(resume_at), clean=False).session_present
    first.expect_closed()
    second.subscribe((world.topic("x"), 1))
    world.publisher().publish(world.topic("x"), "to the second")
    second.expect_message(world.topic("x"), "to the second")


@corner(115, level=5)
def test_the_former_connection_is_told_that_it_was_taken_over(world, resume_at):
    first = world.connect("same", 0)
    world.client("same").open(world.port(resume_at))
    last = first.expect_closed()
    assert last is not None and last.type == DISCONNECT and last.reason == 0x8E, last


@corner(115)
def test_many_connections_of_one_client_id_leave_one(world):
    rivals = []
    for number in range(40):
        rival = world.client("same", timeout=20)
        rival.dial(world.port(number % 3))
        rival.send(encode_connect(rival.client_id, world.level))
        rivals.append(rival)
    alive = 0
    for rival in rivals:
        try:
            rival.receive()
            rival.ping()
            rival.expect_nothing()
            alive += 1
        except (Closed, AssertionError):
            pass
    survivors = 0
    for rival in rivals:
        try:
            if rival.socket and rival.ping():
                survivors += 1
        except (Closed, AssertionError, OSError):
            pass
    assert survivors == 1


@statement("MQTT-3.1.2-24", "MQTT-3.1.2-8", level=V4)
@statement("MQTT-3.1.2-22", "MQTT-3.1.2-8", "MQTT-3.2.2-22", level=V5)
@corner(119)
def test_silence_beyond_the_keep_alive_closes_and_publishes_the_will(world):
    witness = world.subscriber()
    client = world.connect("silent", 0, keep_alive=1,
                           will={"topic": world.topic("will"), "payload": b"will", "qos": 1})
    start = time.monotonic()
    last = client.expect_closed(timeout=9)
    took = time.monotonic() - start
    assert took >= 1.0, f"closed after {took:.2f} s"
    assert last is None or last.reason == 0x8D, last
    witness.expect_message(world.topic("will"), b"will", timeout=9)


@corner(40)
def test_keep_alive_1_closes_after_one_second_and_a_half(world):
    client = world.connect("silent", 0, keep_alive=1)
    start = time.monotonic()
    client.expect_closed()
    took = time.monotonic() - start
    assert 1.4 <= took < 3, f"closed after {took:.2f} s"


@statement("MQTT-3.1.2-23", level=V4)
@statement("MQTT-3.1.2-20", level=V5)
def test_any_packet_is_a_sign_of_life(world):
    clients = [world.connect(f"alive{number}", number, keep_alive=1) for number in range(3)]
    for beat in range(5):
        time.sleep(0.6)
        clients[0].ping()
        clients[1].publish(world.topic(), "x", qos=beat % 2)
        clients[2].subscribe((world.topic(str(beat)), 0))
    for client in clients:
        client.ping()


@statement("MQTT-3.1.2-24", level=V4)
@statement("MQTT-3.1.2-22", level=V5)
@corner(41)
def test_keep_alive_0_never_times_out_and_parts_of_packets_are_no_life(world):
    forever = world.connect("forever", 1, keep_alive=0)
    trickle = world.connect("trickle", 0, keep_alive=1)
    data = encode_publish(world.topic(), b"x" * 100, level=world.level)
    start = time.monotonic()
    try:
        for byte in data:
            trickle.send(bytes([byte]))
            if time.monotonic() - start > 8:
                break
            time.sleep(0.2)
    except OSError:
        pass
    with pytest.raises((Closed, OSError)):
        found = trickle.receive()
        assert found.type == DISCONNECT, found
        trickle.receive()
    assert time.monotonic() - start < 8
    forever.ping()


@statement("MQTT-3.1.2-21", "MQTT-3.2.2-21", level=V5)
@corner(42, level=V5)
@pytest.mark.parametrize("asked", [60, 0])
def test_an_announced_server_keep_alive_is_the_one_that_counts(world, asked):
    client = world.client()
    start = time.monotonic()
    connack = client.open(world.special("short-keep-alive"), keep_alive=asked)
    assert connack.properties.get("server_keep_alive") == 1, connack
    client.expect_closed(0x8D)
    assert 1.4 < time.monotonic() - start


@statement("MQTT-3.2.2-22", level=V5)
def test_without_server_keep_alive_the_clients_own_value_holds(world):
    client = world.connect(keep_alive=1)
    assert "server_keep_alive" not in client.connack.properties
    client.expect_closed(0x8D, timeout=9)


@statement("MQTT-4.1.0-2", level=V4)
@statement("MQTT-4.1.0-1", level=V5)
def test_a_session_lives_as_long_as_its_connection(world):
    client = world.connect("s", 0, clean=True)
    client.subscribe((world.topic(), 1))
    time.sleep(1.2)
    world.publisher().publish(world.topic(), "here")
    client.expect_message(world.topic(), "here")


@statement("MQTT-3.1.2-23", "MQTT-4.1.0-2", "MQTT-3.2.2-3", level=V5)
def test_a_session_ends_when_its_expiry_is_over(world, resume_at):
    client = world.connect("s", 0, clean=False, properties={"session_expiry": 1})
    client.subscribe((world.topic("#"), 1))
    client.disconnect()
    kept = world.connect("kept", 0, clean=False, properties={"session_expiry": 60})
    kept.disconnect()
    time.sleep(2.2)
    assert not client.open(world.port(resume_at), clean=False).session_present
    assert kept.open(world.port(resume_at), clean=False).session_present


@statement("MQTT-3.1.2-23", level=V5)
@corner(125, level=V5)
def test_a_session_is_resumed_within_its_expiry(world, resume_at):
    client = world.connect("s", 0, clean=False, properties={"session_expiry": 5})
    client.subscribe((world.topic("#"), 1))
    client.abort()
    world.publisher().publish(world.topic("x"), "kept")
    assert client.open(world.port(resume_at), clean=False, properties={"session_expiry": 5}).session_present
    client.expect_message(world.topic("x"), "kept")


@statement("MQTT-3.1.2-23", "MQTT-4.1.0-2", level=V5)
@corner(121, level=V5)
def test_disconnect_can_lower_the_expiry_to_0(world, resume_at):
    client = world.connect("s", 0, clean=False)
    client.subscribe((world.topic("#"), 1))
    client.disconnect(properties={"session_expiry": 0})
    assert not client.open(world.port(resume_at), clean=False).session_present
    client.subscribe((world.topic("fence"), 1))
    assert world.fence(client) == []


@statement("MQTT-4.1.0-2", "MQTT-3.14.2-2", level=V5)
def test_disconnect_can_raise_an_expiry_that_was_not_0(world, resume_at):
    client = world.connect("s", 0, clean=False, properties={"session_expiry": 1})
    client.disconnect(properties={"session_expiry": 60})
    time.sleep(2.0)
    assert client.open(world.port(resume_at), clean=False).session_present


@statement("MQTT-3.2.2-4", level=V5)
def test_a_client_that_does_not_know_the_session_may_just_close(world, resume_at):
    client = world.connect("s", 0, clean=False)
    client.subscribe((world.topic(), 1))
    client.abort()
    assert client.open(world.port(resume_at), clean=False).session_present
    client.abort()
    world.publisher().publish(world.topic(), "still")
    assert client.open(world.port(0), clean=False).session_present
    client.expect_message(world.topic(), "still")


@statement("MQTT-3.2.2-5", level=V5)
@statement("MQTT-3.1.2-6", level=V4)
def test_a_new_session_owes_nothing_to_the_old_one(world, resume_at):
    client = world.connect("s", 0, clean=False)
    client.subscribe((world.topic(), 2))
    publisher = world.publisher()
    publisher.publish(world.topic(), "unanswered", qos=2)
    client.start_publish(world.topic("other"), "open", qos=2)
    found = client.receive()
    while found.type != PUBLISH:
        found = client.receive()
    client.close()
    assert not client.open(world.port(resume_at), clean=True).session_present
    client.unacknowledged.clear()
    client.next_id = 0
    client.subscribe((world.topic(), 2))
    publisher.publish(world.topic(), "new", qos=2)
    client.expect_message(world.topic(), "new", dup=False)


@corner(123)
def test_a_session_may_change_the_protocol_level(world, resume_at):
    other = 9 - world.level
    client = world.connect("s", 0, clean=False)
    client.subscribe((world.topic(), 1))
    client.disconnect()
    publisher = world.publisher()
    publisher.publish(world.topic(), "1")
    again = world.client("s", level=other)
    assert again.open(world.port(resume_at), clean=False).session_present
    again.expect_message(world.topic(), "1")
    again.disconnect()
    publisher.publish(world.topic(), "2")
    assert client.open(world.port(0), clean=False).session_present
    client.expect_message(world.topic(), "2")


@corner(6)
@statement("MQTT-7.1.1-1", level=V4)
@statement("MQTT-4.2-1", level=V5)
def test_packets_may_be_split_at_every_byte_and_sent_before_connack(world):
    data = (encode_connect(world.unique, world.level) + encode_subscribe(1, [(world.topic(), 1)], world.level)
            + encode_publish(world.topic(), b"hello", 1, 2, level=world.level) + PING)
    for step in (1, 7, len(data)):
        client = world.socket()
        for at in range(0, len(data), step):
            client.send(data[at:at + step])
        kinds = [client.receive() for _ in range(5)]
        assert kinds[0].type == CONNACK, kinds
        assert {found.type for found in kinds[1:]} == {SUBACK, PUBLISH, PUBACK, PINGRESP}, kinds
        client.send(encode_disconnect(world.level))


@corner(15)
def test_resets_in_the_middle_of_packets_harm_nobody(world):
    witness = world.connect("witness")
    for number in range(100):
        client = world.socket(number % 3)
        whole = encode_connect(world.unique + "r", world.level) + encode_publish(world.topic(), b"x" * 50, 1, 1,
                                                                                   level=world.level)
        client.send(whole[:1 + number * (len(whole) - 1) // 100])
        client.abort()
    witness.ping()


@corner(24, 30)
@pytest.mark.parametrize("level", [3], ids=["3.1"])
def test_version_3_1_is_accepted(world, level):
    client = world.connect("old", 0, level=3)
    assert client.subscribe((world.topic(), 1)) == [1]
    world.publisher(level=5).publish(world.topic(), "to 3.1")
    client.expect_message(world.topic(), "to 3.1")
    client.publish(world.topic("back"), "x", qos=2)


@corner(30)
@pytest.mark.parametrize("level", [3], ids=["3.1"])
def test_version_3_1_may_announce_a_user_name_and_leave_it_out(world, level):
    client = world.socket(level=3)
    client.send(packet(0x10, text("MQIsdp") + bytes([3, 0x82, 0, 60]) + text(world.unique)))
    assert client.receive().reason == 0


@corner(32)
@pytest.mark.parametrize("level", [3], ids=["3.1"])
def test_version_3_1_needs_a_client_id(world, level):
    client = world.client(None, level=3)
    assert client.open(world.port(), expect=None).reason == 2


@corner(33)
def test_a_client_id_with_wildcards_is_just_a_name(world):
    client = world.client()
    client.client_id = world.unique + "+/#"
    client.open(world.port())
    other = world.connect("x")
    client.ping()
    other.ping()


@corner(38, level=V5)
def test_10000_user_properties_are_parsed_in_linear_time(world):
    client = world.client()
    start = time.monotonic()
    try:
        client.open(world.port(), properties={"user_property": [("a", "b")] * 10000}, expect=None)
    except Closed:
        pass  # more than it wants before it knows the client
    assert time.monotonic() - start < 1


@corner(8, level=5)
def test_a_connection_without_connect_is_closed_in_time(world):
    if world.target.name != "cluster":
        pytest.skip("takes a minute there")
    silent, slow = world.socket(), world.socket(1)
    start = time.monotonic()
    slow.send(b"\x10")
    with pytest.raises(Closed):
        silent.receive(timeout=15)
    with pytest.raises(Closed):
        slow.receive(timeout=15)
    assert time.monotonic() - start < 15


@corner(3)
def test_a_connect_that_announces_256_mb_costs_nothing(world):
    announcing = []
    for _ in range(100):
        client = world.socket()
        client.send(b"\x10\xff\xff\xff\x7f\0\4MQTT" + bytes([world.level, 2, 0, 60]) + bytes(80))
        announcing.append(client)
    world.connect("witness").ping()
