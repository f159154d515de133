"""Manifests and the ledger's progress -> what commands print of runs; pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tasks.runs import Plan
from tasks.windows import rfc3339

_WORST = ("complete", "unavailable", "partial", "failed", "cancelled", "open")
"""States from best to worst; of several runs the worst counts."""

Document = dict[str, Any]


def summary(manifests: Sequence[Mapping[str, Any]]) -> Document:
    """Return one account of runs that belong together, oldest first: sums, and the worst state."""
    last = manifests[-1]
    return {
        "run": manifests[0]["run"],
        "runs": [manifest["run"] for manifest in manifests],
        "state": _worst(manifest["state"] for manifest in manifests),
        "since": min(manifest["period"][0] for manifest in manifests),
        "until": max(manifest["period"][1] for manifest in manifests),
        "resources": {
            name: _resource([m["resources"][name] for m in manifests if name in m["resources"]])
            for name in dict.fromkeys(name for m in [last, *manifests] for name in m["resources"])
        },
    }


def open_summary(plan: Plan, progress: Mapping[str, Any]) -> Document:
    """Return the same of a run that is not sealed, as far as the ledger can tell."""
    return {
        "run": plan.run,
        "runs": [plan.run],
        "state": "open",
        "since": rfc3339(plan.period.since),
        "until": rfc3339(plan.period.until),
        "resources": {
            name: {
                "state": "open",
                "reason": "",
                "records": 0,
                "requests": progress.get(f"requests:{name}", 0),
            }
            for name in plan.resources
        },
    }


def run_row(manifest: Mapping[str, Any]) -> Document:
    """Return one line of a list of runs."""
    resources = manifest["resources"].values()
    return {
        "run": manifest["run"],
        "state": manifest["state"],
        "since": manifest["period"][0],
        "until": manifest["period"][1],
        "opened_at": manifest["opened_at"],
        "sealed_at": manifest["sealed_at"],
        "records": sum(entry["records"] for entry in resources),
        "requests": sum(entry["requests"] for entry in resources),
        "backlog": bool(manifest["backlog"]),
    }


def open_row(plan: Plan, progress: Mapping[str, Any]) -> Document:
    """Return the line of a run that is not sealed."""
    return {
        "run": plan.run,
        "state": "open",
        "since": rfc3339(plan.period.since),
        "until": rfc3339(plan.period.until),
        "opened_at": rfc3339(plan.opened_at),
        "sealed_at": None,
        "records": 0,
        "requests": requests_sent(progress),
        "backlog": False,
    }


def artifact_rows(manifest: Mapping[str, Any]) -> list[Document]:
    """Return every artifact of a run."""
    return [
        {
            "resource": name,
            "key": artifact["key"],
            "bytes": artifact["bytes"],
            "sha256": artifact["sha256"],
            "records": artifact["records"],
        }
        for name, entry in manifest["resources"].items()
        for artifact in entry["artifacts"]
    ]


def exit_code(state: str) -> int:
    """Return how a command ends that waited for a run."""
    return {"complete": 0, "failed": 1}.get(state, 3)


def _worst(states: Iterable[str]) -> str:
    return max(states, key=_WORST.index)


def _resource(entries: Sequence[Mapping[str, Any]]) -> Document:
    worst = max(entries, key=lambda entry: _WORST.index(entry["state"]))
    return {
        "state": worst["state"],
        "reason": worst["reason"],
        "records": sum(entry["records"] for entry in entries),
        "requests": sum(entry["requests"] for entry in entries),
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
