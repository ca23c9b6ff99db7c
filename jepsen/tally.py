"""Rows of the matrix, several on one cluster, as lines that tests/run counts.

    ok jepsen row 1, leader killed under load: interruption 0.56 of 1 s, moved 2.58 of 3 s
    ok jepsen guarantees in rows 1, 2, 3: 9,120 operations, 4 faults

A row is not ok if a goal was missed or something of `holds` did not; a guarantee that broke counts for all rows that shared the
cluster, in a line of its own. A time that was missed, and nothing else, gets TRIES, alone. If in the last of them, too, a node was
ready to run for as long as the row was late and had no processor, then it is this machine that was too slow: the row is skipped. What
cannot be done here is skipped, loudly."""

import os
import traceback

import matrix
from cluster import ClusterError
from network import NetworkError
from scenario import matrix_scenario
from schedule import missing


TRIES = 3


class Tally:
    def __init__(self, say):
        self.say, self.passed, self.failed, self.skipped = say, 0, 0, 0

    def finished(self, scenario):
        """A run was judged, whatever came out."""

    def ok(self, name, detail=""):
        self.passed += 1
        print(f"ok jepsen {name}{f': {detail}' if detail else ''}", flush=True)

    def not_ok(self, name, *reasons):
        self.failed += 1
        print(f"not ok jepsen {name}", flush=True)
        for reason in reasons:
            for line in str(reason).splitlines():
                print(f"#   {line}", flush=True)

    def skip(self, name, reason):
        self.skipped += 1
        print(f"ok jepsen {name} # SKIP {reason}", flush=True)


def title(row):
    return f"row {row.number}, {row.name}"


def times(measured):
    return ", ".join(f"{what} {value:g} of {goal:g} s" if value is not None else f"{what} never" for what, value, goal in measured)


def run_group(rows, seed, out, tally, times=1):
    """Rows of one key, each of whose faults is done so many times."""
    able = []
    for row in rows:
        reason = next((f"this machine has no {reason}" for reason in map(missing, row.faults()) if reason), "")
        if reason:
            tally.skip(title(row), reason)
        else:
            able.append(row)
    if not able:
        return
    scenario = run_rows(able, seed, out, tally, times)
    if scenario is None:
        return
    tell_guarantees(scenario, able, tally)
    tell_rows(scenario, seed, out, tally)
    scenario.forget()


def tell_rows(scenario, seed, out, tally):
    for row, measured, complaints in scenario.judge_rows():
        told = scenario
        for number in range(1, TRIES):
            if not complaints or not matrix.only_late(complaints):
                break
            tally.say(f"row {row.number}: {'; '.join(complaints)}; once more, alone")
            told = run_rows([row], seed + number, out, tally)
            if told is None:
                break
            tell_guarantees(told, [row], tally)
            _, measured, complaints = told.judge_rows()[0]
        if told is not None:
            tell_row(told, row, measured, complaints, tally)
        if told not in (None, scenario):
            told.forget()


def tell_row(scenario, row, measured, complaints, tally):
    if not complaints:
        tally.ok(title(row), times(measured))
    elif matrix.busy_machine(row, scenario.events, complaints):
        tally.skip(title(row), f"this machine is too busy to tell: {'; '.join(complaints)}")
    else:
        tally.not_ok(title(row), *complaints, f"history and report: {scenario.out}", f"again: {scenario.repeat}")


def run_rows(rows, seed, out, tally, times=1):
    """The scenario, or None when it broke down, which is told."""
    names = "-".join(row.number for row in rows)
    scenario = matrix_scenario(rows, seed, os.path.join(out, f"rows-{names}-{seed}"), tally.say, times=times)
    try:
        scenario.run()
    except (ClusterError, NetworkError) as trouble:
        tally.not_ok(f"rows {names}", trouble, f"logs: {scenario.out}")
        return None
    except Exception:
        tally.not_ok(f"rows {names}", traceback.format_exc())
        return None
    tally.finished(scenario)
    return scenario


def tell_guarantees(scenario, rows, tally):
    name = f"guarantees in {'row' if len(rows) == 1 else 'rows'} {', '.join(row.number for row in rows)}"
    if scenario.valid:
        operations = sum(1 for event in scenario.events if event["type"] == "invoke")
        faults = sum(1 for event in scenario.events if event["f"] == "fault" and event["value"]["phase"] == "start")
        tally.ok(name, f"{operations:,} operations, {faults} faults")
        return
    broken = [f"{verdict['guarantee']} {verdict['name']}: {verdict.get('why')}" for verdict in scenario.verdicts
              if verdict["valid"] is False and verdict["name"] != "recovery in time"]
    tally.not_ok(name, *broken, f"history and report: {scenario.out}", f"again: {scenario.repeat}")
