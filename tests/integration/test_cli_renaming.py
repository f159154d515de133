"""An account gets another subdomain, as a person sees it. The fleet is real, and the simulator renames the account."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli_process import Pagetrail
from tests.redis_process import redis_server
from tests.simulator_process import SimulatorProcess, running_simulator

OLD, NEW, OTHER = "acme-old-key-0123456", "acme-new-key-0123456", "other-key-0123456789"
SMALL = {"incidents": 5, "days": 10, "audit_records": 0, "abilities_off": ["audit"]}
ACCOUNTS = [
    {"subdomain": "acme", "keys": [{"key": OLD}, {"key": NEW}], **SMALL},
    {"subdomain": "other", "ids_from": 1_000_000, "keys": [{"key": OTHER}], **SMALL},
]
SOURCE = "acme/main"


@pytest.fixture
def pagerduty() -> Iterator[SimulatorProcess]:
    with running_simulator(ACCOUNTS) as simulator:
        yield simulator


@pytest.fixture
def pagetrail(pagerduty: SimulatorProcess, tmp_path: Path) -> Iterator[Pagetrail]:
    """The command, with a working fleet and a source that was collected once."""
    with redis_server() as url:
        working = Pagetrail(
            {
                "PAGETRAIL_DATA_DIR": str(tmp_path / "data"),
                "PAGETRAIL_REDIS_URL": url,
                "PAGETRAIL_REGIONS": json.dumps({"us": pagerduty.region("us")}),
            }
        )
        with working.fleet(tmp_path):
            working.json("source", "connect", SOURCE, key=OLD)
            assert working.json("collect", SOURCE, "--wait")["state"] == "complete"
            yield working


def rename(pagerduty: SimulatorProcess, subdomain: str) -> None:
    pagerduty.control("POST", "rename", account="acme", subdomain=subdomain)


def account(pagetrail: Pagetrail, run: str) -> dict[str, Any]:
    data = Path(pagetrail.environment["PAGETRAIL_DATA_DIR"])
    manifest = data / "artifacts" / SOURCE / "runs" / run / "manifest.json"
    return dict(json.loads(manifest.read_bytes())["account"])


def needs(pagetrail: Pagetrail) -> list[str]:
    (row,) = pagetrail.json("status")["sources"]
    return list(row["needs"])


@pytest.mark.timeout(300)
def test_a_renamed_account_is_noticed_and_continues_after_a_person_confirms_it(
    pagetrail: Pagetrail, pagerduty: SimulatorProcess
) -> None:
    rename(pagerduty, "acme-new")
    for command in (("source", "check", SOURCE), ("source", "rotate", SOURCE)):
        said = pagetrail.refused(1, *command, key=NEW)
        assert "belongs to acme-new in region us, but acme/main holds evidence of acme" in said
        assert "--renamed" in said

    assert pagetrail.json("collect", SOURCE, "--wait")["state"] == "complete"
    told = {"region": "us", "subdomain": "acme", "seen": ["acme-new"], "renamed": []}
    assert account(pagetrail, "00000002") == told
    assert needs(pagetrail) == ["account renamed"]
    assert "source check acme/main --renamed" in pagetrail("source", "show", SOURCE).stdout
    assert pagetrail.json("source", "show", SOURCE)["renamed_to"] == "acme-new"

    said = pagetrail.refused(1, "source", "rotate", SOURCE, "--renamed", key=OTHER)
    assert "Nothing shows that other in region us is the account" in said
    assert "0 of " in said

    done = pagetrail("source", "check", SOURCE, "--renamed")
    assert done.returncode == 0, done.stderr
    assert "The account acme is now called acme-new" in done.stderr
    shown = pagetrail.json("source", "show", SOURCE)
    assert (shown["subdomain"], shown["former_subdomains"]) == ("acme-new", ["acme"])
    assert (shown["renamed_to"], needs(pagetrail)) == (None, [])

    pagetrail.json("source", "rotate", SOURCE, key=NEW)
    assert "belongs to other" in pagetrail.refused(1, "source", "rotate", SOURCE, key=OTHER)
    assert pagetrail.json("collect", SOURCE, "--wait")["state"] == "complete"
    third = account(pagetrail, "00000003")
    (step,) = third["renamed"]
    assert (third["subdomain"], step["old"], step["new"]) == ("acme-new", "acme", "acme-new")
    assert "have the id and the name they have in run 00000002" in step["because"]
    report = pagetrail.json("verify", SOURCE)
    assert (report["ok"], report["renamed"]) == (True, [{"run": "00000003", **step}])
    assert "From run 00000003 on the account acme is called acme-new" in (
        pagetrail("verify", SOURCE).stderr
    )


@pytest.mark.timeout(300)
def test_a_disconnected_source_of_a_renamed_account_is_connected_again(
    pagetrail: Pagetrail, pagerduty: SimulatorProcess
) -> None:
    """The old key is destroyed, so only a new key can show that the account is the same."""
    pagetrail.json("source", "disconnect", SOURCE)
    rename(pagerduty, "acme-new")
    assert "--renamed" in pagetrail.refused(1, "source", "connect", SOURCE, key=NEW)
    said = pagetrail.refused(1, "source", "connect", SOURCE, "--renamed", key=OTHER)
    assert "Nothing shows" in said
    again = pagetrail.json("source", "connect", SOURCE, "--renamed", key=NEW)
    assert (again["subdomain"], again["former_subdomains"]) == ("acme-new", ["acme"])
    assert pagetrail.json("source", "check", SOURCE)["subdomain"] == "acme-new"
