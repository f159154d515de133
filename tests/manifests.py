"""Manifests for tests that need only a few of their members."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import asdict

from tasks.evidence import documents
from tasks.evidence.compression import sha256
from tasks.reading.sealed import Manifest, StoredManifest

Document = dict[str, Any]
DAY = ("2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z")
NO_DIGEST = "0" * 64


def period(since: str, until: str) -> Document:
    """Return a period as documents write it."""
    return {"since": since, "until": until}


def manifest_document(**members: Any) -> Document:
    """Return a manifest as a document: that of an empty run, but for *members*."""
    account = {"region": "us", "subdomain": "acme", "seen": [], "renamed": []}
    credential = {"kind": "account", "fingerprints": []}
    return {
        "format": 2,
        "source": "acme/main",
        "run": "00000001",
        "previous": None,
        "plan_sha256": NO_DIGEST,
        "state": "complete",
        "ended": "done",
        "opened_at": DAY[1],
        "scheduled_at": DAY[1],
        "sealed_at": DAY[1],
        "period": period(*DAY),
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


def manifest_text(document: Document) -> bytes:
    """Return the file of a manifest, written as a sealer writes it."""
    return documents.written(_manifest(document))


def manifest_digest(document: Document) -> str:
    """Return the digest of that file."""
    return sha256(manifest_text(document))


def as_manifest(document: Document) -> StoredManifest:
    """Return a document as the structure that readers of manifests get; `sha256` may be among its members."""
    return StoredManifest(**asdict(_manifest(document)), sha256=document.get("sha256") or NO_DIGEST)


def _manifest(document: Document) -> Manifest:
    rest = {name: value for name, value in document.items() if name != "sha256"}
    return msgspec.convert(rest, Manifest)
