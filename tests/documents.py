"""Finds the documents of a stored source, each with the name of its schema."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import orjson

from tasks.evidence.frames import parts
from workers.storage import Storage

Document = dict[str, Any]
_ENDINGS = {
    "/plan.json": "plan",
    "/manifest.json": "manifest",
    "/seal.dsse.json": "seal",
}


def documents_of(storage: Storage, source: str) -> Iterator[tuple[str, Document]]:
    """Yield every document that is stored of *source*, with the name of its schema."""
    for each in storage.list(source):
        text = storage.get(each.key) or b""
        if "/pages/" in each.key:
            recipe, head, _ = parts(text)[0].split(b"\n")
            yield "page", orjson.loads(recipe)
            yield "page-head", orjson.loads(head)
        for ending, name in _ENDINGS.items():
            if each.key.endswith(ending):
                document = orjson.loads(text)
                yield name, document
                if name == "seal":
                    yield "statement", orjson.loads(b64decode(document["payload"]))
    for each in storage.list(f".purged/{source}"):
        document = orjson.loads(storage.get(each.key) or b"")
        if each.key.endswith(".done.json"):
            yield "purge-end", document
        else:
            yield "seal", document
            yield "purge", orjson.loads(b64decode(document["payload"]))
