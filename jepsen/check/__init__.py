"""The checkers: pure functions from a history to verdicts.

    judge(events, facts) -> [verdict, ...]

`facts` is what only the run knows: nodes (names), goals (check/availability.py), seed and the like. A verdict is a dict:
name, guarantee, promise, valid (True, False, or None when there was nothing to judge), why (one line), numbers, violations
(the first of them: rule, message, the indices of the events that show it), violations_total, notes; `rows` of the
availability check is its table.

To add a checker: a function of a Model that returns a Verdict, and a row in CHECKERS; hand-made histories that it must
reject go into tests/jepsen.
"""

from .availability import check_availability, check_served
from .cluster import check_leaks, check_minority, check_replicas
from .expiry import check_expiry
from .model import Model
from .order import check_publisher_order, check_redelivery, check_total_order
from .queue import check_exactly_once, check_loss, check_phantom, check_repetitions
from .register import check_register, check_register_follow
from .session import check_fencing, check_session
from .shared import check_shared
from .will import check_wills

CHECKERS = (check_loss, check_phantom, check_repetitions, check_session, check_fencing, check_exactly_once,
            check_publisher_order, check_total_order, check_redelivery, check_register, check_register_follow, check_wills,
            check_expiry, check_minority, check_replicas, check_shared, check_served, check_availability, check_leaks)


def judge(events, facts=None):
    model = Model(events)
    model.settings.update(facts or {})
    return [one(model).as_dict() for one in CHECKERS]
