"""PagerDuty's answer to a page: the members that decisions need, and the records as PagerDuty wrote them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from msgspec import UNSET
from msgspec.structs import asdict

from tasks.reading.catalog import Paging, resource_of
from tasks.reading.heads import are_light, heads, identity, named
from tasks.reading.pages import Page
from tasks.reading.sealed import Cuts, Envelope, Head
from workers import exact

MOST_TOTAL = 2**53 - 1
"""Largest whole number that all JSON readers, including the ledger's, read exactly."""
LONGEST_CURSOR = 4_096
"""Most characters in a cursor. It becomes part of the next request's address."""
LONGEST_ID = 1_024
"""Most characters in an id. It becomes part of addresses and storage keys."""
_HOST = re.compile(r"https?://([a-z0-9][a-z0-9-]{0,62})\.", re.IGNORECASE)
_DECIDING = ("more", "total", "next_cursor")
_MOST_DECIDING_BYTES = 2**16


@dataclass(frozen=True, slots=True)
class Answer:
    """PagerDuty's answer to a page. Every decision is made from it.

    `data` has the members that decisions need, and the heads of the records. `texts` is the JSON of each record as
    PagerDuty wrote it. It is None for an error, after `slim`, and if `data` has the whole records.
    """

    status: int
    date: datetime | None
    data: Any = field(repr=False)
    words: str = ""  # PagerDuty's own about an error
    fetched_at: str = ""
    envelope: Envelope | None = field(default=None, repr=False)  # if it was read from storage
    texts: Sequence[exact.Written] | None = field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        return self.status < 300

    @property
    def slim(self) -> Answer:
        """The answer without the texts of its records, so that the body can be freed."""
        return replace(self, texts=None)


def read_answer(
    page: Page,
    status: int,
    date: datetime | None,
    members: Mapping[str, exact.Written],
    *,
    words: str = "",
    fetched_at: str = "",
) -> Answer:
    """Return the answer whose body has *members*. For an error only the status counts.

    Raises ValueError for an answer that PagerDuty would never send, with too many records or too large members.
    """
    answer = Answer(status, date, None, words, fetched_at)
    if status >= 300:
        return answer
    wrapper = page.call.wrapper
    data = {name: _small(members[name]) for name in _DECIDING if name in members}
    if "more" in data:
        data["more"] = _truth(data["more"])
    written = members.get(wrapper)
    if written is None:
        return replace(answer, data=data)
    data[wrapper] = found = heads(page, written)
    single = page.call.paging is Paging.SINGLE
    many = exact.elements(written) if isinstance(found, list) else ()
    return replace(answer, data=data, texts=(written,) if single else many)


def _truth(more: Any) -> bool | None:
    """Return whether more records follow. Only a plain `false` says that none do; other empty values say nothing."""
    return more if isinstance(more, bool) else (True if more else None)


def head_of(page: Page, answer: Answer, cuts: Cuts | None = None) -> Head:
    """Return the part of a well-formed *answer* that decisions need, as it is stored."""
    if not answer.ok:
        return Head(records=())
    members = {name: answer.data[name] for name in _DECIDING if name in answer.data}
    return Head(**members, records=tuple(served(page, answer)), cuts=cuts)


def answer_with(page: Page, envelope: Envelope, head: Head) -> Answer:
    """Return the answer that `head_of` was given, without the texts of its records.

    Raises ValueError if it doesn't have the shape of an answer to *page*.
    """
    status = envelope.status
    data = {name: value for name, value in asdict(head).items()
            if name in _DECIDING and value is not UNSET}  # fmt: skip
    single = page.call.paging is Paging.SINGLE
    if single and status < 300 and len(head.records) != 1:
        raise ValueError("one record was asked for")
    data[page.call.wrapper] = head.records[0] if single and head.records else list(head.records)
    answer = Answer(
        status,
        envelope.date,
        data if status < 300 else None,
        envelope.words,
        envelope.fetched_at,
        envelope,
    )
    if not well_formed(page, answer):
        raise ValueError("its head isn't what its page asks for")
    return answer


def members_of(page: Page) -> tuple[str, ...]:
    """Return the names of the members that are read from an answer's body."""
    return (page.call.wrapper, *_DECIDING)


def room_for(page: Page, body: bytes) -> int:
    """Return how many bytes of memory it takes to read and store *body*, besides the body itself."""
    return 2 * len(body) + (0 if are_light(page.segment) else exact.weight(body))


def _small(text: exact.Written) -> Any:
    if len(memoryview(text)) > _MOST_DECIDING_BYTES:
        raise ValueError("a member for paging is too large")
    return exact.loads(bytes(text))


def served(page: Page, answer: Answer) -> list[dict[str, Any]]:
    """Return the records of an answer: an empty list for an error, one record if the call returns one."""
    if not answer.ok:
        return []
    found = answer.data[page.call.wrapper]
    return [found] if page.call.paging is Paging.SINGLE else found


def subdomain_of(record: Mapping[str, Any]) -> str:
    """Return the account's subdomain from the link of a record; "" if the link doesn't have one."""
    link = record.get("html_url")
    found = _HOST.match(link) if isinstance(link, str) else None
    return found[1].lower() if found else ""


def well_formed(page: Page, answer: Answer) -> bool:
    """Return whether *answer* has the shape that later decisions rely on."""
    if not answer.ok:
        return True
    data, call = answer.data, page.call
    if not isinstance(data, dict) or call.wrapper not in data:
        return False
    found = [data[call.wrapper]] if call.paging is Paging.SINGLE else data[call.wrapper]
    has_id = "id" in resource_of(page.segment).key
    return (
        isinstance(found, list)
        and all(isinstance(record, dict) for record in found)
        and all(_is_id(record.get("id")) for record in found if has_id)
        and _is_total(data.get("total"))
        and _is_cursor(data.get("next_cursor"))
    )


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_ID


def _is_total(value: Any) -> bool:
    return value is None or (type(value) is int and 0 <= value <= MOST_TOTAL)


def _is_cursor(value: Any) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= LONGEST_CURSOR)


def lines(page: Page, answer: Answer) -> Iterator[tuple[str, bytes]]:
    """Yield each record that *page* adds to the artifact of its resource: its identity and its line."""
    feed = page.feed
    if feed.details and not page.of_record:
        return
    records = served(page, answer)
    if feed.parent_field or answer.texts is None:
        texts = answer.texts if answer.ok else None
        for record in records if texts is None else (exact.loads(bytes(text)) for text in texts):
            whole = {**record, feed.parent_field: page.parent} if feed.parent_field else record
            yield identity(page.segment, whole), exact.dumps(whole) + b"\n"
        return
    for record, text in zip(records, answer.texts, strict=True):
        line = b"".join((text, b"\n"))
        yield named(page.segment, record) or identity(page.segment, exact.loads(line)), line
