"""The texts of vault keys: make one, find them in their file, and read their bytes."""

import base64
import os
from collections.abc import Sequence
from pathlib import Path

from workers.errors import VaultFault
from workers.settings.secret_files import create_private

_KEY_BYTES = 32


def generate_key() -> str:
    """Return a new vault key: 32 random bytes in URL-safe base64."""
    return base64.urlsafe_b64encode(os.urandom(_KEY_BYTES)).decode()


def key_in_file(path: Path) -> str:
    """Return the text of *path*: one vault key, or several that a person wrote there.

    If the file is missing, it is made with a new key (mode 0600). It appears as a whole, durable, and only once, even
    if many processes start together.
    """
    try:
        if not path.exists():
            create_private(path, generate_key())
        if path.stat().st_mode & 0o077:
            raise VaultFault(f"{path} is open to other users: make it private, `chmod 600 {path}`.")
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise VaultFault(
            f"The vault key {path} can't be read ({reason}): restore it, or correct its owner."
        ) from None


def key_bytes(keys: Sequence[str]) -> list[bytes]:
    """Return the bytes of each key; `VaultFault` if there isn't one, or one is not 32 bytes of URL-safe base64."""
    if not keys:
        raise VaultFault(
            "The vault has no key: set PAGETRAIL_VAULT_KEYS or leave it unset to have one made."
        )
    return [_bytes(key, place) for place, key in enumerate(keys, start=1)]


def _bytes(key: str, place: int) -> bytes:
    try:
        raw = base64.b64decode(key.strip().encode("ascii"), altchars=b"-_", validate=True)
    except (ValueError, UnicodeEncodeError):
        raw = b""
    if len(raw) != _KEY_BYTES:
        raise VaultFault(
            f"Vault key {place} is not 32 bytes of URL-safe base64: "
            "correct PAGETRAIL_VAULT_KEYS, or the file vault.key."
        )
    return raw
