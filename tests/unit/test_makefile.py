"""What `make` installs, it installs into an environment of its own, whatever an interruption left."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.processes import ROOT

PYTHON = """#!/bin/sh
echo "$*" >>{log}
if [ "$2" = "import pip" ]; then
  [ ! -e "${{0%/bin/*}}/no-pip" ]
elif [ "$2" = venv ]; then
  mkdir -p "$3/bin" && rm -f "$3/no-pip" && touch "$3/pyvenv.cfg" && cp "$0" "$3/bin/python"
fi
"""  # makes an environment, and notes what it is asked for


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


def test_an_environment_that_uv_made_is_made_anew_where_uv_is_gone(
    python: Path, tmp_path: Path
) -> None:
    """There is no pip in it to install anything with."""
    venv = tmp_path / "venv"
    install(python, venv)
    (venv / ".runtime").unlink()
    (venv / "no-pip").touch()
    assert install(python, venv) == ["venv", "pip", "pip"]


@pytest.mark.parametrize("lost", ["pyvenv.cfg", "bin/python"])
@pytest.mark.parametrize("marked", [True, False])
def test_what_an_interruption_left_is_made_anew(
    python: Path, tmp_path: Path, lost: str, marked: bool
) -> None:
    """Without its pyvenv.cfg a `bin/python` is the Python of the machine, which nothing may be installed into."""
    venv = tmp_path / "venv"
    install(python, venv)
    (venv / ".runtime").unlink()
    (venv / lost).unlink()
    (venv / "left").touch()
    if marked:
        (venv / ".unfinished").touch()
    assert install(python, venv) == ["venv", "pip", "pip"]
    assert not (venv / "left").exists()


def test_an_environment_that_lies_elsewhere_is_made_anew_there(
    python: Path, tmp_path: Path
) -> None:
    """As on a disk with more room."""
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
