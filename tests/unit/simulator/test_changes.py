"""Changes while serving: each leaves a version, and the truth has all versions."""

import asyncio
import random
import time
from collections import Counter
from itertools import pairwise
from typing import Any

import orjson
import pytest

from simulator import schedules, truth
from simulator.accounts import AccountSpec, Habits
from simulator.changes import CHANGES, Churn, apply
from simulator.changes.change import ChangeError
from simulator.coverage import coverage
from simulator.request import Params
from simulator.world import Account

RESOURCES = ("incidents", "log_entries", "services", "users", "teams", "team_members", "schedules",
             "escalation_policies", "audit_records")  # fmt: skip


@pytest.fixture
def account() -> Account:
    """A small account."""
    return Account(AccountSpec("acme", incidents=60, schedules=6), time.time())


def told(
    account: Account,
    resource: str,
    *params: tuple[str, str],
    history: bool = False,
    at: float | None = None,
) -> list[Any]:
    """Return the true records of a resource."""

    async def collect() -> bytes:
        parts = [p async for p in truth.stream(account, resource, Params(params), history, at)]
        return b"".join(parts)

    return [orjson.loads(line) for line in asyncio.run(collect()).splitlines()]


def made(account: Account, do: str, **args: Any) -> Any:
    """Make a change. Return the record."""
    return apply(account, do, random.Random(3), args)


def life(account: Account, resource: str, id: str) -> Any:
    """Return the history of one record."""
    return next(x for x in told(account, resource, history=True) if x["id"] == id)


def body(account: Account, record: Any) -> Any:
    """Return a record's current body."""
    return orjson.loads(account.store(record.kind).body(record))


@pytest.mark.parametrize("do", sorted(CHANGES))
def test_every_change_can_be_made_and_raises_a_revision(account: Account, do: str) -> None:
    """Each change is visible in lists, and does what its name says."""
    made(account, "create_incident")  # so that one incident is open
    before = {kind: store.revision for kind, store in account.stores.items()}
    record = made(account, do)
    assert account.store(record.kind).revision > before.get(record.kind, -1)


def test_a_rename_is_a_second_version_and_an_audit_record(account: Account) -> None:
    """Both names are in the history with their times, and the audit trail says who renamed it."""
    service = account.stores["services"].rows[2]
    former = body(account, service)["name"]
    made(account, "rename_service", id=service.id, name="Neu ✨")
    versions = life(account, "services", service.id)["versions"]
    assert [v["record"]["name"] for v in versions] == [former, "Neu ✨"]
    assert versions[0]["from"] is None
    assert versions[0]["to"] == versions[1]["from"]
    assert versions[1]["to"] is None
    audit = told(account, "audit_records")[-1]
    assert (audit["root_resource"]["id"], audit["action"]) == (service.id, "update")


def test_a_deleted_record_stays_in_the_history_and_as_a_reference(account: Account) -> None:
    """The current truth doesn't have it, its history has an end, and other records still name it."""
    service = account.stores["services"].by_id[account.ref("services", 1)["id"]]
    made(account, "delete_service", id=service.id)
    assert service.id not in {s["id"] for s in told(account, "services")}
    past = life(account, "services", service.id)
    assert past["deleted"] == past["versions"][-1]["to"] is not None
    assert service.id in {i["service"]["id"] for i in told(account, "incidents")}
    included = told(account, "incidents", ("include[]", "services"))
    assert {i["service"]["type"] for i in included if i["service"]["id"] == service.id} == {
        "service_reference"
    }


def test_a_created_record_was_not_there_before(account: Account) -> None:
    """Its history begins with the change."""
    user = made(account, "create_user", name="Zoë 新")
    past = life(account, "users", user.id)
    assert past["created"] == past["versions"][0]["from"] is not None
    assert past["versions"][0]["record"]["name"] == "Zoë 新"


def test_an_incident_goes_through_its_states_with_log_entries(account: Account) -> None:
    """Acknowledge, resolve and reopen change the status fields and add the entries that say so."""
    incident = made(account, "create_incident", title="Sehr schlimm")
    for do, status in (
        ("acknowledge_incident", "acknowledged"),
        ("resolve_incident", "resolved"),
        ("reopen_incident", "triggered"),
    ):
        made(account, do, id=incident.id)
        now = body(account, incident)
        assert (now["status"], now["title"]) == (status, "Sehr schlimm")
        assert (now["resolved_at"] is not None) == (status == "resolved")
    kinds = [e.what for e in account.log_of[incident.id]]
    assert kinds == ["trigger", "acknowledge", "resolve", "unacknowledge"]
    statuses = [v["record"]["status"] for v in life(account, "incidents", incident.id)["versions"]]
    assert statuses == ["triggered", "acknowledged", "resolved", "triggered"]
    with pytest.raises(ChangeError):
        made(
            account,
            "acknowledge_incident",
            id=told(account, "incidents", ("statuses[]", "resolved"))[0]["id"],
        )


def test_an_incident_may_be_written_late(account: Account) -> None:
    """A record can appear with an old creation time, in a window that was read already."""
    incident = made(account, "create_incident", created_at=account.anchor - 40 * 86_400)
    place = [i["id"] for i in told(account, "incidents")].index(incident.id)
    assert 0 < place < 50
    assert account.log_of[incident.id][0].created == account.anchor - 40 * 86_400


def test_an_upgraded_schedule_keeps_its_id_and_changes_its_kind(account: Account) -> None:
    """It moves from one list to the other. Its history has both kinds."""
    schedule = account.stores["schedules"].rows[0]
    made(account, "upgrade_schedule", id=schedule.id)
    lives = [x for x in told(account, "schedules", history=True) if x["id"] == schedule.id]
    assert sorted(x["versions"][0]["record"]["type"] for x in lives) == ["schedule", "schedule_v3"]
    assert {x["deleted"] is None for x in lives} == {True, False}


def test_a_deleted_user_leaves_its_teams_and_a_renamed_one_is_renamed_there(
    account: Account,
) -> None:
    """Memberships follow their user."""
    first, second = account.stores["users"].rows[:2]
    made(account, "rename_user", id=first.id, name="Umbenannt")
    made(account, "delete_user", id=second.id)
    members = told(account, "team_members")
    assert {m["user"]["summary"] for m in members if m["user"]["id"] == first.id} == {"Umbenannt"}
    assert second.id not in {m["user"]["id"] for m in members}


def test_included_objects_have_their_own_versions(account: Account) -> None:
    """Renaming a team changes how its users look with include[]=teams, and the history says when."""
    team = account.stores["teams"].rows[0]
    made(account, "rename_team", id=team.id, name="Anders")
    plain = told(account, "users", history=True)
    included = told(account, "users", ("include[]", "teams"), history=True)
    assert {len(x["versions"]) for x in plain} == {1}
    changed = [x for x in included if len(x["versions"]) == 2]
    names = [{t["name"] for t in x["versions"][-1]["record"]["teams"]} for x in changed]
    assert names
    assert all("Anders" in shown for shown in names)


def test_churn_is_bounded_and_drawn_from_a_seed() -> None:
    """The same seed makes the same changes. There are never more changes than requested."""
    ends = []
    for _ in range(2):
        account = Account(
            AccountSpec("acme", incidents=60, anchor="2026-01-01T00:00:00Z"), time.time()
        )
        churn = Churn(account, tuple(sorted(CHANGES)), 150, every_requests=2, seed=8)
        for _ in range(1_000):
            churn.request()
        assert churn.made == churn.count <= 150
        ends.append(Counter(r["name"] for r in told(account, "services")))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("resource", RESOURCES)
def test_the_last_version_of_every_record_is_the_current_truth(
    account: Account, resource: str
) -> None:
    """After much churn, the living records of the history are exactly the records of the account."""
    churn = Churn(account, tuple(sorted(CHANGES)), 300, every_requests=1)
    for _ in range(400):
        churn.request()
    now = told(account, resource, ("include[]", "teams"))
    lives = told(account, resource, ("include[]", "teams"), history=True)
    alive = [x["versions"][-1]["record"] for x in lives if x["deleted"] is None]
    assert sorted(map(orjson.dumps, alive)) == sorted(map(orjson.dumps, now))
    for past in lives:
        edges = [(v["from"], v["to"]) for v in past["versions"]]
        assert all(a[1] == b[0] for a, b in pairwise(edges))


def test_unknown_changes_and_records_are_refused(account: Account) -> None:
    """An unknown change, or a change of an unknown record, gives one sentence."""
    with pytest.raises(ChangeError):
        made(account, "explode")
    with pytest.raises(ChangeError):
        made(account, "delete_team", id="PNOBODY")
    with pytest.raises(ChangeError):
        Churn(account, ("explode",), 1)


def log_kinds(account: Account, incident: Any) -> list[str]:
    return [entry.what for entry in account.log_of[incident.id]]


def resolved(account: Account) -> Any:
    """Return an incident that was resolved long ago."""
    return next(i for i in account.stores["incidents"].rows if i.status == "resolved")


@pytest.mark.parametrize(
    ("do", "member", "entry"),
    [
        ("retitle_incident", "title", "field_value_change"),
        ("prioritise_incident", "priority", "field_value_change"),
        ("reopen_incident", "status", "unacknowledge"),
    ],
)
def test_an_old_resolved_incident_can_change(
    account: Account, do: str, member: str, entry: str
) -> None:
    """The change is in its body and in `updated_at`, and a log entry says so."""
    incident = resolved(account)
    before = body(account, incident)
    made(account, do, id=incident.id)
    after = body(account, incident)
    assert after[member] != before[member]
    assert after["updated_at"] > before["updated_at"]
    assert log_kinds(account, incident)[-1] == entry


def test_a_change_can_leave_no_log_entry() -> None:
    """PagerDuty doesn't say which changes it logs, so the account's habits do."""
    quiet = Habits(unlogged=("retitle_incident",))
    account = Account(AccountSpec("acme", incidents=60, habits=quiet), time.time())
    incident = resolved(account)
    kinds = log_kinds(account, incident)
    made(account, "retitle_incident", id=incident.id)
    assert log_kinds(account, incident) == kinds
    made(account, "reopen_incident", id=incident.id)
    assert log_kinds(account, incident) == [*kinds, "unacknowledge"]


def test_a_merged_incident_is_resolved_and_names_the_one_that_took_it(account: Account) -> None:
    target = resolved(account)
    source = made(account, "create_incident")
    made(account, "merge_incident", id=source.id, into=target.id)
    merged = body(account, source)
    assert (merged["status"], merged["resolve_reason"]["incident"]["id"]) == ("resolved", target.id)
    assert log_kinds(account, source)[-1] == "resolve"
    with pytest.raises(ChangeError):
        made(account, "merge_incident", id=source.id, into=target.id)


def test_notes_are_added_edited_and_deleted(account: Account) -> None:
    """Only adding one leaves a log entry, and none of it touches the incident itself."""
    incident = next(i for i in account.stores["incidents"].rows if not account.notes_of(i))
    before = body(account, incident)
    note = made(account, "add_note", incident=incident.id, content="first")
    assert log_kinds(account, incident)[-1] == "annotate"
    kinds = log_kinds(account, incident)
    made(account, "edit_note", id=note.id, content="second")
    assert [body(account, each)["content"] for each in account.notes_of(incident)] == ["second"]
    made(account, "delete_note", id=note.id)
    assert account.notes_of(incident) == []
    assert (log_kinds(account, incident), body(account, incident)) == (kinds, before)


@pytest.mark.parametrize("habit", ["stay", "vanish"])
def test_a_deleted_incident_takes_its_notes_and_maybe_its_log_entries(habit: Any) -> None:
    habits = Habits(entries_of_deleted=habit)
    account = Account(AccountSpec("acme", incidents=60, habits=habits), time.time())
    incident = next(i for i in account.stores["incidents"].rows if account.notes_of(i))
    entries = {each.id for each in account.log_of[incident.id]}
    made(account, "delete_incident", id=incident.id)
    assert account.incident(str(incident.number)) is None
    assert account.notes_of(incident) == []
    left = entries & {each["id"] for each in told(account, "log_entries")}
    assert left == (entries if habit == "stay" else set())


def test_the_truth_of_a_past_moment_has_what_was_there_then(account: Account) -> None:
    """Later changes, deletions and new records don't show in it."""
    before = {name: told(account, name) for name in RESOURCES}
    moment = account.now()
    churn = Churn(account, tuple(sorted(CHANGES)), 200, every_requests=1, seed=4)
    for _ in range(250):
        churn.request()
    for name, then in before.items():
        assert told(account, name) != then, f"{name} did not change"
        past = told(account, name, at=moment)
        assert sorted(map(orjson.dumps, past)) == sorted(map(orjson.dumps, then))


def test_a_late_override_changes_past_coverage(account: Account) -> None:
    """It puts somebody else on call in a period that is over, and may fill a gap."""
    schedule = account.stores["schedules"].rows[0]
    until = int(account.now()) // 3_600 * 3_600 - 86_400
    since = until - 7 * 86_400
    before = schedules.on_call(account, schedule, since, until)
    user = next(u for u in account.stores["users"].rows if u.number != before[0].user)
    made(account, "add_override", id=schedule.id, user=user.id, start=since, end=since + 3_600)
    after = schedules.on_call(account, schedule, since, until)
    assert after[0] == (since, since + 3_600, user.number)
    found = {each["id"]: each for each in coverage(account, since, until)}
    assert {each["covered"] + each["gap"] for each in found.values()} == {until - since}
    assert found[schedule.id]["gap"] == until - since - sum(d.end - d.start for d in after)


def test_coverage_counts_the_gaps_of_a_shift_schedule(account: Account) -> None:
    """In every sixth week nobody is on call there."""
    schedule = account.stores["v3_schedules"].rows[0]
    since = schedules.EPOCH
    [found] = [
        each
        for each in coverage(account, since, since + 12 * 7 * 86_400)
        if each["id"] == schedule.id
    ]
    assert found["gap"] == 2 * 7 * 86_400
