"""The public keys of the seals, and the last day of each. They lie outside the evidence."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import date
from typing import Annotated, Literal, cast

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from msgspec import Meta, Struct
from msgspec.structs import replace
from securesystemslib.signer import ED25519, SSlibKey

from workers.decoding import decode
from workers.errors import SigningFault
from workers.storage import Storage

KEYS = "keys.json"
"""Where the signer's own store keeps them."""
KeyId = Annotated[
    str,
    Meta(pattern=r"\A[0-9a-f]{64}\Z", description="The SHA-256 of the key in DER form"),
]
"""The SHA-256 of a public key in its DER form: `openssl pkey -pubin -outform DER | sha256sum` gives it too."""
Scheme = Literal["ed25519", "ecdsa-sha2-nistp256"]
_LONGEST = 2**20
_ROUNDS = 10


class PublicKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key that checks seals, and the days of its use."""

    id: KeyId
    scheme: Annotated[Scheme, Meta(description="The kind of signature that the key checks")]
    created: Annotated[
        date,
        Meta(
            description="The day since which the signer's store knows it, in UTC; seals may be older"
        ),
    ]
    last_day: Annotated[
        date | None, Meta(description="The last day of its use; null for the key in use")
    ]
    pem: Annotated[str, Meta(description="The key, as `openssl` reads it")]

    @classmethod
    def of(cls, key: SSlibKey, created: date) -> PublicKey:
        """Return a library's key as the documents have it; `SigningFault` if seals can't be made with such a key."""
        native = _native(key)
        pem = native.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        found = msgspec.to_builtins(key.scheme)
        try:
            scheme = msgspec.convert(found, Scheme)
        except msgspec.ValidationError:
            raise SigningFault(
                f"The signer's key makes signatures of the kind {found}: use an Ed25519 key, or an "
                "ECDSA key on the curve P-256."
            ) from None
        return cls(id=_id_of(native), scheme=scheme, created=created, last_day=None, pem=pem)

    def opened(self) -> SSlibKey:
        """Return the key with which the library checks signatures; ValueError if *pem* isn't the key it says."""
        try:
            native = cast("Ed25519PublicKey", load_pem_public_key(self.pem.encode()))
            key = SSlibKey.from_crypto(native, self.id)
        except (ValueError, TypeError) as error:
            raise ValueError(f"key {self.id} can't be read: {error}") from None
        if key.scheme != self.scheme or _id_of(native) != self.id:
            raise ValueError(f"key {self.id} isn't the key that its id and scheme name")
        return key

    def may_sign_on(self, day: date) -> bool:
        """Whether *day* isn't after the key's last day.

        Its first day doesn't count: a signer whose store was lost, or is an older copy, meets its own key again.
        """
        return self.last_day is None or day <= self.last_day


class PublicKeys(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every key that seals were made with. Get it in another way than the evidence."""

    format: Literal[1] = 1
    keys: Annotated[tuple[PublicKey, ...], Meta(description="The keys, oldest first")] = ()

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self)) + b"\n"

    @classmethod
    def from_json(cls, text: bytes) -> PublicKeys:
        """Return the keys that `to_json` wrote; ValueError says why they can't be trusted."""
        if len(text) > _LONGEST:
            raise ValueError("it is larger than any list of keys")
        try:
            found = decode(text, cls)
        except msgspec.ValidationError as error:
            raise ValueError(f"it isn't a list of keys: {error}") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise ValueError("it isn't JSON") from None
        if found.to_json().strip() != text.strip():
            raise ValueError("it isn't written as Pagetrail writes it")
        if len({key.id for key in found.keys}) != len(found.keys):
            raise ValueError("it has a key twice")
        for key in found.keys:
            key.opened()
        return found

    def named(self, key_id: str) -> PublicKey | None:
        """Return the key with this id; None if it isn't one of ours."""
        return next((key for key in self.keys if key.id == key_id), None)

    def used(self, key: PublicKey, today: date) -> PublicKeys:
        """Return the keys after *key* was used today. A new key gives all others their last day.

        Raises `SigningFault` if the last day of *key* is over.
        """
        known = self.named(key.id)
        if known is None:
            ended = (k if k.last_day else replace(k, last_day=today) for k in self.keys)
            return PublicKeys(keys=(*ended, replace(key, created=today)))
        if not known.may_sign_on(today):
            raise SigningFault(
                f"The last day of key {known.id} was {known.last_day}: give the signer the key that followed it, or "
                "a new one."
            )
        return self


class KeyStore:
    """The public keys in the signer's own store. Safe to share between threads and processes."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def read(self) -> PublicKeys:
        """Return all keys; none if nothing was sealed yet. Raises `SigningFault` for a damaged document."""
        return self._parsed(self._storage.get(KEYS))

    def use(self, key: PublicKey, today: date) -> PublicKeys:
        """Note that *key* is used today, and return all keys. Repeatable."""
        return self._change(lambda keys: keys.used(key, today))

    def _change(self, change: Callable[[PublicKeys], PublicKeys]) -> PublicKeys:
        for _ in range(_ROUNDS):
            text, version = self._storage.get_versioned(KEYS) or (None, None)
            before = self._parsed(text)
            after = change(before)
            if after == before or self._storage.replace_if(KEYS, after.to_json(), version):
                return after
        raise SigningFault(
            f"{KEYS} in {self._storage} changes all the time: let one signer at a time use this store."
        )

    def _parsed(self, text: bytes | None) -> PublicKeys:
        if text is None:
            return PublicKeys()
        try:
            return PublicKeys.from_json(text)
        except ValueError as error:
            raise SigningFault(
                f"{KEYS} in {self._storage} can't be trusted ({error}): restore it from a copy."
            ) from None


def _native(key: SSlibKey) -> Ed25519PublicKey | EllipticCurvePublicKey:
    """Return the key as the `cryptography` package has it. The library writes an Ed25519 key as hex digits."""
    text = key.keyval["public"]
    if key.scheme == ED25519:
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
    return cast("EllipticCurvePublicKey", load_pem_public_key(text.encode()))


def _id_of(key: Ed25519PublicKey | EllipticCurvePublicKey) -> str:
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()
