"""G3, G7, G13: the checkers of sessions, wills and groups accept what is right and reject each kind of wrong."""

from story import Story, rules

from check.session import check_fencing, check_session
from check.shared import check_shared
from check.will import check_wills


# ---- sessions

def test_session_present_says_whether_there_was_one():
    story = Story()
    story.connect("c")
    story.drop("c").connect("c", present=True)
    story.drop("c").connect("c", clean=True)
    assert story.verdict(check_session).valid


def test_a_session_that_is_gone_though_nothing_ended_it_is_wrong():
    story = Story()
    story.connect("c")
    story.drop("c").connect("c", present=False)
    assert rules(story.verdict(check_session)) == ["session"]


def test_a_session_out_of_nowhere_is_wrong():
    story = Story()
    story.connect("c", present=True)
    assert rules(story.verdict(check_session)) == ["session"]


def test_a_clean_start_that_finds_a_session_is_wrong():
    story = Story()
    story.connect("c")
    story.drop("c").connect("c", clean=True, present=True)
    assert rules(story.verdict(check_session)) == ["session"]


def test_a_session_without_expiry_may_still_be_there_or_not():
    for present in (True, False):
        story = Story()
        story.connect("c", expiry=0)
        story.drop("c").connect("c", present=present)
        assert story.verdict(check_session).valid


def test_a_session_must_not_end_before_its_expiry_but_may_after():
    for waited, right in ((1, False), (12, True)):
        story = Story()
        story.connect("c", expiry=10)
        story.drop("c").wait(waited).connect("c", present=False)
        assert story.verdict(check_session).valid == right


def test_a_connect_of_unknown_outcome_may_have_ended_the_session():
    story = Story()
    story.connect("c")
    story.drop("c").connect("c", clean=True, expiry=0, answer="info")
    story.connect("c", present=False)
    assert story.verdict(check_session).valid


def test_unsubscribe_must_know_which_filters_there_are():
    story = Story()
    story.connect("c")
    story.subscribe("c", "a")
    story.unsubscribe("c", "a", "b", codes=[0, 0x11])
    assert story.verdict(check_session).valid
    story.unsubscribe("c", "a", codes=[0])
    assert rules(story.verdict(check_session)) == ["session"]


def test_a_session_that_came_back_without_its_filters_is_wrong():
    story = Story()
    story.connect("c")
    story.subscribe("c", "a")
    story.drop("c").connect("c", present=True, node="n2")
    story.unsubscribe("c", "a", codes=[0x11])
    assert rules(story.verdict(check_session)) == ["session"]


def test_a_long_history_is_judged_by_its_beginning():
    story = Story()
    story.connect("c")
    for _ in range(200):
        story.subscribe("c", "a")
        story.unsubscribe("c", "a")
    verdict = story.verdict(check_session)
    assert verdict.valid and verdict.counts["client_ids_cut_short"] == 1


# ---- fencing

def two_devices():
    story = Story()
    story.connect("old", client_id="c")
    story.connect("new", client_id="c", present=True, node="n2")
    return story


def test_the_old_owner_may_still_get_answers_to_what_it_sent_before():
    story = Story()
    story.connect("old", client_id="c")
    sent = story.publish("old", answer="later")
    story.connect("new", client_id="c", present=True)
    story.acknowledge(sent)
    assert story.verdict(check_fencing).valid


def test_nothing_sent_by_the_old_owner_after_the_new_connack_may_be_acknowledged():
    for do in (lambda story: story.publish("old"), lambda story: story.subscribe("old", "a"),
               lambda story: story.unsubscribe("old", "a")):
        story = two_devices()
        do(story)
        assert rules(story.verdict(check_fencing)) == ["fenced"]


def test_nothing_sent_by_the_old_owner_after_the_new_connack_may_have_an_effect():
    story = two_devices()
    mid = story.publish("old", answer="info")
    story.connect("sub")
    assert story.verdict(check_fencing).valid
    assert rules(story.deliver("sub", mid).verdict(check_fencing)) == ["effect"]


def test_what_the_old_owner_sent_in_time_must_not_come_behind_what_the_new_one_published():
    story = Story()
    story.connect("sub")
    story.connect("old", client_id="c")
    stuck = story.publish("old", answer="later")
    story.connect("new", client_id="c", present=True, node="n2")
    mid = story.publish("new")
    story.acknowledge(stuck, answer="info")
    story.deliver("sub", stuck["value"]["mid"]).deliver("sub", mid)
    assert story.verdict(check_fencing).valid
    story.connect("late")
    story.deliver("late", mid).deliver("late", stuck["value"]["mid"])
    assert rules(story.verdict(check_fencing)) == ["late"]


def test_two_connects_at_once_have_no_older_one():
    story = Story()
    one = story.connect("a", client_id="c", answer="later")
    two = story.connect("b", client_id="c", answer="later")
    story.finish(one, "ok", {"session_present": False, "reason": 0})
    story.finish(two, "ok", {"session_present": True, "reason": 0})
    story.publish("a")
    assert story.verdict(check_fencing).valid is not False


# ---- wills

WILL = {"mid": "will-1", "topic": "will/x", "qos": 2, "delay": 0, "retain": False}


def with_will(delay=0, **options):
    story = Story()
    story.connect("watch")
    story.subscribe("watch", "will/#")
    story.connect("c", will=dict(WILL, delay=delay), **options)
    return story


def published(story, times=1):
    for _ in range(times):
        story.deliver("watch", "will-1", topic="will/x")
    return story


def will_rules(story):
    story.wait(30)
    return rules(story.drain("watch").verdict(check_wills))


def test_a_will_is_published_once_after_a_bad_end():
    assert will_rules(published(with_will().drop("c").wait(1))) == []


def test_a_will_that_is_not_published_after_a_bad_end_is_wrong():
    assert will_rules(with_will().drop("c").wait(1)) == ["count"]


def test_a_will_that_is_published_twice_is_wrong():
    assert will_rules(published(with_will().drop("c").wait(1), times=2)) == ["count"]


def test_a_will_after_an_orderly_end_is_wrong():
    story = with_will()
    story.disconnect("c")
    assert will_rules(story) == []
    assert will_rules(published(story)) == ["count"]


def test_a_disconnect_with_will_publishes_it():
    story = with_will()
    story.disconnect("c", reason=4)
    assert will_rules(story) == ["count"]
    story = with_will()
    story.disconnect("c", reason=4)
    assert will_rules(published(story)) == []


def test_a_will_that_was_asked_for_may_come_before_the_connection_is_closed():
    story = with_will()
    asked = story.disconnect("c", reason=4, answer="later")
    published(story).wait(0.2)
    story.finish(asked, "ok", {"how": "closed by the node"})
    assert will_rules(story) == []


def test_a_will_while_the_connection_is_open_is_wrong():
    assert will_rules(with_will()) == []
    assert will_rules(published(with_will())) == ["count"]


def test_a_will_of_a_connect_that_was_refused_is_wrong():
    assert will_rules(published(with_will(answer="fail"))) == ["count"]


def test_a_will_of_a_connect_of_unknown_outcome_may_come():
    assert will_rules(published(with_will(answer="info"))) == []


def test_a_delayed_will_must_not_come_early():
    assert will_rules(published(with_will(delay=5).drop("c").wait(1))) == ["early"]
    assert will_rules(published(with_will(delay=5).drop("c").wait(5.2))) == []


def test_a_delayed_will_is_not_published_if_the_session_is_resumed_in_time():
    story = with_will(delay=5).drop("c").wait(1)
    story.connect("c", present=True)
    assert will_rules(story) == []
    assert will_rules(published(story)) == ["count"]


def test_a_delayed_will_is_published_if_the_session_is_resumed_too_late():
    story = with_will(delay=1).drop("c").wait(20)
    story.connect("c", present=True)
    assert will_rules(story) == ["count"]


def test_the_will_of_a_connection_that_was_taken_over_is_published():
    story = with_will(client_id="x")
    story.connect("d", client_id="x", present=True)
    story.closed("c", 0x8E)
    assert will_rules(story) == ["count"]


def test_a_fault_may_hide_whether_a_disconnect_came_in_time():
    story = with_will()
    story.fault("kill-leader", "start", nodes=["n1"])
    story.disconnect("c")
    story.fault("kill-leader", "stopped")
    assert will_rules(published(story)) == []


def test_a_node_that_sends_all_its_clients_away_may_not_have_read_a_disconnect():
    story = with_will()
    story.connect("other", node="n1")
    story.disconnect("c")
    story.closed("other", 0x9C)
    assert will_rules(published(story)) == []


def test_a_disconnect_counts_when_another_node_or_somebody_else_ends_a_connection():
    for node, reason in (("n2", 0x9C), ("n1", 0x8E)):
        story = with_will()
        story.connect("other", node=node)
        story.disconnect("c")
        story.closed("other", reason)
        assert will_rules(published(story)) == ["count"]


# ---- groups

def group():
    story = Story()
    for name in ("a", "b"):
        story.connect(name)
        story.subscribe(name, "$share/g/t")
    story.connect("pub")
    return story


def test_a_group_gets_each_message_once():
    story = group()
    story.deliver("a", story.publish("pub")).deliver("b", story.publish("pub"))
    assert story.drain("a", "b").verdict(check_shared).valid


def test_a_message_that_no_member_gets_is_lost():
    story = group()
    story.publish("pub")
    assert rules(story.drain("a", "b").verdict(check_shared)) == ["loss"]


def test_a_qos_2_message_must_not_be_given_to_two_members():
    story = group()
    mid = story.publish("pub")
    story.deliver("a", mid).drop("a").deliver("b", mid)
    assert rules(story.verdict(check_shared)) == ["twice"]


def test_a_qos_1_message_may_be_given_to_another_member_only_when_the_first_has_left():
    story = group()
    mid = story.publish("pub", qos=1)
    story.deliver("a", mid, qos=1).deliver("b", mid, qos=1)
    assert rules(story.verdict(check_shared)) == ["twice"]
    story = group()
    mid = story.publish("pub", qos=1)
    story.deliver("a", mid, qos=1).drop("a").deliver("b", mid, qos=1)
    assert story.verdict(check_shared).valid


def test_a_qos_2_message_may_end_with_the_session_of_its_member():
    story = group()
    story.publish("pub")
    story.drop("a").connect("a", clean=True)
    assert story.drain("a", "b").verdict(check_shared).valid
