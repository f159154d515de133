"""Turns an answer into a stored page, a recipe line and a body line without secrets, and reads it back."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any

import orjson
import zstandard

from tasks.evidence import documents
from tasks.evidence.compression import LEVEL, sha256
from tasks.reading.answers import Answer, members_of, read_answer, well_formed
from tasks.reading.catalog import CATALOG, resource_of
from tasks.reading.pages import Page, Request
from tasks.reading.sealed import Envelope
from workers import exact
from workers.room import BODY_BYTES

if TYPE_CHECKING:
    from workers.pagerduty.replies import Reply
    from workers.storage.registry import Source

REDACTED = "[redacted]"
MOST_BYTES = BODY_BYTES + 2**21
"""Longest stored page, unpacked: its body and its recipe."""
_HEAD_BYTES = 2**21
"""Longest recipe: a page with the most secrets has it."""
_SHORT_BYTES = 2**20
_MOST_POINTERS = 10_000
_MOST_REWRITTEN = 256 * 2**20
"""Most bytes that the decoded records of a page may take: about four seconds of work."""
_BREAK = re.compile(rb"[\r\n]")
_local = threading.local()
_alone = threading.Lock()
"""Lets one thread at a time decode a record, which takes much memory for a moment."""


def encode_page(
    source: Source,
    run: str,
    page: Page,
    request: Request,
    reply: Reply,
    *,
    sent: int,
    fetched_at: datetime,
) -> bytes:
    """Return the stored object of an answer: the recipe line and the body line, compressed.

    The body line is the body as received unless it has fields to be redacted, or it wasn't one
    line of JSON.
    """
    assert reply.status is not None, "only answers are stored"
    stored, pointers = _storable(page, reply.status, reply.body)
    received = sha256(reply.body)
    rewritten = stored != reply.body
    envelope = Envelope(
        source=source.id,
        run=run,
        page=page.id,
        path=request.path,
        params=request.params,
        status=reply.status,
        words=reply.words,
        request_id=reply.request_id,
        date=reply.date.astimezone(UTC) if reply.date else None,
        fetched_at=stamp(fetched_at),
        region=source.region,
        credential=source.credential,
        fingerprint=source.fingerprint,
        requests=sent,
        received_sha256=received,
        stored_sha256=sha256(stored) if rewritten else received,
        rewritten=rewritten,
        redacted=tuple(pointers),
    )
    return _compressed(documents.written(envelope, indent=-1), stored)


class Unreadable(ValueError):
    """An object is not a stored page. The message goes to logs, so it quotes nothing from the object."""


def stamp(when: datetime) -> str:
    """Return *when* as envelopes write it: with a fixed width, so that texts sort like times."""
    return f"{when.astimezone(UTC):%FT%T.%f}Z"


def decode_page(blob: bytes) -> Answer:
    """Return the answer that `encode_page` stored; raises `Unreadable` for any other object."""
    try:
        content = decompress(blob, MOST_BYTES)
        end = content.index(b"\n", 0, _HEAD_BYTES)
        if content.find(b"\n", end + 1) != len(content) - 1:
            raise Unreadable("it isn't two lines")
        body = memoryview(content)[end + 1 : -1]
        envelope = documents.read(content[:end], Envelope, indent=-1)
        if sha256(body) != envelope.stored_sha256:
            raise Unreadable("the stored body isn't the one that was stored")
        page, status = Page.parse(envelope.page), envelope.status
        members = exact.members(body, members_of(page)) if status < 300 else {}
        words, fetched_at = envelope.words, envelope.fetched_at
        answer = read_answer(
            page, status, envelope.date, members, words=words, fetched_at=fetched_at
        )
        if not well_formed(page, answer):
            raise Unreadable("its body isn't what its page asks for")
        return replace(answer, envelope=envelope)
    except Unreadable:
        raise
    except (zstandard.ZstdError, ValueError, KeyError, TypeError) as error:
        raise Unreadable(f"it isn't a stored page ({type(error).__name__})") from None


def same_recipe(answer: Answer, run: str, page: Page, request: Request) -> bool:
    """Whether *answer* answers this very request: run, method, path and parameters."""
    recipe = answer.envelope
    return recipe is not None and (recipe.run, recipe.page, recipe.path, recipe.params) == (
        run,
        page.id,
        request.path,
        request.params,
    )


def unpacked_room(blob: bytes) -> int:
    """Return how many bytes `decode_page` takes for *blob*."""
    try:
        size = zstandard.get_frame_parameters(blob).content_size
    except zstandard.ZstdError:  # it isn't a stored page
        return 0
    return 2 * min(size, MOST_BYTES)


def decompress(blob: bytes, most_bytes: int) -> bytes:
    """Return the decompressed content; raises ZstdError, or ValueError for an object that is cut or too large."""
    size = zstandard.get_frame_parameters(blob).content_size
    if not 0 <= size <= most_bytes:
        raise ValueError("larger than any stored page")
    return zstandard.ZstdDecompressor().decompress(blob, allow_extra_data=False)


def _compressed(head: bytes, body: bytes) -> bytes:
    """Return the two lines compressed, without a copy of them in between."""
    blob = BytesIO()
    size = len(head) + len(body) + 2
    with _compressor().stream_writer(blob, size=size, closefd=False) as stream:
        for piece in (head, b"\n", body, b"\n"):
            stream.write(piece)
    return blob.getvalue()


def _compressor() -> zstandard.ZstdCompressor:
    """Return this thread's compressor. It holds state, and making one costs more than compressing a page."""
    if not hasattr(_local, "compressor"):
        _local.compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    compressor: zstandard.ZstdCompressor = _local.compressor
    return compressor


def _storable(page: Page, status: int, body: bytes) -> tuple[bytes, list[str]]:
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
