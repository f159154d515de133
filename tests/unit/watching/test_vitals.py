"""Beat's metrics of sources and budgets: all are counted, and only the worst are named."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tasks.watching.last_runs import LastRun
from tasks.watching.vitals import (
    NAMED_CREDENTIALS,
    NAMED_SOURCES,
    budget_vitals,
    known,
    registry_vitals,
)
from workers.state.limiter import BudgetState
from workers.storage.registry import PurgeWish, Source, SourceState

NOW = datetime(2026, 11, 25, tzinfo=UTC)
DAY = timedelta(days=1)
SOURCE = Source(
    id="acme/main", region="us", subdomain="acme", credential="account", fingerprint="f" * 16,
    sealed_key="sealed", keyed_at=NOW - 30 * DAY, connected_at=NOW - 40 * DAY, since=NOW - 400 * DAY,
    every_seconds=86_400,
)  # fmt: skip


def last(ago: timedelta, state: str = "complete", ended: str = "done") -> LastRun:
    return LastRun(
        run="00000001", state=state, ended=ended, opened_at=NOW - ago, sealed_at=NOW - ago,
        continues=False, subdomains=(), backlog=False,
    )  # fmt: skip


def vitals(*sources: tuple[Source, LastRun | None]) -> dict[str, dict[tuple[str, ...], float]]:
    named = {f"{each.id}{n}": known(each, run) for n, (each, run) in enumerate(sources)}
    return registry_vitals(named, NOW.timestamp(), 90 * 86_400.0)


def test_a_source_is_stale_when_a_quarter_of_its_interval_and_of_an_hour_has_passed() -> None:
    edge = DAY * 1.25 + timedelta(minutes=15)
    second = timedelta(seconds=1)
    assert vitals((SOURCE, last(edge - second)))["sources_stale"] == {(): 0}
    found = vitals((SOURCE, last(edge + second)), (SOURCE, last(DAY / 2)))
    assert found["sources_stale"] == {(): 1}
    late = (edge + second - DAY).total_seconds()
    assert found["source_latest_seconds"] == {(): late}
    assert found["source_late_seconds"] == {("acme/main0",): late}


def test_before_its_first_manifest_a_source_counts_from_its_connection() -> None:
    assert vitals((SOURCE, None))["source_latest_seconds"] == {(): 39 * 86_400}


def test_a_source_that_is_paused_or_only_collected_when_asked_is_never_stale() -> None:
    resting = replace(SOURCE, state=SourceState.PAUSED), replace(SOURCE, every_seconds=None)
    found = vitals(*((each, last(9 * DAY)) for each in resting))
    assert found["sources_stale"] == {(): 0}
    assert found["source_latest_seconds"] == {(): 0}
    assert found["sources"] == {("active",): 1, ("paused",): 1, ("disconnected",): 0}


def test_only_the_latest_sources_are_named() -> None:
    found = vitals(*((SOURCE, last(n * DAY)) for n in range(2, 50)))
    assert found["sources_stale"] == {(): 48}
    named = found["source_late_seconds"]
    assert len(named) == NAMED_SOURCES
    assert max(named.values()) == found["source_latest_seconds"][()]
    assert min(named.values()) == (49 - NAMED_SOURCES) * 86_400


def test_purges_that_are_not_finished_are_counted_with_the_age_of_the_oldest() -> None:
    asked = {
        name: PurgeWish(through="00000001", why="purge", by="x", at=NOW - timedelta(hours=hours))
        for name, hours in (("a/a", 1), ("b/b", 3))
    }
    sources = {
        name: known(replace(SOURCE, id=name, purge=asked.get(name)), None)
        for name in ("a/a", "b/b", "c/c")
    }
    found = registry_vitals(sources, NOW.timestamp(), 90 * 86_400)
    assert (found["purges_waiting"], found["purge_oldest_seconds"]) == ({(): 2}, {(): 3 * 3600.0})
    none = registry_vitals({}, NOW.timestamp(), 90 * 86_400)
    assert (none["purges_waiting"], none["purge_oldest_seconds"]) == ({(): 0}, {(): 0})


def test_keys_to_rotate_are_counted_unless_they_are_destroyed() -> None:
    old = replace(SOURCE, keyed_at=NOW - 90 * DAY)
    found = vitals((SOURCE, None), (old, None), (replace(old, sealed_key=None), None))
    assert found["keys_to_rotate"] == {(): 1}
    assert found["key_oldest_seconds"] == {(): 90 * 86_400}


def test_runs_are_counted_by_their_end_and_a_refused_key_counts_until_it_is_replaced() -> None:
    refused = last(DAY, "failed", "refused")
    found = vitals((SOURCE, refused), (SOURCE, last(DAY)), (SOURCE, None))
    states = {"complete": 1, "partial": 0, "failed": 1, "cancelled": 0}
    assert found["sources_last_run"] == {(name,): count for name, count in states.items()}
    assert known(SOURCE, refused).refused
    assert not known(replace(SOURCE, keyed_at=NOW), refused).refused
    assert not known(SOURCE, last(DAY, "failed")).refused


def budget(used: int, paused_seconds: float = 0.0) -> BudgetState:
    return BudgetState(960, 864, used, 0, paused_seconds, 0, 0.0)


def test_only_the_credentials_with_the_least_left_are_named() -> None:
    budgets = {f"us-{n:02d}": budget(n) for n in range(50)}
    budgets |= {"us-spent": budget(900), "us-paused": budget(0, paused_seconds=5.0)}
    found = budget_vitals(budgets)
    assert found["budgets"] == {(): 52}
    assert found["budgets_exhausted"] == {(): 2}
    assert len(found["budget_left"]) == NAMED_CREDENTIALS
    assert found["budget_left"][("us-spent",)] == 0
    assert found["budget_left"][("us-49",)] == 864 - 49
    assert found["budget_used"].keys() == found["budget_left"].keys()
    assert ("us-00",) not in found["budget_left"]
