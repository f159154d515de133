"""`pagetrail verify` finds every change to evidence, from storage alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.evidence import list_again, rewrite
from tests.acceptance.fleet import CommandLine, Fleet, account, settings_for
from tests.simulator_process import SimulatorProcess

SOURCE = "proof/main"


@pytest.fixture(scope="session")
def sealed(shared_fleet: Fleet, pagerduty: SimulatorProcess) -> Path:
    """The directory of two sealed runs of one source."""
    key = "proof-Key-0000000001"
    pagerduty.control("POST", "accounts", **account("proof", [key], incidents=250))
    shared_fleet.connect(SOURCE, key)
    shared_fleet.collect(SOURCE)
    shared_fleet.collect(SOURCE)
    return shared_fleet.runs


@pytest.fixture
def auditor(sealed: Path, pagerduty: SimulatorProcess, tmp_path: Path) -> CommandLine:
    """A person who only has a copy of the evidence: no Redis, no fleet, no vault key."""
    shutil.copytree(sealed / SOURCE, tmp_path / "copy" / SOURCE)
    storage = {"PAGETRAIL_STORAGE_URL": f"file://{tmp_path / 'copy'}"}
    return CommandLine(settings_for(tmp_path / "nothing", pagerduty, storage))


def runs(tmp_path: Path) -> Path:
    return tmp_path / "copy" / SOURCE / "runs"


def flip(path: Path) -> None:
    """Flip one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)


def edit(path: Path, change: Callable[[dict[str, Any]], None], *, sign: bool = False) -> None:
    """Edit a manifest. With *sign*, make its run's list of digests fit again."""
    manifest = json.loads(path.read_text("utf-8"))
    change(manifest)
    rewrite(path, manifest)
    if sign:
        list_again(path.parent)


def test_untouched_evidence_has_no_difference(auditor: CommandLine) -> None:
    report = auditor.verify(SOURCE)
    assert report["runs"] == ["00000001", "00000002"]
    assert report["objects"] > 50
    assert report["differences"] == []


@pytest.mark.parametrize("what", ["pages/incidents", "pages/team_members", "artifacts"])
def test_one_flipped_bit_is_found(auditor: CommandLine, tmp_path: Path, what: str) -> None:
    path = sorted((runs(tmp_path) / "00000001" / what).rglob("*.zst"))[0]
    flip(path)
    report = auditor.verify(SOURCE, code=3)
    found = [(d["run"], d["key"], d["kind"]) for d in report["differences"]]
    assert found == [("00000001", str(path.relative_to(tmp_path / "copy")), "changed")]


@pytest.mark.parametrize("what", ["pages/services", "artifacts"])
def test_one_removed_object_is_found(auditor: CommandLine, tmp_path: Path, what: str) -> None:
    path = sorted((runs(tmp_path) / "00000002" / what).rglob("*.zst"))[-1]
    path.unlink()
    report = auditor.verify(SOURCE, code=3)
    found = [(d["run"], d["key"], d["kind"]) for d in report["differences"]]
    assert found == [("00000002", str(path.relative_to(tmp_path / "copy")), "missing")]


def test_an_edited_manifest_is_found(auditor: CommandLine, tmp_path: Path) -> None:
    path = runs(tmp_path) / "00000001" / "manifest.json"
    edit(path, lambda manifest: manifest["resources"]["incidents"].update(records=249))
    found = {(d["run"], d["kind"]) for d in auditor.verify(SOURCE, code=3)["differences"]}
    kinds = {("00000001", kind) for kind in ("changed", "count", "seal")}
    assert found == {*kinds, ("00000002", "chain")}


def test_a_manifest_that_was_cut_is_found_by_itself_and_by_the_next_run(
    auditor: CommandLine, tmp_path: Path
) -> None:
    path = runs(tmp_path) / "00000001" / "manifest.json"
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-9])
    found = {(d["run"], d["kind"]) for d in auditor.verify(SOURCE, code=3)["differences"]}
    assert found == {("00000001", "manifest"), ("00000001", "seal"), ("00000002", "chain")}


def test_a_manifest_edited_with_its_digest_is_found_by_its_pages_and_by_the_next_run(
    auditor: CommandLine, tmp_path: Path
) -> None:
    path = runs(tmp_path) / "00000001" / "manifest.json"
    edit(path, lambda m: m["resources"]["incidents"].update(records=249), sign=True)
    found = {(d["run"], d["kind"]) for d in auditor.verify(SOURCE, code=3)["differences"]}
    assert found == {("00000001", "count"), ("00000001", "seal"), ("00000002", "chain")}


def test_an_object_nobody_listed_is_found(auditor: CommandLine, tmp_path: Path) -> None:
    path = runs(tmp_path) / "00000001" / "artifacts" / "secrets.000.jsonl.zst"
    path.write_bytes(b"what is this?")
    report = auditor.verify(SOURCE, code=3)
    assert [d["kind"] for d in report["differences"]] == ["extra"]


def test_a_run_that_does_not_exist_is_named(auditor: CommandLine) -> None:
    assert "00000009" in auditor.refused(1, "verify", SOURCE, "--run", "9")
