"""The screen of `pagetrail status`, for any terminal and any number of sources."""

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from tasks.cli.screen import screen
from tasks.watching.activity import Activity, Doing, Forecast
from tasks.watching.census import Census, Sight, judged
from tasks.watching.concerns import Concern
from tasks.watching.last_runs import LastRun
from tests.unit.state.test_sources import SOURCE
from workers.state.progress import Progress

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
HOUR_MS = 3_600_000
QUEUES = {"plan": 0, "fetch": 12_345, "backfill": 3, "seal": 0}
WORKERS = {"one@host": ("fetch", "plan", "seal"), "two@host": ("backfill", "fetch", "plan", "seal")}
DAILY = replace(
    SOURCE,
    every_seconds=86_400,
    keyed_at=NOW - timedelta(days=9),
    connected_at=NOW - timedelta(days=9),
)


def sight(name: str, activity: Activity, **more: Any) -> Sight:
    seconds = None if activity in (Activity.IDLE, Activity.READING) else 75.0
    why = "error" if activity is Activity.STUCK else ""
    run: dict[str, Any] = {} if activity is Activity.IDLE else {"run": "00000007", "closed": 512}
    sealed_at = datetime(2026, 11, 25, 3, tzinfo=UTC)
    last = LastRun(run="6", state="complete", ended="done", opened_at=sealed_at, sealed_at=sealed_at,
                   continues=False, subdomains=(), backlog=False)  # fmt: skip
    ahead = None if activity is Activity.IDLE else Forecast(9_692, ("audit_records",), 11.2)
    values: dict[str, Any] = {
        "source": replace(DAILY, id=name), "progress": Progress(due_at=NOW_MS + 20 * HOUR_MS, **run),
        "last": last, "doing": Doing(activity, seconds, why), "forecast": ahead,
    }  # fmt: skip
    return Sight(**values | more)


def census(sights: list[Sight], **more: Any) -> Census:
    values: dict[str, Any] = {"now_ms": NOW_MS, "tick_seconds": 0.4, "paused": False,
                              "queues": QUEUES, "workers": WORKERS, "sights": judged(sights, NOW, 90)}  # fmt: skip
    return Census(**values | more)


def shown(view: Census, size: tuple[int, int] | None = None, **terminal: Any) -> str:
    width = size[0] if size else 10_000
    console = Console(file=io.StringIO(), width=width, markup=False, highlight=False, **terminal)
    console.print(screen(view, size))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


MANY = [
    sight(f"customer-{n:04d}-with-a-long-name/production", activity)
    for n, activity in enumerate([*[Activity.IDLE] * 990, *list(Activity)[:6]])
]
LONGEST = sight("a/b", Activity.STUCK)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (60, 12)])
def test_a_thousand_sources_fit_the_screen_the_worst_first(size: tuple[int, int]) -> None:
    text = shown(census(MANY), size)
    lines = text.splitlines()
    assert len(lines) <= size[1]
    assert max(map(len, lines)) <= size[0]
    rows = [line for line in lines if line.startswith("customer-")]
    assert [row.split("-")[1] for row in rows[:2]] == ["0990", "0991"], "refused, then stuck"
    assert f"... and {996 - len(rows)} more" in lines[-1]
    assert "996 sources, 2 need a person" in text
    assert " 990 idle" in text.replace("\n", " ")


def test_a_trouble_is_shown_in_its_own_words_as_far_as_they_fit() -> None:
    sentence = (
        "acme/main/runs/00000002/plan.json is missing, so run 00000002 can't go on: restore it."
    )
    view = census([sight("a/b", Activity.IDLE, troubles={"run": sentence})])
    assert f"idle, trouble: {sentence}" in shown(view)
    assert "1 source, 1 needs a person" in shown(view)
    assert "idle, trouble: acme/main/runs/" in shown(view, (80, 24))


def test_without_a_terminal_every_source_is_shown_uncut_as_plain_text() -> None:
    text = shown(census(MANY))
    assert sum(line.startswith("customer-") for line in text.splitlines()) == len(MANY)
    assert "more" not in text
    assert "\x1b" not in text
    assert "stuck: faults of our own 75 s, at least 11 min left, 512/10,204 pages" in text
    assert "complete 9 h" in text
    assert "20 h" in text


def test_no_color_leaves_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    view = census([LONGEST])
    bare = shown(view, (80, 24), force_terminal=True)
    monkeypatch.delenv("NO_COLOR")
    colored = shown(view, (80, 24), force_terminal=True, color_system="standard")
    assert "\x1b[31m" in colored
    assert "\x1b[31m" not in bare


@pytest.mark.parametrize(
    ("fleet", "words"),
    [
        ({}, "The fleet is at work: 2 workers, last tick 0 s ago."),
        ({"tick_seconds": 34.0}, "The tick is late: is beat running?"),
        ({"tick_seconds": None, "workers": {}}, "No worker is running: `pagetrail up`"),
        ({"workers": {"a@b": ("fetch",)}}, "No worker takes from plan, backfill, seal."),
        ({"paused": True}, "`pagetrail source resume --all`"),
        ({}, "Messages waiting: plan 0, fetch 12,345, backfill 3, seal 0."),
        ({"sights": []}, "No source is connected yet"),
    ],
)
def test_the_fleet_is_described_in_a_line_or_two(fleet: dict[str, Any], words: str) -> None:
    assert words in shown(census(**{"sights": [LONGEST]} | fleet), (80, 24))


def test_a_refused_key_is_shown_once_whether_it_suspended_the_run_or_ended_it() -> None:
    suspended = sight("a/b", Activity.SUSPENDED)
    ended = sight("a/c", Activity.IDLE)
    assert ended.last
    ended = replace(ended, last=replace(ended.last, state="failed", ended="refused"))
    text = shown(census([suspended, ended]))
    assert "suspended: key refused 75 s, at least" in text
    assert "idle, key refused" in text
    assert text.count("key refused") == 2


def test_concerns_are_shown_beside_the_activity() -> None:
    old = replace(DAILY, id="a/b", keyed_at=NOW - timedelta(days=91))
    found = sight("a/b", Activity.READING, source=old, forecast=None)
    view = census([found])
    assert view.sights == [replace(found, needs=(Concern.ROTATION,))]
    assert "reading, rotation due" in shown(view, (80, 24))


def test_an_emptied_redis_does_not_look_like_a_fleet_without_sources() -> None:
    """A person must not think that nothing was ever connected."""
    assert "No source is connected yet" in shown(census([]))
    lost = shown(census([], lost="it evicted pagetrail:sources"))
    assert "No source is connected yet" not in lost
    assert "may lack sources and runs (it evicted pagetrail:sources)" in lost
    assert "`pagetrail recover`" in lost


def test_advice_about_redis_is_shown() -> None:
    assert "Set it so." in shown(census([], warning="Set it so."))
