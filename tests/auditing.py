"""The commands of docs/evidence.md, and a home directory in which they can be typed as they stand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.copies import Copy
from tests.processes import ROOT

TOOLS = ("jq", "openssl", "zstd", "sha256sum")
PAGE = ROOT / "docs" / "evidence.md"
_BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.S | re.M)


def commands(heading: str) -> str:
    """Return the commands of a section of the page and of those below it."""
    level, _, title = heading.partition(" ")
    text = PAGE.read_text("utf-8").partition(f"\n{heading}\n")[2]
    section = re.split(rf"^{level} ", text, maxsplit=1, flags=re.M)[0]
    found = _BLOCK.findall(section)
    assert found, f"{title} has no commands"
    return "".join(found)


def home_of(copy: Copy, directory: Path) -> Path:
    """Lay out the auditor's files in a new home directory."""
    audit = directory / "home" / "audit"
    audit.mkdir(parents=True)
    shutil.copytree(copy.evidence, audit / "evidence")
    shutil.copy(copy.keys, audit / "keys.json")
    shutil.copy(copy.head, audit / "newest.txt")
    (audit / "pagetrail-verify.pyz").touch()
    return audit.parent


def typed(
    home: Path, script: str, first_on_path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Type commands until one fails."""
    places = [str(first_on_path)] if first_on_path else []
    return subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", script],
        cwd=home,
        env={"HOME": str(home), "PATH": os.pathsep.join([*places, os.environ["PATH"]])},
        capture_output=True,
        text=True,
        check=False,
    )
