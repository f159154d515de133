"""Lists of the simulator, without HTTP: windows, order, offset, cursor, and refused requests."""

import json
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl

import pytest

from simulator.accounts import AccountSpec, Habits, KeySpec
from simulator.changes import apply
from simulator.server import Simulator
from simulator.wire import Request

KEY = "unit-key"
NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)


def simulator(**spec: Any) -> Simulator:
    """Return a simulator in memory with one account, whose clock stands still."""
    values: dict[str, Any] = {
        "incidents": 400, "days": 300, "audit_records": 900, "services": 60, "anchor": NOW.isoformat(),
        "keys": (KeySpec(KEY, limit=10**6),), **spec,
    }  # fmt: skip
    made = Simulator([AccountSpec("acme", **values)])
    made.accounts["acme"].now = NOW.timestamp  # type: ignore[method-assign]  # a double for one call
    return made


def ask(of: Simulator, target: str, status: int = 200) -> Any:
    """Request a target. Return the decoded body."""
    path, _, query = target.partition("?")
    headers = {b"authorization": f"Token token={KEY}".encode()}
    pairs = parse_qsl(query.replace("+", "%2B"), keep_blank_values=True)
    reply = of.answer(Request("GET", f"/us{path}", pairs, headers, b"", True))
    assert reply.status == status, reply.body
    return json.loads(reply.body)


def created(of: Simulator, query: str) -> list[datetime]:
    """Return the creation times of up to a hundred incidents."""
    found = ask(of, f"/incidents?limit=100&{query}")["incidents"]
    return [datetime.fromisoformat(i["created_at"]) for i in found]


def at(days: float) -> str:
    """Return the time *days* days before now, as a parameter."""
    return (NOW - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_the_default_window_of_incidents_is_a_month() -> None:
    """Without bounds, only the last month is listed."""
    times = created(simulator(), "")
    assert times
    assert all(NOW - timedelta(days=31) <= t <= NOW for t in times)


@pytest.mark.parametrize(
    ("query", "first", "last"),
    [("since=" + at(100), 100, 69), ("until=" + at(100), 131, 100)],
    ids=["since alone", "until alone"],
)
def test_one_bound_of_incidents_puts_the_other_a_month_away(
    query: str, first: int, last: int
) -> None:
    """With a single bound, the list covers a month from it or up to it."""
    times = created(simulator(), query)
    assert times
    assert all(NOW - timedelta(days=first) <= t <= NOW - timedelta(days=last) for t in times)


def test_since_is_inclusive_and_until_exclusive() -> None:
    """A window includes its first second, but not its end."""
    some = simulator()
    moment = created(some, f"since={at(90)}&until={at(0)}")[3]
    one = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    later = (moment + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    earlier = (moment - timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert created(some, f"since={one}&until={later}") == [moment]
    assert created(some, f"since={earlier}&until={one}") == []


def test_more_than_six_months_of_incidents_are_refused() -> None:
    """The answer has PagerDuty's odd words. `date_range=all` lifts the limit."""
    some = simulator()
    refused = ask(some, f"/incidents?since={at(200)}&until={at(0)}", 400)
    assert refused == {
        "error": {"message": "Invalid Input Provided", "code": 2001, "errors": [" is invalid."]}
    }
    assert ask(some, "/incidents?date_range=all&total=true")["total"] == 400


def test_naive_times_are_read_in_the_accounts_zone() -> None:
    """A time without an offset is local time of the account."""
    some = simulator(time_zone="Asia/Tokyo", incidents=2_000)
    naive = created(some, "since=2026-05-20T00:00:00&until=2026-06-01T00:00:00")
    assert naive == created(some, "since=2026-05-20T00:00:00+09:00&until=2026-05-31T15:00:00Z")
    assert naive != created(some, "since=2026-05-20T00:00:00Z&until=2026-06-01T00:00:00Z")


def test_log_entries_render_in_the_accounts_zone_unless_told() -> None:
    """Without `time_zone` they have the account's offset. Incidents are always in UTC."""
    some = simulator(time_zone="Asia/Tokyo")
    assert ask(some, "/log_entries")["log_entries"][0]["created_at"].endswith("+09:00")
    assert ask(some, "/log_entries?time_zone=UTC")["log_entries"][0]["created_at"].endswith("Z")
    assert ask(some, "/incidents")["incidents"][0]["created_at"].endswith("Z")


def test_total_is_null_unless_asked_for() -> None:
    """Counting costs something, so nobody gets a total without asking."""
    some = simulator()
    assert ask(some, "/services")["total"] is None
    assert ask(some, "/services?total=true")["total"] == 60
    assert ask(some, "/services?total=True")["total"] is None
    assert "total" not in ask(some, "/v3/schedules?total=true")


@pytest.mark.parametrize(
    ("asked", "over_limit", "served"),
    [
        ("", "clamp", 25),
        ("?limit=7", "clamp", 7),
        ("?limit=500", "clamp", 60),
        ("?limit=500", "refuse", None),
    ],
)
def test_limits_of_a_page(asked: str, over_limit: Any, served: int | None) -> None:
    """It is 25 by default and at most 100. A larger one is cut or refused, as the account is configured."""
    some = simulator(habits=Habits(over_limit=over_limit))
    if served is None:
        ask(some, f"/services{asked}", 400)
    else:
        assert len(ask(some, f"/services{asked}")["services"]) == served


def test_a_page_may_be_served_smaller_than_asked() -> None:
    """The body says the size that was served, and paging by it gives every record."""
    some = simulator(habits=Habits(served={"/services": 13}))
    ids, offset, more = [], 0, True
    while more:
        page = ask(some, f"/services?limit=100&offset={offset}")
        assert page["limit"] == 13
        ids += [s["id"] for s in page["services"]]
        offset, more = offset + len(page["services"]), page["more"]
    assert len(ids) == len(set(ids)) == 60


@pytest.mark.parametrize(("habit", "code"), [("auto", 2002), ("2001", 2001), ("2002", 2002)])
def test_the_cap_has_either_of_two_bodies(habit: Any, code: int) -> None:
    """Offset plus limit is at most 10,000, so offset 9,900 with limit 100 is the last page."""
    some = simulator(habits=Habits(cap_body=habit))
    assert ask(some, "/services?offset=9900&limit=100")["services"] == []
    assert ask(some, "/services?offset=9901&limit=100", 400)["error"]["code"] == code
    assert ask(some, "/v3/schedules?offset=20000")["schedules"] == []


def test_equal_sort_keys_come_in_another_order_at_each_request() -> None:
    """If the account is configured so, records with equal sort keys are shuffled. Others stay in order."""
    some = simulator(habits=Habits(ties=True), days=0.0005, incidents=80)
    account, moment = some.accounts["acme"], NOW.timestamp()
    orders = set()
    for second in range(4):
        account.now = lambda second=second: moment + second  # type: ignore[method-assign]  # a double for one call
        found = ask(some, "/incidents?limit=100&sort_by=created_at")["incidents"]
        assert [i["created_at"] for i in found] == sorted(i["created_at"] for i in found)
        orders.add(tuple(i["id"] for i in found))
    assert len(orders) > 1


@pytest.mark.parametrize(
    ("query", "holds"),
    [
        ("statuses[]=resolved", lambda i: i["status"] == "resolved"),
        ("statuses[]=triggered&statuses[]=acknowledged", lambda i: i["status"] != "resolved"),
        ("urgencies[]=low", lambda i: i["urgency"] == "low"),
        ("statuses[]=resolved&urgencies[]=high", lambda i: (i["status"], i["urgency"]) == ("resolved", "high")),
    ],
)  # fmt: skip
def test_filters_intersect_and_their_values_unite(query: str, holds: Callable[[Any], bool]) -> None:
    """More filters give fewer records, and more values of one filter give more."""
    some = simulator(incidents=90)
    everything = ask(some, "/incidents?date_range=all&limit=100")["incidents"]
    found = ask(some, f"/incidents?date_range=all&limit=100&{query}")["incidents"]
    assert [i["id"] for i in found] == [i["id"] for i in everything if holds(i)]


def test_sorting_by_two_fields() -> None:
    """Up to two fields sort, each with a direction. Other fields are refused."""
    some = simulator(incidents=90)
    found = ask(
        some, "/incidents?date_range=all&limit=100&sort_by=urgency:desc,incident_number:desc"
    )
    keys = [(i["urgency"], i["incident_number"]) for i in found["incidents"]]
    assert keys == sorted(keys, reverse=True)
    ask(some, "/incidents?sort_by=mood", 400)


def pages(some: Simulator, query: str) -> list[dict[str, Any]]:
    """Return the audit records of all pages."""
    records, cursor = [], ""
    while cursor is not None:
        page = ask(some, f"/audit/records?{query}" + (f"&cursor={cursor}" if cursor else ""))
        records += page["records"]
        cursor = page["next_cursor"]
    return records


def test_a_cursor_keeps_its_place_under_new_records() -> None:
    """Records that are written while paging appear at the top, and don't disturb the paging."""
    some = simulator()
    account = some.accounts["acme"]
    first = ask(some, f"/audit/records?limit=5&since={at(31)}")
    for _ in range(3):
        apply(account, "add_audit_record", some.dice, {})
    second = ask(some, f"/audit/records?limit=5&since={at(31)}&cursor={first['next_cursor']}")
    ids = [r["id"] for r in first["records"] + second["records"]]
    assert ids == [r["id"] for r in pages(some, f"limit=100&since={at(31)}&until={at(0)}")][:10]


def test_audit_windows() -> None:
    """A window is the last day by default, and 31 days at most. Nothing is older than a year."""
    some = simulator(audit_records=3_000)
    assert all(r["execution_time"] >= at(1)[:19] for r in pages(some, "limit=100"))
    ask(some, f"/audit/records?since={at(32)}&until={at(0)}", 400)
    assert pages(some, f"limit=100&since={at(395)}&until={at(370)}") == []
    assert pages(some, f"limit=100&since={at(364)}&until={at(340)}")


def test_a_cursor_may_expire() -> None:
    """An old cursor is a 400, and so is an invalid one."""
    some = simulator(habits=Habits(cursor_seconds=60))
    cursor = ask(some, f"/audit/records?limit=5&since={at(31)}")["next_cursor"]
    some.accounts["acme"].now = lambda: NOW.timestamp() + 61  # type: ignore[method-assign]  # a double for one call
    ask(some, f"/audit/records?limit=5&since={at(30)}&cursor={cursor}", 400)
    ask(some, f"/audit/records?limit=5&since={at(30)}&cursor=abc", 400)


def test_audit_filters() -> None:
    """Actions, resource types and actors select records."""
    some = simulator(audit_records=2_000)
    window = f"limit=100&since={at(31)}&until={at(0)}"
    everything = pages(some, window)
    teams = pages(some, window + "&root_resource_types[]=teams")
    assert [r["id"] for r in teams] == [
        r["id"] for r in everything if r["root_resource"]["type"] == "team_reference"
    ]
    deleted = pages(some, window + "&actions[]=delete")
    assert {r["action"] for r in deleted} == {"delete"}
    assert any("actors" not in r for r in everything)


def test_a_renamed_record_moves_between_pages() -> None:
    """Pages are computed at each request. A record that moves to the front moves the others back by one place."""
    some = simulator()
    before = ask(some, "/services?limit=10")["services"]
    last = ask(some, "/services?limit=1&offset=59")["services"][0]
    apply(some.accounts["acme"], "rename_service", some.dice, {"id": last["id"], "name": "  first"})
    after = ask(some, "/services?limit=10&offset=10")["services"]
    assert after[0]["id"] == before[-1]["id"]


def test_repeats_on_demand() -> None:
    """The fault repeats the last item of the page before, and leaves out the last item of the page."""
    some = simulator()
    whole = [s["id"] for s in ask(some, "/services?limit=100")["services"]]
    some.faults.add({"kind": "duplicate", "next": 1})
    assert [s["id"] for s in ask(some, "/services?limit=10&offset=10")["services"]] == whole[9:19]
    assert [s["id"] for s in ask(some, "/services?limit=10&offset=10")["services"]] == whole[10:20]


@pytest.mark.parametrize(
    "target",
    ["/incidents?since=yesterday", "/incidents?limit=ten", "/services?offset=-1", "/oncalls?time_zone=Mars",
     "/notifications", "/change_events?since=2026-01-01T00:00:00%2B02:00", "/audit/records?until=x"],
)  # fmt: skip
def test_arguments_that_make_no_sense_are_400(target: str) -> None:
    """Bad times, numbers and zones are refused, and the simulator never fails."""
    some = simulator()
    assert ask(some, target, 400)["error"]["code"] == 2001
    assert some.stats.bugs == 0


@pytest.mark.parametrize("status", [403, 404])
def test_a_restricted_incident_is_in_no_list_and_refused_by_its_address(status: int) -> None:
    of = simulator(habits=Habits(restricted_status=status))
    hidden = apply(of.accounts["acme"], "restrict_incident", random.Random(2), {})
    listed = ask(of, "/incidents?limit=100&date_range=all&total=true")
    assert listed["total"] == 399
    for name in (hidden.id, hidden.number):
        ask(of, f"/incidents/{name}", status)
    ask(of, f"/incidents/{hidden.id}/notes", status)


def test_a_new_record_answers_404_at_its_own_address_for_a_while() -> None:
    """The list has it at once."""
    of = simulator(habits=Habits(fresh_404_seconds=60))
    account = of.accounts["acme"]
    team = apply(account, "create_team", random.Random(2), {})
    assert team.id in {each["id"] for each in ask(of, "/teams?limit=100")["teams"]}
    ask(of, f"/teams/{team.id}", 404)
    account.now = lambda: NOW.timestamp() + 60  # type: ignore[method-assign]  # a double for one call
    ask(of, f"/teams/{team.id}")


def test_the_clock_can_run_ahead() -> None:
    """Its days show in the Date header, in new records, and in the age of audit records."""
    of = Simulator([AccountSpec("acme", audit_records=900, keys=(KeySpec(KEY, limit=10**6),))])
    account = of.accounts["acme"]
    month = "/audit/records?limit=100&since={:%Y-%m-%dT%H:%M:%SZ}&until={:%Y-%m-%dT%H:%M:%SZ}"
    oldest = datetime.now(UTC) - timedelta(days=360)
    page = month.format(oldest, oldest + timedelta(days=20))
    assert ask(of, page)["records"]
    control(of, "clock", days=40)
    assert ask(of, page)["records"] == []
    incident = apply(account, "create_incident", random.Random(2), {})
    assert incident.created > time.time() + 39 * 86_400
    headers = {b"authorization": f"Token token={KEY}".encode()}
    reply = of.answer(Request("GET", "/us/teams", [], headers, b"", True))
    [date] = [value for name, value in reply.headers if name == "Date"]
    assert parsedate_to_datetime(date) > datetime.now(UTC) + timedelta(days=39)
    assert "only goes forward" in control(of, "clock", status=400, days=-1)["error"]


def control(of: Simulator, name: str, status: int = 200, **data: Any) -> Any:
    """Send a control request. Return the decoded body."""
    reply = of.answer(Request("POST", f"/_control/{name}", [], {}, json.dumps(data).encode(), True))
    assert reply.status == status, reply.body
    return json.loads(reply.body)
