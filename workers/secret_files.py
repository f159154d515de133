"""The secrets directory: a file for each variable that is a secret, one of our settings or a key of the cloud's."""

import os
from pathlib import Path

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
