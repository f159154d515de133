"""An auditor checks evidence with one file, on a machine that has Python and nothing of Pagetrail, and no network."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.auditing import commands, home_of, typed
from tests.copies import OPEN, RUNS, Copy, sealed_copy
from tests.processes import ROOT
from tests.signer import SOURCE

Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]
MAKE = shutil.which("make") or "make"
ALONE = ("unshare", "--net")
"""Runs a command without any network, not even loopback; only some users may."""


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, built as for a release."""
    directory = tmp_path_factory.mktemp("dist")
    built = subprocess.run(
        [MAKE, "verifier", f"DIST={directory}", f"VENV={sys.prefix}", f"PYTHON={sys.executable}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return directory / "pagetrail-verify.pyz"


@pytest.fixture(scope="module")
def machine(verifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run the file with a Python that has no packages, in an environment without settings and without a network."""
    home = tmp_path_factory.mktemp("home")
    venv.create(home / "python", symlinks=True)
    python = home / "python" / "bin" / "python"
    for name in ("redis", "celery", "httpx", "msgspec"):
        assert subprocess.run(
            [python, "-c", f"import {name}"], check=False, stderr=subprocess.DEVNULL
        ).returncode
    may = shutil.which("unshare") and not subprocess.run([*ALONE, "true"], check=False).returncode

    def run(arguments: Sequence[str], **settings: str) -> Done:
        nowhere = {f"{each}_proxy": "http://127.0.0.1:9" for each in ("http", "https", "all")}
        return subprocess.run(
            [*(ALONE if may else ()), str(python), str(verifier), *arguments],
            cwd=home,
            env={"HOME": str(home), "PATH": "/usr/bin:/bin", **nowhere, **settings},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_the_five_minutes_of_the_page_are_typed_as_they_stand(
    verifier: Path, copy: Copy, tmp_path: Path
) -> None:
    """Each command of docs/evidence.md, in a home directory that holds what the page asks for."""
    home = home_of(copy, tmp_path)
    shutil.copy(verifier, home / "audit")
    venv.create(tmp_path / "python", symlinks=True)
    script = commands("## What you need") + commands("## Five minutes, with the tool")
    done = typed(home, script, tmp_path / "python" / "bin")
    assert done.returncode == 0, done.stderr
    assert "everything is as it was sealed" in done.stderr
    assert "not anchored" not in done.stderr
    assert "not checked" not in done.stderr
    assert len((home / "audit" / "teams.jsonl").read_text().splitlines()) == 132
    (home / "audit" / "evidence" / SOURCE / "runs" / RUNS[0] / "plan.json").unlink()
    done = typed(home, script, tmp_path / "python" / "bin")
    assert done.returncode == 3
    assert "the plan is gone" in done.stdout


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return sealed_copy(tmp_path)


def verified(machine: Run, copy: Copy, *more: str, **settings: str) -> Done:
    keys, head = ("--keys", str(copy.keys)), ("--head", str(copy.head))
    where = {"PAGETRAIL_STORAGE_URL": copy.url} | settings
    return machine(["verify", SOURCE, *keys, *head, *more], **where)


def test_sealed_evidence_is_verified_with_keys_and_a_known_seal(machine: Run, copy: Copy) -> None:
    done = verified(machine, copy, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["ok"], report["runs"], report["open"]) == (True, list(RUNS), [OPEN])
    assert (report["anchored"], len(report["keys"])) == (True, 1)
    assert report["head"]["sha256"] == copy.head.read_text().strip()


@pytest.mark.parametrize(
    "name", ["manifest.json", "plan.json", "artifacts/teams.000.jsonl.zst", "SHA256SUMS"]
)
def test_each_tampered_file_is_named(machine: Run, copy: Copy, name: str) -> None:
    copy.tamper(RUNS[0], name)
    done = verified(machine, copy)
    assert done.returncode == 3
    assert f"{SOURCE}/runs/{RUNS[0]}/{name}" in done.stdout


def test_a_run_that_was_cut_off_and_a_key_of_another_signer_are_found(
    machine: Run, copy: Copy, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = sealed_copy(tmp_path / "other")
    done = verified(machine, copy, "--keys", str(other.keys))
    assert done.returncode == 3
    assert "which isn't one of the keys given" in done.stdout
    shutil.rmtree(copy.run(OPEN))
    shutil.rmtree(copy.run(RUNS[-1]))
    done = verified(machine, copy)
    assert done.returncode == 3
    assert "the end is cut off, or this is another history" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "list", SOURCE],
        ["run", "show", SOURCE, "--run", "1"],
        ["artifact", "list", SOURCE],
        ["artifact", "export", SOURCE, "--resource", "teams", "--format", "csv"],
        ["schema", "manifest"],
        ["--version"],
    ],
    ids=" ".join,
)
def test_the_file_has_every_command_that_reads_evidence(
    machine: Run, copy: Copy, arguments: list[str]
) -> None:
    done = machine(arguments, PAGETRAIL_STORAGE_URL=copy.url)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    assert done.stdout


@pytest.mark.parametrize(
    "arguments", [["up"], ["status"], ["run", "cancel", SOURCE], ["verify", SOURCE]], ids=" ".join
)
def test_what_the_file_does_not_do_is_said_in_a_sentence(
    machine: Run, arguments: list[str]
) -> None:
    """Storage in a bucket is one of these things: the auditor has a copy."""
    done = machine(arguments, PAGETRAIL_STORAGE_URL="s3://bucket/copy")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "This part of Pagetrail reads evidence in a directory: install all of Pagetrail for anything else.\n"
    )


def test_another_python_says_that_the_file_was_built_for_this_one(tmp_path: Path) -> None:
    """Compiled packages are for one Python. The file's first step looks whether they can be loaded."""
    package = tmp_path / "msgspec"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "_core.cpython-399-x86_64-linux-gnu.so").touch()
    first_step = ROOT / "packaging" / "verifier_preamble.py"
    script = (
        f"import runpy, sys; sys.path.insert(0, {str(tmp_path)!r}); "
        f"runpy.run_path({str(first_step)!r}, init_globals={{'site_packages': {str(tmp_path)!r}}})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        "This file was built for cpython-399-x86_64-linux-gnu, and this Python can't run it: use that Python, or "
        "build the file with this one (`make verifier PYTHON=...`).\n"
    )
