"""A user of Redis with no more rights than docs/deploy.md names can run a whole fleet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis

from tests.acceptance.fleet import ROOT, Fleet, account, fleet_of
from tests.redis_process import redis_server
from tests.simulator_process import SimulatorProcess

PAGE = ROOT / "docs" / "deploy.md"
RIGHTS = re.findall(r"^ACL SETUSER fleet on >PASSWORD (.+)$", PAGE.read_text("utf-8"), re.M)


@pytest.fixture
def admin() -> Iterator[redis.Redis]:
    with redis_server() as url, redis.Redis.from_url(url, decode_responses=True) as client:
        yield client


@pytest.mark.timeout(300)
@pytest.mark.parametrize("rights", RIGHTS, ids=["all but dangerous", "named"])
def test_the_rights_that_the_page_names_are_enough(
    admin: redis.Redis, pagerduty: SimulatorProcess, tmp_path: Path, rights: str
) -> None:
    """Workers, beat, Flower and commands all work. Redis only refuses INFO, which nothing needs."""
    assert len(RIGHTS) == 2
    admin.execute_command("ACL", "SETUSER", "fleet", "on", ">secret", *rights.split())
    port = admin.connection_pool.connection_kwargs["port"]
    key = f"rights-{len(rights)}-Key-0000000"
    pagerduty.control("POST", "accounts", **account(f"rights{len(rights)}", [key], incidents=150))
    url = f"redis://fleet:secret@127.0.0.1:{port}/0"
    with fleet_of(tmp_path / "data", pagerduty, "--workers", "1", PAGETRAIL_REDIS_URL=url) as fleet:
        fleet.connect("acme/main", key)
        assert fleet.collect("acme/main")["state"] == "complete"
        found = fleet.ask("status")
        assert (found["working"], found["redis"]["lost"]) == (True, "")
        fleet.until(lambda: "worker1" in shown(fleet), 30, "be seen in Flower")
        assert "pagetrail_queue_messages" in httpx.get(fleet.ready["metrics"]["beat"]).text
        for words in ("pause --all", "resume --all", "list", "check acme/main", "pause acme/main"):
            assert fleet.run("source", *words.split()).code == 0
        assert fleet.run("recover").code == 0
        assert fleet.run("events").out
        assert fleet.run("source", "purge", "acme/main", "--yes").code == 0
    refused = {(each["reason"], each["object"]) for each in admin.acl_log()}
    assert refused == {("command", "info")}


def shown(fleet: Fleet) -> str:
    """Return the workers that Flower shows."""
    password = (fleet.data / "flower.password").read_text().strip()
    auth = ("pagetrail", password)
    return httpx.get(f"{fleet.ready['flower']}/api/workers?refresh=1", auth=auth, timeout=30).text
