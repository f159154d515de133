"""An auditor checks evidence without our code, with the commands of docs/evidence.md as they stand there."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.evidence.compression import sha256
from tasks.verifying.rules import KINDS
from tests.auditing import PAGE, TOOLS, commands, home_of, typed
from tests.copies import RUNS, Copy, sealed_copy
from workers.signing.signers import PrivateKey

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, TOOLS)), reason=f"needs {', '.join(TOOLS)}"
)
SCHEMES = {"ed25519": "Signature Verified Successfully", "ecdsa": "Verified OK"}


def copy_of(directory: Path, scheme: str) -> Copy:
    """Return a copy whose seals are signed with a key of this kind."""
    directory.mkdir(exist_ok=True)
    if scheme == "ed25519":
        return sealed_copy(directory)
    pem = directory / "key.pem"
    kind = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
    openssl = shutil.which("openssl") or ""
    subprocess.run([openssl, "genpkey", *kind, "-out", pem], check=True, capture_output=True)
    pem.chmod(0o600)
    return sealed_copy(directory, PrivateKey(f"file:{pem}", directory / "unused"))


def by_hand() -> str:
    return commands("## What you need") + commands("## An hour, by hand")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_commands_check_evidence_as_they_stand(tmp_path: Path, scheme: str) -> None:
    done = typed(home_of(copy_of(tmp_path, scheme), tmp_path), by_hand())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(SCHEMES[scheme]) == len(RUNS)
    assert f"acme/main run {RUNS[1]}: partial, sealed at 20" in done.stdout
    assert '"request_id"' in done.stdout
    assert "other records" not in done.stdout


def test_the_commands_check_a_source_with_a_single_run(tmp_path: Path) -> None:
    home = home_of(copy_of(tmp_path, "ed25519"), tmp_path)
    for run in RUNS[1:]:
        shutil.rmtree(home / "audit/evidence/acme/main/runs" / run)
    seal = home / "audit/evidence/acme/main/runs" / RUNS[0] / "seal.dsse.json"
    (home / "audit" / "newest.txt").write_text(sha256(seal.read_bytes()))
    done = typed(home, by_hand())
    assert (done.returncode, done.stderr) == (0, "")


def swap_seals(audit: Path) -> None:
    first, second = (audit / "evidence/acme/main/runs" / run / "seal.dsse.json" for run in RUNS)
    second.write_bytes(first.read_bytes())


def flip(name: str) -> Callable[[Path], None]:
    def change(audit: Path) -> None:
        path = audit / "evidence/acme/main/runs" / RUNS[0] / name
        text = bytearray(path.read_bytes())
        text[len(text) // 2] ^= 1
        path.write_bytes(text)

    return change


def add_a_file(audit: Path) -> None:
    (audit / "evidence/acme/main/runs" / RUNS[0] / "pages" / "more").write_text("more")


def cut_off(audit: Path) -> None:
    shutil.rmtree(audit / "evidence/acme/main/runs" / RUNS[1])


def take_out(audit: Path) -> None:
    shutil.rmtree(audit / "evidence/acme/main/runs" / RUNS[0])


CHANGES: dict[str, Callable[[Path], None]] = {
    "page": flip("pages/teams/all.1/000000.json.zst"),
    "plan": flip("plan.json"),
    "manifest": flip("manifest.json"),
    "digests": flip("SHA256SUMS"),
    "seal": flip("seal.dsse.json"),
    "seals": swap_seals,
    "another file": add_a_file,
    "first run": take_out,
    "newest run": cut_off,
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("what", CHANGES)
def test_the_commands_find_what_was_changed(tmp_path: Path, scheme: str, what: str) -> None:
    home = home_of(copy_of(tmp_path, scheme), tmp_path)
    CHANGES[what](home / "audit")
    assert typed(home, by_hand()).returncode != 0


def test_the_commands_refuse_the_seals_of_another_signer(tmp_path: Path) -> None:
    """The forger used the same key id, but has another key; or brings a key that the auditor doesn't know."""
    copy, other = (copy_of(tmp_path / name, "ed25519") for name in ("ours", "theirs"))
    home = home_of(copy, tmp_path)
    keys = home / "audit" / "keys.json"
    keys.write_bytes(other.keys.read_bytes())
    assert typed(home, by_hand()).returncode != 0
    theirs = other.keys.read_text()
    ours = copy.keys.read_text()
    our_id, their_id = (text.split('"id": "')[1][:64] for text in (ours, theirs))
    keys.write_text(theirs.replace(their_id, our_id))
    assert typed(home, by_hand()).returncode != 0


def test_each_kind_of_finding_is_explained() -> None:
    section = PAGE.read_text("utf-8").partition("## What each finding means")[2]
    rows = section.partition("\n## ")[0].splitlines()
    assert {row.split("`")[1] for row in rows if row.startswith("| `")} == set(KINDS)
