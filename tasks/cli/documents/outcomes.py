"""The documents about runs as storage knows them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tasks.cli.summaries import Summary
from tasks.evidence.outcomes import RunOutcome


@dataclass(frozen=True)
class ListedRun:
    """A run, as `run list` prints it."""

    run: str
    state: str
    since: datetime
    until: datetime
    opened_at: datetime
    sealed_at: datetime | None
    records: int
    requests: int
    backlog: bool
    seal: str | None  # the digest of its seal; None while it is unsealed


@dataclass(frozen=True)
class ShownRun(Summary):
    """A run that has ended, as `run show` prints it."""

    seal: str | None


def listed_run(run: RunOutcome) -> ListedRun:
    """Return a run as `run list` prints it."""
    return ListedRun(**{name: getattr(run, name) for name in ListedRun.__dataclass_fields__})


def shown_run(outcome: Summary, seal: str | None) -> ShownRun:
    """Return a run that has ended as `run show` prints it."""
    return ShownRun(**vars(outcome), seal=seal)
