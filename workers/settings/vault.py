"""Seals secrets with AES-256-GCM, each bound to its owner, and opens them; it can hold several keys."""

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from workers.errors import VaultFault
from workers.settings.secret_files import create_private

_VERSION = "v1"
_KEY_BYTES = 32
_NONCE_BYTES = 12  # NIST SP 800-38D: random 96-bit nonces are safe for 2^32 seals of one key
_KEY_ID_DIGITS = 12


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


class Vault:
    """Seals with its first key and opens with any of them; safe to share between threads."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Raise `VaultFault` if *keys* is empty, or a key is not 32 bytes of URL-safe base64."""
        self._ciphers = dict(_cipher(key, place) for place, key in enumerate(keys, start=1))
        if not self._ciphers:
            raise VaultFault(
                "The vault has no key: set PAGETRAIL_VAULT_KEYS or leave it unset to have one made."
            )
        self._first = next(iter(self._ciphers))

    def __repr__(self) -> str:
        return f"Vault({', '.join(self._ciphers)})"

    def seal(self, secret: str, bound_to: str) -> str:
        """Return *secret* sealed with the first key; only the same *bound_to* opens it."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._ciphers[self._first].encrypt(
            nonce, secret.encode(), _associated(self._first, bound_to)
        )
        return f"{_VERSION}.{self._first}.{base64.urlsafe_b64encode(sealed).decode()}"

    def open(self, sealed: str, bound_to: str) -> str:
        """Return the secret; `VaultFault` if its vault key is missing, or it was changed or moved."""
        key_id, data = _parts(sealed, bound_to)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise VaultFault(
                f"The key of {bound_to} was sealed with vault key {key_id}, not with one of those "
                f"given ({', '.join(self._ciphers)}): add it to PAGETRAIL_VAULT_KEYS."
            )
        try:
            secret = cipher.decrypt(
                data[:_NONCE_BYTES], data[_NONCE_BYTES:], _associated(key_id, bound_to)
            )
        except InvalidTag:
            raise VaultFault(
                f"The sealed key of {bound_to} was changed or belongs to another source: "
                f"give the key again with `pagetrail source rotate {bound_to}`."
            ) from None
        return secret.decode()

    def seals_with_first(self, sealed: str) -> bool:
        """Say whether *sealed* was made with the first key, and need not be sealed again."""
        return sealed.startswith(f"{_VERSION}.{self._first}.")


def _cipher(key: str, place: int) -> tuple[str, AESGCM]:
    try:
        raw = base64.b64decode(key.strip().encode("ascii"), altchars=b"-_", validate=True)
    except (ValueError, UnicodeEncodeError):
        raw = b""
    if len(raw) != _KEY_BYTES:
        raise VaultFault(
            f"Vault key {place} is not 32 bytes of URL-safe base64: "
            "correct PAGETRAIL_VAULT_KEYS, or the file vault.key."
        )
    return hashlib.sha256(raw).hexdigest()[:_KEY_ID_DIGITS], AESGCM(raw)


def _parts(sealed: str, bound_to: str) -> tuple[str, bytes]:
    version, _, rest = sealed.partition(".")
    key_id, _, text = rest.partition(".")
    try:
        data = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        data = b""
    if version != _VERSION or len(data) <= _NONCE_BYTES:
        raise VaultFault(
            f"The stored key of {bound_to} is not a sealed text: "
            f"give the key again with `pagetrail source rotate {bound_to}`."
        )
    return key_id, data


def _associated(key_id: str, bound_to: str) -> bytes:
    # The header is authenticated too, so a sealed text can't be relabelled.
    return f"{_VERSION}.{key_id}.{bound_to}".encode()
