"""G6: the check of retained registers rejects what is wrong, and agrees with brute force on random histories.

COTERIE_REGISTER_HISTORIES says how many random histories (3,000; the long form is 40,000)."""

import os
import random
from itertools import permutations

from story import Story, rules

from check.model import NEVER
from check.register import check_register, check_register_follow, register_step, zones_problem
from check.wgl import search

HISTORIES = int(os.environ.get("COTERIE_REGISTER_HISTORIES", "3000"))


def writer_and_reader():
    story = Story()
    story.connect("w")
    story.connect("r")
    return story


def test_a_read_returns_what_was_written():
    story = writer_and_reader()
    story.read("r", {"t": None})
    story.read("r", {"t": story.publish("w", retain=True)})
    verdict = story.verdict(check_register)
    assert verdict.valid and verdict.counts == {"topics": 1, "reads": 2, "writes": 1}


def test_a_stale_read_is_wrong():
    story = writer_and_reader()
    old = story.publish("w", retain=True)
    story.publish("w", retain=True)
    story.read("r", {"t": old})
    assert rules(story.verdict(check_register)) == ["register"]


def test_reading_nothing_after_a_write_is_wrong():
    story = writer_and_reader()
    story.publish("w", retain=True)
    story.read("r", {"t": None})
    assert rules(story.verdict(check_register)) == ["register"]


def test_a_value_that_comes_back_is_wrong():
    story = writer_and_reader()
    first, second = story.publish("w", retain=True, answer="later"), story.publish("w", retain=True, answer="later")
    values = first["value"]["mid"], second["value"]["mid"]
    for value in (values[0], values[1], values[0]):
        story.read("r", {"t": value})
    story.acknowledge(first)
    story.acknowledge(second)
    assert rules(story.verdict(check_register)) == ["register"]


def test_reading_what_nobody_wrote_is_wrong():
    story = writer_and_reader()
    story.read("r", {"t": "nobody-1"})
    assert rules(story.verdict(check_register)) == ["register"]


def test_reading_the_future_is_wrong():
    story = writer_and_reader()
    story.read("r", {"t": "w-1"})
    story.publish("w", retain=True)
    assert rules(story.verdict(check_register)) == ["register"]


def test_a_write_of_unknown_outcome_may_take_effect_late_but_not_go_away_again():
    story = writer_and_reader()
    lost = story.publish("w", retain=True, answer="info")
    certain = story.publish("w", retain=True)
    story.read("r", {"t": certain})
    story.read("r", {"t": lost})
    assert story.verdict(check_register).valid
    story.read("r", {"t": certain})
    assert rules(story.verdict(check_register)) == ["register"]


def test_a_refused_write_must_not_be_read():
    story = writer_and_reader()
    story.read("r", {"t": story.publish("w", retain=True, answer="fail")})
    assert rules(story.verdict(check_register)) == ["register"]


def test_a_cleared_topic_reads_as_nothing():
    story = writer_and_reader()
    value = story.publish("w", retain=True)
    story.publish("w", retain=True, clear=True)
    story.read("r", {"t": None})
    assert story.verdict(check_register).valid
    story.read("r", {"t": value})
    assert rules(story.verdict(check_register)) == ["register"]


def test_a_qos_1_write_that_was_sent_again_may_take_effect_twice():
    story = writer_and_reader()
    first = story.publish("w", qos=1, retain=True, answer="later")
    mid = first["value"]["mid"]
    story.read("r", {"t": mid})
    story.read("r", {"t": story.publish("w", qos=1, retain=True)})
    story.read("r", {"t": mid})
    story.acknowledge(first, sends=2)
    assert story.verdict(check_register).valid


# ---- what follows a read

def follower():
    """r has read t, by the SUBSCRIBE that made its subscription."""
    story = writer_and_reader()
    base = story.publish("w", retain=True)
    subscribe_and_read(story, base)
    return story, base


def subscribe_and_read(story, value, *before):
    """The read of t returns `value`; `before` are changes that come before it."""
    reading = story.read("r", {"t": value}, answer="later")
    story.subscribe("r", "t")
    for mid in before:
        story.deliver("r", mid)
    story.deliver("r", value, retain=True)
    story.finish(reading, "ok", {"values": {"t": value}})


def test_changes_after_a_read_are_all_delivered():
    story, _ = follower()
    story.deliver("r", story.publish("w", retain=True))
    assert story.drain("r").verdict(check_register_follow).valid


def test_a_change_after_a_read_that_is_not_delivered_is_a_gap():
    story, _ = follower()
    story.publish("w", retain=True)
    assert rules(story.drain("r").verdict(check_register_follow)) == ["gap"]


def test_a_change_after_the_subscription_was_given_up_is_not_owed():
    story, _ = follower()
    story.unsubscribe("r", "t")
    story.publish("w", retain=True)
    assert story.drain("r").verdict(check_register_follow).valid


def test_a_value_that_was_read_and_then_delivered_as_a_change_is_an_overlap():
    story, base = follower()
    story.deliver("r", base)
    assert rules(story.drain("r").verdict(check_register_follow)) == ["overlap"]


def test_a_value_that_came_as_a_change_of_this_subscription_and_then_as_its_retained_message_is_an_overlap():
    story, _ = follower()
    story.unsubscribe("r", "t")
    written = story.publish("w", retain=True, answer="later")
    subscribe_and_read(story, written["value"]["mid"], written["value"]["mid"])
    story.acknowledge(written)
    assert rules(story.drain("r").verdict(check_register_follow)) == ["overlap"]


def test_a_change_may_come_again_as_the_retained_message_when_the_subscription_is_asked_for_again():
    story, _ = follower()
    written = story.publish("w", retain=True)
    story.deliver("r", written)
    subscribe_and_read(story, written)
    assert story.drain("r").verdict(check_register_follow).valid


def test_a_change_that_an_earlier_subscription_brought_may_be_read_later():
    story, _ = follower()
    written = story.publish("w", retain=True)
    story.deliver("r", written)
    story.unsubscribe("r", "t")
    subscribe_and_read(story, written)
    assert story.drain("r").verdict(check_register_follow).valid


# ---- against brute force

def brute_force(writes, reads):
    """Whether some order of all reads, all certain writes and some of the others explains the reads: all of them tried."""
    certain = [(inv, ret, "w", value) for value, inv, ret in writes if ret != NEVER]
    unknown = [(inv, ret, "w", value) for value, inv, ret in writes if ret == NEVER]
    seen = [(inv, ret, "r", value) for value, inv, ret in reads]
    for choice in range(1 << len(unknown)):
        chosen = certain + seen + [one for place, one in enumerate(unknown) if choice >> place & 1]
        if any(explains(order) for order in permutations(chosen)):
            return True
    return False


def explains(order):
    value, latest = None, -1
    for inv, ret, kind, argument in order:
        if ret < latest:
            return False
        latest = max(latest, inv)
        if kind == "w":
            value = argument
        elif argument != value:
            return False
    return True


def random_history(chance):
    """A few operations with random spans, the reads of any value: about half of such histories are right."""
    writes, reads = [], []
    times = iter(chance.sample(range(100), 14))
    for value in range(chance.randrange(1, 4)):
        begin, end = sorted((next(times), next(times)))
        writes.append((f"v{value}", begin, NEVER if chance.random() < 0.25 else end))
    for _ in range(chance.randrange(1, 4)):
        begin, end = sorted((next(times), next(times)))
        reads.append((chance.choice([None] + [one[0] for one in writes]), begin, end))
    return writes, reads


def test_zones_and_search_agree_with_brute_force():
    chance, right = random.Random(2026), 0
    for number in range(HISTORIES):
        writes, reads = random_history(chance)
        expected = brute_force(writes, reads)
        right += expected
        assert (zones_problem(writes, reads) is None) == expected, (number, writes, reads)
        calls = [(inv, None if ret == NEVER else ret, ("write", value), True) for value, inv, ret in writes]
        calls += [(inv, ret, ("read", None), value) for value, inv, ret in reads]
        assert (search(calls, None, register_step) is None) == expected, (number, writes, reads)
    assert HISTORIES * 0.1 < right < HISTORIES * 0.9
