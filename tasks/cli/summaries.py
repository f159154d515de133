"""Sum up runs that belong together: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from tasks.evidence.outcomes import ResourceOutcome, RunOutcome

_WORST = ("complete", "unavailable", "partial", "failed", "cancelled", "open")
"""States from best to worst. The state of several runs is the worst of theirs."""

_NO_GAP = {("partial", "backlog"), ("unavailable", "plan")}


@dataclass(frozen=True)
class Summary:
    """The outcome of a run and of the runs that continued it, as --json prints it."""

    run: str
    runs: list[str]
    state: str
    since: datetime
    until: datetime
    resources: dict[str, ResourceOutcome]


def summary(runs: Sequence[RunOutcome]) -> Summary:
    """Return the sums and the worst state of *runs*, which belong together and are in order."""
    last = runs[-1]
    return Summary(
        run=runs[0].run,
        runs=[run.run for run in runs],
        state=max((*map(_state, runs[:-1]), last.state), key=_WORST.index),
        since=min(run.since for run in runs),
        until=max(run.until for run in runs),
        resources={
            name: _resource([run.resources[name] for run in runs if name in run.resources])
            for name in dict.fromkeys(name for run in [last, *runs] for name in run.resources)
        },
    )


def exit_code(state: str) -> int:
    """Return the exit code of a command that waited for a run."""
    return {"complete": 0, "failed": 1}.get(state, 3)


def _state(run: RunOutcome) -> str:
    """Return the state of a run that later runs continue. If it only left a backlog to them, it is complete."""
    left = any(each.reason == "backlog" for each in run.resources.values())
    whole = all(
        each.state == "complete" or (each.state, each.reason) in _NO_GAP
        for each in run.resources.values()
    )
    return "complete" if run.state == "partial" and left and whole else run.state


def _lasting(found: Sequence[ResourceOutcome]) -> list[ResourceOutcome]:
    """Return the outcomes without the backlogs that a later run has read."""
    return [each for each in found[:-1] if each.reason != "backlog"] + [found[-1]]


def _resource(found: Sequence[ResourceOutcome]) -> ResourceOutcome:
    worst = max(_lasting(found), key=lambda each: _WORST.index(each.state))
    return replace(
        found[-1],
        state=worst.state,
        reason=worst.reason,
        words=worst.words,
        records=sum(each.records for each in found),
        requests=sum(each.requests for each in found),
    )
