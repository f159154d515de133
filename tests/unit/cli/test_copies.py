"""The commands that read evidence work on a copy of it, with storage alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pyarrow.parquet
import pytest

from tasks.cli import perform
from tests.copies import OPEN, RUNS, Copy, sealed_copy
from tests.permissions import unprivileged
from tests.signer import SOURCE

Captured = pytest.CaptureFixture[str]
TEAMS = ["artifact", "export", SOURCE, "--resource", "teams"]
READING = {
    "run list": ["run", "list", SOURCE],
    "run show": ["run", "show", SOURCE],
    "run show --run": ["run", "show", SOURCE, "--run", "1"],
    "artifact list": ["artifact", "list", SOURCE],
    "artifact export": TEAMS,
    "verify": ["verify", SOURCE],
}


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Copy:
    """A copy, on a machine where no Redis answers and no data directory can be made."""
    found = sealed_copy(tmp_path)
    monkeypatch.setenv("PAGETRAIL_STORAGE_URL", found.url)
    monkeypatch.setenv("PAGETRAIL_DATA_DIR", "/dev/null/none")
    monkeypatch.setenv("PAGETRAIL_REDIS_URL", "redis://192.0.2.1:1/0")
    return found


@pytest.fixture
def read_only(copy: Copy) -> Iterator[Copy]:
    """The same, where nothing can be written."""
    found = [copy.evidence, *copy.evidence.rglob("*")]
    for path in found:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield copy
    for path in found:
        path.chmod(0o755)


def timeless(text: str) -> str:
    """Return *text* without times, since `verify` says when it was run."""
    return re.sub(r"20\d\d-\d\d-\d\d[T ][\d:.]+", "", text)


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("command", READING)
def test_a_read_only_copy_is_read_by_another_user_who_changes_nothing(
    read_only: Copy, tmp_path: Path, capsys: Captured, command: str, as_json: bool
) -> None:
    arguments = [*READING[command], *(["--json"] if as_json else [])]
    assert perform(arguments) == 0
    told, files = capsys.readouterr(), read_only.files()
    with unprivileged(tmp_path):
        assert perform(arguments) == 0
    again = capsys.readouterr()
    assert (timeless(again.out), timeless(again.err)) == (timeless(told.out), timeless(told.err))
    assert told.out or told.err
    assert read_only.files() == files
    for word in ("pagetrail up", "pagetrail collect", "Redis", "fleet"):
        assert word not in told.err


def test_an_open_run_of_a_copy_is_shown_as_far_as_storage_knows_it(
    copy: Copy, capsys: Captured
) -> None:
    assert perform(["run", "show", SOURCE]) == 0
    told = capsys.readouterr()
    assert told.err.count("\n") == 2
    assert f"Run {OPEN} had not ended when this storage was written or copied." in told.err
    assert perform(["run", "list", SOURCE, "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [(each["run"], each["state"]) for each in runs] == [
        (RUNS[0], "partial"),
        (RUNS[1], "partial"),
        (OPEN, "open"),
    ]


@pytest.mark.parametrize("command", [["artifact", "list", SOURCE], TEAMS, ["verify", SOURCE]])
def test_a_run_that_is_still_open_in_the_copy_needs_a_newer_copy(
    copy: Copy, capsys: Captured, command: list[str]
) -> None:
    assert perform([*command, "--run", OPEN]) == 1
    assert capsys.readouterr().err == (
        f"Run {OPEN} of {SOURCE} is not sealed in this copy: make a new copy after a run was sealed.\n"
    )


def test_a_list_names_each_resource_that_the_run_lacks_and_the_reason(
    copy: Copy, capsys: Captured
) -> None:
    assert perform(["artifact", "list", SOURCE, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {each["resource"] for each in document["artifacts"]} == {"teams", "incidents"}
    missing = {each.pop("resource"): each for each in document["missing"]}
    assert missing["audit_records"] == {
        "state": "unavailable",
        "reason": "plan",
        "words": "said 402",
        "why": "the account's plan lacks it",
    }
    assert missing["users"]["why"] == "the key may not read it"
    assert missing["services"]["state"] == "unplanned"
    assert len(missing) == 9
    assert perform(["artifact", "list", SOURCE]) == 0
    listed = capsys.readouterr().out
    for name, each in missing.items():
        assert any(line.startswith(name) and each["why"] in line for line in listed.splitlines())


def test_verify_prints_what_an_auditor_writes_down(copy: Copy, capsys: Captured) -> None:
    arguments = ["verify", SOURCE, "--keys", str(copy.keys), "--head", str(copy.head)]
    assert perform([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["source"] == SOURCE
    assert document["account"] == {"region": "us", "subdomain": "acme"}
    assert document["period"] == {
        "since": "2025-11-21T00:00:00Z",
        "until": "2026-03-01T00:00:00Z",
    }
    assert document["resources"]["users"] == {"state": "unavailable", "reason": "role"}
    assert document["tool"] == {"name": "pagetrail", "version": version("pagetrail")}
    assert datetime.fromisoformat(document["verified_at"]) <= datetime.now(UTC)
    assert perform(arguments) == 0
    said = capsys.readouterr().err
    for fact in (
        f"pagetrail {version('pagetrail')} verified {SOURCE} at 20",
        "account acme in region us, 2025-11-21 00:00 UTC to 2026-03-01 00:00 UTC",
        "incidents, teams: complete; users: unavailable (role); audit_records: unavailable (plan)",
        copy.head.read_text().strip(),
        f"Signed with key {document['keys'][0]}",
        f"Not sealed yet, so not verified: run {OPEN}",
    ):
        assert fact in said
    (copy.run(RUNS[0]) / "manifest.json").write_bytes(b"{}")
    (copy.run(RUNS[1]) / "manifest.json").write_bytes(b"{}")
    assert perform(arguments) == 3
    assert f"verified {SOURCE} at 20" in capsys.readouterr().err


def test_a_known_seal_is_a_digest_a_file_that_begins_with_it_or_a_seal(
    copy: Copy, capsys: Captured
) -> None:
    seal = copy.run(RUNS[1]) / "seal.dsse.json"
    for known in (copy.head.read_text().strip().upper(), str(copy.head), str(seal)):
        assert perform(["verify", SOURCE, "--head", known]) == 0
        assert "not anchored" not in capsys.readouterr().err


def test_anything_else_in_the_place_of_a_known_seal_is_named(
    copy: Copy, capsys: Captured, tmp_path: Path
) -> None:
    other, closed = copy.run(RUNS[0]) / "SHA256SUMS", tmp_path / "closed"
    other.write_text("nothing")
    closed.touch(0o000)
    wrong = {
        "abc": "there is no such file",
        "n" * 9_999: "File name too long",
        str(tmp_path): "there is no such file",
        str(other): "the file has neither a digest nor a seal",
        str(closed): "Permission denied",
    }
    with unprivileged(tmp_path):
        for known, why in wrong.items():
            assert perform(["verify", SOURCE, "--head", known]) == 2
            said = capsys.readouterr().err
            assert said.startswith(f"{known[:200]} doesn't name a seal ({why}): --head takes")
            assert said.count("\n") == 1


SEAL = "seal.dsse.json"
TAMPERED: dict[str, Callable[[Copy], object]] = {
    "artifact": lambda copy: copy.tamper(RUNS[1], "artifacts/teams.000.jsonl.zst"),
    "manifest": lambda copy: copy.tamper(RUNS[1], "manifest.json"),
    "digests": lambda copy: copy.tamper(RUNS[1], "SHA256SUMS"),
    "seal": lambda copy: (copy.run(RUNS[1]) / SEAL).write_bytes(
        (copy.run(RUNS[0]) / SEAL).read_bytes()
    ),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_an_export_refuses_a_run_that_was_changed_before_it_writes_anything(
    copy: Copy, capsys: Captured, tmp_path: Path, what: str
) -> None:
    TAMPERED[what](copy)
    for more in ([], ["--run", "2"], ["--output", str(tmp_path / "teams.jsonl")]):
        assert perform([*TEAMS, *more]) == 1
        told = capsys.readouterr()
        assert (told.out, told.err.count("\n")) == ("", 1)
        assert f"`pagetrail verify {SOURCE}` says what else is wrong" in told.err
    assert not (tmp_path / "teams.jsonl").exists()


@pytest.mark.parametrize("what", TAMPERED)
def test_an_unverified_export_warns_and_writes_what_can_be_read(
    copy: Copy, capsys: Captured, what: str
) -> None:
    TAMPERED[what](copy)
    assert perform([*TEAMS, "--unverified"]) == 3
    told = capsys.readouterr()
    assert f"\nNot verified: {SOURCE}/runs/{RUNS[1]}/" in f"\n{told.err}"
    records = [json.loads(line) for line in told.out.splitlines()]
    assert all(each["type"] == "thing" for each in records)
    whole = 132 if what in ("seal", "digests") else 0
    assert len(records) >= whole


def test_an_unverified_export_of_a_whole_run_warns_about_nothing(
    copy: Copy, capsys: Captured
) -> None:
    assert perform(TEAMS) == 0
    whole = capsys.readouterr()
    assert perform([*TEAMS, "--unverified"]) == 0
    assert capsys.readouterr() == whole


def test_an_artifact_that_is_gone_or_holds_something_else_does_not_stop_an_unverified_export(
    copy: Copy, capsys: Captured
) -> None:
    """Its lines that aren't records are left out, so that every format can be written."""
    import zstandard

    path = copy.run(RUNS[1]) / "artifacts" / "teams.000.jsonl.zst"
    path.write_bytes(zstandard.compress(b'{"id":"P1"}\n[]\n{"id"\n' + b"[" * 9_999 + b"\n"))
    for kind in ("jsonl", "csv"):
        assert perform([*TEAMS, "--unverified", "--format", kind]) == 3
        told = capsys.readouterr()
        assert "P1" in told.out
        assert "has lines that are not records" in told.err
    path.unlink()
    assert perform([*TEAMS, "--unverified", "--run", "2"]) == 3
    assert "teams.000.jsonl.zst is missing" in capsys.readouterr().err


def test_an_unverified_parquet_file_says_so_itself(
    copy: Copy, capsys: Captured, tmp_path: Path
) -> None:
    path = tmp_path / "teams.parquet"
    TAMPERED["digests"](copy)
    arguments = [*TEAMS, "--unverified", "--format", "parquet", "--output", str(path)]
    assert perform(arguments) == 3
    metadata = pyarrow.parquet.read_metadata(path).metadata
    assert b"SHA256SUMS lists another one" in metadata[b"pagetrail.unverified"]
    assert b"SHA256SUMS lists another one" in capsys.readouterr().err.encode()


def test_an_export_as_of_a_run_names_that_run(copy: Copy, capsys: Captured) -> None:
    """The exit code is 0 also if later runs read more."""
    assert perform([*TEAMS, "--as-of", RUNS[0]]) == 0
    told = capsys.readouterr()
    assert f"As of run {RUNS[0]}, the last run is {RUNS[0]}: its period ended at " in told.err
    assert perform([*TEAMS, "--run", RUNS[0]]) == 0
    assert capsys.readouterr().out == told.out
