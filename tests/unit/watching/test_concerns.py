"""The concerns of a source that need a person, and the order of sources."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tasks.watching.activity import Activity, Doing
from tasks.watching.concerns import Concern, concerns, renamed_to, urgency
from tasks.watching.last_runs import LastRun
from tests.unit.state.test_sources import SOURCE
from workers.storage.registry import SourceState
from workers.storage.renamings import Renaming

NOW = datetime(2026, 11, 25, tzinfo=UTC)
DAY = timedelta(days=1)
DAILY = replace(SOURCE, connected_at=NOW - 30 * DAY, keyed_at=NOW - 30 * DAY, every_seconds=86_400)
IDLE = Doing(Activity.IDLE)


def last(state: str = "complete", days: float = 1, **more: Any) -> LastRun:
    when = NOW - days * DAY
    values: dict[str, Any] = {
        "run": "00000001", "state": state, "ended": "done", "opened_at": when, "sealed_at": when,
        "continues": False, "subdomains": (), "backlog": False,
    }  # fmt: skip
    return LastRun(**values | more)


@pytest.mark.parametrize(
    ("source", "now", "before", "expected"),
    [
        (DAILY, IDLE, last(), []),
        (DAILY, Doing(Activity.SUSPENDED, 5), last(), [Concern.KEY]),
        (DAILY, IDLE, last("failed", ended="refused"), [Concern.KEY]),
        (replace(DAILY, keyed_at=NOW), IDLE, last("failed", ended="refused"), [Concern.FAILED]),
        (DAILY, Doing(Activity.STUCK, 500, "seal"), last(), [Concern.STUCK]),
        (DAILY, IDLE, last("partial"), [Concern.PARTIAL]),
        (DAILY, IDLE, last("partial", continues=True), []),
        (DAILY, IDLE, last("cancelled"), []),
        (DAILY, IDLE, last(days=1.25), []),
        (DAILY, IDLE, last(days=1.27), [Concern.STALE]),
        (DAILY, Doing(Activity.READING), None, [Concern.STALE]),
        (replace(DAILY, connected_at=NOW - DAY), IDLE, None, []),
        (replace(DAILY, every_seconds=None), IDLE, last(days=99), []),
        (replace(DAILY, state=SourceState.PAUSED), Doing(Activity.PAUSED), last(days=99), []),
        (DAILY, Doing(Activity.BUDGET, 599), last(), []),
        (DAILY, Doing(Activity.WORKER, 601), last(), [Concern.WAITS]),
        (replace(DAILY, keyed_at=NOW - 90 * DAY), IDLE, last("partial"),
         [Concern.PARTIAL, Concern.ROTATION]),
        (replace(DAILY, state=SourceState.DISCONNECTED), IDLE, last("failed", days=99), []),
    ],
)  # fmt: skip
def test_what_needs_a_person(
    source: Any, now: Doing, before: LastRun | None, expected: list[Concern]
) -> None:
    assert list(concerns(source, now, before, NOW, 90)) == expected


@pytest.mark.parametrize("state", SourceState)
def test_a_repeated_failure_needs_a_person_whatever_the_state_of_the_source(
    state: SourceState,
) -> None:
    found = concerns(replace(DAILY, state=state), IDLE, last("failed"), NOW, 90, troubled=True)
    assert found[0] is Concern.TROUBLE


def test_the_worst_source_comes_first_and_the_longest_wait() -> None:
    ranked = [
        ("refused", Doing(Activity.SUSPENDED, 1), (Concern.KEY,)),
        ("stuck long", Doing(Activity.STUCK, 900, "look"), (Concern.STUCK,)),
        ("stuck", Doing(Activity.STUCK, 130, "look"), (Concern.STUCK,)),
        ("stale", IDLE, (Concern.STALE,)),
        ("partial", IDLE, (Concern.PARTIAL,)),
        ("waits", Doing(Activity.WORKER, 10), ()),
        ("reads", Doing(Activity.READING), ()),
        ("idle a", IDLE, ()),
        ("idle b", IDLE, ()),
    ]
    keys = [urgency(replace(SOURCE, id=name), now, needs) for name, now, needs in ranked]
    assert keys == sorted(keys)


@pytest.mark.parametrize(
    ("seen", "name"),
    [
        (("acme-new",), "acme-new"),
        (("acme",), ""),
        (("acme", "acme-new"), ""),
        (("was",), ""),
        ((), ""),
    ],
)
def test_records_that_link_to_another_subdomain_need_a_person(
    seen: tuple[str, ...], name: str
) -> None:
    """They don't if any of them still links to a current or former name of the account."""
    known = replace(DAILY, subdomain="acme", renamings=(Renaming("was", "acme", NOW, "ann", "3"),))
    before = last(subdomains=seen)
    assert renamed_to(known, before) == name
    found = concerns(known, IDLE, before, NOW, 90)
    assert found == ((Concern.RENAMED,) if name else ())
