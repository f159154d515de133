"""Seals secrets with AES-256-GCM, each bound to its owner, and opens them; it can hold several keys."""

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from workers.errors import VaultFault
from workers.settings.vault_keys import key_bytes

_VERSION = "v1"
_NONCE_BYTES = 12  # NIST SP 800-38D: random 96-bit nonces are safe for 2^32 seals of one key
_KEY_ID_DIGITS = 12


class Vault:
    """Seals with its first key and opens with any of them; safe to share between threads."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Raise `VaultFault` if *keys* is empty, or a key is not 32 bytes of URL-safe base64."""
        self._ciphers = {_key_id(raw): AESGCM(raw) for raw in key_bytes(keys)}
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


def _key_id(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:_KEY_ID_DIGITS]


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
