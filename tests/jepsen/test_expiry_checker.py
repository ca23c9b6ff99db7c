"""G11: the checker of message expiry accepts what is right and rejects each kind of wrong."""

from story import Story, rules

from check.expiry import check_expiry
from check.queue import check_loss


def story_of(expiry=10):
    """A subscriber of "t", a publisher, and a message that lives so many seconds."""
    story = Story()
    story.connect("sub")
    story.subscribe("sub", "t")
    story.connect("pub")
    return story, story.publish("pub", expiry=expiry)


def test_a_message_that_comes_in_time_is_right():
    story, mid = story_of()
    assert story.wait(9).deliver("sub", mid, expiry=1).verdict(check_expiry).valid


def test_a_message_that_never_came_and_had_time_to_expire_is_right():
    story, _ = story_of()
    story.wait(10).deliver("sub", story.publish("pub"))
    verdict = story.drain("sub").verdict(check_expiry)
    assert verdict.violations == [] and verdict.counts["expired"] == 1
    assert story.verdict(check_loss).valid


def test_a_message_that_was_left_out_before_its_time_is_wrong():
    story, _ = story_of()
    story.wait(8).deliver("sub", story.publish("pub"))
    assert rules(story.verdict(check_expiry)) == ["early"]


def test_a_message_that_had_not_come_when_the_queue_was_dry_is_wrong():
    story, _ = story_of()
    assert rules(story.wait(8).drain("sub").verdict(check_expiry)) == ["early"]


def test_a_message_that_comes_long_after_its_expiry_is_wrong():
    story, mid = story_of()
    assert rules(story.wait(17).deliver("sub", mid, expiry=1).verdict(check_expiry)) == ["late"]


def test_a_message_may_come_again_long_after_its_expiry():
    story, mid = story_of()
    story.deliver("sub", mid, expiry=10, qos=1)
    assert story.wait(60).deliver("sub", mid, expiry=1, qos=1, dup=True).verdict(check_expiry).valid


def test_time_may_stand_still_under_a_fault():
    story, mid = story_of()
    story.fault("shatter", "start", nodes=[]).wait(5).fault("shatter", "stopped")
    assert story.wait(12).deliver("sub", mid, expiry=1).verdict(check_expiry).valid


def test_a_message_that_grew_old_too_fast_is_wrong():
    story, mid = story_of(expiry=100)
    assert rules(story.wait(10).deliver("sub", mid, expiry=80).verdict(check_expiry)) == ["aged"]


def test_a_message_that_grew_young_is_wrong():
    story, mid = story_of()
    assert rules(story.deliver("sub", mid, expiry=11).verdict(check_expiry)) == ["grown"]


def test_a_gap_without_any_node_is_bridged_by_a_clock_that_may_be_wrong():
    for nodes, judged in ((["n1"], ["early"]), (["n1", "n2", "n3"], [])):
        story, _ = story_of()
        story.fault("clock-all", "start", nodes=["n1"]).fault("kill-all", "start", nodes=nodes)
        story.fault("kill-all", "stopped").fault("clock-all", "stopped")
        story.wait(1).deliver("sub", story.publish("pub"))
        assert rules(story.verdict(check_expiry)) == judged


def test_the_clock_of_who_bridges_a_gap_may_go_wrong_just_before_it_does():
    for seconds, judged in ((0.4, []), (20, ["early"])):
        story, _ = story_of(expiry=100)
        story.fault("kill-all", "start", nodes=["n1", "n2", "n3"]).fault("kill-all", "stopped").wait(seconds)
        story.fault("clock-follower-day", "start", nodes=["n1"]).wait(1).deliver("sub", story.publish("pub"))
        assert rules(story.verdict(check_expiry)) == judged
