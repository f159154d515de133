"""Files that hold secrets: the secrets directory, and files that only this user can read.

The secrets directory has one file per variable. A variable is one of our settings or one of the cloud's keys.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkstemp

from workers.errors import SettingsFault

SECRETS_DIR = "PAGETRAIL_SECRETS_DIR"
DEFAULT_DIR = Path("/run/secrets")


def secrets_dir() -> Path | None:
    """Return the directory that is set, or else the default one if it can be read, or else None."""
    named = os.environ.get(SECRETS_DIR)
    directory = Path(named) if named else DEFAULT_DIR
    if directory.is_dir() and os.access(directory, os.R_OK | os.X_OK):
        return directory
    if named:
        raise SettingsFault(f"{SECRETS_DIR} must be a directory that can be read, not {named!r}.")
    return None


def secret_file(variable: str) -> str | None:
    """Return the text of the directory's file for *variable*; None if there isn't one."""
    directory = secrets_dir()
    if directory is None:
        return None
    try:
        return (directory / variable).read_text("utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        raise SettingsFault(f"{directory / variable} can't be read as text.") from None


def replace_private(path: Path, text: str) -> None:
    """Replace *path* as a whole; only this user can read it."""
    with _draft(path, text) as draft:
        draft.replace(path)


def create_private(path: Path, text: str) -> None:
    """Write *path*, which only this user can read, unless it exists; if several processes do so, one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _draft(path, text) as draft, suppress(FileExistsError):  # another process was first
        os.link(draft, path)


@contextmanager
def _draft(path: Path, text: str) -> Iterator[Path]:
    """Write *text* to a file beside *path*, for the caller to rename; the rename is durable at the end."""
    descriptor, name = mkstemp(dir=path.parent, prefix=f"{path.name}.")
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        yield draft
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        draft.unlink(missing_ok=True)
