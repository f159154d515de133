"""The records that an export gives."""

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from msgspec.structs import asdict

from tasks.evidence.artifacts import write_parts
from tasks.evidence.compression import sha256
from tasks.evidence.exports import NOW, AsOf, choose, records, sealed
from tasks.evidence.layout import artifact_key, manifest_key, sums_key
from tasks.evidence.sums import sums
from tests.manifests import (
    as_manifest,
    manifest_digest,
    manifest_document,
    manifest_text,
    period,
    resource_document,
)
from workers.errors import NotFound, StorageConflict
from workers.storage import Storage, open_storage

Record = dict[str, Any]
SOURCE = "acme/main"


class Runs:
    """Stores sealed runs of one resource each."""

    def __init__(self, resource: str) -> None:
        self.storage: Storage = open_storage("memory://")
        self.resource = resource
        self.count = 0
        self.last: dict[str, str] | None = None

    def seal(self, state: str, *found: Record, backlog: bool = False, until: str = "") -> None:
        """Add the next run, in which the resource has *state* and the records *found*."""
        self.count += 1
        run = f"{self.count:08d}"
        key = artifact_key(SOURCE, run, self.resource, 0)
        artifacts = [self._store(key, found)] if state in ("complete", "partial") else []
        entry = resource_document(state=state, artifacts=artifacts)
        left = {self.resource: [period("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z")]}
        manifest = manifest_document(
            source=SOURCE,
            run=run,
            resources={self.resource: entry},
            backlog=left if backlog else {},
            previous=self.last,
            **({"period": period("2026-01-01T00:00:00Z", until)} if until else {}),
        )
        text = manifest_text(manifest)
        self.storage.put_new(manifest_key(SOURCE, run), text)
        self.storage.put_new(sums_key(SOURCE, run), sums(as_manifest(manifest), text))
        self.last = {"run": run, "sha256": manifest_digest(manifest)}

    def _store(self, key: str, found: Sequence[Record]) -> Record:
        lines = (orjson.dumps(record) + b"\n" for record in found)
        with tempfile.TemporaryDirectory() as directory:
            part = Path(directory) / "part"
            [content] = write_parts(lines, part)
            blob = part.read_bytes()
        self.storage.put_new(key, blob)
        assert content.sha256 == sha256(blob)
        return {"key": key, **asdict(content)}

    def export(self, run: str | None = None, as_of: AsOf = NOW) -> dict[str, Any]:
        """Return the exported records by id."""
        choice = choose(sealed(self.storage, SOURCE, run), SOURCE, self.resource, run, as_of)
        lines = [orjson.loads(line) for line in records(self.storage, choice)]
        found = {record["id"]: record.get("v") for record in lines}
        assert len(found) == len(lines)
        return found


def record(record_id: str, version: int) -> Record:
    return {"id": record_id, "v": version}


def test_a_windowed_resource_gives_the_newest_version_of_every_record_ever_read() -> None:
    runs = Runs("incidents")
    runs.seal("complete", record("A", 1), record("B", 1))
    runs.seal("partial", record("B", 2), record("C", 2))
    runs.seal("failed")
    runs.seal("complete", record("C", 4))
    assert runs.export() == {"A": 1, "B": 2, "C": 4}


def test_a_snapshot_gives_the_last_complete_reading_and_additions_of_later_partial_ones() -> None:
    runs = Runs("services")
    runs.seal("complete", record("gone", 1), record("A", 1))
    runs.seal("complete", record("A", 2), record("B", 2))
    runs.seal("partial", record("B", 3))
    runs.seal("unavailable")
    assert runs.export() == {"A": 2, "B": 3}


def test_a_snapshot_that_was_never_read_completely_gives_its_partial_readings() -> None:
    runs = Runs("services")
    runs.seal("partial", record("A", 1))
    runs.seal("partial", record("B", 2))
    choice = choose(sealed(runs.storage, SOURCE), SOURCE, "services")
    assert not choice.whole
    assert runs.export() == {"A": 1, "B": 2}


def test_one_run_only_gives_its_own_records() -> None:
    runs = Runs("incidents")
    runs.seal("complete", record("A", 1))
    runs.seal("complete", record("A", 2), record("B", 2))
    assert runs.export("00000001") == {"A": 1}


@pytest.mark.parametrize(
    ("resource", "states", "whole"),
    [
        ("services", ["partial", "complete"], True),
        ("services", ["complete", "partial"], False),
        ("incidents", ["complete", "complete"], True),
        ("incidents", ["partial", "complete"], True),
        ("incidents", ["complete", "failed"], False),
        ("services", ["complete", "unavailable"], False),
    ],
)
def test_an_export_knows_whether_anything_is_missing(
    resource: str, states: list[str], whole: bool
) -> None:
    runs = Runs(resource)
    for state in states:
        runs.seal(state)
    assert choose(sealed(runs.storage, SOURCE), SOURCE, resource).whole is whole


def test_a_backlog_is_known_to_be_missing() -> None:
    runs = Runs("incidents")
    runs.seal("complete", backlog=True)
    assert not choose(sealed(runs.storage, SOURCE), SOURCE, "incidents").whole
    runs.seal("complete")
    assert choose(sealed(runs.storage, SOURCE), SOURCE, "incidents").whole


def test_a_resource_that_was_never_readable_has_no_records_but_a_reason() -> None:
    runs = Runs("audit_records")
    runs.seal("unavailable")
    choice = choose(sealed(runs.storage, SOURCE), SOURCE, "audit_records")
    assert (choice.readings, choice.newest.state) == ((), "unavailable")


def test_an_export_of_something_that_does_not_exist_is_not_found() -> None:
    runs = Runs("services")
    with pytest.raises(NotFound, match="There is no source acme/main"):
        next(sealed(runs.storage, "acme/main"))
    runs.storage.put_new(".registry/acme/main.json", b"{}")
    with pytest.raises(NotFound, match="no sealed run yet"):
        next(sealed(runs.storage, SOURCE))
    runs.seal("complete")
    with pytest.raises(NotFound, match="no run 00000009"):
        next(sealed(runs.storage, SOURCE, "00000009"))
    with pytest.raises(NotFound, match="does not collect users"):
        choose(sealed(runs.storage, SOURCE), SOURCE, "users")


def test_a_damaged_artifact_is_never_silently_exported() -> None:
    runs = Runs("services")
    runs.seal("complete", record("A", 1))
    key = artifact_key(SOURCE, "00000001", "services", 0)
    blob = runs.storage.get(key) or b""
    runs.storage.delete(key)
    with pytest.raises(StorageConflict, match="is missing"):
        runs.export()
    runs.storage.put_new(key, blob[:-3])
    with pytest.raises(StorageConflict):
        runs.export()
    runs.storage.delete(key)
    other = Runs("services")
    other.seal("complete", record("X", 1))
    runs.storage.put_new(key, other.storage.get(key) or b"")
    with pytest.raises(StorageConflict, match="is not the object"):
        runs.export()


def three_runs() -> Runs:
    runs = Runs("incidents")
    for version in (1, 2, 3):
        runs.seal("complete", record(f"only in {version}", version))
    return runs


@pytest.mark.parametrize("run", ["00000001", "00000002", "00000003"])
def test_an_export_refuses_a_manifest_that_was_changed(run: str) -> None:
    """If `SHA256SUMS` lists another manifest, an export of all runs or of this run ends and names it."""
    runs, key = three_runs(), manifest_key(SOURCE, run)
    changed = (runs.storage.get(key) or b"").replace(b'"complete"', b'"failed"')
    runs.storage.delete(key)
    runs.storage.put_new(key, changed)
    for wanted in (None, run):
        with pytest.raises(StorageConflict, match=rf"{key} is damaged .*pagetrail verify {SOURCE}"):
            runs.export(wanted)


@pytest.mark.parametrize("run", ["00000001", "00000002"])
def test_an_export_of_all_runs_never_silently_misses_one(run: str) -> None:
    """If the run before another one is missing or was replaced, the export ends. No record of an erasure excuses it."""
    runs, key = three_runs(), manifest_key(SOURCE, run)
    whole = runs.storage.get(key) or b""
    runs.storage.delete(key)
    with pytest.raises(StorageConflict, match=rf"{key} is missing or isn't .*pagetrail verify"):
        runs.export()
    runs.storage.put_new(key, manifest_text(orjson.loads(whole) | {"state": "failed"}))
    runs.storage.delete(sums_key(SOURCE, run))
    with pytest.raises(StorageConflict, match=rf"{key} is missing or isn't .*pagetrail verify"):
        runs.export()
    runs.storage.delete(key)
    runs.storage.put_new(key, whole)
    assert len(runs.export()) == 3


def test_an_export_refuses_a_run_that_the_next_one_does_not_follow() -> None:
    """A run that was put before the first one is never read."""
    runs = Runs("incidents")
    runs.seal("complete", record("forged", 1))
    runs.last = None
    runs.seal("complete", record("A", 2))
    with pytest.raises(StorageConflict, match="follows no run, although older runs are stored"):
        runs.export()
    assert runs.export("00000002") == {"A": 2}


@pytest.mark.parametrize("resource", ["incidents", "users"])
def test_an_export_as_of_a_moment_leaves_out_later_runs(resource: str) -> None:
    """A run counts if its period ended by then; the run before it is named as the last one."""
    runs = Runs(resource)
    for month in (2, 3, 4):
        runs.seal("complete", record("A", month), until=f"2026-0{month}-01T00:00:00Z")
    march = datetime(2026, 3, 1, tzinfo=UTC)
    for as_of, version in ((AsOf(until=march), 3), (AsOf(run="00000001"), 2), (NOW, 4)):
        assert runs.export(as_of=as_of) == {"A": version}
    choice = choose(
        sealed(runs.storage, SOURCE), SOURCE, resource, as_of=AsOf(until=march.replace(day=20))
    )
    assert (choice.newest.run, choice.newest.until) == ("00000002", march)


def test_an_export_as_of_a_moment_before_all_runs_says_so() -> None:
    runs = Runs("users")
    runs.seal("complete", record("A", 1), until="2026-02-01T00:00:00Z")
    with pytest.raises(NotFound, match="ended its period by 2026-01-31T00:00:00Z"):
        runs.export(as_of=AsOf(until=datetime(2026, 1, 31, tzinfo=UTC)))
