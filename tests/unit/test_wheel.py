"""The wheel holds what an installation needs, and nothing else."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

from tests.processes import ROOT

PACKAGES = ("simulator", "tasks", "workers")


def test_the_wheel_holds_the_packages_whole_and_typed(tmp_path: Path) -> None:
    """Scripts for Redis and the mark of typed packages are there; tests and documents are not."""
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory"]
    subprocess.run([*build, str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    with ZipFile(wheel) as file:
        held = {name for name in file.namelist() if ".dist-info/" not in name}
        [points] = (name for name in file.namelist() if name.endswith("entry_points.txt"))
        assert "pagetrail = tasks.cli:main" in file.read(points).decode()
    there = (each for package in PACKAGES for each in (ROOT / package).rglob("*"))
    kept = {each for each in there if each.is_file() and "__pycache__" not in each.parts}
    assert held == {each.relative_to(ROOT).as_posix() for each in kept}
    assert {f"{package}/py.typed" for package in PACKAGES} <= held
