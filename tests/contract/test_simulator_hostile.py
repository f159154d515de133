"""Hostile answers of the simulator, each read from the socket by a client that trusts nothing."""

from __future__ import annotations

import gzip
import json
import re
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from simulator.faults import ACCIDENTS, KINDS
from simulator.hostile import lists, records
from tests.simulator_process import ROOT, SimulatorProcess, running_simulator

KEY, OTHER = "hostile-key-000000001", "healthy-key-000000001"
INCIDENTS = "/incidents?date_range=all&limit=100&total=true&offset=100"
AUDIT = "/audit/records?limit=100"
PATHS = (INCIDENTS, AUDIT, "/users?limit=5", "/v3/schedules", "/schedules", "/teams", "/abilities")
ENOUGH_BYTES = 2**20
PATIENCE_SECONDS = 0.4
LAST = 250  # records, so the third page is the last
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def process() -> Iterator[SimulatorProcess]:
    """A simulator with a hostile account and one that stays healthy."""
    accounts = [
        {"subdomain": name, "incidents": LAST, "days": 20, "audit_records": LAST,
         "keys": [{"key": key, "limit": 100_000}]}
        for name, key in (("hostile", KEY), ("healthy", OTHER))
    ]  # fmt: skip
    with running_simulator(accounts) as running:
        yield running


@pytest.fixture
def simulator(process: SimulatorProcess) -> Iterator[SimulatorProcess]:
    """The simulator, without the rules of earlier tests."""
    process.clear_faults()
    yield process
    assert process.stats()["bugs"] == 0


@dataclass(frozen=True, slots=True)
class Raw:
    """The bytes that came over the socket. `ended` says whether the other side closed it."""

    data: bytes
    ended: bool

    @property
    def head(self) -> str:
        return self.data.partition(b"\r\n\r\n")[0].decode("latin-1")

    @property
    def body(self) -> bytes:
        body = self.data.partition(b"\r\n\r\n")[2]
        return unchunked(body) if self.header("transfer-encoding") == ["chunked"] else body

    @property
    def status(self) -> int:
        return int(self.head.split()[1])

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def records(self) -> Any:
        return next(value for value in self.json.values() if isinstance(value, list))

    def header(self, name: str) -> list[str]:
        """Return every value of a header."""
        return re.findall(rf"(?im)^{name}: ([^\r\n]*)", self.head)


def read(simulator: SimulatorProcess, path: str, key: str = KEY, most: int = ENOUGH_BYTES) -> Raw:
    """Send a request over a bare socket. Read until the end, *most* bytes, or a short silence."""
    where = urlsplit(simulator.url)
    with socket.create_connection((where.hostname, where.port), PATIENCE_SECONDS) as sock:
        head = f"GET /us{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Token token={key}"
        sock.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode())
        parts, size, ended = [], 0, False
        deadline = time.monotonic() + (PATIENCE_SECONDS if most <= ENOUGH_BYTES else 30)
        while size < most and time.monotonic() < deadline:
            try:
                part = sock.recv(65_536)
            except TimeoutError:
                if not parts and most > ENOUGH_BYTES:
                    continue
                break
            ended = not part
            if ended:
                break
            parts.append(part)
            size += len(part)
    return Raw(b"".join(parts), ended)


def unchunked(body: bytes) -> bytes:
    """Return the content of a chunked body: all of its chunks, or those that arrived."""
    parts, at = [], 0
    while (end := body.find(b"\r\n", at)) > 0 and (size := int(body[at:end], 16)):
        parts.append(body[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
    return b"".join(parts)


def unpacked(body: bytes) -> int:
    """Return the unpacked size of a gzip body without keeping all of it in memory."""
    size, unzip, rest = 0, zlib.decompressobj(31), body
    while rest and not unzip.eof:
        size += len(unzip.decompress(rest, MEGABYTE))
        rest = unzip.unconsumed_tail
    return size


def first_id(raw: Raw) -> Any:
    return raw.records[0]["id"]


Check = Callable[[Raw], object]
PAGES: dict[str, Check] = {
    "total_billion": lambda raw: raw.json["total"] == 10**9,
    "total_trillion": lambda raw: raw.json["total"] == 10**12,
    "total_beyond_64_bits": lambda raw: raw.json["total"] == 10**30,
    "total_negative": lambda raw: raw.json["total"] == -1,
    "total_fraction": lambda raw: raw.json["total"] == 12.5,
    "total_text": lambda raw: raw.json["total"] == "many",
    "total_true": lambda raw: raw.json["total"] is True,
    "total_nan": lambda raw: b'"total": NaN' in raw.body,
    "total_infinite": lambda raw: b'"total": Infinity' in raw.body,
    "total_lower": lambda raw: raw.json["total"] == LAST // 2,
    "total_higher": lambda raw: raw.json["total"] == LAST + 1_000,
    "total_wavers": lambda raw: raw.json["total"] == 10,
    "page_again": lambda raw: raw.json["offset"] == 0 and len(raw.records) == 100,
    "more_forever": lambda raw: raw.json["more"] and raw.json["offset"] == 100,
    "more_invented": lambda raw: raw.json["more"] and first_id(raw).endswith("000001"),
    "more_empty": lambda raw: raw.json["more"] and raw.records == [],
    "more_text": lambda raw: raw.json["more"] == "yes",
    "more_null": lambda raw: raw.json["more"] is None,
    "paging_missing": lambda raw: list(raw.json) == ["incidents"],
    "limit_zero": lambda raw: raw.json["limit"] == 0,
    "offset_elsewhere": lambda raw: raw.json["offset"] == 9_999,
    "id_dots": lambda raw: first_id(raw) == "..",
    "id_dot": lambda raw: first_id(raw) == ".",
    "id_path": lambda raw: first_id(raw) == "x/../../users/me",
    "id_percent": lambda raw: first_id(raw) == "%2e%2e%2fusers",
    "id_query": lambda raw: first_id(raw) == "P1?limit=1#x",
    "id_lines": lambda raw: "\r\n" in first_id(raw),
    "id_nul": lambda raw: "\0" in first_id(raw),
    "id_half": lambda raw: first_id(raw) == "P\ud83d",
    "id_long": lambda raw: len(first_id(raw)) == 100_000,
    "id_empty": lambda raw: first_id(raw) == "",
    "id_number": lambda raw: first_id(raw) == 7,
    "id_null": lambda raw: first_id(raw) is None,
    "id_object": lambda raw: first_id(raw) == {"id": "P1"},
    "id_missing": lambda raw: raw.records and not any("id" in record for record in raw.records),
    "id_same": lambda raw: {record["id"] for record in raw.records} == {"PSAMEID"},
    "members_null": lambda raw: set(map(type, raw.records[0].values())) == {str, type(None)},
    "times_garbage": lambda raw: "99999" in raw.records[0]["created_at"],
    "number_long": lambda raw: re.search(rb"\b1\d{999}\b", raw.body),
    "half_surrogate": lambda raw: rb'character: \ud83d"' in raw.body,
    "record_deep": lambda raw: b"[" * 10_000 in raw.body and b"]" * 10_000 in raw.body,
    "members_twice": lambda raw: raw.body.count(b'"incidents":') == 2 and raw.records == [],
    "wrapper_wrong": lambda raw: "incidents" not in raw.json and len(raw.json["things"]) == 100,
    "wrapper_null": lambda raw: raw.json["incidents"] is None,
    "wrapper_object": lambda raw: len(raw.json["incidents"]) == 100 and "0" in raw.json["incidents"],
    "records_text": lambda raw: raw.records == ["record"] * 100,
    "records_null": lambda raw: raw.records == [None] * 100,
    "records_lists": lambda raw: isinstance(raw.records[0][0], dict),
    "body_list": lambda raw: isinstance(raw.json, list) and len(raw.json) == 100,
    "body_empty": lambda raw: raw.status == 200 and not raw.body,
    "body_garbage": lambda raw: raw.body == bytes(range(256)) * 8,
    "body_html": lambda raw: raw.body.startswith(b"<!DOCTYPE") and "html" in raw.header("content-type")[0],
    "body_null": lambda raw: raw.json is None,
    "body_text": lambda raw: isinstance(raw.json, str),
    "body_object": lambda raw: raw.json == {},
    "body_utf16": lambda raw: raw.body[:2] in (b"\xff\xfe", b"\xfe\xff"),
    "body_not_utf8": lambda raw: b"\xff" in raw.body,
    "body_deep": lambda raw: raw.body.count(b'{"a":') == 10_000,
    "body_brackets": lambda raw: set(raw.body[-100_000:]) == {ord("[")},
    "body_endless": lambda raw: len(raw.data) >= ENOUGH_BYTES and not raw.ended,
    "gzip_cut": lambda raw: raw.header("content-encoding") == ["gzip"]
    and not zlib.decompressobj(31).eof,
    "gzip_unsaid": lambda raw: not raw.header("content-encoding") and gzip.decompress(raw.body),
    "encoding_lies": lambda raw: raw.header("content-encoding") == ["gzip"] and raw.records,
    "encoding_unknown": lambda raw: raw.header("content-encoding") == ["snake"] and raw.records,
    "length_half": lambda raw: int(raw.header("content-length")[0]) == len(raw.body) // 2,
    "length_text": lambda raw: raw.header("content-length") == ["many"],
    "length_negative": lambda raw: raw.header("content-length") == ["-1"],
    "length_huge": lambda raw: raw.header("content-length") == [str(10**15)],
    "length_two": lambda raw: len(set(raw.header("content-length"))) == 2,
    "answer_twice": lambda raw: raw.body.count(b"HTTP/1.1 200 OK") == 1
    and len(raw.body) > int(raw.header("content-length")[0]),
    "status_204": lambda raw: raw.status == 204 and not raw.body,
    "status_206": lambda raw: raw.status == 206 and raw.body.startswith(b"{") and raw.body[-1:] != b"}",
    "status_299": lambda raw: raw.status == 299 and raw.records,
    "status_304": lambda raw: raw.status == 304 and not raw.body,
    "status_418": lambda raw: raw.status == 418,
    "status_600": lambda raw: raw.status == 600,
    "status_999": lambda raw: raw.status == 999,
    "unauthorized_flaps": lambda raw: raw.status == 401,
    "forbidden_flaps": lambda raw: raw.status == 403,
    "not_found_flaps": lambda raw: raw.status == 404,
    "not_found_items": lambda raw: raw.status == 200,
    "page_too_large": lambda raw: raw.status == 504,
    "redirect_self": lambda raw: raw.status == 302 and raw.header("location") == ["/us/incidents"],
    "redirect_away": lambda raw: raw.header("location") == ["http://127.0.0.1:9/us/incidents"],
    "redirect_file": lambda raw: raw.header("location") == ["file:///etc/passwd"],
    "redirect_circle": lambda raw: raw.status == 307 and raw.header("location") == ["/us/incidents?hop=1"],
    "header_huge": lambda raw: len(raw.data) >= ENOUGH_BYTES,
    "header_many": lambda raw: "X-Header-9999" in raw.head,
    "date_past": lambda raw: "1970" in raw.header("date")[0] and len(raw.header("date")) == 1,
    "date_future": lambda raw: "9999" in raw.header("date")[0],
    "date_garbage": lambda raw: "Foo" in raw.header("date")[0],
    "limit_remaining_negative": lambda raw: raw.header("ratelimit-remaining") == ["-1"],
    "limit_reset_huge": lambda raw: raw.header("ratelimit-reset") == [str(10**9)],
    "limit_is_0": lambda raw: raw.header("ratelimit-limit") == ["0"],
    "limit_is_1": lambda raw: raw.header("ratelimit-limit") == ["1"],
    "limit_huge": lambda raw: raw.header("ratelimit-limit") == [str(10**30)],
    "limit_digits": lambda raw: len(raw.header("ratelimit-remaining")[0]) == 5_000,
    "limit_garbage": lambda raw: raw.header("ratelimit-reset") == ["lots"],
    "retry_after_garbage": lambda raw: raw.status == 429 and raw.header("retry-after") == ["soon"],
    "retry_after_huge": lambda raw: raw.header("retry-after") == [str(10**12)],
    "not_http": lambda raw: raw.data.startswith(b"220 mail"),
    "chunk_garbage": lambda raw: b"\r\n\r\nnot-a-size" in raw.data,
    "interim_forever": lambda raw: raw.data.count(b"100 Continue") > 1_000,
}  # fmt: skip
CURSORS: dict[str, Check] = {
    "cursor_new": lambda raw: raw.json["next_cursor"] == "new-1",
    "cursor_circle": lambda raw: raw.json["next_cursor"] == "circle-1",
    "cursor_huge": lambda raw: b"c" * 100_000 in raw.body,
    "cursor_number": lambda raw: raw.json["next_cursor"] == 42,
    "cursor_object": lambda raw: raw.json["next_cursor"] == {"at": 1},
    "cursor_blank": lambda raw: raw.json["next_cursor"] == "",
}
LARGE: dict[str, Check] = {
    "page_oversized": lambda raw: len(raw.records) == 5_000,
    "body_60_mb": lambda raw: len(raw.body) > 58 * MEGABYTE and len(raw.records) == 100,
    "record_50_mb": lambda raw: [len(str(r)) > 49 * MEGABYTE for r in raw.records].count(True) == 1,
    "records_tiny": lambda raw: len(raw.records) == 1_000_000 and raw.json["more"] is True,
    "gzip_bomb": lambda raw: len(raw.body) < MEGABYTE and unpacked(raw.body) > 2**28,
    "gzip_bomb_twice": lambda raw: (
        len(raw.body) < 100_000 and unpacked(gzip.decompress(raw.body)) > 2**28
    ),
}
DRIPS = ("drip", "drip_late", "drip_head")


@pytest.mark.parametrize("kind", PAGES)
def test_a_page_of_each_kind(simulator: SimulatorProcess, kind: str) -> None:
    """The answer is as its description says, and only for the account that it was switched on for."""
    simulator.fault(kind, account="hostile", path="/incidents")
    assert PAGES[kind](read(simulator, INCIDENTS))
    assert len(read(simulator, INCIDENTS, OTHER).records) == 100


@pytest.mark.parametrize("kind", CURSORS)
def test_a_cursor_of_each_kind(simulator: SimulatorProcess, kind: str) -> None:
    simulator.fault(kind, account="hostile", path="/audit/records")
    assert CURSORS[kind](read(simulator, AUDIT, most=2 * MEGABYTE))


@pytest.mark.parametrize("kind", LARGE)
def test_a_large_answer_of_each_kind(simulator: SimulatorProcess, kind: str) -> None:
    simulator.fault(kind, account="hostile", path="/incidents")
    raw = read(simulator, INCIDENTS, most=70 * MEGABYTE)
    assert raw.ended
    assert LARGE[kind](raw)


@pytest.mark.parametrize("kind", DRIPS)
def test_answers_that_drip(simulator: SimulatorProcess, kind: str) -> None:
    """A byte now and then keeps a connection alive, and the answer would take hours."""
    simulator.fault(kind, account="hostile", seconds=3_600 if kind == "drip" else 0.05)
    raw = read(simulator, INCIDENTS)
    assert not raw.ended
    assert (b"\r\n\r\n" in raw.data) == (kind != "drip_head")
    assert len(raw.body) < 300


def test_a_body_that_drips_in_time_is_whole(simulator: SimulatorProcess) -> None:
    whole = read(simulator, "/services?limit=1").body
    simulator.fault("drip", account="hostile", seconds=0.05)
    assert read(simulator, "/services?limit=1", most=2 * MEGABYTE).body == whole


def test_kinds_that_take_turns(simulator: SimulatorProcess) -> None:
    """Every second request is refused. A cursor is new each time, or goes in a circle."""
    for kind, status in (("unauthorized_flaps", 401), ("forbidden_flaps", 403)):
        simulator.clear_faults()
        simulator.fault(kind, account="hostile")
        seen = [read(simulator, INCIDENTS).status for _ in range(4)]
        assert seen == [status, 200, status, 200]
    for kind, different in (("cursor_new", 5), ("cursor_circle", 3)):
        simulator.clear_faults()
        simulator.fault(kind, account="hostile")
        asked = [read(simulator, f"{AUDIT}&cursor=new-1", most=2 * MEGABYTE).json for _ in range(5)]
        assert len({page["next_cursor"] for page in asked}) == different
        assert len({page["records"][0]["id"] for page in asked}) == 1, "it is always the same page"


def test_items_are_gone_and_lists_are_there(simulator: SimulatorProcess) -> None:
    simulator.fault("not_found_items", account="hostile")
    known = read(simulator, INCIDENTS).records[0]["id"]
    assert read(simulator, f"/incidents/{known}").status == 404


@pytest.mark.parametrize("kind", [*lists.KINDS, *records.KINDS])
def test_every_path_can_lie(simulator: SimulatorProcess, kind: str) -> None:
    """Lists of every kind of paging and single records are spoilt or left alone, and the simulator doesn't fail."""
    simulator.fault(kind, account="hostile")
    for path in (*PATHS, "/schedules/PNOTTHERE"):
        assert read(simulator, path, most=2 * MEGABYTE).status in (200, 404)


def test_a_page_is_served_up_to_the_size_the_rule_allows(simulator: SimulatorProcess) -> None:
    simulator.fault("page_too_large", account="hostile", served=25)
    assert read(simulator, "/services?limit=26").status == 504
    assert read(simulator, "/services?limit=25").status == 200


def test_every_hostile_kind_is_read_here_and_described_in_the_readme(
    simulator: SimulatorProcess,
) -> None:
    """The table in the README has the simulator's own descriptions of its kinds."""
    kinds = simulator.control("GET", "kinds")
    assert kinds == KINDS
    assert {*PAGES, *CURSORS, *LARGE, *DRIPS} == set(KINDS) - set(ACCIDENTS)
    rows = [f"| `{name}` | {sentence} |" for name, sentence in kinds.items()]
    assert "\n".join(rows) in (ROOT / "simulator" / "README.md").read_text("utf-8")
