"""Manifests for tests that need only a few of their members."""

from __future__ import annotations

from typing import Any

import msgspec

from tasks.reading.sealed import Manifest

Document = dict[str, Any]
DAY = ("2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z")


def manifest_document(**members: Any) -> Document:
    """Return a manifest as a document without its digest: that of an empty run, but for *members*."""
    account = {"region": "us", "subdomain": "acme", "seen": [], "renamed": []}
    credential = {"kind": "account", "fingerprints": []}
    return {
        "format": 1,
        "source": "acme/main",
        "run": "00000001",
        "previous": None,
        "plan_sha256": "0" * 64,
        "state": "complete",
        "ended": "done",
        "opened_at": DAY[1],
        "scheduled_at": DAY[1],
        "sealed_at": DAY[1],
        "period": list(DAY),
        "reached": DAY[1],
        "backfill": False,
        "resources": {},
        "covered": {},
        "backlog": {},
        "unsettled": {},
        "denied": {},
        "sizes": {},
        "continues": False,
        "unreadable": [],
        "orphans": [],
        **members,
        "account": account | members.get("account", {}),
        "credential": credential | members.get("credential", {}),
    }


def resource_document(**members: Any) -> Document:
    """Return the entry of a complete resource without records, but for *members*."""
    return {
        "state": "complete",
        "reason": "",
        "words": "",
        "withheld": {},
        "vanished": [],
        "period": None,
        "outside": [],
        "records": 0,
        "sightings": 0,
        "redacted": 0,
        "requests": 0,
        "artifacts": [],
        "windows": [],
        **members,
    }


def as_manifest(document: Document) -> Manifest:
    """Return a document as the structure that readers of manifests get."""
    return msgspec.convert(document, Manifest)
