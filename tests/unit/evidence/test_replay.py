"""Records, proofs and counts of a run, read back from its stored pages."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import orjson
import pytest
from msgspec import structs

from tasks.evidence.envelopes import stamp, unpacked_room
from tasks.evidence.replay import Evidence, gather
from tasks.evidence.verdicts import states
from tasks.reading.answers import Answer
from tasks.reading.pages import Page, Request
from tasks.reading.proofs import ProofState
from tasks.reading.sealed import Envelope, StoredObject
from tasks.reading.windows import ALL, Period, of, rfc3339
from tests.counted_room import CountedRoom
from tests.lists_model import NOW, Lists, Record, answer_to, make, record
from tests.manifests import period
from tests.sealed_run import FINGERPRINT, SealedRun
from workers.storage import open_storage


def account(count: int = 0, **lists: list[Record]) -> Lists:
    """Return an account with *count* records in every list, except for the given lists."""
    paths = ("/incidents", "/log_entries", "/audit/records", "/teams", "/services", "/users")
    records = {path: [record(n) for n in range(count)] for path in paths}
    return Lists({**records, **{f"/{name}": found for name, found in lists.items()}})


def test_records_are_kept_once_as_they_were_fetched_last() -> None:
    """An incident may be read in its window, and again by its id because it wasn't settled."""
    last = {
        "account": {"region": "us", "subdomain": "acme"},
        "run": "00000001", "sha256": "0" * 64, "reached": rfc3339(NOW - timedelta(days=1)),
        "scheduled_at": rfc3339(NOW), "unsettled": {"incidents": ["P1", "P9"]}, "denied": {}, "sizes": {},
        "credential": {"kind": "account"},
        "covered": {"incidents": [period(rfc3339(NOW - timedelta(days=100)), rfc3339(NOW - timedelta(days=1)))]},
    }  # fmt: skip
    incidents = [record(n, status="triggered", seen=0) for n in range(3)]
    model = account(incidents=incidents)

    def ask(page: Page, request: Request) -> Answer:
        if page.parent and page.parent["id"] == "P1":
            return answer_to(page, incident=incidents[1] | {"status": "resolved", "seen": 2})
        return model.answer(page, request)

    run = SealedRun(make("incidents", last=last), ask)
    with gather(run.plan, run.storage) as evidence:
        found = evidence.resources["incidents"]
        lines = [orjson.loads(line) for line in found.collation.lines()]
        assert {line["id"]: line["seen"] for line in lines} == {"P0": 0, "P1": 2, "P2": 0}
        assert (found.collation.records, found.collation.sightings) == (3, 4)
        assert evidence.unsettled["incidents"] == ("P0", "P2", "P9"), "a 404 settles nothing"
        assert evidence.denied == {"incidents": {"P9": run.fetched_at("incidents/of-P9.2/000000")}}


RECIPE = Envelope(
    source="acme/main", run="00000001", page="incidents/of-P1.1/000000", path="/incidents/P1", params=(), status=200,
    words="", request_id=None, date=None, fetched_at=stamp(NOW), region="us", credential="account", fingerprint="f",
    requests=1, received_sha256="0" * 64, stored_sha256="0" * 64, rewritten=False, redacted=(),
)  # fmt: skip


def sightings(*seen: tuple[str, str]) -> tuple[str, ...]:
    """Return the unsettled ids after incident P1 was *seen* at these times, each with a status or "404"."""
    plan = structs.replace(make("incidents"), unsettled={"incidents": ("P1",)})
    with ExitStack() as files:
        evidence = Evidence(plan, open_storage("memory://"), files, None)
        for at, status in seen:
            page = Page("incidents", of("P1"), parent={"id": "P1"})
            answer = answer_to(page, incident={"id": "P1", "status": status})
            if status == "404":
                answer = answer_to(page, 404)
            evidence.use(page, replace(answer, envelope=RECIPE, fetched_at=at))
        return evidence.unsettled["incidents"]


@pytest.mark.parametrize(
    ("seen", "alive"),
    [
        ([], True),
        ([("1", "triggered")], True),
        ([("1", "resolved")], False),
        ([("1", "404")], True),
        ([("1", "triggered"), ("2", "resolved")], False),
        ([("2", "resolved"), ("1", "triggered")], False),
        ([("1", "resolved"), ("2", "acknowledged")], True),
        ([("2", "acknowledged"), ("1", "resolved")], True),
        ([("1", "resolved"), ("1", "triggered")], True),
        ([("1", "triggered"), ("2", "404")], True),
        ([("1", "resolved"), ("2", "404")], False),
        ([("1", "something new")], True),
    ],
)
def test_the_newest_sighting_decides_whether_an_incident_is_settled(
    seen: list[tuple[str, str]], alive: bool
) -> None:
    assert sightings(*seen) == (("P1",) if alive else ())


def test_an_incident_that_is_denied_is_asked_for_once_by_each_further_run() -> None:
    """Its minute is long over, so nothing waits. When it is shown again, it is an incident like any other."""
    last: dict[str, Any] = {
        "run": "00000001", "sha256": "0" * 64, "reached": rfc3339(NOW - timedelta(days=1)),
        "scheduled_at": rfc3339(NOW), "unsettled": {"incidents": ["P9"]}, "covered": {},
        "credential": {"kind": "account"},
        "account": {"region": "us", "subdomain": "acme"},
        "denied": {"incidents": {"P9": "2026-02-28T00:00:00.000000Z"}},
        "sizes": {},
    }  # fmt: skip
    denied = SealedRun(make("incidents", last=last), account().answer)
    with gather(denied.plan, denied.storage) as evidence:
        again = {"P9": denied.fetched_at("incidents/of-P9.1/000000")}
        assert (evidence.unsettled, evidence.denied) == (
            {"incidents": ("P9",)},
            {"incidents": again},
        )
    assert [page.id for page, _ in denied.fleet.asked if page.parent] == [
        "incidents/of-P9.1/000000"
    ]

    def ask(page: Page, request: Request) -> Answer:
        shown = answer_to(page, incident=record(9, status="acknowledged"))
        return shown if page.parent else account().answer(page, request)

    shown = SealedRun(make("incidents", last=last), ask)
    with gather(shown.plan, shown.storage) as evidence:
        assert (evidence.unsettled, evidence.denied) == ({"incidents": ("P9",)}, {})


def test_unsettled_incidents_outlast_a_run_that_reads_something_else() -> None:
    plan = structs.replace(make("teams"), unsettled={"incidents": ("P1", "P2")})
    with gather(plan, open_storage("memory://")) as evidence:
        assert evidence.unsettled == {"incidents": ("P1", "P2")}


def test_an_object_that_is_not_its_page_counts_as_missing_and_is_named() -> None:
    run = SealedRun(make("teams", "users"), account(150).answer)
    teams, users = Page("teams", ALL, number=99), Page("users", ALL, number=99)
    swapped = run.storage.get(run.key(users))
    assert swapped
    run.storage.delete(run.key(teams))
    run.storage.put_new(run.key(teams), swapped)
    with gather(run.plan, run.storage) as evidence:
        digest = hashlib.sha256(swapped).hexdigest()
        unreadable = StoredObject(key=run.key(teams), sha256=digest, bytes=len(swapped))
        assert evidence.unreadable == [unreadable]
        found = {name: v.state for name, v in states(evidence).items()}
        assert found == {"teams": ProofState.PARTIAL, "users": ProofState.PROVED}
        assert evidence.resources["teams"].collation.records == 100


def test_a_run_is_read_back_with_the_memory_of_one_page_at_a_time() -> None:
    run = SealedRun(make("services"), account(950).answer)
    pages = [run.storage.get(run.key(page)) or b"" for page, _ in run.fleet.asked]
    sizes = [unpacked_room(page) for page in pages]
    room: Any = CountedRoom()
    with gather(run.plan, run.storage, room=room):
        pass
    [share] = room.shares
    assert (share.total, share.most) == (sum(sizes), max(sizes))
    assert min(sizes) > 0


def test_only_pages_that_a_seal_counted_are_read_when_asked_so() -> None:
    run = SealedRun(make("teams"), account(150).answer)
    counted = [Page("teams", ALL).id]
    with gather(run.plan, run.storage, only=counted) as evidence:
        assert evidence.resources["teams"].collation.records == 100
        assert list(evidence.objects) == counted


def test_a_superseded_pass_gives_no_record_but_its_requests_count() -> None:
    model = account(150)
    moved = model.records["/teams"].pop(0)

    def ask(page: Page, request: Request) -> Answer:
        if page.pass_ == 1 and page.number:
            model.records["/teams"].append(moved)
        return model.answer(page, request)

    run = SealedRun(make("teams"), ask)
    with gather(run.plan, run.storage) as evidence:
        teams = evidence.resources["teams"]
        rows = [(row.pass_, row.state, len(row.pages)) for row in teams.windows]
        assert rows == [(1, "superseded", 2), (2, "proved", 2)]
        assert (teams.collation.records, teams.collation.sightings) == (150, 151)
        assert teams.requests == 4
        assert evidence.fingerprints == {FINGERPRINT}


def test_a_window_is_listed_with_its_pages_their_digests_and_its_verdict() -> None:
    run = SealedRun(make("users"), account(150).answer)
    with gather(run.plan, run.storage) as evidence:
        (row,) = evidence.resources["users"].windows
    document = msgspec.to_builtins(row)
    assert {name: document[name] for name in document if name != "pages"} == {
        "feed": "users",
        "window": "all",
        "pass": 1,
        "state": "proved",
        "total": 150,
        "unique": 150,
        "proof": {"by": "total", "total": 150, "overlaps": 1, "unique": 150},
    }
    assert [(p["number"], p["bytes"] > 0, len(p["sha256"]), p["records"]) for p in document["pages"]] == [
        ("000000", True, 64, 100),
        ("000099", True, 64, 51),
    ]  # fmt: skip


def ago(days: float) -> Any:
    return NOW - timedelta(days=days)


def budgeted(budget: int, model: Lists, **more: Any) -> SealedRun:
    return SealedRun(make("log_entries", days=100, budget=budget, **more), model.answer)


def filled(days: int = 100, each: int = 5) -> Lists:
    """Return an account with *each* log entries per day."""
    found = [record(n) | {"made": ago(n / each) - timedelta(minutes=1)} for n in range(days * each)]
    return account(log_entries=found)


def test_periods_beyond_the_budget_are_the_backlog_and_proved_periods_are_covered() -> None:
    run = budgeted(4, filled())  # 31 days are two pages
    with gather(run.plan, run.storage) as evidence:
        assert evidence.covered == {"log_entries": (Period(ago(62), NOW),)}
        assert evidence.backlog == {"log_entries": (Period(ago(100), ago(62)),)}
        assert evidence.progressed
    whole = budgeted(100, filled())
    with gather(whole.plan, whole.storage) as evidence:
        assert evidence.covered == {"log_entries": (Period(ago(100), NOW),)}
        assert evidence.backlog == {}


def test_a_feed_this_key_may_not_read_leaves_no_backlog() -> None:
    run = SealedRun(make("log_entries", days=100), lambda page, _: answer_to(page, 403))
    with gather(run.plan, run.storage) as evidence:
        assert (evidence.covered, evidence.backlog) == ({"log_entries": ()}, {})
        assert not evidence.progressed


@pytest.mark.parametrize(
    ("proved", "progressed"),
    [
        ([Period(ago(1.01), NOW)], False),
        ([Period(ago(1.01), ago(0.5)), Period(ago(0.5), NOW)], True),
        ([Period(ago(0.9), NOW)], True),
        ([Period(ago(1.01), NOW), Period(ago(60), ago(40))], True),
        ([Period(ago(60), ago(40))], True),
        ([], False),
    ],
)
def test_a_run_made_progress_if_the_next_has_less_to_read(
    proved: list[Period], progressed: bool
) -> None:
    """Only reading newly passed time is not progress. Otherwise a backlog would be continued forever."""
    covered = {"log_entries": (Period(ago(40), ago(1)),)}
    with ExitStack() as files:
        plan = structs.replace(make("log_entries"), covered=covered)
        evidence = Evidence(plan, open_storage("memory://"), files, None)
        evidence._proved = {"log_entries": proved}
        assert evidence.progressed is progressed
        first = structs.replace(plan, covered={})
        evidence.plan = first
        assert evidence.progressed is bool(proved)
