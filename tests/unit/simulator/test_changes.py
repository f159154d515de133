"""Changes while serving: each leaves a version, and the truth has all versions."""

import asyncio
import random
import time
from collections import Counter
from itertools import pairwise
from typing import Any

import orjson
import pytest

from simulator import truth
from simulator.accounts import AccountSpec
from simulator.changes import CHANGES, ChangeError, Churn, apply
from simulator.request import Params
from simulator.world import Account

RESOURCES = ("incidents", "log_entries", "services", "users", "teams", "team_members", "schedules",
             "escalation_policies", "audit_records")  # fmt: skip


@pytest.fixture
def account() -> Account:
    """A small account."""
    return Account(AccountSpec("acme", incidents=60, schedules=6), time.time())


def told(
    account: Account, resource: str, *params: tuple[str, str], history: bool = False
) -> list[Any]:
    """Return the true records of a resource."""

    async def collect() -> bytes:
        parts = [p async for p in truth.stream(account, resource, Params(params), history)]
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
