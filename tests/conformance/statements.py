"""The statements of the standards, and which tests show them.

statements.tsv       version, id, whom it binds, what a test must show, and why it cannot be tested on a server if so
corner_cases.tsv     inputs that broke brokers: row, input, where else it is shown if it cannot be seen through a socket
reason_codes.tsv     the reason codes of 5.0: code, name, in which packets this server sends it, why it is not tested here

    @statement("MQTT-3.12.4-1", level=BOTH)
    def test_pingreq_is_answered(world): ...

A test runs once for each protocol level that its statements (or corner cases) are given for; several statements may be
named at once, and decorators add up.
"""

import os

import pytest

V4, V5, BOTH = (4,), (5,), (4, 5)
VERSIONS = {4: "3.1.1", 5: "5.0"}
HERE = os.path.dirname(os.path.abspath(__file__))


def statement(*ids, level):
    levels = (level,) if isinstance(level, int) else tuple(level)
    return pytest.mark.statement(*ids, level=levels)


def corner(*rows, level=BOTH):
    levels = (level,) if isinstance(level, int) else tuple(level)
    return pytest.mark.corner(*rows, level=levels)


def reason(*codes, level=V5):
    levels = (level,) if isinstance(level, int) else tuple(level)
    return pytest.mark.reason(*codes, level=levels)


def _rows(name):
    with open(os.path.join(HERE, name), encoding="utf-8") as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                yield line.rstrip("\n").split("\t")


def load_statements():
    """{(level, id): reason why it is not tested, or ''} in the order of the standards."""
    levels = {version: level for level, version in VERSIONS.items()}
    return {(levels[version], name): reason for version, name, _, _, reason in _rows("statements.tsv")}


def load_corner_cases():
    """{row: where else it is shown, or ''}"""
    return {int(row): reason for row, _, reason in _rows("corner_cases.tsv")}


def load_reason_codes():
    """{code: why no test here shows it, or ''}"""
    return {int(code, 16): why for code, _, _, why in _rows("reason_codes.tsv")}


def expected_failures():
    """{test name or prefix up to '[': reason}"""
    path = os.path.join(HERE, "expected_failures.txt")
    found = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                name, _, reason = line.strip().partition("  ")
                found[name] = reason.strip()
    return found


class Coverage:
    """What each statement's tests came to. An outcome: held, violated, waiting (expected to fail), not run."""

    def __init__(self):
        self.statements = load_statements()
        self.corners = load_corner_cases()
        self.reasons = load_reason_codes()
        self.named = {}       # (level, id), ("corner", row) or ("reason", code) -> set of test names
        self.outcomes = {}    # the same -> set of outcomes

    def name(self, keys, test):
        for key in keys:
            self.named.setdefault(key, set()).add(test)

    def record(self, keys, outcome):
        for key in keys:
            self.outcomes.setdefault(key, set()).add(outcome)

    def verdict(self, key):
        outcomes = self.outcomes.get(key, set())
        for outcome in ("violated", "waiting", "held"):
            if outcome in outcomes:
                return outcome
        return "not run"

    def unknown(self):
        known = {*self.statements, *(("corner", row) for row in self.corners),
                 *(("reason", code) for code in self.reasons)}
        return sorted(str(key) for key in self.named if key not in known)

    def missing(self):
        found = [f"{name} of {VERSIONS[level]}" for (level, name), reason in self.statements.items()
                 if not reason and (level, name) not in self.named]
        found += [f"corner case {row}" for row, reason in self.corners.items()
                  if not reason and ("corner", row) not in self.named]
        return found + [f"reason code {code:#04x}" for code, reason in self.reasons.items()
                        if not reason and ("reason", code) not in self.named]

    def table(self):
        """Lines of the coverage table."""
        def count(level, test):
            if level in ("corner", "reason"):
                listed = self.corners if level == "corner" else self.reasons
                keys = {(level, row): reason for row, reason in listed.items()}
            else:
                keys = {key: reason for key, reason in self.statements.items() if key[0] == level}
            return sum(1 for key, reason in keys.items() if test(key, reason))

        rows = [
            ("covered", lambda key, reason: key in self.named),
            ("not testable", lambda key, reason: reason and key not in self.named),
            ("missing", lambda key, reason: not reason and key not in self.named),
            ("total", lambda key, reason: True),
            ("held", lambda key, reason: self.verdict(key) == "held"),
            ("violated", lambda key, reason: self.verdict(key) == "violated"),
            ("not there yet", lambda key, reason: self.verdict(key) == "waiting"),
        ]
        lines = [f"{'':16}{'3.1.1':>8}{'5.0':>8}{'corner cases':>14}{'reason codes':>14}"]
        for title, test in rows:
            if title == "held":
                lines.append("of the covered:")
            lines.append(f"{title:16}{count(4, test):8}{count(5, test):8}{count('corner', test):14}"
                         f"{count('reason', test):14}")
        return lines
