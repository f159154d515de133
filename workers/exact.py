"""Reads and writes JSON as people really send it: whole numbers keep every digit, and all that was read can be written.

orjson alone is not enough. It refuses half characters (`\\ud83d` alone), and it rounds integers beyond 64 bits, such as
trace ids of 128 bits. Customers' events contain both.

Python's objects take ten to fifty times the memory of their text. So values that would take more than MOST_DECODED are
not decoded, and neither are lists of more than MOST_ELEMENTS.
"""

import codecs
import json
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NoReturn, TypedDict

import msgspec
import orjson

Written = bytes | msgspec.Raw
"""A piece of JSON that is well formed, but not decoded."""
MOST_DECODED = 64 * 2**20
"""Bytes that one decoded value may take: enough for a record of 50 MB that is mostly text."""
MOST_ELEMENTS = 1_000
"""The longest list that is read: PagerDuty serves at most this many records at once."""
_CAREFUL_COPIES = 4  # `_carefully` holds copies of the value and of its text
_SHORT_BYTES = 2**20  # in a list this short, the elements are counted after reading
_OBJECT_BYTES = 100  # a list, object or number takes 32 to 240 bytes; a member also needs its name
_PIECE_BYTES = 2**20
_ELEMENTS = msgspec.json.Decoder(list[msgspec.Raw])
_alone = threading.Lock()
"""Lets only one thread at a time read carefully, because that briefly takes much memory."""

_DEEPEST = 250
"""The most levels of nested lists and objects: orjson writes 254, and PagerDuty's own parser reads 100."""
_LONG = b"0" * 19  # as many digits as the shortest number that orjson may round
_DIGITS = bytes(ord("0") if chr(byte) in "0123456789" else ord(" ") for byte in range(256))
_HALF = re.compile("[\ud800-\udfff]")


def loads(text: bytes) -> Any:
    """Return the value of *text*, which `dumps` can write again; raises ValueError if it isn't JSON, or too large.

    Half characters and bytes that aren't UTF-8 are replaced by U+FFFD. If a name comes twice, its last value is used.
    """
    if weight(text) > MOST_DECODED:
        raise ValueError("too large to decode at once")
    if _has_long_number(text):
        return _carefully(text)
    try:
        value = orjson.loads(text)
        orjson.dumps(value)
    except (ValueError, TypeError):
        return _carefully(text)
    return value


def _has_long_number(text: bytes) -> bool:
    # Searching with a regular expression takes 16 times as long.
    return any(
        _LONG in text[start : start + _PIECE_BYTES + len(_LONG)].translate(_DIGITS)
        for start in range(0, len(text), _PIECE_BYTES)
    )


def weight(text: bytes) -> int:
    """Return an upper estimate of the bytes that the value of *text* takes."""
    characters = len(text) * (1 if text.isascii() else 4)
    return characters + _OBJECT_BYTES * sum(map(text.count, (b",", b"[", b"{")))


def members(text: bytes | memoryview, names: Iterable[str] | None = None) -> Mapping[str, Written]:
    """Return the members *names* of the object *text*, or all members, each as it was written.

    Raises ValueError if *text* is not an object that `loads` would read. Takes a tenth of the time of `loads`, because
    values are not decoded. Ask for all members only if the object is known to have few.
    """
    kind = None if names is None else tuple(names)
    if _is_utf8(text):
        try:
            found: Mapping[str, Written] = _members_decoder(kind).decode(text)
        except (msgspec.DecodeError, RecursionError):
            pass
        else:
            return found
    value = _carefully(bytes(text))
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return {name: dumps(member) for name, member in value.items() if kind is None or name in kind}


def check_once(text: bytes, names: Iterable[str]) -> None:
    """Raise ValueError if the object *text* has a member of *names* twice: one value would hide the other."""
    if all(text.count(f'"{name}"'.encode()) < 2 for name in names):
        return
    last: list[str] = []  # the names in the object that ended last, which is the outermost one

    def keep_names(pairs: list[tuple[str, Any]]) -> None:
        last[:] = [name for name, _ in pairs]

    try:
        json.loads(text.decode("utf-8-sig", "replace"), strict=False, object_pairs_hook=keep_names)
    except RecursionError:
        raise ValueError("too deep") from None
    if any(last.count(name) > 1 for name in names):
        raise ValueError("a member comes twice")


@cache
def _members_decoder(names: tuple[str, ...] | None) -> msgspec.json.Decoder[Any]:
    """Return a decoder for the members *names* (None: all of them); it skips other members without storing them."""
    if names is None:
        return msgspec.json.Decoder(dict[str, msgspec.Raw])
    kind = TypedDict("kind", dict.fromkeys(names, msgspec.Raw), total=False)  # type: ignore[misc]  # names of runtime
    return msgspec.json.Decoder(kind)


def _is_utf8(text: bytes | memoryview) -> bool:
    """Say whether *text* is UTF-8. It is decoded in pieces, because one emoji makes a string four times as large."""
    if isinstance(text, bytes) and text.isascii():
        return True
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(text), _PIECE_BYTES):
            decoder.decode(text[start : start + _PIECE_BYTES])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def check_few(text: Written) -> None:
    """Raise ValueError if *text* is long and isn't a list of at most MOST_ELEMENTS; stops at the first one too many."""
    if len(memoryview(text)) > _SHORT_BYTES:
        try:
            _few_decoder().decode(text)
        except msgspec.ValidationError:
            raise ValueError("not a list, or one with too many elements") from None


@cache
def _few_decoder() -> msgspec.json.Decoder[Any]:
    """Return a decoder that stops at the first element too many; msgspec's own limit needs the whole list first."""
    names = [
        (f"n{number}", msgspec.Raw | msgspec.UnsetType, msgspec.UNSET)
        for number in range(MOST_ELEMENTS)
    ]
    few = msgspec.defstruct("few", names, array_like=True, forbid_unknown_fields=True, gc=False)
    return msgspec.json.Decoder(few)


def elements(text: Written) -> Sequence[Written]:
    """Return the elements of the list *text*, each as it was written; ValueError if there are too many."""
    check_few(text)
    found: Sequence[Written] = _ELEMENTS.decode(text)
    if len(found) > MOST_ELEMENTS:
        raise ValueError("too many elements")
    return found


def dumps(value: Any, *, sort_keys: bool = False) -> bytes:
    """Return *value*, which came from `loads`, as one line of JSON."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS if sort_keys else None)
    except TypeError:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=sort_keys)
        return text.encode()


def _carefully(text: bytes) -> Any:
    """Return the value as `loads` does, but without orjson; this takes five times as long."""
    if weight(text) * _CAREFUL_COPIES > MOST_DECODED:
        raise ValueError("too large to read with care")
    try:
        with _alone:
            value = json.loads(
                text.decode("utf-8-sig", "replace"), strict=False, parse_constant=_refuse
            )
            if _deeper(value, _DEEPEST):
                raise ValueError(f"more than {_DEEPEST} levels deep")
            plain = json.dumps(value, ensure_ascii=False, allow_nan=False)
            del value
            return json.loads(_HALF.sub("\ufffd", plain))
    except RecursionError:
        raise ValueError("too deep") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} isn't a number in JSON")


def _deeper(value: Any, levels: int) -> bool:
    level = [value]
    for _ in range(levels + 1):
        level = [
            member
            for each in level
            if isinstance(each, list | dict)
            for member in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return True
