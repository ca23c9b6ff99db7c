"""G8, G10, G15: the checkers of nodes accept what is right and reject each kind of wrong."""

from story import MILLISECOND, Story, calm, rules

from check.availability import check_availability, check_served
from check.cluster import check_leaks, check_minority, check_replicas
from check.faults import cut_off
from check.wgl import TooHard, search
from scenario import crash_verdict

ISOLATED = [["n1", "n2"], ["n2", "n1"], ["n1", "n3"], ["n3", "n1"]]


# ---- replicas

def hashes(story, **nodes):
    for name, (index, state) in nodes.items():
        story.note("read-hash", name, applied_index=index, state_hash=state)
    return story


def test_equal_hashes_at_equal_indexes_are_right():
    assert hashes(Story(), n1=(9, "aa"), n2=(9, "aa"), n3=(9, "aa")).verdict(check_replicas).valid


def test_different_hashes_at_one_index_are_wrong_also_in_the_middle_of_a_run():
    story = Story().note("status", "n1", applied_index=5, state_hash="aa").note("status", "n2", applied_index=5, state_hash="bb")
    assert rules(story.verdict(check_replicas)) == ["differ"]


def test_a_node_that_stays_behind_at_the_end_is_wrong():
    assert rules(hashes(Story(), n1=(9, "aa"), n2=(9, "aa"), n3=(8, "cc")).verdict(check_replicas)) == ["not-equal"]


def test_a_node_that_says_nothing_at_the_end_is_wrong():
    assert rules(hashes(Story(), n1=(9, "aa"), n2=(9, "aa")).verdict(check_replicas)) == ["not-equal"]


# ---- minority

def test_who_is_cut_off():
    three, five = ["n1", "n2", "n3"], ["n1", "n2", "n3", "n4", "n5"]
    both = lambda pairs: [pair for a, b in pairs for pair in ((a, b), (b, a))]  # noqa: E731
    assert cut_off(both([("n1", "n2"), ("n1", "n3")]), three) == {"n1"}
    assert cut_off([("n2", "n1"), ("n3", "n1")], three) == {"n1"}                         # deaf
    assert cut_off(both([("n1", "n2")]), three) == set()                                  # n3 is a bridge
    ring = [(f"n{a + 1}", f"n{b + 1}") for a in range(5) for b in range(5) if (a - b) % 5 in (2, 3)]
    assert cut_off(ring, five) == set()
    assert cut_off(both([(a, b) for a in five[:2] for b in five[2:]]), five) == {"n1", "n2"}
    assert cut_off(both([(a, b) for a in three for b in three if a < b]), three) == set(three)


def cut_story(answer):
    story = calm()
    story.fault("isolate-leader", "start", nodes=["n1"], cut=ISOLATED).fault("isolate-leader", "started")
    story.publish("pub", answer=answer)
    return story.fault("isolate-leader", "stop").fault("isolate-leader", "stopped")


def test_a_node_that_is_cut_off_must_not_acknowledge():
    assert rules(cut_story("ok").verdict(check_minority)) == ["acknowledged"]


def test_a_node_that_is_cut_off_may_keep_silent_or_refuse():
    assert cut_story("info").verdict(check_minority).valid and cut_story("fail").verdict(check_minority).valid


def test_a_publish_that_is_acknowledged_after_the_healing_is_right():
    story = calm()
    story.fault("isolate-leader", "start", nodes=["n1"], cut=ISOLATED).fault("isolate-leader", "started")
    sent = story.publish("pub", answer="later")
    story.fault("isolate-leader", "stop")
    story.acknowledge(sent)
    assert story.verdict(check_minority).valid


# ---- availability

def waiting(seconds, name="kill-leader", leave=False):
    """A publisher at n2 whose publish waits so long while n1 is dead."""
    story = Story()
    story.connect("pub", node="n2")
    story.publish("pub")
    story.fault(name, "start", nodes=["n1"], goals={"interruption": 1.0}).fault(name, "started")
    sent = story.publish("pub", answer="later")
    if leave:
        story.drop("pub")
        story.connect("pub", node="n3", present=True)
    story.wait(seconds)
    story.recorder.ok(sent, {"mid": sent["value"]["mid"], "stage": "puback", "reason": 0, "sends": 1}, conn=story.conn["pub"])
    return story.fault(name, "stop").fault(name, "stopped")


def test_an_interruption_within_its_goal_is_right():
    verdict = waiting(0.5).verdict(check_availability)
    assert verdict.valid and 0.5 <= verdict.rows[0]["interruption"] < 0.6


def test_an_interruption_beyond_its_goal_is_wrong():
    assert rules(waiting(1.5).verdict(check_availability)) == ["interruption"]


def test_a_wait_that_the_client_brought_upon_itself_does_not_count():
    assert waiting(1.5, leave=True).verdict(check_availability).valid


def test_clients_of_a_dead_node_that_find_another_too_late_are_wrong():
    story = Story()
    story.connect("c", node="n1")
    story.fault("kill-leader", "start", nodes=["n1"], goals={"moved": 3.0}).fault("kill-leader", "started")
    trying = story.closed("c").connect("c", node="n2", answer="later")
    story.wait(4)
    story.finish(trying, "ok", {"session_present": True, "reason": 0})
    assert rules(story.verdict(check_availability)) == ["moved"]


def test_the_time_that_a_client_takes_before_it_tries_to_connect_does_not_count():
    story = Story()
    story.connect("c", node="n1")
    story.fault("kill-leader", "start", nodes=["n1"], goals={"moved": 3.0}).fault("kill-leader", "started")
    story.closed("c").wait(4)
    story.connect("c", node="n2", present=True)
    assert story.verdict(check_availability).valid


def waiting_after(seconds):
    """A publisher that waits so long after a fault is over."""
    story = Story()
    story.connect("pub", node="n2")
    story.fault("kill-all", "start", nodes=["n1", "n2", "n3"], goals={"recovery": 2.0}).fault("kill-all", "started")
    sent = story.publish("pub", answer="later")
    story.fault("kill-all", "stop").fault("kill-all", "stopped").wait(seconds)
    story.recorder.ok(sent, {"mid": sent["value"]["mid"], "stage": "puback", "reason": 0, "sends": 1}, conn=story.conn["pub"])
    return story


def test_a_publisher_that_is_served_soon_after_a_fault_is_right():
    assert waiting_after(1.5).verdict(check_availability).valid


def test_a_publisher_that_waits_on_after_a_fault_is_wrong():
    assert rules(waiting_after(2.5).verdict(check_availability)) == ["recovery"]


def test_a_node_that_crashed_is_wrong():
    def told(*crashes):
        return crash_verdict([{"f": "crashes", "value": {"crashes": list(crashes)}}])
    assert told()["valid"]
    assert not told(["n1", "SIGSEGV"])["valid"] and told(["n1", "SIGSEGV"])["why"] == "n1 ended by SIGSEGV"


def test_a_run_in_which_all_is_drained_is_right():
    assert calm().drain("sub").verdict(check_served).valid


def test_a_session_that_is_not_drained_in_time_is_wrong():
    story = calm()
    story._do("sub", "drain", {"session": "sub"}, "ok", {"session": "sub", "quiet": False})
    assert rules(story.verdict(check_served)) == ["not-drained"]
    story = calm()
    story._do("sub", "drain", {"session": "sub"}, "later", None)
    assert rules(story.verdict(check_served)) == ["not-drained"]


def test_a_run_in_which_nobody_was_ever_served_is_wrong():
    story = Story()
    story.connect("c", answer="fail")
    assert rules(story.verdict(check_served)) == ["nothing"]


# ---- leaks

def resources(after):
    story = Story()
    story.note("resources", "n1", phase="before", descriptors=30, resident_kib=10000)
    return story.note("resources", "n1", **dict({"phase": "after", "descriptors": 30, "resident_kib": 12000}, **after)).verdict(check_leaks)


def memory(*cycles):
    """(process, KiB) after one cycle and the next."""
    story = Story()
    for number, (pid, kib) in enumerate(cycles):
        story.note("resources", "n1", phase=f"cycle-{number + 1}", pid=pid, anonymous_kib=kib, resident_kib=1 << 30)
    return story.verdict(check_leaks)


def test_nothing_left_behind_is_right():
    assert resources({"in_flight": 0, "sessions_connected": 0}).valid


def test_sessions_and_unacknowledged_messages_that_nobody_owns_are_wrong():
    assert rules(resources({"in_flight": 3})) == ["left"] and rules(resources({"sessions_connected": 1})) == ["left"]


def test_descriptors_that_were_not_closed_are_wrong():
    assert rules(resources({"descriptors": 60})) == ["descriptors"]


def test_memory_that_grows_with_each_cycle_is_wrong():
    assert rules(memory((7, 50000), (7, 70000), (7, 90000))) == ["memory"]


def test_memory_of_two_processes_is_not_compared():
    assert memory((7, 50000), (7, 52000), (8, 90000)).violations == []


# ---- the search

def test_the_search_gives_up_loudly_when_there_are_too_many_states():
    calls = [(0, None, number, None) for number in range(20)] + [(0, 100 * MILLISECOND, "impossible", False)]
    try:
        search(calls, frozenset(), lambda state, argument, result: [] if argument == "impossible" else [state | {argument}], 5000)
    except TooHard:
        return
    raise AssertionError("it found an answer")
