"""The form of pages in storage, and that nothing else is taken for a page."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.evidence.cleaning import REDACTED
from tasks.evidence.compression import sha256
from tasks.evidence.envelopes import (
    decode_page,
    decode_start,
    encode_page,
    read_start,
    same_recipe,
)
from tasks.reading.answers import lines as records
from tasks.reading.catalog import SECRETS
from tasks.reading.pages import Page, request_of
from tasks.reading.windows import ALL, of
from tests.lists_model import NOW, make
from workers import exact
from workers.pagerduty.replies import Outcome, Reply

PLAN = make()
TEAMS = Page("teams", ALL)
DETAIL = Page("schedules", of("P1"), parent={"id": "P1"})
CANARY = "canary-5fb2"


def stored(body: bytes, status: int = 200, page: Page = TEAMS, **more: Any) -> bytes:
    """Return the object of an answer with this body."""
    source: Any = SimpleNamespace(
        id="acme/main", region="us", credential="account", fingerprint="f" * 16
    )
    fetched_at = more.pop("fetched_at", NOW + timedelta(milliseconds=5))
    reply = Reply(Outcome.OK, status, body, **{"date": NOW, "request_id": "r-1", **more})
    request = request_of(page, PLAN)
    _, blob = encode_page(source, "00000001", page, request, reply, sent=2, fetched_at=fetched_at)
    return blob


def text_of(blob: bytes) -> bytes:
    """Return what `zstd -dc` prints for an object."""
    with zstandard.ZstdDecompressor().stream_reader(blob, read_across_frames=True) as stream:
        return stream.read()


def lines(blob: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the recipe and the body line, read without our code."""
    recipe, head, body, rest = text_of(blob).split(b"\n")
    assert rest == b""
    assert isinstance(json.loads(head), dict)
    return json.loads(recipe), body


def whole(blob: bytes) -> Any:
    """Return the whole body of a page of teams, as it is read back."""
    answer = decode_page(blob)
    return answer.data | {"teams": [exact.loads(line) for _, line in records(TEAMS, answer)]}


def test_a_page_has_its_whole_recipe_and_the_body_as_received() -> None:
    body = b'{"teams": [{"id":"T1"}], "more" : false}'
    head, line = lines(stored(body, date=NOW.astimezone(timezone(timedelta(hours=5)))))
    assert line == body
    assert head == {
        "format": 2,
        "source": "acme/main",
        "run": "00000001",
        "page": "teams/all.1/000000",
        "method": "GET",
        "path": "/teams",
        "params": [["limit", "100"], ["offset", "0"], ["total", "true"]],
        "status": 200,
        "words": "",
        "request_id": "r-1",
        "date": "2026-03-01T00:00:00Z",
        "fetched_at": "2026-03-01T00:00:00.005000Z",
        "region": "us",
        "credential": "account",
        "fingerprint": "ffffffffffffffff",
        "requests": 2,
        "received_sha256": sha256(body),
        "stored_sha256": sha256(body),
        "rewritten": False,
        "redacted": [],
    }


@pytest.mark.parametrize(
    "body",
    [
        b'{"teams":[]}',
        b' {"teams" : [ ] } ',
        b'{"teams":[{"id":"T1","n":[1,2.5,null,true,"\xc3\xa9"]}]}',
        b'{"teams":[{"id":"T1","line":"a\xe2\x80\xa8b\xe2\x80\xa9c\xc2\x85d"}]}',
        rb'{"teams":[{"id":"T1","escaped":"a\nb\r\u0000\u2028"}]}',
        rb'{"teams":[{"id":"T1","half":"\ud83d","whole":"\ud83d\ude00"}]}',
        b'{"teams":[{"id":"T1","latin":"caf\xe9"}]}',
        b'{"teams":[{"id":"T1","trace":123456789012345678901234567890}]}',
        b'{"teams":[{"id":"T1","id":"T2"}],"teams":[{"id":"T3"}]}',
        b'{"teams":[{"id":"T1","deep":' + b'{"a":[' * 100 + b"]}" * 100 + b"}]}",
        b'{"teams":[{"id":"T1","tab":"a\tb"}]}',
        b'{"teams":[],"more":false,"total":null}',
    ],
)
def test_a_body_of_one_line_is_kept_byte_by_byte_and_read_back(body: bytes) -> None:
    blob = stored(body)
    assert lines(blob)[1] == body
    answer = decode_page(blob)
    assert whole(blob) == exact.loads(body)
    assert (answer.status, answer.date, answer.ok) == (200, NOW, True)


@pytest.mark.parametrize(
    "body",
    [
        b'{\n  "teams": [\r\n {"id": "T1"}\n]\n}\n',
        b'{"teams":[{"id":"T1","raw":"a\nb"}]}',
        b'{"teams":[{"id":"T1","raw":"a\rb","n":123456789012345678901234567890}]}',
        b'{"teams":\n[{"id":"T1","half":"\\ud83d"}]}',
    ],
)
def test_a_body_of_several_lines_becomes_one_line_with_the_same_content(body: bytes) -> None:
    blob = stored(body)
    head, line = lines(blob)
    assert b"\n" not in line
    assert b"\r" not in line
    assert whole(blob) == exact.loads(body) == exact.loads(line)
    assert (head["received_sha256"], head["stored_sha256"]) == (sha256(body), sha256(line))


@pytest.mark.parametrize(
    ("body", "status", "data"),
    [
        (b"<html>\n<p>Not Found\r\n</html>", 404, "<html>\n<p>Not Found\r\n</html>"),
        (b"", 403, ""),
        (b"caf\xe9 \xff\x00", 400, "caf\ufffd \ufffd\x00"),
        (b'{"cut":', 400, '{"cut":'),
        (b"null", 404, None),
        (b"[" * 400 + b"]" * 400, 400, "[" * 400 + "]" * 400),
        (b'{"error":{"code":2100}}', 404, {"error": {"code": 2100}}),
        (b'"plain words"', 402, "plain words"),
    ],
)
def test_an_error_is_kept_whatever_its_body_is(body: bytes, status: int, data: Any) -> None:
    blob = stored(body, status, words="Not Found")
    assert json.loads(lines(blob)[1]) == data
    answer = decode_page(blob)
    assert (answer.status, answer.ok) == (status, False)
    assert answer.envelope
    assert (answer.words, answer.envelope.received_sha256) == ("Not Found", sha256(body))


def test_a_page_without_a_date_has_none() -> None:
    assert decode_page(stored(b'{"teams":[]}', date=None)).date is None


def test_a_stored_answer_only_answers_its_own_request() -> None:
    answer = decode_page(stored(b'{"teams":[]}'))
    request = request_of(TEAMS, PLAN)
    assert same_recipe(answer, "00000001", TEAMS, request)
    other = Page("teams", ALL, number=99)
    assert not same_recipe(answer, "00000002", TEAMS, request)
    assert not same_recipe(answer, "00000001", other, request)
    assert not same_recipe(answer, "00000001", TEAMS, request_of(other, PLAN))
    assert not same_recipe(answer, "00000001", TEAMS, request_of(Page("users", ALL), PLAN))


secrets = st.sampled_from(sorted(SECRETS))
names = st.sampled_from(["id", "a/b", "m~n", "", "é", "~1", "integration_keys"]) | secrets
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(CANARY),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=15,
)


def at(data: Any, pointer: str) -> Any:
    """Return the value at an RFC 6901 pointer."""
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        data = data[int(name)] if isinstance(data, list) else data[name]
    return data


def bare(data: Any) -> Any:
    """Return *data* without the values of secrets, which may be at any depth."""
    if isinstance(data, list):
        return [bare(each) for each in data]
    if isinstance(data, dict):
        return {n: (bare(v) if n not in SECRETS or not v else "") for n, v in data.items()}
    return data


@given(values, st.sampled_from([None, 1]))
@settings(max_examples=150)
def test_secrets_are_redacted_at_any_depth_and_every_place_is_recorded(
    value: Any, indent: int | None
) -> None:
    data = {"teams": [{"id": "T1", "details": value}], "integration_key": None}
    head, line = lines(stored(json.dumps(data, indent=indent).encode()))
    kept = json.loads(line)
    for pointer in head["redacted"]:
        assert at(kept, pointer) == REDACTED
        assert at(data, pointer)
        assert pointer.rpartition("/")[2] in SECRETS
    assert len(set(head["redacted"])) == len(head["redacted"])
    assert line.count(REDACTED.encode()) == len(head["redacted"])
    assert json.loads(line.replace(REDACTED.encode(), b"")) == bare(data)


@pytest.mark.parametrize(
    "body",
    [
        '{"teams":[{"id":"T","integration_key":"%s"}]}',
        '{"teams":[{"id":"T","x":{"y":[{"routing_keys":["%s"]}]}}]}',
        '{"teams":[{"id":"T","http_cal_url":{"a":"%s"}}]}',
        '{"teams":[{"id":"T","integration_key":"%s","integration_key":""}]}',
        '{"teams":[{"id":"T","integration_key":"%s","integration_key":null}]}',
        '{"integration_key":"%s","teams":[]}',
        '{"teams":[{"id":"T","integration\\u005fkey":"%s"}]}',
        '{"teams":[{"id":"T","\\u0072outing_key":"%s"}]}',
        '{"teams":[{"id":"T","integration_key":"%s","trace":123456789012345678901234567890}]}',
        '{"teams":[{"id":"T","integration_key":"%s","half":"\\ud83d"}]}',
    ],
)
def test_no_secret_gets_into_storage_however_it_is_written(body: str) -> None:
    blob = stored((body % CANARY).encode())
    assert CANARY.encode() not in text_of(blob)
    assert decode_page(blob).data["teams"] is not None


def test_text_that_only_looks_like_a_secret_is_kept() -> None:
    body = rb'{"teams":[{"id":"T","integration_key_id":"a","title":"a \u003c b \u0026 c"}]}'
    head, line = lines(stored(body))
    assert (line, head["redacted"]) == (body, [])


SKIPPED = b"\x50\x2a\x4d\x18\x04\0\0\0junk"
"""A frame that `zstd -dc` skips."""
SMALL = stored(b'{"teams":[{"id":"T1","name":"Ops"}],"more":false}')


def test_a_flipped_bit_anywhere_never_gives_another_answer() -> None:
    """Most flipped bits make it unreadable. A bit that zstd ignores still changes the digest."""
    whole, silent = decode_page(SMALL), 0
    for place in range(len(SMALL)):
        for bit in range(8):
            damaged = bytearray(SMALL)
            damaged[place] ^= 1 << bit
            assert sha256(bytes(damaged)) != sha256(SMALL)
            try:
                assert decode_page(bytes(damaged)) == whole
            except ValueError:
                continue
            silent += 1
    assert silent < len(SMALL) // 10


def test_a_cut_object_is_not_a_page() -> None:
    for length in range(len(SMALL)):
        with pytest.raises(ValueError, match=r".+"):
            decode_page(SMALL[:length])


def compressed(text: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(text)


@given(st.binary(max_size=60))
def test_nothing_else_passes_for_a_page(junk: bytes) -> None:
    for blob in (
        junk,
        compressed(junk),
        SMALL + junk if junk else b"",
        compressed(junk + b"\n{}\n"),
    ):
        with pytest.raises(ValueError, match=r".+"):
            decode_page(blob)


RECIPE, HEAD, BODY = text_of(SMALL).split(b"\n")[:3]


def written(*parts: bytes) -> bytes:
    """Return an object with one frame for each of *parts*."""
    compressor = zstandard.ZstdCompressor(write_checksum=True)
    return b"".join(map(compressor.compress, parts))


def page_of(recipe: bytes = RECIPE, head: bytes = HEAD, body: bytes = BODY) -> bytes:
    """Return an object with these lines."""
    return written(recipe + b"\n" + head + b"\n", body + b"\n")


@pytest.mark.parametrize(
    "change",
    [
        *({name: ...} for name in orjson.loads(RECIPE) if name in
          {"run", "page", "status", "date", "fetched_at", "fingerprint", "requests", "redacted",
           "stored_sha256"}),
        {"run": 1}, {"page": None}, {"page": "teams"}, {"page": "a/b/c"}, {"page": "nothing/all.1/000000"},
        {"page": "team_members/all.1/000000"}, {"status": "200"},
        {"status": None}, {"date": 5}, {"date": "yesterday"}, {"date": "2026-03-01T00:00:00"},
        {"requests": "1"}, {"redacted": "x"}, {"fingerprint": ["x"]}, {"fetched_at": 0},
        {"stored_sha256": "0" * 64},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("strict", [False, True])
def test_a_recipe_of_another_shape_is_refused(change: dict[str, Any], strict: bool) -> None:
    recipe = {n: v for n, v in (orjson.loads(RECIPE) | change).items() if v is not ...}
    assert decode_page(page_of(orjson.dumps(orjson.loads(RECIPE))), strict=strict)
    with pytest.raises(ValueError, match=r".+"):
        decode_page(page_of(orjson.dumps(recipe)), strict=strict)


@pytest.mark.parametrize(
    "change",
    [
        {"more": True}, {"more": None}, {"more": "no"}, {"more": ...}, {"total": 1}, {"total": -1},
        {"next_cursor": "x"}, {"records": []}, {"records": [{"id": "T2", "name": "Ops"}]},
        {"records": [{"id": "T1", "name": "Dev"}]}, {"records": [{"id": "T1"}]}, {"records": [{}]},
        {"records": [{"id": "T1", "name": ["Ops"]}]}, {"records": [{"id": "T1", "name": "Ops"}] * 2},
        {"cuts": [[10, 33]]}, {"cuts": [[10, 36]]}, {"cuts": [[11, 34]]}, {"cuts": []}, {"cuts": ...},
        {"cuts": [[10, 10**9]]}, {"cuts": [[35, 10]]}, {"cuts": [[-1, 35]]}, {"cuts": [[10, 35]] * 2},
        {"note": "not ours"}, {"cuts": None},
    ],
    ids=str,
)  # fmt: skip
def test_a_head_that_says_something_else_than_the_body_is_refused(change: dict[str, Any]) -> None:
    assert orjson.loads(HEAD)["cuts"] == [[10, 34]]
    head = {n: v for n, v in (orjson.loads(HEAD) | change).items() if v is not ...}
    with pytest.raises(ValueError, match=r".+"):
        decode_page(page_of(head=orjson.dumps(head)), strict=True)


@pytest.mark.parametrize(
    "cuts", [[[10, 10**9]], [[35, 10]], [[-1, 35]], [[10, 35]] * 2, [], [[10, 2**70]], [[10]]]
)
def test_records_are_never_looked_for_outside_of_the_body(cuts: Any) -> None:
    head = orjson.loads(HEAD) | {"cuts": ...}
    text = json.dumps(
        {n: cuts if n == "cuts" else v for n, v in head.items()}, separators=(",", ":")
    )
    with pytest.raises(ValueError, match=r".+"):
        decode_page(page_of(head=text.encode()))


FIRST, SECOND = RECIPE + b"\n" + HEAD + b"\n", BODY + b"\n"


@pytest.mark.parametrize(
    "blob",
    [
        written(FIRST + SECOND),
        written(SECOND, FIRST),
        written(FIRST, SECOND, SECOND),
        written(FIRST, SECOND, b""),
        written(FIRST, b"", SECOND),
        written(FIRST, SECOND[:-1], b"\n"),
        written(RECIPE + b"\n", HEAD + b"\n" + SECOND),
        written(RECIPE + b"\n", HEAD + b"\n", SECOND),
        written(FIRST + b"{}\n", SECOND),
        written(FIRST, SECOND + b"{}\n"),
        written(FIRST, SECOND[:-1]),
        written(FIRST[:-1], SECOND),
        written(FIRST, b""),
        written(FIRST),
        SMALL + SKIPPED,
        SKIPPED + SMALL,
        written(FIRST) + SKIPPED + written(SECOND),
        SMALL + b"\0",
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_a_page_is_exactly_two_frames_of_three_lines(blob: bytes, strict: bool) -> None:
    assert decode_page(page_of(), strict=strict)
    with pytest.raises(ValueError, match=r".+"):
        decode_page(blob, strict=strict)


def test_the_start_of_a_page_is_all_that_a_proof_needs() -> None:
    """However much of the object was read, its start says the same or asks for more."""
    whole = decode_page(SMALL)
    found = [decode_start(SMALL[:size]) for size in range(6 + 13, len(SMALL) + 1)]
    answers = [each for each in found if each]
    assert found[: -len(answers)] == [None] * (len(found) - len(answers))
    assert set(map(repr, answers)) == {repr(whole.slim)}
    assert whole.slim == answers[0]
    assert len(answers) > len(SECOND) / 2, "the body isn't needed"


def test_the_start_of_something_else_is_refused() -> None:
    for blob in (SKIPPED, b"{}", SECOND, written(SECOND, FIRST), written(FIRST + SECOND), b""):
        with pytest.raises(ValueError, match=r".+"):
            decode_start(blob)


class Counted:
    """A storage that counts the bytes that are read from it."""

    def __init__(self, blob: bytes | None) -> None:
        self.blob = blob
        self.read: list[int] = []

    def get_start(self, key: str, size: int) -> bytes | None:
        if self.blob is None:
            return None
        self.read.append(len(self.blob[:size]))
        return self.blob[:size]


DICE = random.Random(1)


def incompressible(size: int) -> str:
    return DICE.randbytes(size // 2).hex()


def test_a_proof_reads_a_few_kilobytes_of_a_large_page() -> None:
    teams = [{"id": f"T{n}", "note": incompressible(10_000)} for n in range(100)]
    blob = stored(orjson.dumps({"teams": teams, "more": False}))
    storage: Any = Counted(blob)
    taken: list[int] = []
    answer = read_start(storage, "a/b", taken.append)
    assert answer == decode_page(blob).slim
    assert storage.read == [2**14]
    assert len(blob) > 30 * 2**14
    assert 0 < sum(taken) < 2**16


def test_a_long_head_is_read_with_a_second_request() -> None:
    teams = [{"id": f"T{n}", "name": incompressible(1_000)} for n in range(100)]
    blob = stored(orjson.dumps({"teams": teams, "more": False}))
    storage: Any = Counted(blob)
    assert read_start(storage, "a/b", lambda _: None) == decode_page(blob).slim
    assert len(storage.read) == 2


def test_the_most_records_with_the_longest_ids_fit_into_the_first_frame() -> None:
    """Heads are bounded. So is the memory that a proof takes."""
    teams = [{"id": "é" * 255 + str(n)} for n in range(1_000)]
    blob = stored(json.dumps({"teams": teams, "more": False}).encode())
    assert len(decode_page(blob, strict=True).data["teams"]) == 1_000
    with pytest.raises(ValueError, match=r"too many|too large"):
        stored(
            json.dumps({"teams": [{"id": f"T{n}" + "x" * 1_000} for n in range(10_000)]}).encode()
        )
    with pytest.raises(ValueError, match="too large"):
        stored(
            json.dumps({"teams": [{"id": f"T{n}" + "x" * 1_000} for n in range(1_000)]}).encode()
        )


@pytest.mark.parametrize("start", [b"", b"x", SMALL[:10], SMALL[:100], SKIPPED])
def test_a_start_that_is_cut_or_something_else_is_a_damaged_page(start: bytes) -> None:
    """A store that sends less than it was asked for damages nothing: the page counts as unreadable."""
    storage: Any = Counted(start)
    with pytest.raises(ValueError, match=r".+"):
        read_start(storage, "a/b", lambda _: None)
    assert read_start(cast(Any, Counted(None)), "a/b", lambda _: None) is None


def test_an_answer_is_decided_on_as_it_is_stored() -> None:
    """The worker that fetched a page goes on with the same answer that others read back."""
    body = rb'{"teams":[{"id":"T","name":7,"n":[]},{"id":"U","name":"\ud83d"}],"more":"yes","total":null}'
    source: Any = SimpleNamespace(id="a/b", region="us", credential="account", fingerprint="f" * 16)
    reply = Reply(Outcome.OK, 200, body, date=NOW)
    request = request_of(TEAMS, PLAN)
    fresh, blob = encode_page(source, "1", TEAMS, request, reply, sent=1, fetched_at=NOW)
    for back in (decode_page(blob), decode_page(blob, strict=True)):
        assert (back.data, back.date, back.words) == (fresh.data, fresh.date, fresh.words)
        assert list(records(TEAMS, back)) == list(records(TEAMS, fresh))


def test_a_frame_that_lies_about_its_size_takes_no_memory() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(2**27))
    unsaid = zstandard.ZstdCompressor(write_content_size=False).compress(FIRST)
    tracemalloc.start()
    for first in (bomb, unsaid, written(b""), bomb[:20]):
        for blob in (first, first + written(SECOND), written(FIRST) + first):
            with pytest.raises(ValueError, match=r".+"):
                decode_page(blob)
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()


@pytest.mark.skipif(not shutil.which("zstd"), reason="zstd isn't installed")
def test_zstd_prints_a_page_as_three_lines() -> None:
    done = subprocess.run(["zstd", "-dc"], input=SMALL, check=True, stdout=subprocess.PIPE)  # noqa: S607
    assert done.stdout == text_of(SMALL) == FIRST + SECOND


@pytest.mark.parametrize("body", [b'{"teams":\n[]}', b'{"teams":[]}\n', b'\n{"teams":[]}'])
def test_a_stored_body_of_several_lines_is_refused(body: bytes) -> None:
    recipe = orjson.dumps(
        orjson.loads(RECIPE) | {"stored_sha256": hashlib.sha256(body).hexdigest()}
    )
    with pytest.raises(ValueError, match="one line"):
        decode_page(page_of(recipe, body=body))


@pytest.mark.parametrize("text", [b"[]", b'"x"', b"7", b"null", b"{}"])
def test_a_recipe_that_is_not_an_object_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode_page(page_of(text))


def test_fetched_at_sorts_like_time() -> None:
    """The newest sighting is found by comparing these texts."""
    times = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=n) for n in (0, 1, 999_999)]
    texts = [decode_page(stored(b'{"teams":[]}', fetched_at=t)).fetched_at for t in times]
    assert texts == sorted(texts)
    assert len({len(text) for text in texts}) == 1
