"""How a run deals with a machine that is too busy."""

import asyncio
import os
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "jepsen"))

from cluster import ClusterError, waited_of    # noqa: E402
from scenario import within    # noqa: E402


def run_within(limit, takes, waited):
    async def work():
        await asyncio.sleep(takes)
        return "done"
    return asyncio.run(within("the work", limit, work(), waited))


def test_what_takes_too_long_ends():
    with pytest.raises(ClusterError, match="the work: not within 0.05 s"):
        run_within(0.05, 60, lambda: 0.0)


def test_time_in_which_there_was_no_processor_does_not_count():
    waits = iter([0.0] + [60.0] * 1000)
    assert run_within(0.1, 0.2, lambda: next(waits)) == "done"


def test_patience_has_an_end():
    waits = iter(range(0, 100000, 60))
    with pytest.raises(ClusterError):
        run_within(0.05, 60, lambda: next(waits))


def test_what_fails_by_itself_fails_as_it_is():
    async def work():
        raise ValueError("of its own")
    with pytest.raises(ValueError, match="of its own"):
        asyncio.run(within("the work", 1, work(), lambda: 0.0))


def test_the_wait_of_a_process_is_known():
    assert waited_of("self") >= 0.0
    assert waited_of(2 ** 22 + 1) is None
