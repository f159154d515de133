"""Lets a test run as a user who is bound by permissions, even if the tests run as root."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NOBODY = 65534


@contextmanager
def unprivileged(way_to: Path) -> Iterator[None]:
    """Be an ordinary user who can reach the directory *way_to*."""
    if os.getuid() != 0:
        yield
        return
    for directory in (way_to, *way_to.parents):
        mode = directory.stat().st_mode
        if not mode & 0o001:  # only the owner can enter pytest's directories
            directory.chmod(mode | 0o055)
    os.setresuid(_NOBODY, _NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
