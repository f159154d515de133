"""Verifies copies that were made to stop a verifier: each has a named difference, and memory stays bounded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.processes import ROOT, environment
from tests.unit.verifying.test_tampering import HISTORY, SECOND, SOURCE

MOST_BYTES = 300 * 2**20
RUN = Path(SOURCE) / "runs" / SECOND
PAGE = RUN / "pages/teams/all.1/000000.json.zst"
ARTIFACT = RUN / "artifacts/teams.000.jsonl.zst"


def bomb(gigabytes: float) -> bytes:
    """Return a small object that unpacks to a long line of zeros."""
    compressor = zstandard.ZstdCompressor(level=3).compressobj()
    piece = bytes(2**20)
    packed = [compressor.compress(piece) for _ in range(int(gigabytes * 1024))]
    return b"".join([*packed, compressor.flush()])


def first_frame(path: Path) -> bytes:
    """Return the first frame of a stored page, as it is."""
    blob = path.read_bytes()
    decompressor = zstandard.ZstdDecompressor().decompressobj()
    decompressor.decompress(blob)
    return blob[: len(blob) - len(decompressor.unused_data)]


def replace(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def doubled_member(root: Path) -> None:
    text = (root / RUN / "manifest.json").read_bytes()
    replace(root / RUN / "manifest.json", text.replace(b"{", b'{\n  "state": "complete",', 1))


def huge(path: Path) -> None:
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate(2**30)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


HOSTILE: dict[str, Callable[[Path], Any]] = {
    "a page that unpacks to a gigabyte": lambda root: replace(root / PAGE, bomb(1)),
    "a body that unpacks to a gigabyte": lambda root: replace(
        root / PAGE, first_frame(root / PAGE) + bomb(1)
    ),
    "a page of 100,000 frames": lambda root: replace(
        root / PAGE, zstandard.ZstdCompressor().compress(b"{}\n") * 100_000
    ),
    "an artifact that unpacks to four gigabytes": lambda root: replace(root / ARTIFACT, bomb(4)),
    "a pipe in the place of a page": lambda root: pipe(root / PAGE),
    "a pipe in the place of a manifest": lambda root: pipe(root / RUN / "manifest.json"),
    "a pipe in the place of the digests": lambda root: pipe(root / RUN / "SHA256SUMS"),
    "a directory that leads into itself": lambda root: (root / RUN / "loop").symlink_to(root / RUN),
    "a link to a page elsewhere": lambda root: (
        (root / PAGE).rename(root / "elsewhere"),
        (root / PAGE).symlink_to(root / "elsewhere"),
    ),
    "a hidden file": lambda root: (root / RUN / ".~hidden").write_bytes(b""),
    "a manifest of a gigabyte": lambda root: huge(root / RUN / "manifest.json"),
    "a plan of a gigabyte": lambda root: huge(root / RUN / "plan.json"),
    "digests of a gigabyte": lambda root: huge(root / RUN / "SHA256SUMS"),
    "a seal of a gigabyte": lambda root: huge(root / RUN / "seal.dsse.json"),
    "a seal that is nested 10,000 deep": lambda root: replace(
        root / RUN / "seal.dsse.json", b"[" * 10_000 + b"]" * 10_000
    ),
    "a manifest that is nested 10,000 deep": lambda root: replace(
        root / RUN / "manifest.json", b"[" * 10_000 + b"]" * 10_000
    ),
    "a plan that is nested 10,000 deep": lambda root: replace(
        root / RUN / "plan.json", b'{"a":' * 10_000 + b"1" + b"}" * 10_000
    ),
    "a member that comes twice": doubled_member,
    "a name that differs in case": lambda root: (root / RUN / "Manifest.JSON").write_bytes(b"{}"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_copy_is_named_within_bounds(what: str, tmp_path: Path) -> None:
    for key, blob in HISTORY.items():
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(blob)
    HOSTILE[what](tmp_path)
    settings = {"PAGETRAIL_STORAGE_URL": f"file://{tmp_path}"}
    with subprocess.Popen(
        [sys.executable, "-m", "tasks.cli", "verify", SOURCE, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**environment(), **settings},
    ) as verifying:
        assert verifying.stdout
        assert verifying.stderr
        out, err = verifying.stdout.read(), verifying.stderr.read()
        _, status, usage = os.wait4(verifying.pid, 0)
    assert (os.waitstatus_to_exitcode(status), err) == (3, b"")
    found = [each for each in json.loads(out)["differences"] if each["kind"] != "late"]
    assert found
    assert all("Traceback" not in each["detail"] for each in found)
    assert usage.ru_maxrss * 1024 < MOST_BYTES, f"{usage.ru_maxrss // 1024} MB"
