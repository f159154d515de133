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
from tasks.reading.sealed import Envelope
from workers import exact

MOST_TOTAL = 2**53 - 1
"""Largest whole number that all JSON readers, including the ledger's, read exactly."""
LONGEST_CURSOR = 4_096
"""Most characters in a cursor. It becomes part of the next request's address."""
LONGEST_ID = 1_024
"""Most characters in an id. It becomes part of addresses and storage keys."""
_HOST = re.compile(r"https?://([a-z0-9][a-z0-9-]{0,62})\.", re.IGNORECASE)
_REFERENCE = ("id", "type", "summary", "self", "html_url")
"""The members of PagerDuty's references to a record. Child lists are asked for with such a reference."""
_DECIDING = ("more", "total", "next_cursor")
_MOST_DECIDING_BYTES = 2**16
_MOST_HEADS = 2**18
"""Most characters in the heads of a page. All pages of a pass keep their heads. 100 records have about 50,000."""
_MOST_WHOLE = 8 * 2**20
"""Most bytes of a page's records, if they are decoded completely. 100 on-calls take 1.5 MB."""


@dataclass(frozen=True, slots=True)
class Answer:
    """PagerDuty's answer to a page. Every decision is made from it.

    `data` has the members that decisions need. It has only the heads of the records, which are the
    members of a record that decisions need. `written` is the JSON of the records as PagerDuty wrote
    it. It is None for an error, after `slim`, and if `data` has the whole records.
    """

    status: int
    date: datetime | None
    data: Any = field(repr=False)
    words: str = ""  # PagerDuty's own about an error
    fetched_at: str = ""
    envelope: Envelope | None = field(default=None, repr=False)  # if it was read from storage
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
    written = members.get(wrapper)
    if written is not None:
        data[wrapper] = _heads(page, written)
    return replace(answer, data=data, written=written)


def members_of(page: Page) -> tuple[str, ...]:
    """Return the names of the members that are read from an answer's body."""
    return (page.call.wrapper, *_DECIDING)


def room_for(page: Page, body: bytes) -> int:
    """Return how many bytes of memory it takes to read and store *body*, besides the body itself."""
    return 2 * len(body) + (0 if _decoders(page.segment) else exact.weight(body))


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
    """Return the identity of a whole *record*, which tells it apart from others of its resource."""
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
    """Return the key that tells the records of one list apart: the id, or else all nested ids.

    If the catalog doesn't name a key, any member may differ, so the whole record is the key.
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
    """Return the heads of the records in *written*. If decisions need whole records, they are the heads."""
    single = page.call.paging is Paging.SINGLE
    if not single:
        exact.check_few(written)
    decoders = _decoders(page.segment)
    if decoders is None:
        return _whole(written)
    one, many = decoders
    try:
        found = (one if single else many).decode(written)
    except msgspec.DecodeError:  # it isn't a list of objects, or only `exact` can read it
        found = _trimmed(exact.loads(bytes(written)), one.type.__annotations__)
    records = [found] if single else found
    if isinstance(records, list) and not _are_small(records):
        raise ValueError("the heads of the records are too large, or hold lists or objects")
    return found


def _whole(written: exact.Written) -> Any:
    text = bytes(written)
    if exact.weight(text) > _MOST_WHOLE:
        raise ValueError("the records are too large to be decoded")
    return exact.loads(text)


def _trimmed(found: Any, names: Mapping[str, Any]) -> Any:
    """Return *found*, an object or a list of objects, with only the members *names*."""
    if isinstance(found, list):
        return [_trimmed(each, names) for each in found]
    if not isinstance(found, dict):
        return found
    return {name: member for name, member in found.items() if name in names}


def _are_small(records: list[Any]) -> bool:
    """Return whether *records* are as few and as small as heads. Heads hold neither lists nor objects."""
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
    head = TypedDict("head", dict.fromkeys(names, scalar), total=False)  # type: ignore[misc]  # its members come from the catalog
    return msgspec.json.Decoder(head), msgspec.json.Decoder(list[head])
