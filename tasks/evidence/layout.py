"""Where each object of a run lies in storage."""

from __future__ import annotations

SEALS = ("seal.dsse.json", "seal.tsr")
"""The seal of a run, and the time stamp on it."""


def run_prefix(source: str, run: str) -> str:
    return f"{source}/runs/{run}"


def plan_key(source: str, run: str) -> str:
    return f"{run_prefix(source, run)}/plan.json"


def manifest_key(source: str, run: str) -> str:
    return f"{run_prefix(source, run)}/manifest.json"


def sums_key(source: str, run: str) -> str:
    return f"{run_prefix(source, run)}/SHA256SUMS"


def pages_prefix(source: str, run: str) -> str:
    return f"{run_prefix(source, run)}/pages"


def page_key(source: str, run: str, page_id: str) -> str:
    return f"{pages_prefix(source, run)}/{page_id}.json.zst"


def artifact_key(source: str, run: str, resource: str, part: int) -> str:
    return f"{run_prefix(source, run)}/artifacts/{resource}.{part:03d}.jsonl.zst"


def seal_key(source: str, run: str) -> str:
    return f"{run_prefix(source, run)}/seal.dsse.json"
