"""The simulator satisfies PagerDuty's own Python client, which nobody here wrote."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pagerduty import HttpError, RestApiV2Client, ServerHttpError

from tests.bench.official_client import LoopbackClient
from tests.simulator_process import SimulatorProcess, running_simulator

ACCOUNTS = [
    {
        "subdomain": "acme", "incidents": 10_800, "days": 40, "dense_days": 2, "dense_share": 0.7,
        "log_entries_per_incident": 2, "services": 130, "users": 40, "teams": 5, "schedules": 4,
        "shift_schedules": 3, "audit_records": 3_000,
        "keys": [
            {"key": "account+key", "limit": 100_000},
            {"key": "user_key", "kind": "user", "user": 3, "limit": 100_000},
            {"key": "restricted", "kind": "user", "user": 4, "sees": 0.5},
            {"key": "disabled", "disabled": True},
            {"key": "scoped", "forbidden": ["/audit/*"]},
            {"key": "tiny", "limit": 1, "first_reset_seconds": 4},
        ],
    },
    {"subdomain": "offplan", "region": "eu", "incidents": 5, "teams": 2, "keys": [{"key": "eu-key"}],
     "abilities_off": ["teams", "audit", "priorities", "coordinated_responding", "round_robin"]},
]  # fmt: skip


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatorProcess]:
    """One simulator with an account that needs window splitting, and one that lacks abilities."""
    with running_simulator(ACCOUNTS, "--minute-seconds", "4") as process:
        yield process


@pytest.fixture
def client(simulator: SimulatorProcess) -> Iterator[RestApiV2Client]:
    """The official client with the account key."""
    with connect(simulator, "account+key") as made:
        yield made


def connect(simulator: SimulatorProcess, key: str, region: str = "us") -> RestApiV2Client:
    """Return the official client for a key."""
    return LoopbackClient(key, base_url=simulator.region(region))


def in_order(records: Any) -> list[Any]:
    """Return records in the order of their ids."""
    return sorted(records, key=lambda record: record["id"])


@pytest.mark.parametrize(
    ("path", "resource"),
    [("services", "services"), ("users", "users"), ("teams", "teams"),
     ("escalation_policies", "escalation_policies"), ("vendors", "vendors")],
)  # fmt: skip
def test_iter_all_lists_exactly_the_records_of_the_account(
    simulator: SimulatorProcess, client: RestApiV2Client, path: str, resource: str
) -> None:
    """Paging by offset gives every record once, the same as the truth."""
    listed = list(client.iter_all(path, page_size=25))
    assert in_order(listed) == in_order(simulator.truth("acme", resource))


def test_includes_are_those_of_the_truth(
    simulator: SimulatorProcess, client: RestApiV2Client
) -> None:
    """Included objects and secrets are in the list, and in the truth if it is requested in the same way."""
    names = ["contact_methods", "notification_rules", "teams"]
    listed = list(client.iter_all("users", params={"include[]": names}))
    truth = simulator.truth("acme", "users", [("include[]", name) for name in names])
    assert in_order(listed) == in_order(truth)
    assert listed[0]["contact_methods"][0]["address"]
    services = list(client.iter_all("services", params={"include[]": ["integrations"]}))
    assert all(i["integration_key"] for s in services for i in s["integrations"])


def test_iter_history_bisects_more_than_ten_thousand_incidents(
    simulator: SimulatorProcess, client: RestApiV2Client
) -> None:
    """The official way around the cap finds each of 10,800 incidents exactly once."""
    now = datetime.now(UTC)
    found = list(
        client.iter_history("/incidents", now - timedelta(days=45), now + timedelta(hours=1))
    )
    assert in_order(found) == in_order(simulator.truth("acme", "incidents"))


def test_the_cap_ends_plain_paging(client: RestApiV2Client) -> None:
    """If offset plus limit is above 10,000, the answer is a 400 with PagerDuty's words."""
    answer = client.get("/incidents", params={"date_range": "all", "limit": 100, "offset": 9_950})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == 2002
    answer = client.get("/log_entries", params={"limit": 100, "offset": 9_950})
    assert answer.json()["error"] == {
        "message": "Invalid Input Provided", "code": 2001, "errors": ["Offset must be less than 10001."],
    }  # fmt: skip


def test_iter_cursor_reads_the_audit_trail_newest_first(
    simulator: SimulatorProcess, client: RestApiV2Client
) -> None:
    """Paging by cursor gives each record of a month once, in order of time."""
    until = datetime.now(UTC)
    bounds = {"since": (until - timedelta(days=31)).isoformat(), "until": until.isoformat()}
    found = list(client.iter_cursor("/audit/records", params=dict(bounds)))
    assert len(found) > 100
    times = [record["execution_time"] for record in found]
    assert times == sorted(times, reverse=True)
    assert in_order(found) == in_order(
        simulator.truth("acme", "audit_records", list(bounds.items()))
    )


def test_both_kinds_of_schedule_are_read_in_detail(
    simulator: SimulatorProcess, client: RestApiV2Client
) -> None:
    """Layer- and shift-based schedules come from two lists, and their details match the truth."""
    bounds = {"since": "2026-01-01T00:00:00Z", "until": "2026-03-01T00:00:00Z"}
    layers = [
        client.rget(f"/schedules/{s['id']}", params=bounds) for s in client.iter_all("/schedules")
    ]
    shifts = [
        client.jget(s["self"].removeprefix("https://api.pagerduty.com"),
                    params=bounds | {"include[]": "final_schedule"})["schedule"]
        for s in client.jget("/v3/schedules")["schedules"]
    ]  # fmt: skip
    truth = simulator.truth("acme", "schedules", [*bounds.items(), ("include[]", "final_schedule")])
    assert in_order([*layers, *shifts]) == in_order(truth)
    assert all(s["final_schedule"]["rendered_schedule_entries"] for s in layers)
    assert client.get(f"/v3/schedules/{layers[0]['id']}").status_code == 400


def test_members_of_teams_are_those_of_the_truth(
    simulator: SimulatorProcess, client: RestApiV2Client
) -> None:
    """Members have a role and no id. The truth also has their team."""
    members = [
        {**member, "team": {key: team[key] for key in ("id", "summary", "self", "html_url")}}
        for team in client.iter_all("teams")
        for member in client.iter_all(f"/teams/{team['id']}/members")
    ]
    truth = list(simulator.truth("acme", "team_members"))
    assert [m["team"].pop("type") for m in truth] == ["team_reference"] * len(truth)
    assert sorted(map(str, members)) == sorted(map(str, truth))


@pytest.mark.parametrize(
    ("key", "region"), [("unknown", "us"), ("disabled", "us"), ("eu-key", "us")]
)
def test_an_unknown_key_is_401_in_html(simulator: SimulatorProcess, key: str, region: str) -> None:
    """An unknown key, a disabled one and one of the other region get the same page of HTML."""
    with connect(simulator, key, region) as client, pytest.raises(HttpError) as refused:
        client.rget("users")
    assert refused.value.response.status_code == 401
    assert refused.value.response.headers["content-type"].startswith("text/html")


def test_a_list_that_the_plan_lacks_is_402_or_404(simulator: SimulatorProcess) -> None:
    """Teams and audit records answer 402 with the ability's name, and priorities answer 404. An include fails."""
    with connect(simulator, "eu-key", "eu") as client:
        teams = client.get("/teams")
        assert (teams.status_code, teams.json()["error"]["code"]) == (402, 2014)
        assert teams.json()["error"]["missing_abilities"] == "teams"
        assert client.get("/audit/records").status_code == 402
        assert client.get("/priorities").json() == {"error": {"message": "Not Found"}}
        bridge = client.get("/incidents", params={"include[]": "conference_bridge"})
        assert bridge.status_code == 402
        rules = client.get(
            "/escalation_policies", params={"include[]": "escalation_rule_assignment_strategies"}
        )
        assert rules.status_code == 403
        assert "teams" not in client.rget("/abilities")


def test_a_missing_role_is_403(simulator: SimulatorProcess) -> None:
    """A key without the scope gets a 403 for this list, and can still read its other lists."""
    with connect(simulator, "scoped") as client:
        assert client.get("/audit/records").json()["error"]["message"] == "Insufficient permissions"
        assert client.rget("/abilities")


def test_the_probe_tells_account_and_user_keys_apart(simulator: SimulatorProcess) -> None:
    """/users/me answers an account key with a 400 and a plain string, and a user key with the user."""
    with connect(simulator, "account+key") as client:
        answer = client.get("/users/me")
        assert (answer.status_code, type(answer.json()["error"])) == (400, str)
    with connect(simulator, "user_key") as client:
        assert client.rget("/users/me")["email"].startswith("person3.")


def test_the_client_learns_the_subdomain(client: RestApiV2Client) -> None:
    """The official client finds the account's name in the addresses of its users."""
    assert client.subdomain == "acme"


def test_a_user_key_misses_records_that_its_user_may_not_see(simulator: SimulatorProcess) -> None:
    """Lists of a restricted user are shorter, and nothing shows it."""
    with connect(simulator, "restricted") as client:
        seen = list(client.iter_all("/schedules"))
        assert len(seen) < 4
    with connect(simulator, "account+key") as client:
        hidden = next(
            s for s in client.iter_all("/schedules") if s["id"] not in {x["id"] for x in seen}
        )
    with connect(simulator, "restricted") as client:
        assert client.get(f"/schedules/{hidden['id']}").status_code == 404


def test_a_missing_record_is_404(client: RestApiV2Client) -> None:
    """An unknown id gets an answer in PagerDuty's words."""
    answer = client.get("/incidents/PNOBODY")
    assert answer.json() == {"error": {"message": "Not Found", "code": 2100}}
    assert client.get("/no/such/path").status_code == 404


def test_an_incident_is_found_by_number(client: RestApiV2Client) -> None:
    """The item endpoint accepts the number that people see, as well as the id."""
    by_number = client.rget("/incidents/1042")
    assert by_number == client.rget(f"/incidents/{by_number['id']}")


def test_the_client_waits_out_a_429(simulator: SimulatorProcess) -> None:
    """The official client reaches the limit, waits in its own way, and gets its answer in the end."""
    with connect(simulator, "tiny") as client:
        for _ in range(10):  # if the machine stalls for a minute, nothing is refused
            assert client.get("/abilities").status_code == 200
            if refused := simulator.stats()["keys"]["tiny"]["refused"]:
                break
    assert refused


def test_5xx_reach_the_client(simulator: SimulatorProcess, client: RestApiV2Client) -> None:
    """The official client reports a fault of the server as a server error."""
    simulator.fault("status_500", next=1, path="/users")
    with pytest.raises(ServerHttpError):
        client.rget("/users")


def test_writing_is_refused(simulator: SimulatorProcess, client: RestApiV2Client) -> None:
    """Any verb but GET is a 403, and is counted."""
    answer = client.post("/services", json={"service": {}})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, 2010)
    assert simulator.stats()["writes"] >= 1


def test_a_malformed_header_is_401(simulator: SimulatorProcess) -> None:
    """The authorization header must have exactly PagerDuty's form."""
    for value in ("Token account+key", "token token=account+key", "Bearer account+key", ""):
        answer = httpx.get(
            f"{simulator.region('us')}/users", headers={"Authorization": value}, trust_env=False
        )
        assert answer.status_code == 401
