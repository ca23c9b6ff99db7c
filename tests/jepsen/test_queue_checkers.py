"""G1, G2, G4: the checkers of queues accept what is right and reject each kind of wrong."""

from story import Story, calm, rules

from check.queue import check_exactly_once, check_loss, check_phantom, check_repetitions


# ---- loss

def test_a_message_that_arrives_is_not_lost():
    verdict = calm().drain("sub").verdict(check_loss)
    assert verdict.valid and verdict.counts["owed"] == 1


def test_an_acknowledged_message_that_never_arrives_is_lost():
    story = calm()
    story.publish("pub")
    verdict = story.drain("sub").verdict(check_loss)
    assert not verdict.valid and rules(verdict) == ["loss"] and verdict.counts["missing"] == 1


def test_a_message_of_unknown_outcome_may_be_missing():
    story = calm()
    story.publish("pub", answer="info")
    assert story.drain("sub").verdict(check_loss).valid


def test_a_message_acknowledged_after_its_repetition_is_owed():
    story = calm()
    sent = story.publish("pub", answer="later")
    story.drop("pub").connect("pub", present=True, node="n2")
    story.acknowledge(sent, sends=2)
    assert rules(story.drain("sub").verdict(check_loss)) == ["loss"]


def test_a_message_sent_before_the_suback_is_not_owed():
    story = Story()
    story.connect("sub")
    asked = story.subscribe("sub", "t", answer="later")
    story.connect("pub")
    story.publish("pub")
    story.finish(asked, "ok", {"codes": [2]})
    assert story.drain("sub").verdict(check_loss).valid


def test_a_message_sent_after_the_unsubscribe_is_not_owed_but_one_before_is():
    story = calm()
    before = story.publish("pub")
    story.unsubscribe("sub", "t")
    story.publish("pub")
    assert rules(story.drain("sub").verdict(check_loss)) == ["loss"]
    story.deliver("sub", before)
    assert story.verdict(check_loss).valid


def test_what_was_queued_in_a_session_that_was_ended_is_not_lost():
    story = calm()
    story.publish("pub")
    story.drop("sub").connect("sub", clean=True)
    assert story.drain("sub").verdict(check_loss).valid is None


def test_what_was_queued_in_a_session_that_lives_on_is_lost_if_it_is_not_there():
    story = calm()
    story.publish("pub")
    story.drop("sub").connect("sub", present=True, node="n3")
    assert rules(story.drain("sub").verdict(check_loss)) == ["loss"]


def test_a_repetition_that_the_client_held_back_is_no_delivery():
    story = calm()
    mid = story.publish("pub")
    story.deliver("sub", mid, app=False)
    assert rules(story.drain("sub").verdict(check_loss)) == ["loss"]


def test_a_retained_copy_does_not_stand_for_the_delivery():
    story = calm()
    mid = story.publish("pub", retain=True)
    story.deliver("sub", mid, retain=True)
    assert rules(story.drain("sub").verdict(check_loss)) == ["loss"]


def test_a_session_that_was_not_drained_is_not_judged():
    story = calm()
    story.publish("pub")
    verdict = story.verdict(check_loss)
    assert verdict.valid is None and verdict.counts["sessions_not_drained"] == 1


def test_what_a_limit_dropped_and_counted_is_not_lost():
    story = calm()
    story.publish("pub")
    story.drain("sub").note("dropped", "n1", messages=1)
    verdict = story.verdict(check_loss)
    assert verdict.valid and verdict.notes


# ---- phantoms

def test_what_was_published_while_subscribed_is_no_phantom():
    assert calm().verdict(check_phantom).valid


def test_a_message_that_nobody_published_is_a_phantom():
    assert rules(calm().deliver("sub", "nobody-1").verdict(check_phantom)) == ["phantom"]


def test_a_message_whose_publisher_was_refused_must_not_be_delivered():
    story = calm()
    story.deliver("sub", story.publish("pub", answer="fail"))
    assert rules(story.verdict(check_phantom)) == ["refused"]


def test_a_message_of_unknown_outcome_may_be_delivered():
    story = calm()
    story.deliver("sub", story.publish("pub", answer="info"))
    assert story.verdict(check_phantom).valid


def test_a_message_on_a_topic_that_does_not_match_is_a_phantom():
    story = calm()
    story.deliver("sub", story.publish("pub", topic="u"), topic="u")
    assert rules(story.verdict(check_phantom)) == ["unmatched"]


def test_a_message_must_keep_its_topic():
    story = calm()
    story.deliver("sub", story.publish("pub", topic="u"))
    assert rules(story.verdict(check_phantom)) == ["topic"]


def test_a_message_acknowledged_before_the_subscribe_was_sent_is_a_phantom():
    story = Story()
    story.connect("pub")
    mid = story.publish("pub")
    story.connect("sub")
    story.subscribe("sub", "t")
    assert rules(story.deliver("sub", mid).verdict(check_phantom)) == ["unmatched"]


def test_a_message_sent_after_the_unsuback_is_a_phantom():
    story = calm()
    story.unsubscribe("sub", "t")
    story.deliver("sub", story.publish("pub"))
    assert rules(story.verdict(check_phantom)) == ["unmatched"]


def test_a_message_must_not_come_at_a_higher_qos_than_it_was_published():
    story = calm()
    story.deliver("sub", story.publish("pub", qos=1), qos=2)
    assert rules(story.verdict(check_phantom)) == ["qos"]


# ---- repetitions

def test_a_qos_2_message_may_come_once():
    assert calm().verdict(check_exactly_once).valid


def test_a_qos_2_message_that_comes_twice_is_a_duplicate_even_after_a_reconnect_and_under_another_packet_id():
    story = calm()
    mid = story.publish("pub")
    story.deliver("sub", mid, pid=7)
    story.drop("sub").connect("sub", present=True, node="n2")
    story.deliver("sub", mid, pid=8, dup=True)
    assert rules(story.verdict(check_exactly_once)) == ["duplicate"]


def test_a_qos_2_repetition_that_the_client_recognised_is_no_duplicate():
    story = calm()
    mid = story.publish("pub")
    story.deliver("sub", mid).drop("sub").connect("sub", present=True)
    story.deliver("sub", mid, dup=True, app=False)
    assert story.verdict(check_exactly_once).valid and story.verdict(check_repetitions).valid


def repeated(dup, reconnect, sends=1):
    story = calm()
    sent = story.publish("pub", qos=1, answer="later")
    story.acknowledge(sent, sends=sends)
    mid = sent["value"]["mid"]
    story.deliver("sub", mid, qos=1)
    if reconnect:
        story.drop("sub").connect("sub", present=True)
    story.deliver("sub", mid, qos=1, dup=dup)
    return story.verdict(check_repetitions)


def test_a_qos_1_message_may_come_again_after_a_reconnect_with_dup():
    assert repeated(dup=True, reconnect=True).valid


def test_a_qos_1_message_must_not_come_again_without_dup():
    assert rules(repeated(dup=False, reconnect=True)) == ["no-dup"]


def test_a_qos_1_message_must_not_come_again_on_the_same_connection():
    assert rules(repeated(dup=True, reconnect=False)) == ["same-connection"]


def test_a_qos_1_message_that_was_published_twice_may_come_twice():
    assert repeated(dup=False, reconnect=False, sends=2).valid


def test_a_qos_1_message_of_a_group_may_come_back_as_if_it_were_new_but_only_after_a_reconnect():
    story = Story()
    story.connect("member")
    story.subscribe("member", "$share/g/t")
    story.connect("pub")
    mid = story.publish("pub", qos=1)
    story.deliver("member", mid, qos=1).drop("member").connect("member", present=True)
    story.deliver("member", mid, qos=1, pid=2)
    assert story.verdict(check_repetitions).valid
    assert rules(story.deliver("member", mid, qos=1, pid=3).verdict(check_repetitions)) == ["same-connection"]
