"""Turns an answer into a stored page of three lines, and reads it back: recipe, head and body without secrets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import zstandard

from tasks.evidence import documents
from tasks.evidence.cleaning import cleaned
from tasks.evidence.compression import sha256
from tasks.evidence.frames import (
    FIRST_BYTES,
    MOST_START_BYTES,
    START_BYTES,
    first_part,
    packed,
    parts,
    room_of,
    room_of_first,
)
from tasks.reading.answers import (
    Answer,
    answer_with,
    head_of,
    members_of,
    read_answer,
    served,
    well_formed,
)
from tasks.reading.pages import Page, Request
from tasks.reading.sealed import Cuts, Envelope, Head
from workers import exact
from workers.storage import Storage

if TYPE_CHECKING:
    from workers.pagerduty.replies import Reply
    from workers.storage.registry import Source

_BEGINNING_BYTES = 32
_MOST_TRIES = 8
"""How many texts that begin like a record are looked at. PagerDuty writes the records one after the other."""


class Unreadable(ValueError):
    """An object is not a stored page. The message goes to logs, so it quotes nothing from the object."""


def encode_page(
    source: Source,
    run: str,
    page: Page,
    request: Request,
    reply: Reply,
    *,
    sent: int,
    fetched_at: datetime,
) -> tuple[Answer, bytes]:
    """Return the answer in a reply, and the object that stores it: a frame with recipe and head, and one with the body.

    The body line is the body as received unless it has fields to be redacted, or it wasn't one
    line of JSON. Raises ValueError if the body can't be an answer to *page*, or is too large.
    """
    assert reply.status is not None, "only answers are stored"
    said = (page, reply.status, reply.date, reply.words, stamp(fetched_at))
    answer = _answer_in(*said, reply.body, reply.members)
    stored, pointers = cleaned(page, reply.status, reply.body)
    received = sha256(reply.body)
    rewritten = stored != reply.body
    if rewritten:
        answer = _answer_in(*said, stored)
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
        fetched_at=answer.fetched_at,
        region=source.region,
        credential=source.credential,
        fingerprint=source.fingerprint,
        requests=sent,
        received_sha256=received,
        stored_sha256=sha256(stored) if rewritten else received,
        rewritten=rewritten,
        redacted=tuple(pointers),
    )
    lines = [documents.written(each, indent=-1) for each in (envelope, _head(page, answer, stored))]
    first = b"\n".join([*lines, b""])
    if len(first) > FIRST_BYTES:
        raise ValueError("more beside the body than a page has")
    return answer, packed(first, stored)


def _answer_in(
    page: Page,
    status: int,
    date: datetime | None,
    words: str,
    fetched_at: str,
    body: bytes,
    members: Mapping[str, exact.Written] | None = None,
) -> Answer:
    """Return the answer with this *body*, of which *members* may be known; ValueError if it can't be one to *page*."""
    if members is None:
        members = exact.members(body, members_of(page)) if status < 300 else {}
    answer = read_answer(page, status, date, members, words=words, fetched_at=fetched_at)
    if not well_formed(page, answer):
        raise Unreadable("its body isn't what its page asks for")
    return answer


def _head(page: Page, answer: Answer, body: bytes) -> Head:
    return head_of(page, answer, _cuts(body, answer.texts))


def _cuts(body: bytes, texts: Sequence[exact.Written] | None) -> Cuts | None:
    """Return where each of *texts* is in *body*; None if one was written in another way there."""
    if texts is None:
        return None
    cuts: list[tuple[int, int]] = []
    for text in map(bytes, texts):
        begin = _place(text, body, cuts[-1][1] if cuts else 0)
        if begin is None:
            return None
        cuts.append((begin, begin + len(text)))
    return tuple(cuts)


def _place(text: bytes, body: bytes, at: int) -> int | None:
    """Return where *text* is in *body*, at *at* or soon after. Searching for the whole text takes much longer."""
    for _ in range(_MOST_TRIES):
        at = body.find(text[:_BEGINNING_BYTES], at)
        if at < 0 or body[at : at + len(text)] == text:
            return at if at >= 0 else None
        at += 1
    return None


def stamp(when: datetime) -> str:
    """Return *when* as envelopes write it: with a fixed width, so that texts sort like times."""
    return f"{when.astimezone(UTC):%FT%T.%f}Z"


def decode_page(blob: bytes, *, strict: bool = False) -> Answer:
    """Return the answer that `encode_page` stored; raises `Unreadable` for any other object.

    The body must have the digest that the recipe names. If *strict*, the body is decoded, and must say what the head
    says. Otherwise the head alone says where the records are.
    """
    with _faults():
        first, rest = parts(blob)
        page, envelope, text = _lines(first)
        if not rest or rest.find(b"\n") != len(rest) - 1:
            raise Unreadable("its body isn't one line")
        body = rest[:-1]
        if sha256(body) != envelope.stored_sha256:
            raise Unreadable("the stored body isn't the one that was stored")
        if strict:
            return _compared(page, envelope, text, body)
        head = documents.read(text, Head, indent=-1)
        answer = answer_with(page, envelope, head)
        return replace(answer, texts=_texts(page, answer, head.cuts, body))


def decode_start(start: bytes) -> Answer | None:
    """Return the answer without the texts of its records from the *start* of an object; None if more of it is needed.

    Raises `Unreadable` if it isn't the start of a stored page.
    """
    with _faults():
        first = first_part(start)
        if first is None:
            return None
        page, envelope, text = _lines(first)
        return answer_with(page, envelope, documents.read(text, Head, indent=-1))


@contextmanager
def _faults() -> Iterator[None]:
    """Raise `Unreadable` for whatever a reader finds wrong."""
    try:
        yield
    except Unreadable:
        raise
    except (zstandard.ZstdError, ValueError, KeyError, TypeError) as error:
        raise Unreadable(f"it isn't a stored page ({type(error).__name__})") from None


def _lines(first: bytes) -> tuple[Page, Envelope, bytes]:
    """Return the page and its recipe from the first frame, and the text of the head."""
    recipe, head, rest = first.split(b"\n")
    if rest:
        raise Unreadable("its first part isn't two lines")
    envelope = documents.read(recipe, Envelope, indent=-1)
    return Page.parse(envelope.page), envelope, head


def _compared(page: Page, envelope: Envelope, head: bytes, body: bytes) -> Answer:
    """Return the answer in *body*; `Unreadable` if the stored *head* is another one."""
    status, date, words = envelope.status, envelope.date, envelope.words
    answer = _answer_in(page, status, date, words, envelope.fetched_at, body)
    if documents.written(_head(page, answer, body), indent=-1) != head:
        raise Unreadable("its second line isn't what its body says")
    return replace(answer, envelope=envelope)


def _texts(
    page: Page, answer: Answer, cuts: Cuts | None, body: bytes
) -> Sequence[exact.Written] | None:
    """Return the texts of the records in *body*, which are at *cuts*; None for an error."""
    if not answer.ok:
        return None
    if cuts is None:
        status, date, words = answer.status, answer.date, answer.words
        return _answer_in(page, status, date, words, answer.fetched_at, body).texts
    edges = [edge for cut in cuts for edge in cut]
    if len(cuts) != len(served(page, answer)) or edges != sorted(edges) or edges[-1:] > [len(body)]:
        raise Unreadable("its second line isn't what its body says")
    view = memoryview(body)
    return [msgspec.Raw(view[begin:end]) for begin, end in cuts]


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
    return 2 * room_of(blob)


def read_start(storage: Storage, key: str, take: Callable[[int], None]) -> Answer | None:
    """Return the answer under *key* without the texts of its records, or None; `Unreadable` if it isn't a page.

    It reads a few kilobytes of the object. *take* is called with the memory that they need.
    """
    for size in (START_BYTES, MOST_START_BYTES):
        start = storage.get_start(key, size)
        if start is None:
            return None
        take(2 * room_of_first(start))
        if answer := decode_start(start):
            return answer
    raise Unreadable("it is cut")
