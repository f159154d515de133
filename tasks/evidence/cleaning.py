"""Takes secrets out of a body before it is stored, and notes where they were."""

from __future__ import annotations

import re
import threading
from typing import Any

import orjson

from tasks.reading.catalog import CATALOG, resource_of
from tasks.reading.pages import Page
from workers import exact

REDACTED = "[redacted]"
_SHORT_BYTES = 2**20
_MOST_POINTERS = 10_000
_MOST_REWRITTEN = 256 * 2**20
"""Most bytes that the decoded records of a page may take: about four seconds of work."""
_BREAK = re.compile(rb"[\r\n]")
_alone = threading.Lock()
"""Lets one thread at a time decode a record, which takes much memory for a moment."""


def cleaned(page: Page, status: int, body: bytes) -> tuple[bytes, list[str]]:
    """Return the body as one line of JSON without secrets, and where they were."""
    names = resource_of(page.segment).secrets
    if status < 300:
        return (body, []) if _is_clean(body, names) else _cleaned(page, body, names)
    try:
        data = exact.loads(body)
    except ValueError:  # an error page is kept as one JSON string
        return orjson.dumps(body.decode("utf-8", "replace")), []
    pointers: list[str] = []
    return exact.dumps(_redact(data, names, "", pointers)), pointers


def _is_clean(text: bytes | memoryview, names: frozenset[str]) -> bool:
    """Whether *text* can be stored as it is: one line that mentions no secret."""
    if isinstance(text, bytes) and not any(each in text for each in (*_TELLING, *_WORDS[names])):
        return True  # searching for each word takes a tenth of the time that the expressions take
    return not (_BREAK.search(text) or _mentions(names, text))


def _cleaned(page: Page, body: bytes, names: frozenset[str]) -> tuple[bytes, list[str]]:
    """Return *body* on one line and without secrets, and where they were.

    Only records that need a change are decoded, one at a time: a decoded page takes ten to fifty times its size. Raises
    ValueError if a record, or the rest of the body, is too large to decode.
    """
    wrapper = page.call.wrapper
    if len(body) > _SHORT_BYTES:
        records = exact.members(body, (wrapper,)).get(wrapper, b"")
        if len(body) - len(memoryview(records)) > _SHORT_BYTES:
            raise ValueError("more beside its records than a page has")
    cleaning, pieces = _Cleaning(names), list[exact.Written]()
    for name, text in exact.members(body).items():
        pieces += [b"," if pieces else b"{", exact.dumps(name), b":"]
        if name == wrapper and bytes(memoryview(text)[:1]) == b"[":
            pieces += cleaning.elements(name, text)
        else:
            pieces.append(cleaning.member(name, text))
    return b"".join([*(pieces or [b"{"]), b"}"]), cleaning.pointers


class _Cleaning:
    """Takes secrets out of the texts of one body, and notes where they were."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._weight = 0
        self.pointers: list[str] = []

    def member(self, name: str, text: exact.Written) -> exact.Written:
        """Return the value *text* of the body's member *name*, on one line and without secrets."""
        if name not in self._names:
            return self._clean(text, f"/{_escaped(name)}")
        return exact.dumps(self._redacted({name: exact.loads(bytes(text))}, "")[name])

    def elements(self, name: str, text: exact.Written) -> list[exact.Written]:
        """Return the list *text* the same way, in pieces."""
        pieces: list[exact.Written] = [b"["]
        for number, element in enumerate(exact.elements(text)):
            pieces += [self._clean(element, f"/{_escaped(name)}/{number}"), b","]
        return [*pieces[:-1], b"]"] if len(pieces) > 1 else [b"[]"]

    def _clean(self, text: exact.Written, pointer: str) -> exact.Written:
        if _is_clean(memoryview(text), self._names):
            return text
        whole = bytes(text)
        self._weight += exact.weight(whole)
        if self._weight > _MOST_REWRITTEN:
            raise ValueError("more to be rewritten than a page has")
        with _alone:
            return exact.dumps(self._redacted(exact.loads(whole), pointer))

    def _redacted(self, value: Any, pointer: str) -> Any:
        clean = _redact(value, self._names, pointer, self.pointers)
        if len(self.pointers) > _MOST_POINTERS:
            raise ValueError("more secrets than a page has")
        return clean


_PATTERNS = {
    entry.secrets: re.compile(b'"(?:%s)"' % "|".join(sorted(entry.secrets)).encode())
    for entry in CATALOG.values()
}


_WORDS = {
    entry.secrets: tuple(name.encode() for name in sorted(entry.secrets))
    for entry in CATALOG.values()
}
_TELLING = (b"\n", b"\r", b"\\u00")
"""A text that has none of these, and none of the words, has no line break, escaped letter or name of a secret."""


_ESCAPED_LETTER = re.compile(rb"(?i)\\u00(?:5f|6[0-9a-f]|7[0-9a])")
"""An escaped letter, which could hide the name of a secret. Rails escapes only <, > and &, which are not letters."""


def _mentions(names: frozenset[str], body: bytes | memoryview) -> bool:
    """Whether the name of a secret may occur. Most bodies have none, and need not be decoded."""
    return bool(_PATTERNS[names].search(body) or _ESCAPED_LETTER.search(body))


def _redact(value: Any, names: frozenset[str], pointer: str, pointers: list[str]) -> Any:
    """Return *value* with the values of fields called *names* replaced, noting where (RFC 6901)."""
    if isinstance(value, list):
        return [_redact(v, names, f"{pointer}/{n}", pointers) for n, v in enumerate(value)]
    if not isinstance(value, dict):
        return value
    clean = {}
    for name, member in value.items():
        at = f"{pointer}/{_escaped(name)}"
        if name in names and member:
            pointers.append(at)
            clean[name] = REDACTED
        else:
            clean[name] = _redact(member, names, at, pointers)
    return clean


def _escaped(name: str) -> str:
    """Return *name* as a JSON pointer has it."""
    return name.replace("~", "~0").replace("/", "~1")
