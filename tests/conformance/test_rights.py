"""Rights, and what the standard says of them: a client without one is told so where that is possible, nothing of what it
sends arrives, and what it may not read does not come, whenever the right went away.

The special broker "rights" (target.py) has rules in mosquitto's format: anonymous clients may do everything below open/,
read below readable/, and write below writable/.
"""

import itertools

import pytest

from cluster import wait_until
from mqtt import CONNACK, Closed
from statements import V4, V5, corner, reason, statement
from target import RIGHTS

_changes = itertools.count()


@pytest.fixture
def connect(world):
    def make(name, **options):
        client = world.client(name)
        client.open(world.special("rights"), **options)
        return client
    return make


@pytest.fixture
def change(world):
    """Replaces the rules; a PUBLISH of a 5.0 client shows when they hold. Puts the old ones back."""
    world.special("rights")
    def write(text):
        mark = f"new-rules/{world.unique}/{next(_changes)}"
        world.target.rights.write(f"{text}topic write {mark}\n")
        world.target.reload("rights")
        probe = world.client("probe", 5)
        probe.open(world.special("rights"))
        wait_until("the new rules", lambda: probe.publish(mark, "x") != 0x87)
    yield write
    write(RIGHTS)


@statement("MQTT-3.3.5-2", level=V4)
@statement("MQTT-3.4.2-1", "MQTT-3.5.2-1", level=V5)
@corner(79)
@reason(0x87)
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("retain", [False, True])
def test_what_may_not_be_published_is_answered_and_goes_nowhere(world, connect, qos, retain):
    witness = connect("w")
    witness.subscribe(("readable/#", 2), ("open/#", 2))
    client = connect("p")
    try:
        answer = client.publish(f"readable/{world.unique}", "forbidden", qos=qos, retain=retain)
        assert qos == 0 or answer == (0x87 if world.level == 5 else 0), answer
    except Closed:
        assert qos > 0
    other = connect("o")
    other.publish(f"open/{world.unique}", "fence", qos=1)
    assert world.until(witness) == []


@corner(81)
@reason(0x87)
def test_a_will_where_the_client_may_not_write_is_refused_or_never_published(world, connect):
    witness = connect("w")
    witness.subscribe(("readable/#", 1), ("open/#", 1))
    doomed = world.client("d")
    answer = doomed.open(world.special("rights"), expect=None,
                         will={"topic": f"readable/{world.unique}", "payload": b"will", "qos": 1})
    assert answer.type == CONNACK
    if world.target.name == "cluster":
        assert answer.reason == (0x87 if world.level == 5 else 5)
    doomed.close()
    connect("o").publish(f"open/{world.unique}", "fence", qos=1)
    assert world.until(witness) == []


@corner(81)
def test_a_will_is_judged_by_the_rights_of_the_moment_it_is_published(world, connect, change):
    doomed = connect("d", will={"topic": f"open/{world.unique}", "payload": b"will", "qos": 1})
    witness = connect("w")
    change("topic read open/#\ntopic readwrite writable/#\n")
    witness.subscribe(("open/#", 1), ("writable/#", 1))
    doomed.abort()
    connect("o").publish(f"writable/{world.unique}", "fence", qos=1)
    assert world.until(witness) == []


@corner(101)
@reason(0x87)
def test_a_filter_that_may_not_be_read_is_refused_or_brings_nothing(world, connect):
    client = connect("s")
    codes = client.subscribe((f"writable/{world.unique}", 1), (f"open/{world.unique}", 1))
    assert codes[0] in (1, 0x87 if world.level == 5 else 0x80) and codes[1] == 1
    publisher = connect("p")
    publisher.publish(f"writable/{world.unique}", "secret", qos=1)
    publisher.publish(f"open/{world.unique}", "fence", qos=1)
    assert world.until(client) == []


@corner(101)
def test_a_subscription_does_not_outlive_its_right(world, connect, change):
    """Live, queued for a session that is away, and retained; when the right comes back, so do messages."""
    topic = f"open/{world.unique}"
    live, away = connect("live", clean=False), connect("away", clean=False)
    for client in (live, away):
        client.subscribe((topic, 1), (f"readable/{world.unique}", 1))
    away.disconnect()
    connect("p").publish(topic, "queued", qos=1, retain=True)
    live.expect_message(payload="queued")
    change("topic write open/#\ntopic readwrite readable/#\n")
    publisher = connect("p")
    publisher.publish(topic, "while forbidden", qos=1)
    publisher.publish(f"readable/{world.unique}", "fence", qos=1)
    away.open(world.special("rights"), clean=False)
    assert world.until(live) == world.until(away) == []
    change(RIGHTS)
    connect("p").publish(topic, b"again", qos=1, retain=True)
    live.expect_message(payload="again")
    away.expect_message(payload="again")
    for client in (live, away):
        client.disconnect()
        client.open(world.special("rights"), clean=True)
    connect("p").publish(topic, b"", qos=1, retain=True)


@corner(78)
def test_a_retained_message_stays_when_its_publisher_loses_the_right(world, connect, change):
    """Our policy: it was permitted when it was published, and who may remove it removes it."""
    topic = f"open/{world.unique}"
    connect("p").publish(topic, "kept", qos=1, retain=True)
    change("topic read open/#\n")
    late = connect("late")
    late.subscribe((topic, 1))
    late.expect_message(payload="kept", retain=True)
    change(RIGHTS)
    connect("p").publish(topic, b"", qos=1, retain=True)
