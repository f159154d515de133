"""How stored objects are compressed, and the digest that names them."""

from __future__ import annotations

import hashlib

import zstandard

LEVEL = 3
"""zstd level: higher ones cost many times the CPU for a few per cent."""


def sha256(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def check_end(decompressor: zstandard.ZstdDecompressionObj) -> None:
    """Raise ValueError unless the object ended where it should. Its checksum is compared only at that end."""
    if not decompressor.eof or decompressor.unused_data:
        raise ValueError("the object is cut, or something follows it")
