"""Compares the collected evidence with the simulator's records, and reads it from storage."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import zstandard

from tests.acceptance.fleet import CommandLine
from tests.simulator_process import SimulatorProcess

Record = dict[str, Any]
REDACTED = "[redacted]"
# Fields that are credentials by themselves.
SECRETS = frozenset(
    (
        "integration_key",
        "integration_email",
        "routing_key",
        "routing_keys",
        "http_cal_url",
        "web_cal_url",
    )
)
_PERIOD = re.compile(r"\d{8}T\d{6}Z_\d{8}T\d{6}Z")
_SHAPE = {
    "limit",
    "offset",
    "total",
    "cursor",
    "since",
    "until",
}  # parameters of pages, not of records
# PagerDuty deletes older records of these, so they could not be read.
KEPT = {"audit_records": timedelta(days=365)}
PAGE = 100
EXPORTERS = 3


class Evidence:
    """The objects of one source in storage."""

    def __init__(self, artifacts: Path, source: str) -> None:
        self.directory = artifacts / source / "runs"

    @property
    def sealed(self) -> list[str]:
        """The ids of the sealed runs, oldest first."""
        return sorted(path.parent.name for path in self.directory.glob("*/manifest.json"))

    def manifest(self, run: str | None = None) -> dict[str, Any]:
        """Return the manifest of a run (default: the newest sealed one)."""
        text = (self.directory / (run or self.sealed[-1]) / "manifest.json").read_text("utf-8")
        return dict(json.loads(text))

    def pages(self, resource: str, run: str = "*") -> Iterator[tuple[Path, Record, Any]]:
        """Yield the file, the envelope and the body of every stored page of a resource."""
        for segment in (resource, f"{resource}.*"):
            for path in sorted(self.directory.glob(f"{run}/pages/{segment}/*/*.json.zst")):
                envelope, _, body, _ = unpacked(path).split(b"\n")
                yield path, json.loads(envelope), json.loads(body)


def rewrite(path: Path, document: Any) -> None:
    """Write a document as Pagetrail writes it, over the one that is there."""
    path.chmod(0o600)
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False), "utf-8")


def list_again(run: Path) -> None:
    """Let a run's `SHA256SUMS` have the digests that its files have now."""
    path = run / "SHA256SUMS"
    names = [line.split("  ")[1] for line in path.read_text("utf-8").splitlines()]
    lines = [f"{file_digest(run / name)}  {name}\n" for name in names]
    path.chmod(0o600)
    path.write_text("".join(lines), "utf-8")


def file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def unpacked(path: Path) -> bytes:
    """Return the content of a stored object."""
    decompressor = zstandard.ZstdDecompressor()
    with (
        path.open("rb") as file,
        decompressor.stream_reader(file, read_across_frames=True) as reader,
    ):
        return reader.read()


def assert_all_true(
    fleet: CommandLine,
    simulator: SimulatorProcess,
    artifacts: Path,
    source: str,
    account: str,
    *,
    resources: Iterable[str] | None = None,
    unreadable: Iterable[str] = (),
) -> dict[str, int]:
    """Export every resource and compare it with the truth, record by record; return the counts."""
    names = [name for name in resources or fleet.resources(source) if name not in set(unreadable)]
    evidence = Evidence(artifacts, source)

    def compare(name: str) -> int:
        got = fleet.export(source, name)
        recipe, redactions = read_as(evidence, name)
        secrets = SECRETS | redactions.keys()
        truth = [redacted(r, secrets) for r in simulator.truth(account, name, recipe)]
        assert_same(f"{source} {name}", got, truth)
        assert _count(got) <= redactions.total(), f"{name}: redactions that no page records"
        return len(truth)

    with ThreadPoolExecutor(EXPORTERS) as exporters:
        return dict(zip(names, exporters.map(compare, names), strict=True))


def read_as(evidence: Evidence, resource: str) -> tuple[list[tuple[str, str]], Counter[str]]:
    """Return the parameters of the requests, as the truth endpoint takes them, and the redacted fields."""
    asked: dict[tuple[str, str], None] = {}
    redactions: Counter[str] = Counter()
    windowed = False
    bounds: dict[str, str] = {}
    for path, envelope, _ in evidence.pages(resource):
        bounds = {n: v for n, v in envelope["params"] if n in ("since", "until")}
        asked |= dict.fromkeys((n, v) for n, v in envelope["params"] if n not in _SHAPE)
        redactions.update(pointer.rpartition("/")[2] for pointer in envelope["redacted"])
        windowed = windowed or bool(_PERIOD.match(path.parent.name))
    if not windowed:  # bounds, if any, select the part of a record that is shown
        return [*asked, *bounds.items()], redactions
    # All runs count, not only the last one.
    first = evidence.manifest(evidence.sealed[0])["period"]
    since, first_until = first["since"], first["until"]
    until = evidence.manifest()["period"]["until"]
    if resource in KEPT:
        since = max(since, f"{datetime.fromisoformat(first_until) - KEPT[resource]:%FT%TZ}")
    return [*asked, ("since", since), ("until", until)], redactions


def redacted(value: Any, names: Iterable[str]) -> Any:
    """Return *value* with the secrets in it replaced."""
    if isinstance(value, list):
        return [redacted(each, names) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: REDACTED if name in names and member else redacted(member, names)
        for name, member in value.items()
    }


def _count(value: Any) -> int:
    if isinstance(value, list):
        return sum(map(_count, value))
    if isinstance(value, dict):
        return sum(map(_count, value.values()))
    return int(value == REDACTED)


def canonical(record: Any) -> str:
    """Return *record* as text that is equal for equal records."""
    return json.dumps(record, sort_keys=True, ensure_ascii=False)


def assert_same(what: str, got: Iterable[Record], truth: Iterable[Record]) -> None:
    """Assert that both have the same records, equally often."""
    have, want = Counter(map(canonical, got)), Counter(map(canonical, truth))
    if have == want:
        return
    lost, extra = want - have, have - want
    raise AssertionError(
        f"{what}: {have.total()} records instead of {want.total()}; {lost.total()} lost or changed, "
        f"{extra.total()} unexpected.\nlost:  {next(iter(lost), '')[:1500]}"
        f"\nextra: {next(iter(extra), '')[:1500]}"
    )


def least(manifest: Mapping[str, Any]) -> dict[str, int]:
    """Return, by resource, the smallest possible number of requests for the records in the windows that count."""
    return {
        name: sum(map(_least, resource["windows"]))
        for name, resource in manifest["resources"].items()
    }


def _least(window: Mapping[str, Any]) -> int:
    if window["state"] == "superseded":
        return 0
    records = window.get("unique", 0)
    if window["window"] == "all":  # pages of lists that can change overlap by one record
        return 1 + max(0, -(-(records - PAGE) // (PAGE - 1)))
    return max(1, -(-records // PAGE))


def sent(summary: Mapping[str, Any]) -> int:
    """Return the requests that `collect --json` accounts for."""
    return sum(resource["requests"] for resource in summary["resources"].values())


def states(summary: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return state and reason of every resource."""
    return {n: (r["state"], r["reason"]) for n, r in summary["resources"].items()}
