"""Liveness and readiness of a worker or beat: `python -m workers.health live|ready [NODE]`, exit 0 or 1.

Only the standard library is imported for `live`, since it is asked every few seconds.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from glob import escape
from pathlib import Path
from stat import S_ISDIR

BEAT = "beat"
STALE_SECONDS = 120.0
"""Age of a heartbeat at which its process counts as stuck: several times what a busy one may miss."""
_ALIVE, _READY = ".alive", ".ready"


def touch(node: str) -> None:
    """Say that the process *node* is alive now."""
    _file(node, _ALIVE).touch()


def set_ready(node: str, *, ready: bool) -> None:
    """Say that the process *node* takes work, or that it does no more."""
    if ready:
        _file(node, _READY).touch()
        return
    for file in list(_files(node, _READY)):
        file.unlink(missing_ok=True)


def live(node: str | None = None) -> str:
    """Return why *node*, or without a name the one process of this container, is not alive; "" if it is.

    An absent Redis is no reason: restarting the fleet would not bring it back.
    """
    beaten = [path.stat().st_mtime for path in _files(node, _ALIVE)]
    if not beaten:
        return "There is no heartbeat yet."
    age = time.time() - max(beaten)
    return f"The last heartbeat is {age:.0f} s old." if age > STALE_SECONDS else ""


def ready(node: str | None = None) -> str:
    """Return what keeps *node* from working (itself, Redis, storage or the vault); "" if nothing does."""
    from workers import redis_client
    from workers.errors import Fault
    from workers.runtime import build
    from workers.settings import load_settings

    if not any(_files(node, _READY)):
        return "The worker does not take work yet."
    try:
        parts = build(load_settings())  # opens the vault keys
        redis_client.check(parts.redis, parts.settings.key_prefix)
        parts.storage.check()
    except Fault as fault:
        return str(fault)
    return ""


def main() -> None:
    """Answer the one question on the command line with an exit code, and a sentence where it is no."""
    questions = {"live": live, "ready": ready}
    question, *nodes = sys.argv[1:] or [""]
    if question not in questions or len(nodes) > 1:
        sys.exit("Usage: python -m workers.health live|ready [NODE]")
    sys.exit(questions[question](*nodes) or 0)


def _places() -> tuple[Path, Path]:
    """Return where heartbeats are kept: another user may have taken the first, whose name can be guessed."""
    data_dir = os.environ.get("PAGETRAIL_DATA_DIR") or ".pagetrail"  # as in workers/settings.py
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


def _files(node: str | None, kind: str) -> Iterator[Path]:
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


if __name__ == "__main__":
    main()
