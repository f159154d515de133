"""A real browser for tests: Chromium without a window, if it is installed."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
_PROGRAM = next(filter(None, map(shutil.which, NAMES)), None)
_RENDER_MS = 8000  # in the page's own time, which passes faster while the page is idle
_OPTIONS = (
    "--headless",
    "--hide-scrollbars",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    f"--virtual-time-budget={_RENDER_MS}",
)

needs_a_browser = pytest.mark.skipif(
    _PROGRAM is None, reason=f"none of {', '.join(NAMES)} is installed (Debian: chromium)"
)


def rendered(url: str) -> str:
    """Return the HTML of a page after its scripts have run."""
    return _browse("--dump-dom", url)


def photographed(url: str, picture: Path, width: int, height: int) -> None:
    """Write a picture of a page, after its scripts have run, to *picture*, a PNG of that many pixels."""
    _browse(f"--window-size={width},{height}", f"--screenshot={picture}", url)


def _browse(*arguments: str) -> str:
    assert _PROGRAM
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            [_PROGRAM, *_OPTIONS, f"--user-data-dir={profile}", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=120,
            check=True,
        )
    return done.stdout
