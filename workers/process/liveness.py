"""The files by which a process says that it is alive, and that it takes work."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from glob import escape
from pathlib import Path
from stat import S_ISDIR

BEAT = "beat"
STALE_SECONDS = 120.0
"""Age of a heartbeat at which its process counts as stuck: several times what a busy one may miss."""
ALIVE, READY = ".alive", ".ready"


def touch(node: str) -> None:
    """Say that the process *node* is alive now."""
    _file(node, ALIVE).touch()


def set_ready(node: str, *, ready: bool) -> None:
    """Say that the process *node* takes work, or that it does no more."""
    if ready:
        _file(node, READY).touch()
        return
    for file in list(files_of(node, READY)):
        file.unlink(missing_ok=True)


def _places() -> tuple[Path, Path]:
    """Return where heartbeats are kept: another user may have taken the first, whose name can be guessed."""
    data_dir = (
        os.environ.get("PAGETRAIL_DATA_DIR") or ".pagetrail"
    )  # as in workers/settings/environment.py
    return (
        Path(tempfile.gettempdir()) / f"pagetrail-{os.getuid()}",
        Path(data_dir).expanduser().absolute() / "heartbeats",
    )


def _is_ours(directory: Path) -> bool:
    """Say whether *directory* is one that no other user can write to, and not a link to one."""
    try:
        found = directory.lstat()
    except OSError:
        return False
    return S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def files_of(node: str | None, kind: str) -> Iterator[Path]:
    for directory in filter(_is_ours, _places()):
        yield from directory.glob(f"{escape(node) if node else '*'}{kind}")


def _file(node: str, kind: str) -> Path:
    """Return where the file of *node* is written; raises a `SettingsFault` where nothing is this user's alone."""
    for directory in _places():
        with suppress(OSError):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_ours(directory):
            return directory / f"{node}{kind}"
    from workers.errors import SettingsFault

    first, second = _places()
    raise SettingsFault(
        f"No heartbeat can be kept: {first} and {second} belong to another user or are open to "
        "others; remove one of them, or set TMPDIR to a directory of this user."
    )
