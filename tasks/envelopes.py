"""A page's answer -> the object that is stored of it, recipe line and body line without secrets; and back."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import zstandard

from tasks.answers import Answer, read_answer, well_formed
from tasks.artifacts import LEVEL, check_end, sha256
from tasks.catalog import CATALOG, resource_of
from tasks.pages import Page, Request
from tasks.windows import moment
from workers import exact

if TYPE_CHECKING:
    from workers.pagerduty import Reply
    from workers.sources import Source

REDACTED = "[redacted]"
_NEEDED = {
    "run": str,
    "page": str,
    "status": int,
    "fetched_at": str,
    "fingerprint": str,
    "requests": int,
    "redacted": list,
}
_local = threading.local()


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
    assert reply.status is not None, "nothing is stored of no answer"
    stored, pointers = _storable(page, reply.status, reply.body)
    received = sha256(reply.body)
    envelope = {
        "format": 1,
        "source": source.id,
        "run": run,
        "page": page.id,
        "method": "GET",
        "path": request.path,
        "params": request.params,
        "status": reply.status,
        "words": reply.words,
        "request_id": reply.request_id,
        "date": reply.date,
        "fetched_at": stamp(fetched_at),
        "region": source.region,
        "credential": source.credential,
        "fingerprint": source.fingerprint,
        "requests": sent,
        "received_sha256": received,
        "stored_sha256": received if stored is reply.body else sha256(stored),
        "redacted": pointers,
    }
    head = orjson.dumps(envelope, option=orjson.OPT_UTC_Z)
    return _compressor().compress(head + b"\n" + stored + b"\n")


class Unreadable(ValueError):
    """An object is not a stored page; the message, which goes to logs, quotes nothing of it."""


def stamp(when: datetime) -> str:
    """Return *when* as an envelope has it: of fixed width, since it is sorted by."""
    return f"{when.astimezone(UTC):%FT%T.%f}Z"


def decode_page(blob: bytes) -> Answer:
    """Return the answer that `encode_page` stored; raises `Unreadable` where it can't be one."""
    try:
        content = decompress(blob)
        end = content.index(b"\n")
        body = content[end + 1 : -1]
        if b"\n" in body or not content.endswith(b"\n", end + 1):
            raise Unreadable("it isn't two lines")
        envelope = orjson.loads(content[:end])
        date = envelope["date"]
        if sha256(body) != envelope["stored_sha256"]:
            raise Unreadable("the stored body isn't the one that was stored")
        wrong = [name for name, kind in _NEEDED.items() if not isinstance(envelope[name], kind)]
        if wrong:
            raise Unreadable(f"its recipe has no right {', '.join(wrong)}")
        page, status = Page.parse(envelope["page"]), envelope["status"]
        members = exact.members(body) if status < 300 else {}
        answer = read_answer(page, status, moment(date) if date else None, members, envelope)
        if not well_formed(page, answer):
            raise Unreadable("its body isn't what its page asks for")
        return answer
    except Unreadable:
        raise
    except (zstandard.ZstdError, ValueError, KeyError, TypeError) as error:
        raise Unreadable(f"it isn't a stored page ({type(error).__name__})") from None


def same_recipe(answer: Answer, run: str, page: Page, request: Request) -> bool:
    """Whether *answer* answers this very request: run, method, path and parameters."""
    asked = {
        "run": run,
        "page": page.id,
        "method": "GET",
        "path": request.path,
        "params": [list(pair) for pair in request.params],
    }
    return all(answer.envelope.get(name) == value for name, value in asked.items())


def decompress(blob: bytes) -> bytes:
    """Return what was compressed; raises zstandard.ZstdError, and ValueError for a cut object."""
    decompressor = zstandard.ZstdDecompressor().decompressobj()
    content = decompressor.decompress(blob)
    check_end(decompressor)
    return content


def _compressor() -> zstandard.ZstdCompressor:
    """Return this thread's compressor: it holds state, and making one costs more than a page."""
    if not hasattr(_local, "compressor"):
        _local.compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    compressor: zstandard.ZstdCompressor = _local.compressor
    return compressor


def _storable(page: Page, status: int, body: bytes) -> tuple[bytes, list[str]]:
    """Return the body as one line of JSON without secrets, and where they were."""
    names = resource_of(page.segment).secrets
    secret, one_line = _mentions(names, body), b"\n" not in body and b"\r" not in body
    if status < 300 and one_line and not secret:
        return body, []
    try:
        data = exact.loads(body)
    except ValueError:  # an error page: kept as one JSON string
        return orjson.dumps(body.decode("utf-8", "replace")), []
    pointers: list[str] = []
    if secret:
        data = _redact(data, names, "", pointers)
    # Written again even if nothing was redacted: of a name that comes twice, only the last was seen.
    return (body if one_line and not secret else exact.dumps(data)), pointers


_PATTERNS = {
    entry.secrets: re.compile(b'"(?:%s)"' % "|".join(sorted(entry.secrets)).encode())
    for entry in CATALOG.values()
}


_ESCAPED_LETTER = re.compile(rb"(?i)\\u00(?:5f|6[0-9a-f]|7[0-9a])")
"""A letter of a name written as nobody writes it; what Rails escapes (<, >, &) is none."""


def _mentions(names: frozenset[str], body: bytes) -> bool:
    """Whether a secret's name may occur at all: most bodies need no walk."""
    return bool(_PATTERNS[names].search(body) or _ESCAPED_LETTER.search(body))


def _redact(value: Any, names: frozenset[str], pointer: str, pointers: list[str]) -> Any:
    """Return *value* with the values of fields called *names* replaced, noting where (RFC 6901)."""
    if isinstance(value, list):
        return [_redact(v, names, f"{pointer}/{n}", pointers) for n, v in enumerate(value)]
    if not isinstance(value, dict):
        return value
    clean = {}
    for name, member in value.items():
        at = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
        if name in names and member:
            pointers.append(at)
            clean[name] = REDACTED
        else:
            clean[name] = _redact(member, names, at, pointers)
    return clean
