"""The collected records are the true ones: every resource, several tenants at once, whatever goes wrong."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.acceptance.evidence import Evidence, assert_all_true, least, sent, states
from tests.acceptance.fleet import Fleet, account, requests_of
from tests.simulator_process import SimulatorProcess

# How often each fault happens, per tenant.
FAULTS = {
    "status_429": 1,
    "bare_429": 1,
    "status_500": 3,
    "status_502": 3,
    "status_503": 3,
    "drop_before": 3,
    "drop_middle": 3,
    "short_body": 2,
    "cut_json": 4,
    "slow": 3,
    "trickle": 1,
    "hang": 1,
}
CLOCK = 1
"""Before its first run in a region, a fleet asks once for PagerDuty's time."""


def add(
    simulator: SimulatorProcess, name: str, key: str, region: str = "us", **more: object
) -> None:
    simulator.control("POST", "accounts", **account(name, [key], region=region, **more))


@pytest.mark.timeout(240)
def test_every_resource_of_several_tenants_equals_the_truth_while_requests_fail(
    fleet: Fleet, pagerduty: SimulatorProcess
) -> None:
    """Three tenants in two regions are collected at the same time. No record is lost, doubled or changed."""
    tenants = {
        "north/main": ("north", "us", "north-Key-000000001+"),
        "globe/main": ("globe", "us", "globe-Key-0000000002"),
        "ombre/main": ("ombre", "eu", "ombre_Key_0000000003"),
    }
    sizes: dict[str, dict[str, object]] = {
        "north": {"incidents": 1_500, "users": 230, "services": 260, "teams": 15, "schedules": 6},
        "globe": {"incidents": 400, "escalation_policies": 120, "audit_records": 450},
        "ombre": {
            "incidents": 600,
            "services": 130,
            "teams": 110,
            "time_zone": "Europe/Berlin",
            "habits": {"gzip": True, "served": {"/users": 20}, "latency_ms": 5, "jitter_ms": 5},
        },
    }
    for source, (name, region, key) in tenants.items():
        add(pagerduty, name, key, region, **sizes[name])
        assert fleet.connect(source, key, region=region)["subdomain"] == name
        for number, (kind, times) in enumerate(FAULTS.items()):
            rule = {"account": name, "probability": 0.15, "next": times, "seconds": 1.0}
            pagerduty.fault(kind, **rule, seed=number)
    with ThreadPoolExecutor(len(tenants)) as several:
        summaries = dict(zip(tenants, several.map(fleet.collect, tenants), strict=True))
    fired = {
        (rule["account"], rule["kind"]): rule["fired"]
        for rule in pagerduty.control("GET", "faults")
    }
    for source, (name, _, key) in tenants.items():
        assert {kind for kind in FAULTS if not fired[name, kind]} == set(), fired
        assert summaries[source]["state"] == "complete"
        assert set(states(summaries[source]).values()) == {("complete", "")}
        counts = assert_all_true(fleet, pagerduty, fleet.runs, source, name)
        assert {n: r["records"] for n, r in summaries[source]["resources"].items()} == counts
        assert min(counts.values()) > 0, counts
        assert fleet.verify(source)["differences"] == []
        assert requests_of(pagerduty, key) > sum(FAULTS.values())


@pytest.mark.timeout(240)
def test_a_list_over_the_cap_is_split_at_hardly_any_cost(
    fleet: Fleet, pagerduty: SimulatorProcess
) -> None:
    """25,000 incidents of five months are collected once each, with at most 4 % more requests than necessary."""
    key = "large-Key-0000000004"
    add(pagerduty, "large", key, incidents=25_000, days=149, log_entries_per_incident=0.2)
    fleet.connect("large/main", key, "--resources", "incidents")
    asked = requests_of(pagerduty, key)
    summary = fleet.collect("large/main")
    assert summary["state"] == "complete"
    assert summary["resources"]["incidents"]["records"] == 25_000
    print(f"large: {sent(summary)} requests, 250 pages")
    assert sent(summary) <= 1.04 * (25_000 / 100)
    assert requests_of(pagerduty, key) - asked - sent(summary) in (0, CLOCK)
    assert_all_true(fleet, pagerduty, fleet.runs, "large/main", "large", resources=["incidents"])
    assert fleet.verify("large/main")["differences"] == []


@pytest.mark.timeout(240)
def test_records_that_crowd_into_an_hour_cost_hardly_more_than_others(
    fleet: Fleet, pagerduty: SimulatorProcess
) -> None:
    """30,000 incidents, 20,000 of them in one hour, take at most 4 % more requests than full pages would."""
    key = "dense-Key-0000000006"
    packed = {"dense_days": 1 / 24, "dense_share": 2 / 3}
    add(pagerduty, "dense", key, incidents=30_000, days=149, log_entries_per_incident=0.1, **packed)
    fleet.connect("dense/main", key, "--resources", "incidents")
    summary = fleet.collect("dense/main")
    assert summary["state"] == "complete"
    assert summary["resources"]["incidents"]["records"] == 30_000
    print(f"dense: {sent(summary)} requests, 300 pages")
    assert sent(summary) <= 1.04 * 300
    assert_all_true(fleet, pagerduty, fleet.runs, "dense/main", "dense", resources=["incidents"])


@pytest.mark.timeout(240)
def test_a_long_run_sends_hardly_more_requests_than_the_least_possible(
    fleet: Fleet, pagerduty: SimulatorProcess
) -> None:
    """More than 100 full pages cost at most 2 % more requests than necessary."""
    key = "quiet-Key-0000000005"
    add(pagerduty, "quiet", key, incidents=9_000, days=100, log_entries_per_incident=0.2)
    fleet.connect("quiet/main", key)
    asked = requests_of(pagerduty, key)
    summary = fleet.collect("quiet/main")
    assert summary["state"] == "complete"
    needed = sum(least(Evidence(fleet.runs, "quiet/main").manifest()).values())
    print(f"quiet: {sent(summary)} requests, {needed} needed")
    assert needed > 100
    assert sent(summary) <= 1.02 * needed
    assert requests_of(pagerduty, key) - asked - sent(summary) in (0, CLOCK)
