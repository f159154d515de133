"""Accounts from a seed are always the same and realistic. A wrong description is refused."""

import json
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from simulator import config
from simulator.accounts import AccountSpec, SpecError, account_from, demo_accounts, read_accounts
from simulator.names import GHOSTS
from simulator.world import Account

ANCHOR = "2026-06-01T00:00:00Z"
KINDS = (
    "incidents",
    "services",
    "users",
    "teams",
    "escalation_policies",
    "schedules",
    "audit_records",
)


def bodies(spec: AccountSpec, kind: str, started: float = 0) -> list[bytes]:
    """Return all bodies of a kind."""
    store = Account(spec, started).store(kind)
    return [store.body(record) for record in store.rows]


@pytest.mark.parametrize("kind", [*KINDS, "log_entries"])
def test_the_same_seed_gives_the_same_bytes(kind: str) -> None:
    """Two starts give the same records. Another seed gives other records."""
    spec = AccountSpec("acme", anchor=ANCHOR)
    assert bodies(spec, kind) == bodies(spec, kind, started=9e8)
    other = AccountSpec("acme", anchor=ANCHOR, seed=2)
    assert kind == "teams" or bodies(spec, kind) != bodies(other, kind)


@pytest.mark.parametrize("kind", [*KINDS[:-1], "v3_schedules"])
def test_accounts_with_different_numbers_share_no_id(kind: str) -> None:
    def ids(start: int) -> set[str]:
        spec = AccountSpec("acme", anchor=ANCHOR, ids_from=start)
        return {orjson.loads(body)["id"] for body in bodies(spec, kind)}

    assert len(ids(0)) == len(ids(1_000_000)) > 0
    assert not ids(0) & ids(1_000_000)


def test_incidents_are_realistic() -> None:
    """They have about 2.5 KB each, and are numbered in order of creation.

    There are nulls, open incidents, and people who were deleted.
    """
    made = bodies(AccountSpec("acme", anchor=ANCHOR, incidents=2_000), "incidents")
    incidents = [orjson.loads(body) for body in made]
    assert 2_300 < sum(map(len, made)) / len(made) < 2_900
    assert [i["incident_number"] for i in incidents] == sorted(
        i["incident_number"] for i in incidents
    )
    assert [i["created_at"] for i in incidents] == sorted(i["created_at"] for i in incidents)
    assert {i["status"] for i in incidents} == {"triggered", "acknowledged", "resolved"}
    assert all((i["resolved_at"] is None) == (i["status"] != "resolved") for i in incidents)
    assert any(not i["title"].isascii() for i in incidents)
    assert any(i["priority"] is None for i in incidents)
    assert all(i["html_url"].startswith("https://acme.pagerduty.com/") for i in incidents)
    people = {i["last_status_change_by"]["id"] for i in incidents}
    held = {
        orjson.loads(body)["id"] for body in bodies(AccountSpec("acme", anchor=ANCHOR), "users")
    }
    assert people - held  # some acted on incidents and have left since


def test_references_to_deleted_people_keep_their_names() -> None:
    """A reference to a deleted user has an id and a name. Some have no address any more."""
    account = Account(AccountSpec("acme"), 0)
    traces = [account.ref("users", GHOSTS + n) for n in range(4)]
    assert all(t["summary"] for t in traces)
    assert {t["self"] is None for t in traces} == {True, False}


def test_a_dense_stretch_holds_its_share() -> None:
    """Most incidents are within a few days, so that windows have to be split."""
    spec = AccountSpec(
        "acme", anchor=ANCHOR, incidents=1_000, days=100, dense_days=2, dense_share=0.8
    )
    times = [record.created for record in Account(spec, 0).stores["incidents"].rows]
    middle = (times[0] + times[-1]) / 2
    assert sum(abs(t - middle) < 3 * 86_400 for t in times) > 780


def test_every_story_fits_its_incident() -> None:
    """Log entries begin with the trigger, and lead to the status of the incident."""
    account = Account(AccountSpec("acme", anchor=ANCHOR, log_entries_per_incident=7), 0)
    for incident in account.stores["incidents"].rows:
        story = account.log_of[incident.id]
        body = orjson.loads(account.stores["incidents"].body(incident))
        assert story[0].what == "trigger"
        assert story[0].id == body["first_trigger_log_entry"]["id"]
        assert [e.created for e in story] == sorted(e.created for e in story)
        assert any(e.what == "resolve" for e in story) == (body["status"] == "resolved")
    assert 6 < len(account.log.rows) / len(account.stores["incidents"].rows) < 8


def test_secrets_and_personal_data_are_there_to_be_redacted() -> None:
    """Values that must never be stored are served as PagerDuty serves them."""
    account = Account(AccountSpec("acme"), 0)
    user = json.dumps([config.user_more(account, r) for r in account.stores["users"].rows])
    for field in ("http_cal_url", "web_cal_url", "address", "device_id"):
        assert field in user
    services = account.stores["services"].rows
    service = json.dumps([config.service_more(account, record) for record in services])
    assert "integration_key" in service
    assert "integration_email" in service


def test_a_large_account_starts_fast_and_lean() -> None:
    """25,000 incidents cost nothing until they are requested, because no body is made at the start."""
    account = Account(AccountSpec("acme", incidents=25_000, days=150), time.time())
    assert len(account.stores["incidents"].rows) == 25_000
    assert all(record.body_ is None for record in account.stores["incidents"].rows)


def test_the_demo_has_everything_that_it_shows() -> None:
    """It has two US accounts and one EU account, more than 10,000 incidents within one window, a plan
    without teams, and a budget that others start to use as well."""
    demo = demo_accounts()
    assert [spec.region for spec in demo] == ["us", "us", "eu"]
    big = demo[0]
    assert big.incidents * big.dense_share > 10_000
    assert big.keys[0].others_after
    assert big.keys[0].others_reset_seconds >= 2
    assert {"teams", "audit"} <= set(demo[1].abilities_off)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"subdomain": "a", "colour": 1}, "colour"),
        ({}, "subdomain"),
        ({"subdomain": "a", "region": "moon"}, "region"),
        ({"subdomain": "a", "time_zone": "Mars/Olympus"}, "time zone"),
        ({"subdomain": "a", "keys": [{"name": "k"}]}, "keys[0]"),
        ({"subdomain": "a", "habits": {"mood": 1}}, "habits"),
        ([], "object"),
    ],
)
def test_a_wrong_description_is_one_sentence(data: Any, words: str) -> None:
    """The sentence names whatever is wrong."""
    with pytest.raises(SpecError, match=words.replace("[", r"\[")):
        account_from(data)


def test_descriptions_are_read_from_json(tmp_path: Path) -> None:
    """A list, or an object with the list, is accepted. Anything else is refused with a sentence."""
    file = tmp_path / "accounts.json"
    for content in ([{"subdomain": "a"}], {"accounts": [{"subdomain": "a"}]}):
        file.write_text(json.dumps(content), "utf-8")
        assert [spec.subdomain for spec in read_accounts(file)] == ["a"]
    for text in ("nonsense", "{}", "[]"):
        file.write_text(text, "utf-8")
        with pytest.raises(SpecError):
            read_accounts(file)
    with pytest.raises(SpecError):
        read_accounts(tmp_path / "absent.json")
