"""JSON of the kinds that people really send."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers import exact

HALVES = st.characters(categories=["Cs"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text() | st.text(st.characters() | HALVES),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def mended(value: Any) -> Any:
    """Return *value* with half characters replaced."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [mended(each) for each in value]
    if isinstance(value, dict):
        return {name: mended(each) for name, each in value.items()}
    return value


@given(JSON, st.booleans(), st.sampled_from([None, 1]))
def test_everything_that_was_written_can_be_read_and_written_again(
    value: Any, ascii_only: bool, indent: int | None
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    read = exact.loads(text.encode("utf-8", "surrogatepass" if ascii_only else "replace"))
    if ascii_only:
        assert read == mended(value)
    line = exact.dumps(read)
    assert b"\n" not in line
    assert exact.loads(line) == read
    assert json.loads(line) == read


@pytest.mark.parametrize("digits", [1, 9, 18, 19, 20, 21, 30, 39, 400])
@pytest.mark.parametrize("sign", ["", "-"])
def test_whole_numbers_keep_every_digit(digits: int, sign: str) -> None:
    number = sign + "1" + "7" * (digits - 1)
    text = f'{{"trace":{number},"other":[{number},1.5]}}'.encode()
    assert exact.loads(text) == {"trace": int(number), "other": [int(number), 1.5]}
    assert exact.dumps(exact.loads(text)) == text


@pytest.mark.parametrize("edge", [2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1])
def test_numbers_around_the_limits_of_64_bits_are_exact(edge: int) -> None:
    assert exact.loads(str(edge).encode()) == edge
    assert exact.dumps(edge) == str(edge).encode()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (rb'"\ud83d"', "\ufffd"),
        (rb'"\ude00\ud83d"', "\ufffd\ufffd"),
        (rb'"\ud83d\ude00"', "😀"),
        (rb'"a\ud83d cut"', "a\ufffd cut"),
        (rb'{"\ud83d":1}', {"\ufffd": 1}),
        (b'"caf\xe9"', "caf\ufffd"),
        (b'\xef\xbb\xbf{"bom":1}', {"bom": 1}),
        (b'"a\tb"', "a\tb"),
        (b'"\xe2\x80\xa8"', "\u2028"),
        (rb'"\\ud83d"', r"\ud83d"),
        (b'{"a":1,"a":2}', {"a": 2}),
        (rb'{"a":"\ud83d","a":2}', {"a": 2}),
        (b" null ", None),
        (b'{"n":123456789012345678901234567890,"s":"\\ud83d"}',
         {"n": 123456789012345678901234567890, "s": "\ufffd"}),
    ],
)  # fmt: skip
def test_text_that_is_almost_json_is_read_as_it_was_meant(text: bytes, value: Any) -> None:
    assert exact.loads(text) == value
    assert exact.loads(exact.dumps(value)) == value


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<html>",
        b'{"cut":',
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e999",
        b"{1:2}",
        b"{} {}",
        b"\x00",
        b"\xff\xfe{\x00}\x00",
        b"[" * 300 + b"]" * 300,
        b'{"a":' * 300 + b"1" + b"}" * 300,
        b"[" * 5_000 + b"]" * 5_000,
        b"[" * 200_000,
        b"[" * 300 + b"1" * 30 + b"]" * 300,
        b"[" * 300 + rb'"\ud83d"' + b"]" * 300,
    ],
    ids=lambda text: text[:20].decode("latin-1"),
)
def test_text_that_is_not_json_raises_one_kind_of_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        exact.loads(text)


@pytest.mark.parametrize(
    ("text", "twice"),
    [
        (b'{"records": [{"id": 1}], "records": []}', True),
        (b'{"records":[],"more":true, "more" :false}', True),
        (b'\xef\xbb\xbf{"records":["caf\xe9"],"records":[]}', True),
        (b'{"records": [{"records": [], "more": 1, "more": 2}], "more": false}', False),
        (b'{"records": ["\\"more\\"", "more"], "more": false}', False),
        (b'{"records": [], "other": 1, "other": 2}', False),
        (b'{"records": [' + b'{"more": 1},' * 20_000 + b"0]}", False),
    ],
)
def test_a_member_that_comes_twice_hides_no_other_one(text: bytes, twice: bool) -> None:
    if not twice:
        exact.check_once(text, ("records", "more"))
        return
    with pytest.raises(ValueError, match="twice"):
        exact.check_once(text, ("records", "more"))


@pytest.mark.parametrize("inner", [b"1", b"123456789012345678901234567890", rb'"\ud83d"'])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_anything_as_deep_as_people_nest_is_read_and_written(
    inner: bytes, opening: bytes, closing: bytes
) -> None:
    text = opening * 249 + inner + closing * 249
    assert exact.loads(exact.dumps(exact.loads(text))) == exact.loads(text)


def test_sorted_names_give_the_same_line_whatever_is_in_it() -> None:
    for number in (1, 2**70):
        one, other = {"b": number, "a": {"d": 1, "c": 2}}, {"a": {"c": 2, "d": 1}, "b": number}
        assert exact.dumps(one, sort_keys=True) == exact.dumps(other, sort_keys=True)
