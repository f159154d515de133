"""Reading an answer: heads for decisions, and the records as written for the artifact."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.reading.answers import Answer, lines, read_answer, served, well_formed
from tasks.reading.catalog import CATALOG, FEEDS
from tasks.reading.heads import identity, identity_of_line, key_of
from tasks.reading.pages import Page
from tasks.reading.windows import ALL, of
from tests.lists_model import NOW
from workers import exact

SCALAR = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False)
)
JSON = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
RECORD = st.fixed_dictionaries(
    {"id": st.text(min_size=1), "type": st.text(), "name": SCALAR},
    optional={"status": st.text(), "summary": SCALAR, "user": JSON, "team": JSON, "body": JSON},
)
INCIDENTS = Page("incidents", ALL)


def read(page: Page, body: bytes) -> Answer:
    return read_answer(page, 200, NOW, exact.members(body))


def body_of(page: Page, records: Any, **more: Any) -> bytes:
    return json.dumps({page.call.wrapper: records, **more}).encode()


def pages() -> list[Page]:
    """One page of every call of the catalog."""
    parent = {"id": "P1", "type": "thing", "summary": "s", "self": None, "html_url": None}
    listed = [Page(name, ALL) for name, feed in FEEDS.items() if feed.list]
    return listed + [
        Page(name, of("P1"), parent=parent) for name, feed in FEEDS.items() if feed.each
    ]


def in_head(value: Any) -> Any:
    """Return a value as heads hold it: numbers with more than 64 bits are text there."""
    return str(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.id)
@given(records=st.lists(RECORD, min_size=1, max_size=4))
def test_the_lines_are_the_records_and_their_heads_name_them(
    page: Page, records: list[dict[str, Any]]
) -> None:
    """Reading heads alone gives the same records, names and decisions as reading everything."""
    single = page.call.paging.value == "single"
    found = records[0] if single else records
    answer = read(page, body_of(page, found, more=True, total=7))
    whole = Answer(200, NOW, {page.call.wrapper: found, "more": True, "total": 7}, {})
    assert well_formed(page, answer) is well_formed(page, whole) is True
    assert (answer.data["more"], answer.data["total"]) == (True, 7)
    for head, record in zip(served(page, answer), served(page, whole), strict=True):
        shown = {name: value for name, value in head.items() if name != "id"}
        assert shown == {name: in_head(record[name]) for name in shown}
        assert key_of(page.segment, head) == key_of(page.segment, record)
    got, want = list(lines(page, answer)), list(lines(page, whole))
    assert [(key, json.loads(line)) for key, line in got] == [(k, json.loads(x)) for k, x in want]
    resource = page.segment.partition(".")[0]
    for key, line in got:
        assert line.count(b"\n") == 1
        assert identity_of_line(resource, line) == key == identity(page.segment, exact.loads(line))


@pytest.mark.parametrize(
    "text",
    [
        rb'{"id": "A", "trace": 123456789012345678901234567890}',
        rb'{"id": "A", "note": "\ud83d alone"}',
        rb'{"id": "A", "name": "\ud83d alone"}',
        '{"id": "A", "note": "ü\u2028"}'.encode(),
        rb'{"id": "A", "id": "B", "note": 1, "note": 2}',
        b'{"id": "A", "note": "\xff"}',
    ],
)
def test_odd_values_in_a_record_stay_as_exact_as_possible(text: bytes) -> None:
    answer = read(INCIDENTS, b'{"incidents": [' + text + b'], "more": false}')
    assert well_formed(INCIDENTS, answer)
    ((key, line),) = lines(INCIDENTS, answer)
    assert exact.loads(line) == exact.loads(text)
    assert key == exact.loads(text)["id"]
    line.decode()


@pytest.mark.parametrize(
    "found", [None, 3, "x", {"id": "A"}, [1], [None], [["id", "A"]], [{"id": 1}], [{}]]
)
def test_an_answer_without_a_list_of_records_is_not_well_formed(found: Any) -> None:
    assert not well_formed(INCIDENTS, read(INCIDENTS, body_of(INCIDENTS, found)))
    assert not well_formed(INCIDENTS, read(INCIDENTS, b'{"more": false}'))


@pytest.mark.parametrize(
    "body", [b"[]", b"3", b"", b"{", b'{"incidents": [}', b'{"a": NaN}', b"\xef\xbb\xbf[]"]
)
def test_only_an_object_has_members(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each has its own text
        exact.members(body)


def test_a_byte_order_mark_hides_no_member() -> None:
    assert exact.members(b'\xef\xbb\xbf{"a": [1]}') == {"a": b"[1]"}


@pytest.mark.parametrize(
    "body",
    [
        b'{"incidents": [' + b",".join([b'{"id":"A"}'] * 1_001) + b"]}",
        b'{"incidents": [' + b",".join([b"{}"] * 500_000) + b"]}",
        b'{"incidents": [{"id": "A", "status": ["resolved"]}]}',
        b'{"incidents": [{"id": "A", "status": "' + b"x" * 300_000 + b'"}]}',
        b'{"incidents": [{"id": "A"}], "next_cursor": "' + b"x" * 70_000 + b'"}',
    ],
    ids=["records", "many records", "a list in a head", "a long head", "a long cursor"],
)
def test_more_than_a_page_of_pagerduty_holds_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"too many|too large"):
        read(INCIDENTS, body)


def test_records_that_are_decoded_whole_are_refused_if_they_would_take_too_much_memory() -> None:
    oncalls = Page("oncalls", ALL)
    small, large = ([[{}] * n] for n in (10, 200_000))
    assert well_formed(oncalls, read(oncalls, body_of(oncalls, [{"user": small}])))
    with pytest.raises(ValueError, match="the records are too large to be decoded"):
        read(oncalls, body_of(oncalls, [{"user": large}]))


def test_only_the_status_of_an_error_counts() -> None:
    answer = read_answer(INCIDENTS, 404, NOW, {})
    assert served(INCIDENTS, answer) == []
    assert list(lines(INCIDENTS, answer)) == []


@pytest.mark.parametrize("name", CATALOG)
def test_a_record_without_its_name_is_named_by_its_whole_content(name: str) -> None:
    line = orjson.dumps({"id": None, "note": "x"})
    assert identity_of_line(name, line) == identity(name, exact.loads(line))
    assert len(identity_of_line(name, line)) == 64
