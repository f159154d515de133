"""Runs -> what commands print of them; pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.evidence.outcomes import ResourceOutcome, RunOutcome
from tasks.reading.estimates import Estimate
from workers.state.limiter import BudgetState

_WORST = ("complete", "unavailable", "partial", "failed", "cancelled", "open")
"""States from best to worst; of several runs the worst counts."""

_NO_GAP = {("partial", "backlog"), ("unavailable", "plan")}

Document = dict[str, Any]


def summary(runs: Sequence[RunOutcome]) -> Document:
    """Return one account of runs that belong together, oldest first: sums, and the worst state."""
    last = runs[-1]
    return {
        "run": runs[0].run,
        "runs": [run.run for run in runs],
        "state": max((*map(_state, runs[:-1]), last.state), key=_WORST.index),
        "since": min(run.since for run in runs),
        "until": max(run.until for run in runs),
        "resources": {
            name: _resource([run.resources[name] for run in runs if name in run.resources])
            for name in dict.fromkeys(name for run in [last, *runs] for name in run.resources)
        },
    }


def run_row(run: RunOutcome) -> Document:
    """Return one line of a list of runs."""
    names = ("run", "state", "since", "until", "opened_at", "sealed_at", "records", "requests")
    return {name: getattr(run, name) for name in names} | {"backlog": run.backlog}


def estimate(found: Estimate, budget: BudgetState) -> Document:
    """Return how much a run would ask for, with the minutes that takes at its budget's pace."""
    minutes = found.requests / max(1, budget.ceiling)
    return {
        "source": found.plan.source,
        "run": found.plan.run,
        "requests": found.requests,
        "minutes": None if found.unsure else minutes,
        "least_minutes": minutes,
        "unsure": found.unsure,
        "backlog": found.backlog,
        "asked": found.looks,
        "ceiling": budget.ceiling,
        "others": budget.foreign,
        "limit": budget.limit,
        "resources": {
            name: {"requests": each.requests, "unsure": each.unsure}
            for name, each in found.resources.items()
        },
    }


def exit_code(state: str) -> int:
    """Return how a command ends that waited for a run."""
    return {"complete": 0, "failed": 1}.get(state, 3)


def _state(run: RunOutcome) -> str:
    """Return the state of a run that others follow: what it only left to them makes it no less complete."""
    left = any(each.reason == "backlog" for each in run.resources.values())
    whole = all(
        each.state == "complete" or (each.state, each.reason) in _NO_GAP
        for each in run.resources.values()
    )
    return "complete" if run.state == "partial" and left and whole else run.state


def _not_made_up(found: Sequence[ResourceOutcome]) -> list[ResourceOutcome]:
    return [each for each in found[:-1] if each.reason != "backlog"] + [found[-1]]


def _resource(found: Sequence[ResourceOutcome]) -> Document:
    worst = max(_not_made_up(found), key=lambda each: _WORST.index(each.state))
    return {
        "state": worst.state,
        "reason": worst.reason,
        "records": sum(each.records for each in found),
        "requests": sum(each.requests for each in found),
        "period": found[-1].period,
        "outside": [
            dict(zip(("since", "until", "reason"), each, strict=True)) for each in found[-1].outside
        ],
        "withheld": dict(found[-1].withheld),
        "vanished": list(found[-1].vanished),
        "denied": list(found[-1].denied),
    }
