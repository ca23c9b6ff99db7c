"""G5: the checkers of order accept what is right and reject each kind of wrong."""

import random

from story import Story, rules

from check.order import check_publisher_order, check_redelivery, check_total_order, cyclic_components, shortest_cycle


def two_readers(*names):
    story = Story()
    for name in names or ("a", "b"):
        story.connect(name)
        story.subscribe(name, "#")
    story.connect("pub")
    story.connect("other")
    return story


def delivered(story, client, *mids, **options):
    for mid in mids:
        story.deliver(client, mid, **options)
    return story


def test_messages_in_the_order_of_their_publisher_are_right():
    story = two_readers()
    first, second = story.publish("pub"), story.publish("pub")
    assert delivered(story, "a", first, second).verdict(check_publisher_order).valid


def test_messages_out_of_the_order_of_their_publisher_are_wrong():
    story = two_readers()
    first, second = story.publish("pub"), story.publish("pub")
    assert rules(delivered(story, "a", second, first).verdict(check_publisher_order)) == ["order"]


def test_repetitions_do_not_count_for_the_order():
    story = two_readers()
    first, second = story.publish("pub", qos=1), story.publish("pub", qos=1)
    delivered(story, "a", first, second, qos=1).drop("a").connect("a", present=True)
    delivered(story, "a", first, second, qos=1, dup=True)
    assert story.verdict(check_publisher_order).valid and story.verdict(check_redelivery).valid


def test_a_late_subscriber_may_see_only_the_second_copy_of_a_message_sent_twice():
    story = two_readers("a")
    first = story.publish("pub", qos=1, answer="later")
    second = story.publish("pub", qos=1, answer="later")
    asked = story.connect("late") and story.subscribe("late", "#", answer="later")
    story.acknowledge(second)
    story.finish(asked, "ok", {"codes": [2]})
    story.acknowledge(first, sends=2)
    delivered(story, "late", second["value"]["mid"], first["value"]["mid"], qos=1)
    assert story.verdict(check_publisher_order).valid
    early = delivered(story, "a", second["value"]["mid"], first["value"]["mid"], qos=1)
    assert rules(early.verdict(check_publisher_order)) == ["order"]


def test_a_subscriber_that_was_away_in_between_may_see_only_the_second_copy():
    story = two_readers("a")
    first = story.publish("pub", qos=1, answer="later")
    story.unsubscribe("a", "#")
    second = story.publish("pub", qos=1, answer="later")
    story.subscribe("a", "#")
    story.acknowledge(second)
    story.acknowledge(first, sends=2)
    delivered(story, "a", second["value"]["mid"], first["value"]["mid"], qos=1)
    assert story.verdict(check_publisher_order).valid


def test_two_sessions_that_disagree_about_two_messages_make_a_cycle():
    story = two_readers()
    one, two = story.publish("pub", answer="later"), story.publish("other", answer="later")
    story.acknowledge(one)
    story.acknowledge(two)
    mids = one["value"]["mid"], two["value"]["mid"]
    delivered(story, "a", *mids)
    assert story.verdict(check_total_order).valid
    delivered(story, "b", *mids[::-1])
    verdict = story.verdict(check_total_order)
    assert rules(verdict) == ["cycle"] and "got" in verdict.violations[0]["message"]


def test_three_sessions_may_disagree_in_a_circle_and_that_is_seen_too():
    story = two_readers("a", "b", "c")
    sent = [story.publish(name, answer="later") for name in ("pub", "other", "pub")]
    mids = [one["value"]["mid"] for one in sent]
    for one in sent:
        story.acknowledge(one)
    delivered(story, "a", mids[0], mids[1])
    delivered(story, "b", mids[1], mids[2])
    delivered(story, "c", mids[2], mids[0])
    assert rules(story.verdict(check_total_order)) == ["cycle"]


def test_an_order_against_real_time_makes_a_cycle():
    story = two_readers()
    early, late = story.publish("pub"), story.publish("other")
    assert rules(delivered(story, "a", late, early).verdict(check_total_order)) == ["cycle"]


def test_messages_that_were_under_way_together_may_come_in_any_order():
    story = two_readers()
    one, two = story.publish("pub", answer="later"), story.publish("other", answer="later")
    story.acknowledge(one)
    story.acknowledge(two)
    assert delivered(story, "a", two["value"]["mid"], one["value"]["mid"]).verdict(check_total_order).valid


def test_a_reconnect_must_not_bring_new_messages_before_those_sent_again():
    story = two_readers()
    first, second = story.publish("pub"), story.publish("pub")
    delivered(story, "a", first).drop("a").connect("a", present=True)
    delivered(story, "a", second)
    story.deliver("a", first, dup=True, app=False)
    assert rules(story.verdict(check_redelivery)) == ["redelivery"]


def test_a_reconnect_must_not_change_the_order_of_what_is_sent_again():
    story = two_readers()
    first, second = story.publish("pub", qos=1), story.publish("pub", qos=1)
    delivered(story, "a", first, second, qos=1).drop("a").connect("a", present=True)
    delivered(story, "a", second, first, qos=1, dup=True)
    assert rules(story.verdict(check_redelivery)) == ["redelivery"]


# ---- the graph itself

def reaches(out, a, b):
    seen, stack = {a}, [a]
    while stack:
        for other in out[stack.pop()]:
            if other == b:
                return True
            if other not in seen:
                seen.add(other)
                stack.append(other)
    return False


def test_components_are_those_of_a_simple_search_on_random_graphs():
    chance = random.Random(7)
    for _ in range(300):
        count = chance.randrange(2, 9)
        out = [[chance.randrange(count) for _ in range(chance.randrange(3))] for _ in range(count)]
        found = {node for component in cyclic_components(out) for node in component}
        for a in range(count):
            assert (a in found) == any(b != a and reaches(out, a, b) and reaches(out, b, a) for b in range(count))
        for component in cyclic_components(out):
            cycle = shortest_cycle(out, component)
            assert all(b in out[a] for a, b in zip(cycle, cycle[1:] + cycle[:1]))


def test_a_long_chain_does_not_exhaust_the_stack():
    out = [[node + 1] for node in range(200_000)] + [[0]]
    assert len(cyclic_components(out)[0]) == 200_001
