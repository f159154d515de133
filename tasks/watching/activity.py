"""Work out a source's activity, its waits and the rest of its run from its progress: pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from workers.state.progress import Progress
from workers.storage.registry import SourceState

PROMPT_SECONDS = 5.0
"""A message is usually taken, and a request answered, within this time. Longer is a wait."""
STUCK_LEASES = 3
"""If the next step of a source is overdue by this many page leases, it is stuck and needs a person."""
SEALERS = 3
"""A run without open pages is stuck after this many workers have tried to seal it."""


class Activity(StrEnum):
    """What a source does now, the most urgent first. In the first five it makes no progress."""

    SUSPENDED = "suspended"  # PagerDuty refuses the key
    STUCK = "stuck"  # its next step is overdue: `why` says which step
    WORKER = "worker"  # its messages wait for a worker
    PAGERDUTY = "pagerduty"  # requests fail, or their answers take long
    BUDGET = "budget"  # its credential's limit is used up
    READING = "reading"
    SEALING = "sealing"
    PAUSED = "paused"
    IDLE = "idle"  # no run is open
    DISCONNECTED = "disconnected"


WAITS = (Activity.BUDGET, Activity.WORKER, Activity.PAGERDUTY)
"""The activities in which pages wait for something."""


@dataclass(frozen=True, slots=True)
class Doing:
    """The activity of a source, and for how many seconds (None: not known)."""

    activity: Activity
    seconds: float | None = None
    why: str = ""  # the overdue step of a stuck source: look | plan | offer | error | seal


@dataclass(frozen=True, slots=True)
class Wait:
    """How many pages wait for one thing, and how long the oldest of these pages has waited."""

    pages: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """The rest of an open run, if it goes on at the pace of its budget."""

    pages: int  # that are open, and that are expected to be opened
    unsure: tuple[str, ...]  # feeds of unknown length
    least_minutes: float | None  # for `pages`; None while the run makes no progress

    @property
    def minutes(self) -> float | None:
        """Minutes until all is read; None if that isn't known."""
        return None if self.unsure else self.least_minutes


def waits(progress: Progress) -> dict[Activity, Wait]:
    """Return how many open pages wait for budget, for a worker and for PagerDuty."""
    why = progress.why
    blamed = {why: progress.why_at}
    apart = progress.apart  # pages that wait for the limit of their own endpoint class
    budget = apart + (progress.ready if why == Activity.BUDGET else 0)
    # Pages that failed, or whose resource only a newer worker knows.
    later = max(0, progress.later - apart)
    unknown = later if why == Activity.WORKER else 0
    taken = [at for at in (progress.offered_at, blamed.get(Activity.WORKER)) if at]
    asked = [at for at in (progress.claimed_at, blamed.get(Activity.PAGERDUTY)) if at]
    found = {
        Activity.BUDGET: (budget, blamed.get(Activity.BUDGET)),
        Activity.WORKER: (progress.offered + unknown, min(taken, default=None)),
        Activity.PAGERDUTY: (progress.claimed + later - unknown, min(asked, default=None)),
    }
    return {each: Wait(n, _age(progress, at)) for each, (n, at) in found.items()}


def doing(
    state: SourceState, progress: Progress, queues: Mapping[str, int], lease_seconds: float
) -> Doing:
    """Return the activity of a source in *state*; *queues* has the number of messages in each queue."""
    overdue = STUCK_LEASES * lease_seconds
    if not progress.run:
        return _between_runs(state, progress, queues, overdue)
    if not progress.pages:
        return _sealing(progress, queues, overdue)
    hold = progress.hold
    if state is SourceState.PAUSED or hold not in ("", "key"):
        return Doing(Activity.PAUSED)
    if hold:
        return Doing(Activity.SUSPENDED, _blamed(progress, "key"))
    return _stuck(progress, queues, overdue) or _waiting(progress) or Doing(Activity.READING)


def _between_runs(
    state: SourceState, progress: Progress, queues: Mapping[str, int], overdue: float
) -> Doing:
    if state is not SourceState.ACTIVE:
        return Doing(Activity(state))
    late = _age(progress, progress.due_at)
    if late is None or late < PROMPT_SECONDS:
        return Doing(Activity.IDLE)
    if queues["plan"]:
        return Doing(Activity.WORKER, late)
    return Doing(Activity.STUCK, late, "plan") if late > overdue else Doing(Activity.IDLE)


def _sealing(progress: Progress, queues: Mapping[str, int], overdue: float) -> Doing:
    age = _age(progress, progress.empty_at) or 0.0
    leased = (progress.seal_lease or 0) > progress.now
    if not leased and queues["seal"] and age > PROMPT_SECONDS:
        return Doing(Activity.WORKER, age)
    if age > overdue and (not leased or progress.seals >= SEALERS):
        return Doing(Activity.STUCK, age, "seal")
    return Doing(Activity.SEALING, age)


def _stuck(progress: Progress, queues: Mapping[str, int], overdue: float) -> Doing | None:
    """Return the activity of a source if its messages wait for a worker or a step is overdue, else None."""
    offered = _age(progress, progress.offered_at) or 0.0
    if offered > PROMPT_SECONDS and queues.get(progress.queue, 0) and not progress.claimed:
        return Doing(Activity.WORKER, offered)
    late = {
        "look": _age(progress, progress.look_at),
        "offer": offered,
        "error": _blamed(progress, "error"),
    }
    for why, seconds in late.items():
        if seconds is not None and seconds > overdue:
            return Doing(Activity.STUCK, seconds, why)
    return None


def _waiting(progress: Progress) -> Doing | None:
    claimed = _age(progress, progress.claimed_at) or 0.0
    failing = _blamed(progress, Activity.PAGERDUTY)
    if failing is not None or claimed > PROMPT_SECONDS:
        return Doing(Activity.PAGERDUTY, max(failing or 0.0, claimed))
    # A page blames WORKER if it waits for a newer worker, which knows its resource.
    for each in (Activity.BUDGET, Activity.WORKER):
        if (seconds := _blamed(progress, each)) is not None:
            return Doing(each, seconds)
    return None


def _blamed(progress: Progress, why: str) -> float | None:
    """Return how long pages have been given back because of *why*, without a success since."""
    return _age(progress, progress.why_at) if progress.why == why else None


def _age(progress: Progress, at_ms: int | None) -> float | None:
    return None if at_ms is None else max(0.0, (progress.now - at_ms) / 1000)


_MOVING = {Activity.READING, Activity.BUDGET}


def forecast(
    now: Doing, progress: Progress, *, ceiling: int, others: Iterable[Progress] = ()
) -> Forecast:
    """Return the rest of the open run of a source that may send *ceiling* requests a minute.

    *others* are the sources that share its credential. Their runs use the same budget, unless they are held.
    """
    pages = _pages_left(progress)
    theirs = sum(_pages_left(each) for each in others if not each.hold)
    unsure = (feed for feed, count in progress.unsure.items() if count > 0)
    minutes = (pages + theirs) / max(1, ceiling) if now.activity in _MOVING else None
    return Forecast(pages, tuple(sorted(unsure)), minutes)


def _pages_left(progress: Progress) -> int:
    return progress.pages + sum(progress.ahead.values())
