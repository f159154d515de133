"""PagerDuty's answer to a page: the members that decisions need, and the records as PagerDuty wrote them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from typing import Any, TypedDict

import msgspec

from tasks.reading.catalog import FEEDS, Paging, children_of, resource_of
from tasks.reading.pages import Page
from workers import exact

MOST_TOTAL = 2**53 - 1
"""Largest whole number that all JSON readers agree on, including the ledger's."""
LONGEST_CURSOR = 4_096
"""Longest cursor. It becomes part of the next request's address."""
LONGEST_ID = 1_024
"""Longest id. It becomes part of addresses and storage keys."""
_HOST = re.compile(r"https?://([a-z0-9][a-z0-9-]{0,62})\.", re.IGNORECASE)
_REFERENCE = ("id", "type", "summary", "self", "html_url")
"""The members of PagerDuty's references to a record. Child lists are asked for with such a reference."""
_DECIDING = ("more", "total", "next_cursor")
_MOST_DECIDING_BYTES = 2**16
_MOST_HEADS = 2**18
"""Most characters in the heads of a page, which are kept for all pages of a pass. 100 records have 50,000."""
_MOST_WHOLE = 8 * 2**20
"""Most bytes of a page's records if they are decoded whole. 100 on-calls take 1.5 MB."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, from which every decision is made.

    Of its records *data* has the heads alone, the members that decisions need; *written* is their
    JSON as it was served (None where *data* has all of them).
    """

    status: int
    date: datetime | None
    data: Any = field(repr=False)
    envelope: Mapping[str, Any] = field(repr=False)
    written: exact.Written | None = field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        return self.status < 300

    @property
    def slim(self) -> Answer:
        """The answer without the texts of its records, so that the body can be freed."""
        return replace(self, written=None)


def read_answer(
    page: Page,
    status: int,
    date: datetime | None,
    members: Mapping[str, exact.Written],
    envelope: Mapping[str, Any],
) -> Answer:
    """Return the answer whose body has *members*. For an error only the status counts.

    Raises ValueError for an answer that PagerDuty would not send: too many records, or members that are too large.
    """
    if status >= 300:
        return Answer(status, date, None, envelope)
    wrapper = page.call.wrapper
    data = {name: _small(members[name]) for name in _DECIDING if name in members}
    written = members.get(wrapper)
    if written is not None:
        data[wrapper] = _heads(page, written)
    return Answer(status, date, data, envelope, written)


def members_of(page: Page) -> tuple[str, ...]:
    """Return the names of the members that are read from an answer's body."""
    return (page.call.wrapper, *_DECIDING)


def room_for(page: Page, body: bytes) -> int:
    """Return how many bytes it takes to read and store *body*, in addition to the body."""
    return 2 * len(body) + (0 if _decoders(page.segment) else exact.weight(body))


def _small(text: exact.Written) -> Any:
    if len(memoryview(text)) > _MOST_DECIDING_BYTES:
        raise ValueError("more than paging has to say")
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
    """Whether *answer* has the shape that later decisions rely on."""
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
    """Yield identity and line of each record that *page* contributes to its resource's artifact."""
    feed = page.feed
    if feed.details and not page.of_record:
        return
    records = served(page, answer)
    if feed.parent_field or answer.written is None:
        for record in records:
            whole = {**record, feed.parent_field: page.parent} if feed.parent_field else record
            yield identity(page.segment, whole), exact.dumps(whole) + b"\n"
        return
    single = page.call.paging is Paging.SINGLE
    texts = [answer.written] if single else exact.elements(answer.written)
    for record, text in zip(records, texts, strict=True):
        line = b"".join((text, b"\n"))
        yield _named(page.segment, record) or identity(page.segment, exact.loads(line)), line


def identity(segment: str, record: Mapping[str, Any]) -> str:
    """Return the identity of *record*, a whole record, among those of its resource."""
    digest = hashlib.sha256(exact.dumps(record, sort_keys=True)).hexdigest
    return _named(segment, record) or digest()


def identity_of_line(resource: str, line: bytes) -> str:
    """Return the identity of the record that *line* of an artifact holds."""
    decoder = _decoders(resource)
    try:
        name = _named(resource, decoder[0].decode(line)) if decoder else None
    except msgspec.DecodeError:
        name = None
    return name or identity(resource, exact.loads(line))


def key_of(segment: str, record: Mapping[str, Any]) -> str:
    """Return the key that tells records of one list apart: the id, or else all nested ids.

    Where the catalog doesn't name a key, the whole record is the key, because any member may differ.
    """
    if not resource_of(segment).key:
        return identity(segment, record)
    if "id" in record:
        return str(record["id"])
    nested = (v.get("id") for v in record.values() if isinstance(v, Mapping))
    return "\x00".join(str(each) for each in nested) or repr(sorted(record.items()))


def _named(segment: str, record: Mapping[str, Any]) -> str | None:
    parts = [_member(record, name) for name in resource_of(segment).key]
    return None if not parts or None in parts else "\x00".join(map(str, parts))


def _member(record: Mapping[str, Any], dotted: str) -> Any:
    value: Any = record
    for name in dotted.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _heads(page: Page, written: exact.Written) -> Any:
    """Return the heads of the records *written*: all of them where more than an id names one."""
    single = page.call.paging is Paging.SINGLE
    if not single:
        exact.check_few(written)
    decoders = _decoders(page.segment)
    if decoders is None:
        return _whole(written)
    one, many = decoders
    try:
        found = (one if single else many).decode(written)
    except msgspec.DecodeError:  # not a list of objects, or a text that only `exact` can read
        found = _trimmed(exact.loads(bytes(written)), one.type.__annotations__)
    records = [found] if single else found
    if isinstance(records, list) and not _is_little(records):
        raise ValueError("more than heads of records hold")
    return found


def _whole(written: exact.Written) -> Any:
    text = bytes(written)
    if exact.weight(text) > _MOST_WHOLE:
        raise ValueError("more than such records hold")
    return exact.loads(text)


def _trimmed(found: Any, names: Mapping[str, Any]) -> Any:
    """Return *found*, an object or a list of objects, with only the members *names*."""
    if isinstance(found, list):
        return [_trimmed(each, names) for each in found]
    if not isinstance(found, dict):
        return found
    return {name: member for name, member in found.items() if name in names}


def _is_little(records: list[Any]) -> bool:
    """Whether *records* are as few and short as heads, which hold neither lists nor objects."""
    heads = [record for record in records if isinstance(record, dict)]
    values = [value for head in heads for value in head.values()]
    return (
        len(records) <= exact.MOST_ELEMENTS
        and not any(isinstance(value, list | dict) for value in values)
        and sum(len(value) for value in values if isinstance(value, str)) <= _MOST_HEADS
    )


@cache
def _decoders(segment: str) -> tuple[msgspec.json.Decoder[Any], msgspec.json.Decoder[Any]] | None:
    """Return the decoders of one head and of a list of heads; None if whole records are needed."""
    resource = resource_of(segment)
    feeds = [feed for feed in FEEDS.values() if resource_of(feed.segment) is resource]
    if "id" not in resource.key or any(feed.parent_field for feed in feeds):
        return None
    names = {name.partition(".")[0] for name in resource.key}
    if children_of(segment, FEEDS.values()):
        names |= {*_REFERENCE}
    names |= {feed.sort_field for feed in feeds} | {
        feed.settled[0] for feed in feeds if feed.settled
    }
    scalar = str | int | float | bool | None
    head = TypedDict("head", dict.fromkeys(names, scalar), total=False)  # type: ignore[misc]  # from the catalog
    return msgspec.json.Decoder(head), msgspec.json.Decoder(list[head])
