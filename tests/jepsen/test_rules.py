"""That no checker has a rule which no hand-made history breaks."""

import glob
import os
import re

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
CHECKERS = os.path.join(os.path.dirname(os.path.dirname(HERE)), "jepsen", "check")


def text_of(pattern):
    texts = []
    for path in sorted(glob.glob(pattern)):
        with open(path, encoding="utf-8") as file:
            texts.append(file.read())
    return "\n".join(texts)


def rules_of_checkers():
    """The names that violate() is called with, and those of the tables that it takes them from."""
    text = text_of(os.path.join(CHECKERS, "*.py"))
    named = re.findall(r'\bviolate\(\s*"([a-z0-9-]+)"', text)
    of_deliveries = re.findall(r'^ +return "([a-z]+)", f?"', text, re.M)
    return sorted(set(named + of_deliveries + ["interruption", "moved", "recovery"]))


def test_the_rules_are_found():
    assert {"loss", "phantom", "cycle", "register", "count", "differ", "twice"} <= set(rules_of_checkers())


@pytest.mark.parametrize("rule", rules_of_checkers())
def test_a_rule_is_broken_by_a_history_in_these_tests(rule):
    assert re.search(rf'\[[^\]\n]*"{rule}"', text_of(os.path.join(HERE, "test_*check*.py"))), f"no history breaks {rule}"
