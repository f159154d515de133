"""The heads of records: the few members that decisions need, and what tells the records of a list apart."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, TypedDict

import msgspec

from tasks.reading.catalog import FEEDS, Paging, children_of, resource_of
from tasks.reading.pages import Page
from workers import exact

_REFERENCE = ("id", "type", "summary", "self", "html_url")
"""The members of PagerDuty's references to a record. Child lists are asked for with such a reference."""
_MOST_HEADS = 2**18
"""Most characters in the heads of a page. All pages of a pass keep their heads. 100 records have about 50,000."""
_MOST_WHOLE = 8 * 2**20
"""Most bytes of a page's records, if they are decoded completely. 100 on-calls take 1.5 MB."""
_LEAST, _MOST = -(2**63), 2**63 - 1
"""The whole numbers that heads hold as such."""


def identity(segment: str, record: Mapping[str, Any]) -> str:
    """Return the identity of a whole *record*, which tells it apart from others of its resource."""
    digest = hashlib.sha256(exact.dumps(record, sort_keys=True)).hexdigest
    return named(segment, record) or digest()


def identity_of_line(resource: str, line: bytes) -> str:
    """Return the identity of the record that *line* of an artifact holds."""
    decoder = _decoders(resource)
    try:
        name = named(resource, decoder[0].decode(line)) if decoder else None
    except msgspec.DecodeError:
        name = None
    return name or identity(resource, exact.loads(line))


def key_of(segment: str, record: Mapping[str, Any]) -> str:
    """Return the key that tells the records of one list apart: the id, or else all nested ids.

    *record* may be a head. If records have no id, and the catalog doesn't name a key, the whole record is the key.
    """
    if "id" in record:
        return str(record["id"])
    if not resource_of(segment).key:
        return identity(segment, record)
    nested = (v.get("id") for v in record.values() if isinstance(v, Mapping))
    return "\x00".join(str(each) for each in nested) or repr(sorted(record.items()))


def named(segment: str, record: Mapping[str, Any]) -> str | None:
    """Return the identity of a record from its head; None if the head doesn't tell."""
    parts = [_member(record, name) for name in resource_of(segment).key]
    return None if not parts or None in parts else "\x00".join(map(str, parts))


def _member(record: Mapping[str, Any], dotted: str) -> Any:
    value: Any = record
    for name in dotted.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def heads(page: Page, written: exact.Written) -> Any:
    """Return the heads of the records in *written*: a list, or one head if the call returns one record.

    A head has only text, numbers, true, false and null. Raises ValueError for heads that are too large.
    """
    single = page.call.paging is Paging.SINGLE
    if not single:
        exact.check_few(written)
    found = _read(page.segment, written, single=single)
    records = [found] if single else found
    if isinstance(records, list) and not _are_small(records):
        raise ValueError("the heads of the records are too large, or hold lists or objects")
    return found


def are_light(segment: str) -> bool:
    """Return whether heads are read without decoding the records."""
    return _decoders(segment) is not None


def _read(segment: str, written: exact.Written, *, single: bool) -> Any:
    decoders = _decoders(segment)
    if decoders is None:
        return _each(_whole(written), lambda record: _keyed(segment, record))
    one, many = decoders
    try:
        return (one if single else many).decode(written)
    except msgspec.DecodeError:  # it isn't a list of objects, or only `exact` can read it
        names = one.type.__annotations__
        return _each(exact.loads(bytes(written)), lambda record: _trimmed(record, names))


def _each(found: Any, head: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """Return *found*, an object or a list of objects, with the *head* of each object in its place."""
    if isinstance(found, list):
        return [head(each) if isinstance(each, dict) else each for each in found]
    return head(found) if isinstance(found, dict) else found


def _keyed(segment: str, record: dict[str, Any]) -> dict[str, Any]:
    """Return a head with the key of a record that has no id, and with the field that its list is sorted by."""
    field = FEEDS[segment].sort_field
    value = record.get(field)
    sorted_by = {field: _plain(value)} if isinstance(value, str | int | float) else {}
    return {"id": key_of(segment, record)} | sorted_by


def _whole(written: exact.Written) -> Any:
    text = bytes(written)
    if exact.weight(text) > _MOST_WHOLE:
        raise ValueError("the records are too large to be decoded")
    return exact.loads(text)


def _trimmed(record: dict[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(member) for name, member in record.items() if name in names}


def _plain(value: Any) -> Any:
    """Return *value*, but a number with more than 64 bits as text: stored heads don't hold such numbers."""
    large = type(value) is int and not _LEAST <= value <= _MOST
    return str(value) if large else value


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
    scalar = str | Annotated[int, msgspec.Meta(ge=_LEAST, le=_MOST)] | float | bool | None
    head = TypedDict("head", dict.fromkeys(names, scalar), total=False)  # type: ignore[misc]  # its members come from the catalog
    return msgspec.json.Decoder(head), msgspec.json.Decoder(list[head])
