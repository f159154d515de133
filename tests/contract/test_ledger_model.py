"""The ledger's script does the same as a small model of it, in any order of events."""

from __future__ import annotations

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from tests.ledger_schedules import (
    SCHEDULES,
    SOURCES,
    Both,
    Step,
    closes,
    delivers,
    opens,
    orders,
    passes,
    ticks,
)
from workers.state.ledger import PAGE_QUEUES

many = settings(
    max_examples=200,
    deadline=None,
    # Each example empties Redis itself, and a round trip to it takes a while.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@many
@given(SCHEDULES, st.integers(0, 99))
def test_script_and_model_agree_on_any_schedule(redis: Redis, steps: list[Step], seed: int) -> None:
    """This holds whatever workers, clocks, messages and people do, in any order."""
    both = Both(redis, random.Random(seed))
    both.one(opens(SOURCES[0], 3, 4, reopened=False, hold=""))
    for step in steps:
        both.one(step)


@many
@given(SCHEDULES, st.integers(0, 99))
def test_nothing_is_ever_stuck(redis: Redis, steps: list[Step], seed: int) -> None:
    """From any state, ticks and successful workers bring every run to its end."""
    both = Both(redis, random.Random(seed))
    both.one(opens(SOURCES[0], 3, 4, reopened=False, hold=""))
    for step in steps:
        both.one(step)
    both.messages.clear()
    for queue in (*PAGE_QUEUES, "plan", "seal"):
        redis.delete(f"p:{queue}")
    both.model.length.clear()
    both.claims.clear()
    for source in SOURCES:
        both.one(orders(source, "resume"))
    for _ in range(200):
        if not both.model.runs:
            break
        work(both)
    assert both.model.runs == {}


def work(both: Both) -> None:
    """Go to the next due time, and do everything that is due."""
    both.one(passes(max(0, min(both.model.due.values()) - both.now)))
    both.one(ticks(200))
    while both.messages:
        both.one(delivers(0, keeps=False))
    for _ in range(len(both.claims)):
        for settle in (False, True):  # the last page of a group has to close a second time
            both.one(closes(0, "none", 1, settle=settle, failed=False, date=0))
        both.claims.pop()
    for source, run in list(both.model.runs.items()):
        if not run.pages and both.ledger.seal(source, run.id, "last"):
            assert both.model.seal(source, run.id, "last")
            found = both.ledger.finish(source, run.id, None, "")
            both.same(source, run.id, found, both.model.finish(source, run.id, None, ""))
