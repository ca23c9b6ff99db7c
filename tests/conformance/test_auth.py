"""Enhanced authentication (5.0): the flow of AUTH packets, with SCRAM-SHA-256 (RFC 5802, 7677)."""

import base64
import hashlib
import hmac

import pytest

from mqtt import (AUTH, CONNACK, DISCONNECT, PING, Closed, encode_auth, encode_connect, encode_publish,
                  encode_subscribe, packet)
from statements import V5, corner, reason, statement

METHOD = "SCRAM-SHA-256"


class Scram:
    """The client's half of one exchange."""

    def __init__(self, user="user", password="pencil", nonce="rOprNGfwEbeRWgbNEkqO"):
        self.password, self.nonce = password, nonce
        self.bare = f"n={user},r={nonce}"

    def first(self):
        return f"n,,{self.bare}".encode()

    def final(self, challenge):
        server = challenge.decode()
        fields = dict(part.split("=", 1) for part in server.split(","))
        assert fields["r"].startswith(self.nonce) and len(fields["r"]) > len(self.nonce)
        assert int(fields["i"]) >= 4096
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), base64.b64decode(fields["s"]), int(fields["i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = f"c=biws,r={fields['r']}"
        message = f"{self.bare},{server},{without_proof}".encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        self.expected = b"v=" + base64.b64encode(hmac.digest(server_key, message, "sha256"))
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()


def begin(world, scram, properties=None, client_id=""):
    client = world.client("a" + client_id)
    client.dial(world.special("authentication"))
    client.send(encode_connect(client.client_id, 5, properties={"auth_method": METHOD, "auth_data": scram.first(),
                                                                **(properties or {})}))
    challenge = client.receive()
    assert challenge.type == AUTH and challenge.reason == 0x18, challenge
    assert challenge.properties["auth_method"] == METHOD
    return client, challenge


def finish(client, scram, challenge):
    client.send(encode_auth(0x18, {"auth_method": METHOD, "auth_data": scram.final(challenge.properties["auth_data"])}))
    return client.receive()


def log_in(world):
    scram = Scram()
    client, challenge = begin(world, scram)
    connack = finish(client, scram, challenge)
    assert connack.type == CONNACK and connack.reason == 0, connack
    assert connack.properties["auth_method"] == METHOD
    assert connack.properties["auth_data"] == scram.expected
    return client


def assert_turned_away(client):
    """The connection ends, with a CONNACK that says why or without."""
    try:
        found = client.receive()
        assert found.type == CONNACK and found.reason >= 0x80, found
    except Closed:
        return
    with pytest.raises(Closed):
        client.receive()


@statement("MQTT-4.12.0-2", "MQTT-4.12.0-5", "MQTT-3.2.0-1", "MQTT-3.15.2-1", level=V5)
@reason(0x18)
def test_a_client_is_authenticated_by_an_exchange_of_auth(world):
    client = log_in(world)
    client.ping()
    client.disconnect()


@statement("MQTT-4.12.0-4", "MQTT-3.2.2-7", level=V5)
@pytest.mark.parametrize("user,password", [("user", "wrong"), ("nobody", "pencil")])
def test_a_wrong_proof_is_refused(world, user, password):
    scram = Scram(user, password)
    try:
        client, challenge = begin(world, scram)
        connack = finish(client, scram, challenge)
    except Closed:
        return
    assert connack.type == CONNACK and connack.reason in (0x86, 0x87, 0x8C), connack
    with pytest.raises(Closed):
        client.receive()


@statement("MQTT-3.1.2-30", level=V5)
@corner(52, level=V5)
@pytest.mark.parametrize("data", [PING, encode_publish("a", b"x", 1, 1), encode_subscribe(1, [("a", 0)])],
                         ids=["pingreq", "publish", "subscribe"])
def test_only_auth_and_disconnect_may_come_before_connack(world, data):
    client, _ = begin(world, Scram())
    client.send(data)
    try:
        found = client.receive()
        assert found.type == CONNACK and found.reason in (0x82, 0x81), found
    except Closed:
        return
    with pytest.raises(Closed):
        client.receive()


@statement("MQTT-4.12.0-3", "MQTT-3.15.2-1", level=V5)
@pytest.mark.parametrize("reason", [0x00, 0x19, 0x17, 0x80])
def test_the_clients_answer_must_be_0x18(world, reason):
    scram = Scram()
    client, challenge = begin(world, scram)
    client.send(encode_auth(reason, {"auth_method": METHOD,
                                     "auth_data": scram.final(challenge.properties["auth_data"])}))
    assert_turned_away(client)


@statement("MQTT-4.12.0-5", level=V5)
@corner(52, level=V5)
def test_the_method_may_not_change(world):
    scram = Scram()
    client, challenge = begin(world, scram)
    client.send(encode_auth(0x18, {"auth_method": "SCRAM-SHA-1",
                                   "auth_data": scram.final(challenge.properties["auth_data"])}))
    assert_turned_away(client)


@statement("MQTT-4.12.0-1", "MQTT-3.1.4-2", level=V5)
@corner(50, level=V5)
def test_an_unknown_method_is_refused(world):
    client = world.client()
    try:
        connack = client.open(world.port(), expect=None,
                              properties={"auth_method": "NO-SUCH-METHOD", "auth_data": b"x"})
    except Closed:
        return
    assert connack.reason in (0x8C, 0x87), connack
    with pytest.raises(Closed):
        client.receive()


@statement("MQTT-4.12.0-6", level=V5)
def test_no_method_comes_to_who_named_none(world):
    client = world.connect()
    assert not {"auth_method", "auth_data"} & set(client.connack.properties)


@statement("MQTT-4.12.1-1", "MQTT-3.2.0-2", level=V5)
@reason(0x19)
def test_a_client_may_authenticate_again(world):
    client = log_in(world)
    client.subscribe((world.topic(), 1))
    scram = Scram(nonce="fyko+d2lbbFgONRv9qkxdawL")
    client.send(encode_auth(0x19, {"auth_method": METHOD, "auth_data": scram.first()}))
    challenge = client.receive()
    assert challenge.type == AUTH and challenge.reason == 0x18
    client.publish(world.topic(), "meanwhile", qos=1)
    client.expect_message(world.topic(), "meanwhile")
    done = finish(client, scram, challenge)
    assert done.type == AUTH and done.reason == 0 and done.properties["auth_method"] == METHOD
    client.ping()


@statement("MQTT-4.12.1-1", level=V5)
def test_authenticating_again_by_another_method_closes(world):
    client = log_in(world)
    client.send(encode_auth(0x19, {"auth_method": "SCRAM-SHA-1", "auth_data": b"x"}))
    client.expect_closed((0x82, 0x8C, 0x87))


@statement("MQTT-4.12.1-2", level=V5)
def test_authenticating_again_with_a_wrong_proof_closes(world):
    client = log_in(world)
    scram = Scram(password="wrong")
    client.send(encode_auth(0x19, {"auth_method": METHOD, "auth_data": scram.first()}))
    try:
        challenge = client.receive()
        if challenge.type == AUTH:
            found = finish(client, scram, challenge)
            assert found.type == DISCONNECT and found.reason >= 0x80, found
    except Closed:
        return
    with pytest.raises(Closed):
        client.receive()


@statement("MQTT-3.15.2-2", "MQTT-3.15.2-3", level=V5)
def test_auth_fits_the_clients_maximum_packet_size(world):
    scram = Scram()
    client, challenge = begin(world, scram, {"maximum_packet_size": 300})
    assert challenge.size <= 300  # StrictClient measures everything else
    finish(client, scram, challenge)


@statement("MQTT-3.15.1-1", level=V5)
def test_auth_with_header_flags_closes_during_authentication(world):
    client, _ = begin(world, Scram())
    client.send(packet(0xF1, b"\x18\0"))
    try:
        found = client.receive()
        assert found.type == CONNACK and found.reason >= 0x80, found
    except Closed:
        pass
