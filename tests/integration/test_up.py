"""`pagetrail up` as a person or a script runs it: real Redis, workers, beat and Flower."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from redis import ConnectionError as RedisConnectionError
from redis import Redis

from tests.processes import ROOT, environment, wait_for
from tests.redis_process import redis_server

UP = [sys.executable, "-m", "tasks.cli", "up"]


def _words_of(process: psutil.Process) -> str:
    """Return a command line; "" if the process ended meanwhile."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def _takes_ticks(client: Redis) -> bool:
    try:
        return client.llen("pagetrail:plan") == 0
    except RedisConnectionError:  # it listens a moment after it was started
        return False


class Up:
    """A running `pagetrail up --json` that said it is ready."""

    def __init__(self, process: subprocess.Popen[str], directory: Path) -> None:
        self.process = process
        self.directory = directory
        assert process.stdout
        self.said: dict[str, Any] = json.loads(process.stdout.readline())
        self.family = psutil.Process(process.pid).children(recursive=True)

    def pids(self, word: str) -> list[int]:
        """Return the processes whose command line contains *word*, without the watchers."""
        children = psutil.Process(self.process.pid).children()
        return [each.pid for each in children if word in _words_of(each)]

    def gone(self) -> bool:
        """Wait until no process of the fleet is left."""
        return not psutil.wait_procs(self.family, timeout=40)[1]


@contextmanager
def up(env: dict[str, str], directory: Path, *options: str) -> Iterator[Up]:
    with (
        (directory / "up.log").open("a") as log,
        subprocess.Popen(
            [*UP, "--json", *options], env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):  # fmt: skip
        try:
            yield Up(process, directory)
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    program = os.environ.get("PAGETRAIL_TEST_REDIS")
    server = {"redis_server": program} if program else {}
    return environment(data_dir=tmp_path / "data", **server)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_it_says_one_line_when_it_takes_work_and_a_signal_ends_all_of_it(
    number: signal.Signals, env: dict[str, str], tmp_path: Path
) -> None:
    with up(env, tmp_path) as fleet:
        assert fleet.said["ready"] is True
        assert fleet.said["workers"] == 2
        assert fleet.said["data_dir"] == str(tmp_path / "data")
        assert len(fleet.pids(" worker ")) == 2
        assert len(fleet.pids(" beat")) == 1
        assert "@" not in fleet.said["redis"]
        password = (tmp_path / "data" / "flower.password").read_text()
        with httpx.Client(base_url=fleet.said["flower"]) as flower:
            assert flower.get("/workers").status_code == 401
            flower.auth = httpx.BasicAuth("pagetrail", password)
            wait_for(lambda: "worker1@" in flower.get("/workers").text, "Flower sees the workers")
        assert set(fleet.said["metrics"]) == {"beat", "worker1", "worker2"}
        for name, address in fleet.said["metrics"].items():
            assert f'node="{name}' in httpx.get(address).text
        targets = json.loads((tmp_path / "data" / "metrics.json").read_text())
        assert [f"http://{each['targets'][0]}/metrics" for each in targets] == list(
            fleet.said["metrics"].values()
        )
        fleet.process.send_signal(number)
        assert fleet.process.wait(60) == 0
        assert fleet.process.stdout
        assert fleet.process.stdout.read() == ""
        assert fleet.gone()


def test_a_process_that_dies_is_started_again(env: dict[str, str], tmp_path: Path) -> None:
    with up(env, tmp_path, "--workers", "1", "--no-flower") as fleet:
        assert fleet.said["flower"] is None
        [server], [worker], [beat] = map(fleet.pids, ("-server ", " worker ", " beat"))
        os.kill(server, 9)
        wait_for(lambda: fleet.pids("-server ") not in ([], [server]), "Redis starts again")
        url = (tmp_path / "data" / "redis.url").read_text().strip()
        with Redis.from_url(url) as client:
            wait_for(lambda: _takes_ticks(client), "the worker takes ticks")
        assert fleet.pids(" worker ") == [worker]
        assert fleet.pids(" beat") == [beat]
        os.kill(worker, 9)
        wait_for(lambda: fleet.pids(" worker ") not in ([], [worker]), "the worker starts again")


def test_after_a_kill_the_children_end_and_the_next_start_finds_the_data(
    env: dict[str, str], tmp_path: Path
) -> None:
    with up(env, tmp_path, "--no-flower") as fleet:
        url = (tmp_path / "data" / "redis.url").read_text().strip()
        with Redis.from_url(url) as client:
            client.set("kept", "yes")
        fleet.process.kill()
        fleet.process.wait()
        with up(env, tmp_path, "--no-flower") as again:
            assert fleet.gone()
            assert again.said["ready"] is True
            with Redis.from_url(url) as client:
                assert client.get("kept") == b"yes"


def test_a_second_one_in_the_directory_is_refused(env: dict[str, str], tmp_path: Path) -> None:
    with up(env, tmp_path, "--workers", "1", "--no-flower"):
        second = subprocess.run(UP, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert second.stdout == ""
    assert second.stderr.startswith("A fleet is running in ")
    assert second.stderr.count("\n") == 1


def test_with_another_redis_the_embedded_one_is_not_started(
    env: dict[str, str], redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    del redis  # emptied
    with up({**env, "PAGETRAIL_REDIS_URL": redis_url}, tmp_path, "--workers", "1", "--no-flower") as fleet:  # fmt: skip
        assert fleet.said["redis"] == redis_url
        assert fleet.pids("-server ") == []


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("STORAGE_URL", "file://{file}/below", "storage"),
        ("REDIS_URL", "redis://127.0.0.1:1/0", "Redis does not answer"),
        ("DATA_DIR", "{file}", "PAGETRAIL_DATA_DIR"),
        ("VAULT_KEYS", "short", "PAGETRAIL_VAULT_KEYS"),
    ],
)
def test_a_wrong_environment_is_one_sentence_and_leaves_no_process(
    setting: str, value: str, words: str, env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    wrong = {f"PAGETRAIL_{setting}": value.format(file=tmp_path / "file")}
    refused = subprocess.run(
        UP, env=env | wrong, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert words.lower() in refused.stderr.lower()
    assert refused.stderr.count("\n") == 1


def test_a_redis_in_cluster_mode_is_refused_before_anything_starts(
    env: dict[str, str], tmp_path: Path
) -> None:
    """It answers a ping, but every worker would fail at its first script."""
    with redis_server(options={"cluster-enabled": "yes"}) as url:
        wrong = env | {"PAGETRAIL_REDIS_URL": url}
        refused = subprocess.run(
            UP, env=wrong, cwd=ROOT, capture_output=True, text=True, check=False
        )
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert refused.stderr.startswith("This Redis runs in cluster mode")
    assert refused.stderr.count("\n") == 1
