"""The manifest, which alone ends a run, and how it is read back."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from msgspec import structs

from tasks.evidence import documents
from tasks.evidence.erasure_records import record_key
from tasks.evidence.layout import manifest_key, plan_key, run_prefix, sums_key
from tasks.evidence.manifests import (
    account_of,
    chosen_runs,
    collected,
    read_manifest,
    read_plan,
    run_state,
    runs_of,
)
from tasks.reading.answers import Answer
from tasks.reading.pages import Page, Request
from tasks.reading.sealed import SealedResource
from tasks.reading.windows import ALL, Period, rfc3339
from tests.lists_model import NOW, Lists, answer_to, make, record
from tests.manifests import (
    as_manifest,
    manifest_document,
    manifest_text,
    period,
    resource_document,
)
from tests.sealed_run import FINGERPRINT, SealedRun
from workers.errors import NotFound, StorageConflict
from workers.storage import open_storage

COMPLETE, PARTIAL, FAILED = ("complete", ""), ("partial", "unproved"), ("failed", "error")
NO_PLAN, NO_ROLE, NO_KEY = ("unavailable", "plan"), ("unavailable", "role"), ("failed", "key")


@pytest.mark.parametrize(
    ("resources", "state"),
    [
        ([COMPLETE], "complete"),
        ([COMPLETE, COMPLETE], "complete"),
        ([COMPLETE, NO_PLAN], "complete"),
        ([NO_PLAN], "complete"),
        ([NO_PLAN, NO_PLAN], "complete"),
        ([COMPLETE, NO_ROLE], "partial"),
        ([COMPLETE, PARTIAL], "partial"),
        ([COMPLETE, FAILED], "partial"),
        ([PARTIAL], "partial"),
        ([PARTIAL, FAILED, NO_PLAN], "partial"),
        ([("partial", "plan")], "partial"),
        ([FAILED], "failed"),
        ([NO_ROLE], "failed"),
        ([NO_ROLE, NO_PLAN], "failed"),
        ([FAILED, NO_PLAN], "failed"),
        ([NO_KEY, NO_KEY], "failed"),
    ],
)
def test_a_run_is_complete_if_only_the_plan_lacks_anything_and_failed_if_nothing_was_read(
    resources: list[tuple[str, str]], state: str
) -> None:
    accounts = {str(n): resource(state=s, reason=r) for n, (s, r) in enumerate(resources)}
    assert run_state(accounts, "account", "") == state
    assert run_state(accounts, "user", "") == ("partial" if state == "complete" else state)
    assert run_state(accounts, "account", "cancelled") == "cancelled"
    assert run_state(accounts, "account", "silent") == state


def resource(**members: Any) -> SealedResource:
    return as_manifest(manifest_document(resources={"": resource_document(**members)})).resources[
        ""
    ]


def account(**counts: int) -> Lists:
    paths = ("teams", "users", "services", "log_entries")
    return Lists({f"/{name}": [record(n) for n in range(counts.get(name, 3))] for name in paths})


def test_a_manifest_has_the_results_of_the_run() -> None:
    plan = make("teams", "users", "log_entries", days=20)
    run = SealedRun(plan, account(users=150).answer)
    manifest = run.seal(requests={"users": 7, "teams": 0})
    read = read_manifest(run.storage, "acme/main", "00000001")
    assert read == as_manifest(manifest)
    assert run.storage.get(manifest_key("acme/main", "00000001")) == manifest_text(manifest)
    assert {name: manifest[name] for name in ("format", "source", "run", "previous", "state", "ended",
                                              "account", "credential", "period", "reached", "backfill",
                                              "covered", "backlog", "continues", "unsettled", "denied", "sizes",
                                              "unreadable", "orphans")} == {
        "format": 2,
        "source": "acme/main",
        "run": "00000001",
        "previous": None,
        "state": "complete",
        "ended": "done",
        "account": {"region": "us", "subdomain": "acme", "seen": [], "renamed": []},
        "credential": {"kind": "account", "fingerprints": [FINGERPRINT]},
        "period": period("2026-02-09T00:00:00Z", "2026-03-01T00:00:00Z"),
        "reached": "2026-03-01T00:00:00Z",
        "backfill": False,
        "covered": {"log_entries": [period("2026-02-09T00:00:00Z", "2026-03-01T00:00:00Z")]},
        "backlog": {},
        "continues": False,
        "unsettled": {},
        "denied": {},
        "sizes": {},
        "unreadable": [],
        "orphans": [],
    }  # fmt: skip
    counts = {
        n: (r["records"], r["sightings"], r["requests"]) for n, r in manifest["resources"].items()
    }
    assert counts == {"log_entries": (3, 3, 1), "teams": (3, 3, 1), "users": (150, 151, 7)}
    assert [a["records"] for a in manifest["resources"]["users"]["artifacts"]] == [150]
    plan_text = run.storage.get(plan_key("acme/main", "00000001"))
    assert plan_text
    assert manifest["plan_sha256"] == hashlib.sha256(plan_text).hexdigest()


def test_a_list_that_the_plan_lacks_is_named_and_leaves_the_run_complete() -> None:
    """A 402 on the list of shift-based schedules doesn't affect the layer-based schedules."""
    model = Lists({"/schedules": [record(n, type="schedule") for n in range(3)]})

    def ask(page: Page, request: Request) -> Answer:
        gated = request.path == "/v3/schedules"
        return answer_to(page, 402) if gated else model.answer(page, request)

    run = SealedRun(make("schedules"), ask)
    manifest = run.seal()
    schedules = manifest["resources"]["schedules"]
    assert (manifest["state"], schedules["state"], schedules["records"]) == (
        "complete", "complete", 3,
    )  # fmt: skip
    assert schedules["withheld"] == {"schedules.shift": "said 402"}
    assert run.verify().differences == []


@pytest.mark.parametrize("times", [1, 2])
def test_a_404_is_believed_the_second_time_and_then_named(times: int) -> None:
    """A list names the schedule. If the 404 passes, it costs a request. If it stays, the run is partial."""
    model = Lists(
        {"/schedules": [record(n, type="schedule") for n in range(3)], "/v3/schedules": []}
    )
    refusals = [404] * times

    def ask(page: Page, request: Request) -> Answer:
        denied = request.path == "/schedules/P1" and refusals
        return answer_to(page, refusals.pop()) if denied else model.answer(page, request)

    run = SealedRun(make("schedules"), ask)
    manifest = run.seal()
    assert refusals == []
    schedules = manifest["resources"]["schedules"]
    rows = [(w["pass"], w["state"], w.get("reason")) for w in schedules["windows"]
            if w["window"] == "of-P1"]  # fmt: skip
    if times == 1:
        assert (manifest["state"], schedules["state"]) == ("complete", "complete")
        assert (schedules["records"], schedules["vanished"]) == (3, [])
        assert rows == [(1, "superseded", None), (2, "proved", None)]
    else:
        assert (manifest["state"], schedules["state"]) == ("partial", "partial")
        assert (schedules["records"], schedules["vanished"]) == (2, ["P1"])
        assert (schedules["reason"], "P1" in schedules["words"]) == ("vanished", True)
        assert rows == [(1, "superseded", None), (2, "partial", "vanished")]
    assert run.verify().differences == []


def test_the_sums_list_every_object_as_sha256sum_checks_it() -> None:
    """They follow from the manifest: names below the run's directory, in order, none twice."""
    run = SealedRun(make("teams", "log_entries"), account(teams=150).answer)
    run.seal()
    listed = (run.storage.get(sums_key("acme/main", "00000001")) or b"").decode()
    prefix = run_prefix("acme/main", "00000001")
    stored = sorted(each.key.removeprefix(f"{prefix}/") for each in run.storage.list(prefix))
    lines = [line.split("  ") for line in listed.splitlines()]
    assert [name for _, name in lines] == [name for name in stored if name != "SHA256SUMS"]
    for digest, name in lines:
        blob = run.storage.get(f"{prefix}/{name}") or b""
        assert digest == hashlib.sha256(blob).hexdigest()


@pytest.mark.parametrize(
    ("verdict", "state", "ended"),
    [
        ("", "partial", "done"),
        ("cancelled", "cancelled", "cancelled"),
        ("silent", "partial", "silent"),
    ],
)
def test_the_manifest_says_how_its_run_ended(verdict: str, state: str, ended: str) -> None:
    model = account(users=150)
    run = SealedRun(
        make("users"), lambda page, request: model.answer(page, request) if page.first else None
    )
    manifest = run.seal(verdict)
    assert (manifest["state"], manifest["ended"]) == (state, ended)
    assert manifest["resources"]["users"]["state"] == "partial"
    assert manifest["resources"]["users"]["records"] == 100
    assert manifest["reached"] == (
        "2026-03-01T00:00:00Z" if state == "partial" else manifest["period"]["since"]
    )


def test_a_refused_key_fails_everything_with_that_reason() -> None:
    run = SealedRun(make("users", "teams"), lambda _page, _request: None)
    manifest = run.seal("refused")
    assert manifest["state"] == "failed"
    assert {r["reason"] for r in manifest["resources"].values()} == {"key"}
    assert manifest["reached"] == manifest["period"]["since"], (
        "the next run begins where this one did"
    )
    assert not any(r["artifacts"] for r in manifest["resources"].values())


def test_a_backlog_is_continued_until_a_run_can_not_shorten_it() -> None:
    """The second run reads an old window in vain. The next run would only repeat that at once."""
    found = [record(n) | {"made": NOW - timedelta(hours=3 * n + 1)} for n in range(800)]
    model = Lists({"/log_entries": found})
    edge = f"{NOW - timedelta(days=31):%Y%m%dT%H%M%SZ}"

    def ask(page: Page, request: Request) -> Answer | None:
        old = page.window.endswith(edge)
        return None if old and not page.first else model.answer(page, request)

    storage, last, came = open_storage("memory://"), None, []
    for _ in range(3):
        newest = last["run"] if last else None
        plan = make("log_entries", budget=3, last=last, newest=newest, backfill=bool(last))
        last = SealedRun(plan, ask, storage).seal()
        came.append((last["state"], last["continues"]))
        assert last["backlog"]["log_entries"]
        assert last["previous"] == msgspec.to_builtins(plan.previous if newest else None)
    assert came == [("partial", True), ("partial", False), ("partial", False)]
    assert runs_of(storage, "acme/main") == ["00000001", "00000002", "00000003"]


def test_a_rendering_that_takes_too_long_leaves_the_definition() -> None:
    """Both have the same address. Only the request for the rendering has the period."""
    shifts = [record(n, type="schedule_v3") for n in range(3, 5)]
    model = Lists(
        {"/schedules": [record(n, type="schedule") for n in range(3)], "/v3/schedules": shifts}
    )

    def ask(page: Page, request: Request) -> Answer | None:
        rendered = "since" in dict(request.params)
        return None if rendered else model.answer(page, request)

    run = SealedRun(make("schedules", "schedule_coverage"), ask)
    resources = run.seal()["resources"]
    assert (resources["schedules"]["state"], resources["schedules"]["records"]) == ("complete", 5)
    coverage = resources["schedule_coverage"]
    assert (coverage["state"], coverage["reason"]) == ("failed", "error")
    assert coverage["period"] == period(*run.plan.period.times())
    assert run.verify().differences == []


def described(manifest: dict[str, Any], name: str) -> tuple[str, str, Any, Any]:
    found = manifest["resources"][name]
    return found["state"], found["reason"], found["period"], found["outside"]


def day(days_ago: float) -> str:
    return rfc3339(NOW - timedelta(days=days_ago))


def lost(since: float, until: float, reason: str) -> dict[str, Any]:
    """Return an entry of `outside`; times are days ago."""
    return period(day(since), day(until)) | {"reason": reason}


def test_a_period_that_pagerduty_no_longer_has_is_named_by_every_run_and_leaves_it_complete() -> (
    None
):
    """Audit records are kept for a year. So two of three years are lost forever, but one more unread day isn't."""
    model, storage, last = Lists({"/audit/records": []}), open_storage("memory://"), None
    for days_later in (0, 1):
        plan = make("audit_records", since=NOW - timedelta(days=1095), last=last,
                    until=NOW + timedelta(days=days_later), newest=last["run"] if last else None)  # fmt: skip
        later = replace(
            answer_to(Page("audit_records", ALL)), date=plan.opened_at + timedelta(days=2)
        )

        def ask(page: Page, request: Request, date: Any = later.date) -> Answer:
            return replace(model.answer(page, request), date=date)

        run = SealedRun(plan, ask, storage)
        last = run.seal()
        assert described(last, "audit_records") == (
            "complete", "", period(day(1095), day(-days_later)), [lost(1095, 365, "retention")],
        )  # fmt: skip
    assert run.verify().differences == []


def test_a_first_run_names_the_hours_that_pagerduty_forgot_since_the_source_was_connected() -> None:
    """A source begins at midnight a year ago. When its first run opens, PagerDuty's year begins later."""
    plan = make("audit_records", days=365.4)
    model = Lists({"/audit/records": []})
    manifest = SealedRun(plan, model.answer).seal()
    assert described(manifest, "audit_records")[3] == [lost(365.4, 365, "retention")]


def test_a_resource_is_partial_until_its_backlog_is_read() -> None:
    found = [record(n) | {"made": NOW - timedelta(hours=3 * n + 1)} for n in range(800)]
    model, storage, last, came = Lists({"/log_entries": found}), open_storage("memory://"), None, []
    while not last or last["continues"]:
        newest = last["run"] if last else None
        plan = make("log_entries", budget=3, last=last, newest=newest, backfill=bool(last))
        run = SealedRun(plan, model.answer, storage)
        last = run.seal()
        came.append(described(last, "log_entries"))
    whole = period(day(100), day(0))
    assert came[0] == ("partial", "backlog", whole, [lost(100, 31, "backlog")])
    assert came[-1] == ("complete", "", whole, [])
    assert [state for state, *_ in came[:-1]] == ["partial"] * (len(came) - 1)
    assert (run.verify().differences, last["state"]) == ([], "complete")


def test_records_read_with_a_users_key_are_read_again_with_the_accounts_key() -> None:
    """Until then, the account's key proves nothing about the time before it."""
    model, storage = Lists({"/log_entries": []}), open_storage("memory://")
    last = SealedRun(make("log_entries", credential="user"), model.answer, storage).seal()
    assert described(last, "log_entries")[:2] == ("partial", "key")
    plan = make("log_entries", last=last, newest=last["run"])
    assert (plan.covered, plan.period.since) == ({}, NOW - timedelta(days=100))
    manifest = SealedRun(plan, model.answer, storage).seal()
    assert described(manifest, "log_entries")[:2] == ("complete", "")


def test_one_page_read_with_a_users_key_makes_the_run_one_of_a_user() -> None:
    """The key was rotated in the middle of the run."""
    run = SealedRun(make("log_entries", "teams"), account().answer)
    page, answer = Page("teams", ALL), run.fleet.read(Page("teams", ALL))
    assert answer
    run.storage.delete(run.key(page))
    run.plan = structs.replace(run.plan, credential="user")
    run.store(page, answer)
    manifest = run.seal()
    assert (manifest["state"], manifest["credential"]["kind"]) == ("partial", "user")
    assert {r["reason"] for r in manifest["resources"].values()} == {"key"}
    assert run.verify().differences == []


def test_only_windowed_resources_have_a_period() -> None:
    plan = make("incidents", "schedule_coverage", "oncalls", "users", days=20)
    whole = plan.period
    assert plan.period_of("incidents") == plan.period_of("schedule_coverage") == whole
    assert plan.period_of("oncalls") == Period(whole.until, whole.until)
    assert plan.period_of("users") is plan.period_of("schedules") is None


def test_only_resources_that_were_read_have_an_artifact() -> None:
    states = {"a": "complete", "b": "partial", "c": "failed", "d": "unavailable"}
    assert collected({name: resource(state=state) for name, state in states.items()}) == ["a", "b"]


def test_runs_are_found_by_their_numbers() -> None:
    storage = open_storage("memory://")
    for run in (
        "00000002",
        "00000010",
        "00000001",
        "notes",
        "00000003.old",
        "3",
        "00000000",
        "٠٠٠٠٠٠٠٤",
    ):
        storage.put_new(plan_key("acme/main", run), documents.written(make("users")))
    storage.put_new(plan_key("acme/other", "00000077"), b"{}")
    assert runs_of(storage, "acme/main") == ["00000001", "00000002", "00000010"]
    assert chosen_runs(storage, "acme/main") == runs_of(storage, "acme/main")
    assert chosen_runs(storage, "acme/main", "00000010") == ["00000010"]
    with pytest.raises(NotFound, match="has no run 00000011"):
        chosen_runs(storage, "acme/main", "00000011")


def test_a_source_is_known_by_its_runs_its_document_or_its_records_of_erasures() -> None:
    """An auditor's copy has evidence without a registry. A purged source only has its record of the erasure."""
    storage = open_storage("memory://")
    storage.put_new(plan_key("copied/main", "00000001"), documents.written(make("users")))
    storage.put_new(record_key("purged/main", "00000007"), b"{}")
    storage.put_new(".registry/connected/main.json", b"{}")
    assert chosen_runs(storage, "copied/main") == ["00000001"]
    assert chosen_runs(storage, "purged/main") == chosen_runs(storage, "connected/main") == []
    for source in ("copied/main", "purged/main", "connected/main"):
        with pytest.raises(NotFound, match="has no run 00000011"):
            chosen_runs(storage, source, "00000011")
    for run in (None, "00000001"):
        with pytest.raises(NotFound, match="There is no source none/main"):
            chosen_runs(storage, "none/main", run)


def test_an_open_run_has_a_plan_and_no_manifest() -> None:
    storage = open_storage("memory://")
    plan = make("users")
    storage.put_new(plan_key("acme/main", "00000001"), documents.written(plan))
    assert read_plan(storage, "acme/main", "00000001") == plan
    assert read_manifest(storage, "acme/main", "00000001") is None
    with pytest.raises(StorageConflict, match=r"plan.json is missing.*restore it"):
        read_plan(storage, "acme/main", "00000002")


COPIED = documents.written(make("users")).replace(b"acme/main", b"acme/else")


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\x00\x01", b"[]", b"{}", b'{"windows":[]}', b"[" * 99_999, COPIED],
    ids=repr,
)
def test_anything_else_in_the_place_of_a_plan_is_a_conflict_in_one_sentence(text: bytes) -> None:
    storage = open_storage("memory://")
    storage.put_new(plan_key("acme/main", "00000001"), text)
    with pytest.raises(StorageConflict, match=r"plan.json is damaged .*restore it"):
        read_plan(storage, "acme/main", "00000001")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\x00\x01",
        b"[]",
        b'{"source":"acme/main","run":"00000001"}',
        manifest_text(manifest_document(source="acme/else")),
        manifest_text(manifest_document(run="00000002")),
        manifest_text(manifest_document()).replace(b"run", b"ran"),
        manifest_text(manifest_document()).replace(b"\n", b""),
    ],
    ids=repr,
)
def test_anything_else_in_the_place_of_a_manifest_is_a_conflict_too(text: bytes) -> None:
    """Only a missing manifest means that a run is open. An empty, changed or copied one doesn't, and is never used."""
    storage = open_storage("memory://")
    storage.put_new(manifest_key("acme/main", "00000001"), text)
    with pytest.raises(StorageConflict, match=r"manifest\.json is damaged .*verify acme/main"):
        read_manifest(storage, "acme/main", "00000001")


def test_times_in_a_manifest_are_utc() -> None:
    run = SealedRun(make("users"), account().answer)
    manifest = run.seal()
    assert manifest["opened_at"] == rfc3339(run.plan.opened_at)
    assert all(manifest[name].endswith("Z") for name in ("opened_at", "scheduled_at", "sealed_at"))


def test_a_damaged_manifest_does_not_hide_the_account_of_the_evidence() -> None:
    """Otherwise a key of another account would be accepted as the first key of this name."""
    run = SealedRun(make("teams"), Lists({"/teams": [record(1)]}).answer)
    run.seal()
    key = manifest_key("acme/main", "00000001")
    run.storage.delete(key)
    run.storage.put_new(key, b"")
    assert account_of(run.storage, "acme/main") == ("us", "acme")
