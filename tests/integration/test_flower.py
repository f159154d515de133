"""`celery -A workers flower` without further options: who can log in, what Flower allows, shows and keeps."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from flower.urls import handlers
from redis import Redis

from tests.integration.test_app import WORKER, publish
from tests.ports import free_port
from tests.processes import celery, environment, running, wait_for
from tests.redis_process import redis_server
from workers.app import QUEUES

URL_PREFIX = "/ops/flower"
SHOW_NOTHING = ("/static/(.*)", "/login/?", "/logout", ".*")
READS_BY_POST = "/tasks/datatable"


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A fleet with one worker, which takes from one of the queues."""
    directory = tmp_path_factory.mktemp("fleet")
    with redis_server() as url:
        env = {
            **environment(redis_url=url, data_dir=directory / "data"),
            "CHORES_REDIS_URL": url,
            "TMPDIR": str(directory),
            "FLOWER_URL_PREFIX": URL_PREFIX.strip("/"),
            "FLOWER_STATE_SAVE_INTERVAL": "500",
        }
        with running(celery(*WORKER, "-Q", "plan", "-n", "one@test"), env, directory / "log"):
            yield env


@contextmanager
def flower(env: dict[str, str], directory: Path, password: str = "") -> Iterator[httpx.Client]:
    """Run the command, and yield a client with a login: *password*, or the one that Flower made."""
    port = free_port()
    env = env | ({"PAGETRAIL_FLOWER_PASSWORD": password} if password else {})
    with (
        running(celery("flower", f"--port={port}"), env, directory / "flower.log"),
        httpx.Client(base_url=f"http://127.0.0.1:{port}{URL_PREFIX}", timeout=30) as client,
    ):
        wait_for(lambda: _asks_for_a_login(client), "Flower answers")
        password = password or (Path(env["PAGETRAIL_DATA_DIR"]) / "flower.password").read_text()
        client.auth = httpx.BasicAuth("pagetrail", password)
        yield client


def _asks_for_a_login(client: httpx.Client) -> bool:
    try:
        return client.get("/").status_code == 401
    except httpx.ConnectError:
        return False


def _hold(files: Iterable[Path], text: str) -> bool:
    return any(text.encode() in file.read_bytes() for file in files if file.exists())


@pytest.fixture(scope="module")
def page(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with flower(env, tmp_path_factory.mktemp("page")) as client:
        yield client


def addresses() -> list[str]:
    """Return one address for each route of Flower that shows or does anything."""
    patterns = [
        rule[0] if isinstance(rule, tuple) else rule.regex.pattern.removesuffix("$")
        for rule in handlers
    ]
    return [re.sub(r"\(.*\)", "x", each) for each in patterns if each not in SHOW_NOTHING]


@pytest.mark.parametrize("password", [None, "another password"])
def test_nothing_answers_without_the_login(page: httpx.Client, password: str | None) -> None:
    """By itself, Flower leaves /metrics and /healthcheck open."""
    auth = httpx.BasicAuth("pagetrail", password) if password else None
    answers = {
        (address, method): httpx.request(method, f"{page.base_url}{address[1:]}", auth=auth)
        for address in addresses()
        for method in ("GET", "POST")
    }
    assert len(answers) > 50
    for (address, _), answer in answers.items():
        assert answer.status_code in (401, 405)
        assert any(answers[address, method].status_code == 401 for method in ("GET", "POST"))


def test_with_the_login_flower_shows_everything_and_changes_nothing(page: httpx.Client) -> None:
    assert page.get("/healthcheck").text == "OK"
    assert "flower_events_total" in page.get("/metrics").text
    assert page.get("/workers").text.count(f'src="{URL_PREFIX}/static/') > 3
    assert page.get("/static/js/flower.js").status_code == 200
    refusals = [
        page.post(address).status_code for address in addresses() if address != READS_BY_POST
    ]
    assert refusals.count(403) == 14
    assert set(refusals) == {403, 405}


def test_every_queue_is_shown_with_its_length_even_without_a_worker(
    page: httpx.Client, env: dict[str, str]
) -> None:
    wait_for(
        lambda: "one@test" in page.get("/api/workers?refresh=1").text, "Flower sees the worker"
    )
    with Redis.from_url(env["PAGETRAIL_REDIS_URL"]) as client:
        client.rpush("pagetrail:backfill", "a", "b", "c")
        listed = page.get("/api/queues/length").json()["active_queues"]
        client.delete("pagetrail:backfill")
    assert {each["name"]: each["messages"] for each in listed} == dict.fromkeys(QUEUES, 0) | {
        "backfill": 3
    }
    assert all(f'<tr id="{queue}">' in page.get("/broker").text for queue in QUEUES)


def test_a_second_start_finds_the_tasks_again_and_opens_pages_that_the_settings_allow(
    page: httpx.Client, env: dict[str, str], tmp_path: Path
) -> None:
    wait_for(
        lambda: "one@test" in page.get("/api/workers?refresh=1").text, "Flower sees the worker"
    )
    publish(env, "chores.note", "plan", "kept")
    wait_for(lambda: '"SUCCESS"' in page.get("/api/tasks").text, "Flower sees the task done")
    tasks = page.get("/api/tasks").json()
    data = Path(env["PAGETRAIL_DATA_DIR"])  # the file's suffix is the database's choice
    wait_for(lambda: _hold(data.glob("flower.state*"), min(tasks)), "Flower saved its state")
    asked = {"PAGETRAIL_FLOWER_OPEN_METRICS": "true", "FLOWER_READ_ONLY": "false"}
    with flower({**env, **asked}, tmp_path, "of our own") as again:
        assert again.get("/api/tasks").json() == tasks
        assert again.post("/api/task/rate-limit/chores.note").status_code == 400  # lacks a rate
        again.auth = None
        assert [again.get(each).status_code for each in ("/metrics", "/healthcheck")] == [200, 200]
        assert again.get("/api/tasks").status_code == 401
