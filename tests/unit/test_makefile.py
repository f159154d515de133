"""`make` always installs into its own environment, whatever an interruption left."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.processes import ROOT

PYTHON = """#!/bin/sh
echo "$*" >>{log}
printenv PYTHONDONTWRITEBYTECODE >>{log}.bytecode
if [ "$2" = "import pip" ]; then
  [ ! -e "${{0%/bin/*}}/no-pip" ]
elif [ "$2" = venv ]; then
  mkdir -p "$3/bin" && rm -f "$3/no-pip" && touch "$3/pyvenv.cfg" && cp "$0" "$3/bin/python"
fi
"""  # makes an environment, and logs its arguments


@pytest.fixture
def python(tmp_path: Path) -> Path:
    program = tmp_path / "python3"
    program.write_text(PYTHON.format(log=tmp_path / "log"), "ascii")
    program.chmod(0o755)
    return program


def install(python: Path, venv: Path) -> list[str]:
    """Return the modules that were run, pip once for each installation."""
    log = python.with_name("log")
    log.write_text("", "ascii")
    subprocess.run(
        [str(shutil.which("make")), f"{venv}/.runtime", f"VENV={venv}", f"PYTHON={python}", "uv="],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    assert not (venv / ".unfinished").exists()
    lines = log.read_text("ascii").splitlines()
    return [line.split()[1] for line in lines if line.startswith("-m ")]


def test_an_environment_is_made_once(python: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    assert install(python, venv) == ["venv", "pip", "pip"]
    (venv / ".runtime").unlink()
    assert install(python, venv) == ["pip", "pip"]


def test_programs_keep_bytecode_though_the_environment_asks_not_to(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert install(python, tmp_path / "venv")
    assert (tmp_path / "log.bytecode").read_text("ascii") == ""


def test_an_environment_of_uv_is_made_again_if_uv_is_gone(python: Path, tmp_path: Path) -> None:
    """It has no pip, so nothing could be installed into it."""
    venv = tmp_path / "venv"
    install(python, venv)
    (venv / ".runtime").unlink()
    (venv / "no-pip").touch()
    assert install(python, venv) == ["venv", "pip", "pip"]


@pytest.mark.parametrize("lost", ["pyvenv.cfg", "bin/python"])
@pytest.mark.parametrize("marked", [True, False])
def test_an_environment_that_an_interruption_left_is_made_again(
    python: Path, tmp_path: Path, lost: str, marked: bool
) -> None:
    """Without pyvenv.cfg, its `bin/python` is the Python of the machine, into which nothing may be installed."""
    venv = tmp_path / "venv"
    install(python, venv)
    (venv / ".runtime").unlink()
    (venv / lost).unlink()
    (venv / "left").touch()
    if marked:
        (venv / ".unfinished").touch()
    assert install(python, venv) == ["venv", "pip", "pip"]
    assert not (venv / "left").exists()


def test_an_environment_in_another_place_is_made_again_there(python: Path, tmp_path: Path) -> None:
    """The place may be a disk with more space."""
    venv, elsewhere = tmp_path / "venv", tmp_path / "elsewhere"
    elsewhere.mkdir()
    venv.symlink_to(elsewhere)
    install(python, venv)
    (venv / ".runtime").unlink()
    (venv / ".unfinished").touch()
    (elsewhere / "left").touch()
    assert install(python, venv) == ["venv", "pip", "pip"]
    assert venv.is_symlink()
    assert not (elsewhere / "left").exists()


def test_the_verifier_has_a_part_of_the_packages_that_the_project_has() -> None:
    """In the same versions: both locks are written together."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert set(project["dependency-groups"]["verify"]) < set(project["project"]["dependencies"])
    every, few = (
        set(re.findall(r"^[a-z].*==.*$", (ROOT / name).read_text("utf-8"), re.M))
        for name in ("requirements.lock", "requirements-verify.lock")
    )
    pinned = {line.split(" ")[0]: line for line in every}
    assert len(few) > 5
    assert {line.split(" ")[0] for line in few} < pinned.keys()
