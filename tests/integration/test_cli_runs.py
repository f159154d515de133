"""A person starts, follows, shows, verifies and exports runs of a real fleet."""

import csv
import io
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks.reading.catalog import CATALOG
from tests.cli_process import Pagetrail
from tests.redis_process import redis_server
from tests.simulator_process import SimulatorProcess, running_simulator

WHOLE, PARTIAL, SLOW = "whole-key-0123456789", "partial-key-01234567", "slow-key-01234567890"
FRESH = "fresh-key-0123456789"
ONE, NEXT = "backend-key-01234567", "backend-next-0123456"
SMALL = {"incidents": 30, "days": 40, "audit_records": 40}
ACCOUNTS = [
    {"subdomain": "whole", "abilities_off": ["audit"], "keys": [{"key": WHOLE}], **SMALL},
    {
        "subdomain": "partial",
        "keys": [{"key": PARTIAL, "forbidden": ["/users*"]}],
        **SMALL,
    },
    {"subdomain": "slow", "keys": [{"key": SLOW}], **SMALL},
    {
        "subdomain": "fresh",
        "keys": [{"key": FRESH, "limit": 60_000}],
        **SMALL,
        "incidents": 230,
        "services": 120,
    },
    {"subdomain": "backend", "keys": [{"key": ONE}, {"key": NEXT}], **SMALL},
]


@pytest.fixture(scope="module")
def pagerduty() -> Iterator[SimulatorProcess]:
    with running_simulator(ACCOUNTS) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def idle(
    pagerduty: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pagetrail]:
    """The command, without a working fleet."""
    with redis_server() as url:
        yield command(pagerduty, url, tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def pagetrail(
    pagerduty: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pagetrail]:
    """The command, with a working fleet, a source that was collected, and one that can't be complete."""
    data = tmp_path_factory.mktemp("data")
    with redis_server() as url:
        working = command(pagerduty, url, data)
        with working.fleet(data):
            working.json("source", "connect", "acme/whole", key=WHOLE)
            working.json("source", "connect", "acme/partial", key=PARTIAL)
            working.json("collect", "acme/whole", "--wait")
            yield working


def command(pagerduty: SimulatorProcess, redis_url: str, data: Path) -> Pagetrail:
    return Pagetrail(
        {
            "PAGETRAIL_DATA_DIR": str(data),
            "PAGETRAIL_REDIS_URL": redis_url,
            "PAGETRAIL_REGIONS": json.dumps({"us": pagerduty.region("us")}),
        }
    )


def truth(pagerduty: SimulatorProcess, resource: str) -> dict[str, object]:
    return {record["id"]: record for record in pagerduty.truth("whole", resource)}


def test_a_collected_run_is_shown_in_the_same_words_everywhere(pagetrail: Pagetrail) -> None:
    shown = pagetrail.json("run", "show", "acme/whole", "--run", "1")
    assert (shown["run"], shown["runs"], shown["state"]) == ("00000001", ["00000001"], "complete")
    assert list(shown["resources"]) == list(CATALOG)
    states = {name: (each["state"], each["reason"]) for name, each in shown["resources"].items()}
    assert states.pop("audit_records") == ("unavailable", "plan")
    assert set(states.values()) == {("complete", "")}
    (row,) = pagetrail.json("run", "list", "acme/whole")["runs"]
    records = sum(each["records"] for each in shown["resources"].values())
    assert (row["run"], row["state"], row["records"]) == ("00000001", "complete", records)
    artifacts = pagetrail.json("artifact", "list", "acme/whole")
    assert artifacts["run"] == "00000001"
    assert sum(each["records"] for each in artifacts["artifacts"]) == records
    first = artifacts["artifacts"][0]
    assert set(first) == {"resource", "key", "bytes", "sha256", "records"}
    listed = pagetrail("artifact", "list", "acme/whole")
    said = re.search(r"its objects are below (\S+)\.$", listed.stderr)
    assert said
    place, _, name = first["key"].rpartition("/artifacts/")
    assert said[1].endswith(f"/{place}")
    assert f"\n{name} " in listed.stdout
    assert (Path(said[1]) / "artifacts" / name).is_file()


def test_an_export_gives_the_records_of_pagerduty(
    pagetrail: Pagetrail, pagerduty: SimulatorProcess, tmp_path: Path
) -> None:
    chosen = ("artifact", "export", "acme/whole", "--resource")
    done = pagetrail(*chosen, "incidents")
    assert (done.returncode, done.stderr) == (0, "")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert {record["id"] for record in found} == truth(pagerduty, "incidents").keys()
    path = tmp_path / "teams.csv"
    assert pagetrail(*chosen, "teams", "--format", "csv", "--output", str(path)).returncode == 0
    rows = csv.DictReader(io.StringIO(path.read_text("utf-8-sig"), newline=""))
    assert {row["id"] for row in rows} == truth(pagerduty, "teams").keys()


def test_an_export_of_a_resource_that_the_plan_lacks_is_exit_3(pagetrail: Pagetrail) -> None:
    chosen = ("artifact", "export", "acme/whole", "--resource", "audit_records")
    assert "unavailable (plan)" in pagetrail.refused(3, *chosen)


def test_a_reader_that_stops_early_is_not_an_error(pagetrail: Pagetrail) -> None:
    process = pagetrail.start("artifact", "export", "acme/whole", "--resource", "log_entries")
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert (process.wait(60), process.stderr.read()) == (0, "")
    process.stderr.close()


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "show", "acme/whole", "--run", "77"),
        ("artifact", "list", "acme/whole", "--run", "77"),
        ("artifact", "list", "acme/none"),
        ("artifact", "export", "acme/none", "--resource", "users"),
        ("verify", "acme/whole", "--run", "77"),
        ("verify", "acme/none"),
        ("collect", "acme/none"),
        ("run", "cancel", "acme/whole"),
    ],
)
def test_naming_something_that_does_not_exist_is_one_sentence_and_exit_1(
    pagetrail: Pagetrail, arguments: tuple[str, ...]
) -> None:
    pagetrail.refused(1, *arguments)


def test_a_list_that_a_key_may_not_read_makes_a_run_partial_and_exit_3(
    pagetrail: Pagetrail,
) -> None:
    document = pagetrail.json("collect", "acme/partial", "--wait", exit_code=3)
    assert document["state"] == "partial"
    users = document["resources"]["users"]
    assert (users["state"], users["reason"], users["records"]) == ("unavailable", "role", 0)


def test_verify_finds_a_flipped_byte(pagetrail: Pagetrail) -> None:
    report = pagetrail.json("verify", "acme/whole")
    assert (report["ok"], report["runs"], report["differences"]) == (True, ["00000001"], [])
    root = Path(pagetrail.environment["PAGETRAIL_DATA_DIR"]) / "artifacts" / "acme" / "whole"
    page = next((root / "runs" / "00000001" / "pages" / "teams").rglob("*.zst"))
    whole = page.read_bytes()
    page.chmod(0o600)
    page.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    report = pagetrail.json("verify", "acme/whole", exit_code=3)
    page.write_bytes(whole)
    assert not report["ok"]
    assert str(page).endswith(report["differences"][0]["key"])


def test_a_paused_source_is_not_collected(pagetrail: Pagetrail) -> None:
    pagetrail.json("source", "pause", "acme/whole")
    assert "source resume acme/whole" in pagetrail.refused(1, "collect", "acme/whole")
    pagetrail.json("source", "resume", "acme/whole")


def test_a_backend_does_the_same_through_functions(pagetrail: Pagetrail) -> None:
    """The backend is a separate program, with its own Celery app."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.backend"],
        input=json.dumps({"key": ONE, "next": NEXT, "other": WHOLE}),
        env=pagetrail.environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_estimate_is_the_number_of_requests_that_the_run_sends(pagetrail: Pagetrail) -> None:
    """It is exact before the first run, and before the next run, which only reads new records."""
    since = f"{datetime.now(UTC) - timedelta(days=45):%Y-%m-%d}"
    pagetrail.json("source", "connect", "acme/fresh", "--since", since, key=FRESH)
    for run in ("00000001", "00000002"):
        told = pagetrail.json("collect", "acme/fresh", "--estimate")
        assert (told["run"], told["unsure"], told["backlog"]) == (run, [], False)
        assert told["minutes"] == told["requests"] / told["ceiling"] > 0
        done = pagetrail.json("collect", "acme/fresh", "--wait")
        assert done["run"] == run, "the estimate opened no run"
        asked = {name: each["requests"] for name, each in done["resources"].items()}
        assert {name: each["requests"] for name, each in told["resources"].items()} == asked
        assert told["requests"] == sum(asked.values())
    said = pagetrail("collect", "acme/fresh", "--estimate")
    assert said.returncode == 0
    assert "A run of acme/fresh would send about" in said.stderr
    pagetrail.refused(2, "collect", "acme/fresh", "--estimate", "--wait")


def test_status_shows_the_fleet_and_every_source(pagetrail: Pagetrail) -> None:
    document = pagetrail.json("status")
    assert document["working"]
    [queues] = document["workers"].values()
    assert queues == ["backfill", "fetch", "plan", "seal", "sign"]
    rows = {row["source"]: row for row in document["sources"]}
    assert rows["acme/whole"]["last"]["state"] == "complete"
    assert rows["acme/whole"]["activity"] == "idle"
    shown = pagetrail("status").stdout
    assert "The fleet is at work: 1 worker, last tick" in shown
    assert "\x1b" not in shown
    assert all(source in shown for source in rows)


def test_status_is_watched_until_ctrl_c(pagetrail: Pagetrail) -> None:
    watching = pagetrail.start("status", "--watch", "--json")
    assert watching.stdout
    first, second = (json.loads(watching.stdout.readline()) for _ in range(2))
    assert first["at"] < second["at"]
    assert first.keys() == second.keys() == pagetrail.json("status").keys()
    watching.send_signal(signal.SIGINT)
    rest, err = watching.communicate(timeout=60)
    assert (watching.returncode, err) == (0, "")
    assert all(json.loads(line) for line in rest.splitlines())


def test_without_a_fleet_a_run_waits_and_says_so(idle: Pagetrail, tmp_path: Path) -> None:
    """The run can be joined, and it survives Ctrl-C and an emptied Redis. After it is cancelled, it is sealed."""
    idle.json("source", "connect", "acme/slow", key=SLOW)
    opened = idle("collect", "acme/slow")
    assert opened.returncode == 0
    assert "pagetrail up" in opened.stderr
    joined = idle.json("collect", "acme/slow")
    assert joined == {"run": "00000001", "state": "open", "joined": True}
    following = idle.start("collect", "acme/slow", "--wait")
    assert following.stderr
    assert "No fleet is at work" in following.stderr.readline()
    following.send_signal(signal.SIGINT)
    out, err = following.communicate(timeout=60)
    assert (following.returncode, out, err.count("\n")) == (1, "", 1)
    assert "run 00000001 of acme/slow continues" in err
    assert idle.json("run", "show", "acme/slow")["state"] == "open"
    assert idle.json("recover") == {"sources": 1, "runs": 1}
    idle.json("run", "cancel", "acme/slow")
    with idle.fleet(tmp_path):
        while idle.json("run", "show", "acme/slow")["state"] == "open":
            time.sleep(0.2)
    assert idle.json("run", "show", "acme/slow")["state"] == "cancelled"
    assert idle.json("verify", "acme/slow")["ok"]
