"""The activities of a source on a real fleet. The test causes each kind of wait, and they are told apart."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pydantic import Secret

from tasks import api
from tasks.watching.activity import Activity
from tasks.watching.census import Sight
from tests.cli_process import Pagetrail
from tests.processes import celery, running, wait_for
from tests.redis_process import redis_server
from tests.simulator_process import SimulatorProcess, running_simulator
from workers.runtime import Runtime
from workers.settings.environment import Settings

NAMES = ("budget", "down", "slow", "broken", "whole")
SMALL = {"incidents": 30, "days": 40, "users": 12, "teams": 2}
RESOURCES = ("services", "escalation_policies", "teams", "users")
# A source is stuck if it is overdue by three page leases, which is 6 s.
SHORT = {"page_lease_seconds": 2.0, "request_timeout_seconds": 1.5, "worker_slots": 20}


def key_of(name: str) -> str:
    return f"{name}-key-0123456789"


@pytest.fixture(scope="module")
def pagerduty() -> Iterator[SimulatorProcess]:
    keys = {name: [{"key": key_of(name), "limit": 60_000}] for name in NAMES}
    with running_simulator([{"subdomain": n, "keys": k, **SMALL} for n, k in keys.items()]) as one:
        yield one


@pytest.fixture
def fleet(pagerduty: SimulatorProcess, tmp_path: Path) -> Iterator[Runtime]:
    """A fleet with connected sources, and without workers."""
    with redis_server() as url:
        regions = {"us": pagerduty.region("us")}
        data = tmp_path / "data"
        fleet = Runtime(Settings(data_dir=data, redis_url=Secret(url), regions=regions, **SHORT))
        wishes = api.Wishes(every_seconds=None, resources=RESOURCES)
        for name in NAMES:
            api.connect(fleet, f"acme/{name}", key_of(name), wishes)
        yield fleet
        fleet.pagerduty.close()
        fleet.redis.close()


@pytest.fixture
def pagetrail(fleet: Runtime) -> Pagetrail:
    """The command for that fleet."""
    settings = {name: str(value) for name, value in SHORT.items()}
    settings |= {
        "data_dir": str(fleet.settings.data_dir),
        "redis_url": fleet.settings.redis_url_or_embedded(),
        "regions": json.dumps(fleet.settings.regions),
    }
    return Pagetrail({f"PAGETRAIL_{name.upper()}": value for name, value in settings.items()})


class Watch:
    """The activities of the sources, as of the last look."""

    def __init__(self, fleet: Runtime) -> None:
        self._fleet = fleet
        self.sights: dict[str, Sight] = {}

    def __call__(self) -> dict[str, str]:
        """Look again. Return the activity of each source, and the reason if it is stuck."""
        found = api.status(self._fleet).sights
        self.sights = {sight.source.id.removeprefix("acme/"): sight for sight in found}
        return {
            name: f"{sight.doing.activity} {sight.doing.why}".strip()
            for name, sight in self.sights.items()
        }


def test_each_kind_of_wait_is_told_apart(
    fleet: Runtime, pagetrail: Pagetrail, pagerduty: SimulatorProcess, tmp_path: Path
) -> None:
    watch = Watch(fleet)
    with ExitStack() as stack:

        def start(name: str, *arguments: str) -> subprocess.Popen[bytes]:
            log = tmp_path / f"{name}.log"
            return stack.enter_context(running(celery(*arguments), pagetrail.environment, log))

        for name in NAMES:
            pagetrail.json("collect", f"acme/{name}")
        beat = start("beat", "beat")
        start("plan", "worker", "-Q", "plan,seal", "-n", "plan@test")
        wait_for(lambda: set(watch().values()) == {"worker"}, "no worker fetches")
        wait_for(lambda: api.status(fleet).working, "the tick comes")
        document = pagetrail.json("status")
        assert document["workers"] == {"plan@test": ["plan", "seal"]}
        wait = document["sources"][0]["waits"]["worker"]
        assert wait["pages"] == len(RESOURCES)
        assert wait["seconds"] > 5
        assert "No worker takes from fetch, backfill, sign." in pagetrail("status").stdout

        pagerduty.control("POST", "keys", account="budget", key=key_of("budget"), limit=1)
        pagerduty.fault("status_503", account="down")
        pagerduty.fault("hang", account="slow")
        pages = tmp_path / "data" / "artifacts" / "acme" / "broken" / "runs" / "00000001" / "pages"
        pages.write_text("where a directory should be")
        start("fetch", "worker", "-Q", "fetch", "-n", "fetch@test")
        expected = {"budget": "budget", "down": "pagerduty", "slow": "pagerduty",
                    "broken": "stuck error", "whole": "idle"}  # fmt: skip
        wait_for(lambda: watch() == expected, "each waits for something else")
        assert {"status_503", "hang"} <= pagerduty.stats()["faults"].keys()
        ages = {name: sight.doing.seconds or 0.0 for name, sight in watch.sights.items()}
        assert ages["broken"] > 6
        assert min(ages[name] for name in ("budget", "down", "slow")) > 0
        short, down = watch.sights["budget"], watch.sights["down"]
        assert short.budget
        assert short.budget.limit == 1
        assert short.forecast
        assert (short.forecast.least_minutes or 0) > 1
        assert down.forecast
        assert (down.forecast.pages > 0, down.forecast.least_minutes) == (True, None)
        shown = pagetrail.json("run", "show", "acme/down")
        assert (shown["state"], shown["activity"]) == ("open", "pagerduty")
        document = pagetrail.json("status")
        assert document["sources"][0]["source"] == "acme/broken", "it needs a person"
        assert document["sources"][0]["needs"] == ["stuck"]

        pages.unlink()
        pages.mkdir()
        wait_for(lambda: watch()["broken"] == "idle", "the repaired source continues", 120)
        beat.terminate()
        beat.wait()
        wait_for(lambda: watch()["down"] == "stuck look", "the fleet doesn't look after it")
        assert watch.sights["slow"].doing.activity in (Activity.STUCK, Activity.PAGERDUTY)
        wait_for(lambda: not api.status(fleet).working, "no tick comes")
        assert "is beat running?" in pagetrail("status").stdout
