"""The matrix as data, the drawing of faults, and how a row is judged."""

import os
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "jepsen"))

import matrix    # noqa: E402
from nemesis import FAULTS    # noqa: E402
from schedule import draw_steps, swarm_faults, world_of    # noqa: E402
from workload import WORKLOADS    # noqa: E402

SECOND = 10 ** 9


@pytest.mark.parametrize("row", matrix.ROWS, ids=lambda row: f"row-{row.number}")
def test_a_row_is_of_faults_and_a_workload_that_exist_and_fits_one_cluster(row):
    assert row.workload in WORKLOADS and row.tier in ("P", "N")
    assert all(fault in FAULTS and FAULTS[fault].nodes_min <= row.nodes for fault in row.faults())
    row.world()
    known = {"interruption", "gap", "moved", "recovery", "ready", "accepts", "starts", "drain"}
    assert all(set(goals) <= known for _, _, goals in row.do)


def test_rows_have_numbers_of_their_own():
    numbers = [row.number for row in matrix.ROWS]
    assert len(set(numbers)) == len(numbers)


def test_every_fault_says_what_it_is():
    assert all(fault.describe() for fault in FAULTS.values())


def test_groups_share_a_cluster_and_leave_out_nobody():
    groups = matrix.groups(matrix.ROWS, largest=3)
    assert sorted(row.number for group in groups for row in group) == sorted(row.number for row in matrix.ROWS)
    assert all(len({row.key() for row in group}) == 1 and len(group) <= 3 for group in groups)


def test_the_same_seed_draws_the_same_faults():
    names = ["kill-leader", "split", "pause-leader"]
    one, same, other = (list(map(str, draw_steps(names, 100, seed))) for seed in (1, 1, 2))
    assert one == same != other
    assert set(one) == set(names)


def test_faults_that_need_different_disks_do_not_run_together():
    with pytest.raises(Exception, match="disks"):
        world_of(["power-loss", "slow-disk-leader"])


def test_a_swarm_is_of_faults_that_its_cluster_can_have():
    found = swarm_faults(3, {})
    assert "kill-leader" in found and "ring" not in found and "wipe" not in found and "slow-links" not in found


# ---- judging


class Story:
    """A history with one fault at node n1, from second 10 to 12, and a publish at n2 every tenth of a second."""

    def __init__(self, quiet=(0, 0), ready=0.5, terms=(1,), **facts):
        self.events = []
        marks = [(10.0, "start", {"goals": {"gap": 0.3, "ready": 1.0}, "row": "2"}), (10.01, "started", dict(facts, nodes=["n1"])),
                 (12.0, "stop", {}), (12.1, "stopped", {"refused": {}})]
        moments = [(time, "fault", dict(value, name="kill-follower", phase=phase), "nemesis", "info") for time, phase, value in marks]
        moments += [(tenth / 10 + 0.05, "publish", {"mid": f"m{tenth}"}, 1, "ok") for tenth in range(90, 140)
                    if not quiet[0] <= tenth / 10 < quiet[1]]
        moments += [(9.5 + number, "status", {"term": term}, "observer", "info") for number, term in enumerate(terms)]
        moments.append((12.1 + ready, "healed", {"row": "2", "ready_s": ready, "fault": "kill-follower"}, "observer", "info"))
        for time, f, value, process, kind in sorted(moments, key=lambda moment: moment[0]):
            self.events.append({"index": len(self.events), "time": round(time * SECOND), "process": process, "type": kind, "f": f,
                                "value": value, "node": "n2"})

    def judge(self):
        return matrix.judge_row(matrix.row(2), self.events, [])


def test_a_row_that_meets_its_goals_has_no_complaints():
    measured, complaints = Story().judge()
    assert complaints == []
    assert ("ready", 0.5, 1.0) in measured and all(value <= goal for _, value, goal in measured)


def test_a_gap_is_told():
    _, complaints = Story(quiet=(10.5, 11.2)).judge()
    assert len(complaints) == 1 and complaints[0].startswith("gap 0.8 s")


def test_a_slow_return_is_told():
    assert Story(ready=3.0).judge()[1] == ["ready 3.0 s, the goal is 1 s"]


def test_an_election_that_ought_not_to_be_is_told():
    assert Story(terms=(1, 2)).judge()[1] == ["kill-follower at 10.0 s: term 1, then 2: an election"]


def elections_when_healed(*terms):
    """(second, term) told by a node, with a fault from second 10 to 12 and all well at 13."""
    events = [{"f": "status", "time": round(time * SECOND), "value": {"term": term}} for time, term in terms]
    fact = {"name": "isolate-leader", "began": 10 * SECOND, "stop": 12 * SECOND, "whole": 13 * SECOND}
    return matrix.no_election_when_healed(events, [fact])


def test_an_election_by_a_fault_is_none_by_its_end():
    assert elections_when_healed((9, 4), (11, 6), (12.5, 6), (14, 7)) == []


def test_an_election_by_the_end_of_a_fault_is_told():
    assert elections_when_healed((9, 4), (11, 5), (12.5, 6)) == ["isolate-leader at 10.0 s: term 5, then 6: an election when it was healed"]


def test_a_node_that_refused_to_start_is_told():
    story = Story()
    story.events[[event["value"].get("phase") for event in story.events].index("stopped")]["value"]["refused"] = {"n1": "damaged"}
    assert story.judge()[1] == ["kill-follower: n1 refused to start: damaged"]


def test_a_row_that_was_not_played_is_told():
    assert matrix.judge_row(matrix.row(3), Story().events, [])[1] == ["its faults were not played"]


def test_a_row_that_was_late_by_no_more_than_its_node_waited_tells_of_the_machine():
    for waited, busy in ((0.1, False), (5.0, True)):
        story = Story(ready=3.0)
        begin, end = 10 * SECOND, 15 * SECOND
        story.events += [{"index": len(story.events) + place, "time": time, "process": "observer", "type": "info", "f": "status", "node": "n2",
                          "value": {"term": 1, "waited_s": place * waited}} for place, time in enumerate((begin, end))]
        _, complaints = story.judge()
        assert len(complaints) == 1 and matrix.busy_machine(matrix.row(2), story.events, complaints) == busy
        assert not matrix.busy_machine(matrix.row(2), story.events, complaints + ["a node lost its memory"])


def test_others_that_are_slower_by_no_more_than_a_node_waited_tell_of_the_machine():
    fact = {"name": "slow-consumer", "began": 10 * SECOND, "started": 11 * SECOND, "stop": 20 * SECOND}
    events = []
    for begin, took in ((8.5, 0.06), (12.0, 0.133)):
        events += [{"f": "publish", "process": 1, "type": kind, "time": round(time * SECOND)} for kind, time in
                   (("invoke", begin), ("ok", begin + took))]
    complaint, = matrix.others_go_on(events, [fact])
    assert complaint == "slow-consumer: 99 % of publishes took 60 ms before, 133 ms with it"
    assert matrix.only_late([complaint]) and complaint.seconds == pytest.approx(0.013, abs=1e-6)


@pytest.mark.parametrize("nodes, noticed, complaints", [
    (["n1"], ["n1"], 0),
    (["n1"], [], 1),
    (["n1", "n2", "n3"], ["n1", "n2"], 0),    # then there is nothing that n3 could notice it by
    (["n1", "n2", "n3"], ["n2"], 1),
])
def test_a_full_disk_that_is_written_to_is_noticed(nodes, noticed, complaints):
    fact = {"name": "full-disk-all", "nodes": nodes, "noticed": noticed, "dead": []}
    assert len(matrix.full_disk_was_noticed([], [fact])) == complaints
