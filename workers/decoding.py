"""Decodes JSON into structures, from any thread."""

from __future__ import annotations

from threading import Lock
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")
_examining = Lock()
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    """Return the decoder of a type; made once.

    msgspec examines a structure, and those inside it, when it is first used. If two threads do that at once, one of
    them uses a half-examined structure, and the process crashes.
    """
    found = _decoders.get(kind)
    if found is None:
        with _examining:
            found = _decoders.setdefault(kind, msgspec.json.Decoder(kind))
    return found


def decode(text: bytes | str, kind: type[T]) -> T:
    """Return the JSON *text* as a *kind*; raises `msgspec.DecodeError`."""
    return decoder(kind).decode(text)


def convert(value: Any, kind: type[T], *, strict: bool = True) -> T:
    """Return decoded JSON as a *kind*; raises `msgspec.ValidationError`."""
    decoder(kind)
    return msgspec.convert(value, kind, strict=strict)
