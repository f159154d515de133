"""The activity of a source follows from its progress in the ledger."""

from typing import Any

import pytest

from tasks.watching.activity import Activity, Doing, Wait, doing, forecast, waits
from workers.state.progress import Progress
from workers.storage.registry import SourceState

NOW = 1_800_000_000_000
LEASE_SECONDS = 40.0
EMPTY = {"plan": 0, "fetch": 0, "backfill": 0, "seal": 0}
QUIET: dict[str, Any] = {
    "now": NOW,
    **dict.fromkeys(("pages", "ready", "later", "offered", "claimed"), 0),
    **dict.fromkeys(("offered_at", "claimed_at", "due_at", "look_at")),
}
RUN = QUIET | {"run": "00000001", "queue": "fetch", "pages": 9, "ready": 5}


def ago(seconds: float) -> int:
    return NOW - round(seconds * 1000)


def offered(seconds: float, **more: Any) -> dict[str, Any]:
    return RUN | {"offered": 4, "offered_at": ago(seconds)} | more


def claimed(seconds: float, **more: Any) -> dict[str, Any]:
    return RUN | {"claimed": 4, "claimed_at": ago(seconds)} | more


def blamed(why: str, seconds: float, **more: Any) -> dict[str, Any]:
    return RUN | {"why": why, "why_at": ago(seconds)} | more


def empty(seconds: float, **more: Any) -> dict[str, Any]:
    return RUN | {"pages": 0, "ready": 0, "empty_at": ago(seconds)} | more


A, P, D = SourceState.ACTIVE, SourceState.PAUSED, SourceState.DISCONNECTED
CASES: list[tuple[str, SourceState, dict[str, Any], dict[str, int], Doing]] = [
    ("no run, none due", A, QUIET, {}, Doing(Activity.IDLE)),
    ("next run tomorrow", A, QUIET | {"due_at": ago(-86_400)}, {}, Doing(Activity.IDLE)),
    ("due this moment", A, QUIET | {"due_at": ago(3)}, {"plan": 1}, Doing(Activity.IDLE)),
    ("due, nobody plans", A, QUIET | {"due_at": ago(9)}, {"plan": 1}, Doing(Activity.WORKER, 9)),
    ("due, tried again", A, QUIET | {"due_at": ago(119)}, {}, Doing(Activity.IDLE)),
    ("due, in vain", A, QUIET | {"due_at": ago(121)}, {}, Doing(Activity.STUCK, 121, "plan")),
    ("paused without a run", P, QUIET, {}, Doing(Activity.PAUSED)),
    ("disconnected", D, QUIET, {}, Doing(Activity.DISCONNECTED)),
    ("paused in a run", P, RUN | {"hold": "paused"}, {}, Doing(Activity.PAUSED)),
    ("paused, and the ledger doesn't know", P, blamed("paused", 9), {}, Doing(Activity.PAUSED)),
    ("key refused", A, blamed("key", 90, hold="key"), {}, Doing(Activity.SUSPENDED, 90)),
    ("begins", A, offered(1), {"fetch": 4}, Doing(Activity.READING)),
    ("asks", A, claimed(1), {}, Doing(Activity.READING)),
    ("one page waits for its turn to repeat", A, RUN | {"later": 1}, {}, Doing(Activity.READING)),
    ("nobody takes it", A, offered(6), {"fetch": 4}, Doing(Activity.WORKER, 6)),
    ("nobody for hours", A, offered(9e3, look_at=ago(9e3)), {"fetch": 4},
     Doing(Activity.WORKER, 9e3)),
    ("others are taken first", A, offered(6, claimed=1, claimed_at=ago(1)), {"fetch": 99},
     Doing(Activity.READING)),
    ("taken and lost", A, offered(119), {}, Doing(Activity.READING)),
    ("taken and lost again and again", A, offered(121), {}, Doing(Activity.STUCK, 121, "offer")),
    ("no budget", A, blamed("budget", 30, wait_until=NOW + 9), {}, Doing(Activity.BUDGET, 30)),
    ("asks for budget again", A, blamed("budget", 30) | claimed(2), {}, Doing(Activity.BUDGET, 30)),
    ("read but for what a newer worker knows", A, blamed("worker", 8, later=1), {},
     Doing(Activity.WORKER, 8)),
    ("answers take long", A, claimed(6), {}, Doing(Activity.PAGERDUTY, 6)),
    ("hangs, for want of more than budget", A, blamed("budget", 9) | claimed(12), {},
     Doing(Activity.PAGERDUTY, 12)),
    ("fails", A, blamed("pagerduty", 3, later=4), {}, Doing(Activity.PAGERDUTY, 3)),
    ("fails for a day, which is not ours", A, blamed("pagerduty", 9e4, later=4), {},
     Doing(Activity.PAGERDUTY, 9e4)),
    ("our own fault once", A, blamed("error", 7, later=4), {}, Doing(Activity.READING)),
    ("our own fault", A, blamed("error", 121, later=4), {}, Doing(Activity.STUCK, 121, "error")),
    ("looked at a little late", A, RUN | {"look_at": ago(119)}, {}, Doing(Activity.READING)),
    ("nobody looks", A, RUN | {"look_at": ago(121)}, {}, Doing(Activity.STUCK, 121, "look")),
    ("sealing", A, empty(500, seal_lease=NOW + 9, seals=1), {}, Doing(Activity.SEALING, 500)),
    ("not sealed yet", A, empty(119), {}, Doing(Activity.SEALING, 119)),
    ("nobody seals", A, empty(6), {"seal": 1}, Doing(Activity.WORKER, 6)),
    ("seal lost", A, empty(121), {}, Doing(Activity.STUCK, 121, "seal")),
    ("the third sealer", A, empty(121, seal_lease=NOW + 9, seals=3), {},
     Doing(Activity.STUCK, 121, "seal")),
]  # fmt: skip


@pytest.mark.parametrize(("what", "state", "progress", "queues", "expected"), CASES)
def test_what_a_source_is_doing(
    what: str, state: SourceState, progress: dict[str, Any], queues: dict[str, int], expected: Doing
) -> None:
    assert doing(state, Progress(**progress), EMPTY | queues, LEASE_SECONDS) == expected, what


def test_every_activity_is_told() -> None:
    assert {expected.activity for *_, expected in CASES} == set(Activity)


def test_pages_are_told_apart_by_their_wait() -> None:
    progress = blamed("budget", 30) | offered(2, later=1, claimed=3, claimed_at=ago(7))
    assert waits(Progress(**progress)) == {
        Activity.BUDGET: Wait(5, 30),
        Activity.WORKER: Wait(4, 2),
        Activity.PAGERDUTY: Wait(4, 7),
    }


def test_a_page_that_waits_for_the_limit_of_its_endpoints_waits_for_budget() -> None:
    found = waits(Progress(**RUN | {"later": 3, "apart": 2}))
    assert (found[Activity.BUDGET], found[Activity.PAGERDUTY]) == (Wait(2, None), Wait(1, None))


def test_a_page_that_only_a_newer_worker_knows_waits_for_a_worker() -> None:
    found = waits(Progress(**blamed("worker", 8, later=1)))
    assert (found[Activity.WORKER], found[Activity.PAGERDUTY]) == (Wait(1, 8), Wait(0, None))


READING = Doing(Activity.READING)


def test_the_rest_of_a_run_takes_its_share_of_the_budget() -> None:
    progress = Progress(**RUN, ahead={"teams": 11, "schedules": 0}, unsure={"teams": 0})
    told = forecast(READING, progress, ceiling=10)
    assert (told.pages, told.minutes, told.least_minutes) == (20, 2.0, 2.0)
    sharers = [Progress(**each) for each in (RUN | {"pages": 30}, RUN | {"hold": "paused"}, QUIET)]
    assert forecast(READING, progress, ceiling=10, others=sharers).minutes == 5.0


def test_a_list_of_unknown_length_makes_the_end_unknown() -> None:
    progress = Progress(**RUN, unsure={"users": 0, "audit_records": 2})
    told = forecast(READING, progress, ceiling=9)
    assert (told.unsure, told.minutes, told.least_minutes) == (("audit_records",), None, 1.0)


@pytest.mark.parametrize("activity", [Activity.STUCK, Activity.WORKER, Activity.PAGERDUTY])
def test_the_end_of_a_run_that_does_not_move_is_unknown(activity: Activity) -> None:
    told = forecast(Doing(activity, 9.0), Progress(**RUN), ceiling=960)
    assert (told.pages, told.minutes, told.least_minutes) == (9, None, None)
