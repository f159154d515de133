"""Writes the documents of the evidence, and reads them back strictly: plans, manifests, records of erasures.

A document has one way to be written. A text that is written in another way, has a member twice or one that isn't ours,
or belongs to another format, is refused: nobody can hide something in it that one reader sees and another doesn't.
Digests are of the bytes of the file, so that `sha256sum` gives them too.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from workers.decoding import decode
from workers.storage import Storage

Document = TypeVar("Document")
LONGEST = 128 * 2**20
"""Most bytes of a document. A manifest of 100,000 pages has about 20 MB."""


def written(document: Any, *, indent: int = 2) -> bytes:
    """Return the text of a document; on one line if *indent* is -1."""
    text = msgspec.json.encode(document)
    return msgspec.json.format(text, indent=indent) if indent >= 0 else text


def stored(storage: Storage, key: str) -> bytes | None:
    """Return the text of a stored document, or None. One that is longer than any document is cut, so it is refused."""
    return storage.get_start(key, LONGEST + 1)


def read(text: bytes, kind: type[Document], *, indent: int = 2, **members: str) -> Document:
    """Return the document that `written` wrote; ValueError says why it can't be trusted.

    *members* must have the given values. They follow from the key of the document: its source and its run.
    """
    if len(text) > LONGEST:
        raise ValueError("it is larger than any document")
    try:
        document = decode(text, kind)
        again = written(document, indent=indent)
    except msgspec.ValidationError as error:
        raise ValueError(f"it isn't a document of this format: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ValueError("it isn't JSON") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if again != text:
        raise ValueError("it isn't written as Pagetrail writes it")
    for name, value in members.items():
        if getattr(document, name) != value:
            raise ValueError(f"its {name} isn't {value}")
    return document
