"""A region that doesn't answer holds at most a quarter of a process's slots."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.pagerduty.regions import RegionGate


def failing(gate: RegionGate, region: str, times: int = 20) -> None:
    for _ in range(times):
        gate.answered(region, timed_out=True)


@contextmanager
def held(gate: RegionGate, region: str, count: int) -> Iterator[list[bool]]:
    """Take *count* slots, and hold those that are granted. Then report each of the answers."""
    with ExitStack() as stack:
        yield [stack.enter_context(gate.slot(region)) for _ in range(count)]


@pytest.mark.parametrize(
    ("slots", "most"), [(1, 1), (3, 1), (4, 1), (8, 2), (40, 10), (80, 20), (83, 20)]
)
def test_a_failing_region_holds_at_most_a_quarter(slots: int, most: int) -> None:
    gate = RegionGate(slots)
    with held(gate, "eu", slots) as told:
        assert all(told), "no time-out is known yet"
    failing(gate, "eu")
    for _ in range(2):
        with held(gate, "eu", slots) as told:
            assert told == [True] * most + [False] * (slots - most)


def test_other_regions_go_on_as_before() -> None:
    gate = RegionGate(40)
    failing(gate, "eu")
    with held(gate, "eu", 40), held(gate, "us", 40) as told:
        assert all(told)


def test_slots_taken_before_the_region_failed_count_too() -> None:
    gate = RegionGate(8)
    with held(gate, "us", 6) as told:
        assert all(told)
        failing(gate, "us")
        with gate.slot("us") as allowed:
            assert not allowed
    with gate.slot("us") as allowed:
        assert allowed


def test_a_region_that_answers_again_gets_its_slots_back() -> None:
    gate = RegionGate(40)
    failing(gate, "us", 100)
    answers = 0
    while True:
        with held(gate, "us", 40) as told:
            if all(told):
                break
        gate.answered("us", timed_out=False)
        answers += 1
    assert 1 <= answers <= 10


@pytest.mark.parametrize("pattern", [[False], [True, False, False], [True] * 3 + [False] * 7])
def test_a_few_time_outs_among_answers_cost_nothing(pattern: list[bool]) -> None:
    gate = RegionGate(40)
    for _ in range(30):
        for timed_out in pattern:
            gate.answered("us", timed_out=timed_out)
            with held(gate, "us", 40) as told:
                assert all(told)


def test_a_slot_is_given_back_whatever_happens_in_it() -> None:
    gate = RegionGate(4)
    failing(gate, "us")

    def die() -> None:
        with gate.slot("us") as allowed:
            assert allowed
            raise KeyboardInterrupt

    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            die()
    with gate.slot("us") as allowed:
        assert allowed


@given(st.lists(st.sampled_from(["enter", "leave", "time-out", "answer"]), max_size=80))
def test_after_any_steps_a_slot_is_free_again_when_all_are_left(steps: list[str]) -> None:
    gate, inside = RegionGate(8), []
    for step in steps:
        if step == "enter":
            inside.append(ExitStack())
            inside[-1].enter_context(gate.slot("us"))
        elif step == "leave" and inside:
            inside.pop(0).close()
        elif step in ("time-out", "answer"):
            gate.answered("us", timed_out=step == "time-out")
    while inside:
        inside.pop().close()
    failing(gate, "us")
    with held(gate, "us", 3) as told:
        assert told == [True, True, False]


def test_threads_together_never_get_more_than_the_share() -> None:
    gate = RegionGate(16)
    failing(gate, "us")
    inside, most = [], 0

    def visit(number: int) -> None:
        nonlocal most
        for _ in range(200):
            with gate.slot("us") as allowed:
                if allowed:
                    inside.append(number)
                    most = max(most, len(inside))
                    inside.remove(number)

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(visit, range(12)))
    assert 1 <= most <= 4
    with held(gate, "us", 5) as told:
        assert told == [True] * 4 + [False]
