"""Files that hold secrets: the secrets directory, with a file for each variable, and files for this user alone.

A variable of the directory is one of our settings, or a key of the cloud's.
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
    """Return the directory that is set, else the usual one if it can be read."""
    named = os.environ.get(SECRETS_DIR)
    directory = Path(named) if named else DEFAULT_DIR
    if directory.is_dir() and os.access(directory, os.R_OK | os.X_OK):
        return directory
    if named:
        raise SettingsFault(f"{SECRETS_DIR} must be a directory that can be read, not {named!r}.")
    return None


def secret_file(variable: str) -> str | None:
    """Return what the directory holds under *variable*; None: no such file."""
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
    """Replace *path* whole, readable by this user alone."""
    with _draft(path, text) as draft:
        draft.replace(path)


def create_private(path: Path, text: str) -> None:
    """Write *path*, readable by this user alone, unless it is there; of several processes one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _draft(path, text) as draft, suppress(FileExistsError):
        os.link(draft, path)


@contextmanager
def _draft(path: Path, text: str) -> Iterator[Path]:
    """Write *text* beside *path*, to be given its name; what that changes is durable at the end."""
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
