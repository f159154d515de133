"""Runs and the ledger's progress -> what commands print of them; pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tasks.outcomes import ResourceOutcome, RunOutcome

_WORST = ("complete", "unavailable", "partial", "failed", "cancelled", "open")
"""States from best to worst; of several runs the worst counts."""

Document = dict[str, Any]


def summary(runs: Sequence[RunOutcome]) -> Document:
    """Return one account of runs that belong together, oldest first: sums, and the worst state."""
    last = runs[-1]
    return {
        "run": runs[0].run,
        "runs": [run.run for run in runs],
        "state": _worst(run.state for run in runs),
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


def exit_code(state: str) -> int:
    """Return how a command ends that waited for a run."""
    return {"complete": 0, "failed": 1}.get(state, 3)


def _worst(states: Iterable[str]) -> str:
    return max(states, key=_WORST.index)


def _resource(found: Sequence[ResourceOutcome]) -> Document:
    worst = max(found, key=lambda each: _WORST.index(each.state))
    return {
        "state": worst.state,
        "reason": worst.reason,
        "records": sum(each.records for each in found),
        "requests": sum(each.requests for each in found),
    }


def requests_sent(progress: Mapping[str, Any]) -> int:
    """Return how many requests the open run has sent."""
    return sum(count for name, count in progress.items() if name.startswith("requests:"))


def progress_words(progress: Mapping[str, Any]) -> str:
    """Return in a few words what the open run is doing."""
    if progress.get("verdict") or not progress["pages"]:
        return "sealing"
    if hold := progress.get("hold"):
        return "suspended, the key is refused" if hold == "key" else str(hold)
    flying = progress["offered"] + progress["claimed"]
    if not flying and progress.get("wait_until"):
        return "waiting for budget"
    return f"{flying} in flight, {progress['pages'] - flying} waiting"
