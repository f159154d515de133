"""Tell everyone that a run has ended, and when the source is due next."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from tasks.reading.plans import next_due
from tasks.reading.windows import moment
from workers.errors import NotFound
from workers.runtime import Runtime
from workers.storage.registry import Source, SourceState


def finish(fleet: Runtime, source: str, manifest: Mapping[str, Any]) -> None:
    """Tell the ledger, and who follows events, that a run ended with *manifest*, and when the source is due next."""
    [before] = fleet.ledger.lasts([source])
    if not before or orjson.loads(before)["run"] < manifest["run"]:
        _tell(fleet, source, manifest)
    names = ("run", "state", "ended", "opened_at", "sealed_at", "continues")
    summary = {name: manifest[name] for name in names}
    summary["subdomains"] = manifest["account"]["seen"]
    fleet.ledger.finish(
        source,
        manifest["run"],
        _next_ms(fleet, source, manifest),
        orjson.dumps(summary | {"backlog": bool(manifest["backlog"])}).decode(),
    )


def _tell(fleet: Runtime, source: str, manifest: Mapping[str, Any]) -> None:
    resources = manifest["resources"]
    fleet.events.emit(
        "run.sealed",
        source,
        manifest["run"],
        {
            **{name: manifest[name] for name in ("sealed_at", "state", "ended", "period")},
            "backlog": bool(manifest["backlog"]),
            "records": sum(entry["records"] for entry in resources.values()),
            "requests": sum(entry["requests"] for entry in resources.values()),
            "resources": {
                name: {"state": entry["state"], "reason": entry["reason"]}
                for name, entry in resources.items()
            },
        },
    )


def _next_ms(fleet: Runtime, source_id: str, manifest: Mapping[str, Any]) -> int | None:
    try:
        source = fleet.sources.get(source_id)
    except NotFound:
        return None
    if source.state is SourceState.ACTIVE and manifest["continues"]:
        return fleet.ledger.time().now_ms
    return due_ms(source, moment(manifest["scheduled_at"]))


def due_ms(source: Source, after: datetime) -> int | None:
    """Return when *source* is due next after *after*, in ms; None: never, or not while it is stopped."""
    due = next_due(source.id, source.connected_at, source.every_seconds, after)
    return int(due.timestamp() * 1000) if due and source.state is SourceState.ACTIVE else None
