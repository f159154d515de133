"""The files by which a process says that it is alive and takes work. Imports almost nothing, so that it loads fast."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from glob import escape
from pathlib import Path
from stat import S_ISDIR

from workers.errors import SettingsFault

BEAT = "beat"
STALE_SECONDS = 120.0
"""Age of a heartbeat at which its process counts as stuck; a busy process may miss several beats."""
ALIVE, READY = ".alive", ".ready"


def touch(node: str) -> None:
    """Say that the process *node* is alive now."""
    _file(node, ALIVE).touch()


def set_ready(node: str, *, ready: bool) -> None:
    """Say that the process *node* takes work, or that it no longer does."""
    if ready:
        _file(node, READY).touch()
        return
    for file in list(files_of(node, READY)):
        file.unlink(missing_ok=True)


def _places() -> tuple[Path, Path]:
    """Return two directories for heartbeats. The first has a name that another user can guess and take."""
    # The same default as in workers/settings/environment.py, which takes too long to import.
    data_dir = os.environ.get("PAGETRAIL_DATA_DIR") or ".pagetrail"
    return (
        Path(tempfile.gettempdir()) / f"pagetrail-{os.getuid()}",
        Path(data_dir).expanduser().absolute() / "heartbeats",
    )


def _is_ours(directory: Path) -> bool:
    """Say whether *directory* is a real directory, not a link, that only this user can read and write."""
    try:
        found = directory.lstat()
    except OSError:
        return False
    return S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def files_of(node: str | None, kind: str) -> Iterator[Path]:
    """Yield the files of *kind* of one node; of all nodes if *node* is None."""
    for directory in filter(_is_ours, _places()):
        yield from directory.glob(f"{escape(node) if node else '*'}{kind}")


def _file(node: str, kind: str) -> Path:
    """Return the file of *node*; raises `SettingsFault` if other users can use both directories."""
    for directory in _places():
        with suppress(OSError):  # `_is_ours` says whether it can be used
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_ours(directory):
            return directory / f"{node}{kind}"
    first, second = _places()
    raise SettingsFault(
        f"No heartbeat can be kept: {first} and {second} belong to another user or are open to "
        "others; remove one of them, or set TMPDIR to a directory of this user."
    )
