"""Documents that carry the SHA-256 of their own content: manifests, and the records of erasures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from tasks.evidence.compression import sha256


def digest(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a document without its member `sha256`, as compact JSON with sorted keys."""
    rest = {name: value for name, value in document.items() if name != "sha256"}
    return sha256(orjson.dumps(rest, option=orjson.OPT_SORT_KEYS))


def with_digest(document: Mapping[str, Any]) -> bytes:
    """Return the text of a document, with its digest as the last member."""
    return orjson.dumps({**document, "sha256": digest(document)}, option=orjson.OPT_INDENT_2)


def opened(text: bytes, **members: str) -> dict[str, Any]:
    """Return the document that `with_digest` wrote; ValueError says why it can't be trusted.

    *members* must have the given values. They follow from the key of the document: its source and its run.
    """
    try:
        document: Any = orjson.loads(text)
    except ValueError:
        raise ValueError("it isn't JSON") from None
    if not isinstance(document, dict):
        raise ValueError("it isn't a JSON object")
    if document.get("sha256") != digest(document):
        raise ValueError("its digest isn't that of its content")
    for name, value in members.items():
        if document.get(name) != value:
            raise ValueError(f"its {name} isn't {value}")
    return document


def digest_in(text: bytes, **members: str) -> str | None:
    """Return the digest of a document, or None if `opened` would refuse it."""
    try:
        return str(opened(text, **members)["sha256"])
    except ValueError:
        return None
