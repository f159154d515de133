"""The demo does the whole main job, and is what a newcomer sees first."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(240)
def test_the_demo_collects_three_tenants_and_ends_by_itself(tmp_path: Path) -> None:
    """Three tenants are collected and one of them waits for budget. Everything that the demo names exists."""
    done = subprocess.run(
        [sys.executable, "-m", "tasks.cli", "demo", "--json"],
        env={**os.environ, "PAGETRAIL_DATA_DIR": str(tmp_path / "data")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert {found["state"] for found in document["sources"].values()} == {"complete"}
    assert len(document["sources"]) == 3
    assert document["longest_wait_seconds"] >= 2
    assert done.stderr.count("Newest seal: run ") == 3
    assert "signatures were not checked" not in done.stderr
    assert "without a seal" not in done.stderr
    split = document["sources"]["northwind/main"]["resources"]["incidents"]
    assert split["records"] == 12_600
    for tenant in ("northwind", "globex", "umbrella"):
        runs = Path(document["artifacts"]) / tenant / "main" / "runs"
        assert (runs / "00000001" / "manifest.json").is_file()
    rows = (Path(document["data_dir"]) / "incidents.csv").read_text("utf-8")
    assert rows.count("\n") > 12_600
    _try_what_it_suggests(Path(document["data_dir"]))


def _try_what_it_suggests(directory: Path) -> None:
    """A shell without `pagetrail` on its PATH finds it after reading demo.env."""
    tried = subprocess.run(
        [
            "/bin/sh",
            "-c",
            f". {directory}/demo.env && pagetrail verify umbrella/main --keys {directory}/keys.json",
        ],
        env={"PATH": "/usr/bin:/bin", "HOME": str(directory)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert tried.returncode == 0, tried.stderr
