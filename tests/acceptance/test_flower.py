"""Flower shows operators a collecting fleet: over HTTP, and in a real browser if there is one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.acceptance.fleet import Fleet, account, fleet_of
from tests.browser import needs_a_browser, rendered
from tests.simulator_process import SimulatorProcess

KEY = "Bloom-Key-0000000001"
SOURCE, RUN = "bloom/main", "00000001"
INCIDENTS = re.compile(rf"{SOURCE} incidents \d{{8}}\S*\.\.\S+ pass 1 offset 100 run {RUN}")


@pytest.fixture(scope="module")
def own_fleet(
    pagerduty: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """A fleet of `pagetrail up`, with Flower, after one run."""
    pagerduty.control("POST", "accounts", **account("bloom", [KEY]))
    with fleet_of(tmp_path_factory.mktemp("flower") / "data", pagerduty, "--workers", "1") as fleet:
        fleet.connect(SOURCE, KEY)
        fleet.collect(SOURCE)
        yield fleet


@pytest.fixture(scope="module")
def flower(own_fleet: Fleet) -> Iterator[httpx.Client]:
    """A client of the fleet's Flower, logged in, when Flower knows of the whole run."""
    login = httpx.BasicAuth("pagetrail", (own_fleet.data / "flower.password").read_text())
    with httpx.Client(base_url=own_fleet.ready["flower"], auth=login, timeout=30) as client:
        own_fleet.until(lambda: sealed(client), 30, "see the seal in Flower")
        yield client


def tasks(flower: httpx.Client) -> dict[str, Any]:
    return dict(flower.get("/api/tasks").json())


def sealed(flower: httpx.Client) -> bool:
    seals = [each for each in tasks(flower).values() if each["name"] == "tasks.seal.seal_run"]
    return any(each["state"] == "SUCCESS" for each in seals)


def an_incidents_page(flower: httpx.Client) -> tuple[str, dict[str, Any]]:
    """Return the id and the task of the second page of incidents."""
    found = [(id, each) for id, each in tasks(flower).items() if INCIDENTS.fullmatch(each["args"])]
    assert found, sorted({each["args"] for each in tasks(flower).values()})
    return found[0]


def test_tasks_describe_their_work_and_have_the_ids_of_the_evidence(flower: httpx.Client) -> None:
    task, page = an_incidents_page(flower)
    assert page["name"] == "tasks.fetch.fetch_page"
    assert page["state"] == "SUCCESS"
    assert page["result"] == "'closed'"
    assert re.fullmatch(r"incidents/\d{8}T\d{6}Z_\d{8}T\d{6}Z\.1/000100", page["kwargs"])
    found = flower.get("/api/tasks", params={"search": page["kwargs"]}).json()
    assert task in found
    assert {each["kwargs"] for each in found.values()} == {page["kwargs"]}
    names = {each["name"]: each["args"] for each in tasks(flower).values()}
    assert names["tasks.seal.seal_run"] == f"{SOURCE} run {RUN}"
    assert "tasks.plan.tick" not in names


def addresses(flower: httpx.Client) -> list[str]:
    """Return the addresses of the pages that a person looks at: workers, a worker, tasks, a task, queues."""
    task, _ = an_incidents_page(flower)
    [worker] = flower.get("/api/workers", params={"refresh": "1"}).json()
    return ["/workers", f"/worker/{worker}", "/tasks", f"/task/{task}", "/broker"]


def test_no_page_shows_a_secret(flower: httpx.Client, own_fleet: Fleet) -> None:
    """This includes a worker's page, which shows its whole configuration."""
    url = httpx.URL((own_fleet.data / "redis.url").read_text().strip())
    assert url.password
    shown = [flower.get(each).text for each in [*addresses(flower), "/api/tasks", "/api/workers"]]
    assert str(url.port) in "".join(shown)
    for secret in (KEY, url.password, (own_fleet.data / "vault.key").read_text().strip()):
        assert not any(secret in text for text in shown)


@needs_a_browser
def test_a_browser_shows_workers_tasks_and_queues(flower: httpx.Client, own_fleet: Fleet) -> None:
    """The parts that scripts draw are there, above all the list of tasks."""
    password = (own_fleet.data / "flower.password").read_text()
    base = own_fleet.ready["flower"].replace("http://", f"http://pagetrail:{password}@")
    workers, worker, tasks_, task, broker = (rendered(base + each) for each in addresses(flower))
    assert "worker1@" in workers
    assert "Online" in workers
    assert "tasks.fetch.fetch_page" in worker
    rows = re.findall(r"<tr.*?</tr>", tasks_, re.S)
    assert any(f"{SOURCE} run {RUN}" in row and "seal_run" in row for row in rows)
    assert INCIDENTS.search(task)
    assert "SUCCESS" in task
    assert not re.search(r"<button[^>]*>\s*(Revoke|Terminate|Shut)", worker + task)
    assert all(f">{queue}</td>" in broker for queue in ("plan", "fetch", "backfill", "seal"))
