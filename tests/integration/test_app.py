"""The Celery app in real worker and beat processes, with a Redis that is killed, emptied or absent."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from redis import Redis

from tests.ports import free_port
from tests.processes import ROOT, celery, end, environment, running, wait_for
from tests.redis_process import redis_server
from tests.tls_process import tls_relay
from workers.app import QUEUES
from workers.state.roster import Roster

WORKER = ["worker", "--without-gossip", "--without-mingle", "-I", "tests.integration.chores"]
PUBLISH = """
import sys
from workers.app import celery
name, queue, *words = sys.argv[1:]
celery.send_task(name, [float(w) if w[0].isdigit() else w for w in words], queue=queue)
"""


@contextmanager
def worker(
    env: dict[str, str], directory: Path, name: str = "worker"
) -> Iterator[subprocess.Popen[bytes]]:
    log = directory / f"{name}.log"
    with running(celery(*WORKER, "-n", f"{name}@test"), env, log) as process:
        wait_for(lambda: "takes work" in log.read_text(), "the worker takes work")
        yield process


def publish(env: dict[str, str], name: str, queue: str, *words: str) -> None:
    subprocess.run(
        [sys.executable, "-c", PUBLISH, name, queue, *words], env=env, cwd=ROOT, check=True
    )


def said(url: str, count: int) -> list[str]:
    """Return the first *count* entries that the tasks wrote."""
    with Redis.from_url(url, decode_responses=True) as client:
        wait_for(lambda: client.llen("chores") >= count, f"{count} tasks wrote something")
        return client.lrange("chores", 0, count - 1)


@pytest.fixture
def diary() -> Iterator[str]:
    """The URL of a second server, which stays while the broker is down."""
    with redis_server() as url:
        yield url


@pytest.fixture
def env(redis: Redis, redis_url: str, diary: str, tmp_path: Path) -> dict[str, str]:
    del redis  # emptied
    return fleet_environment(redis_url, diary, tmp_path)


def fleet_environment(redis_url: str, diary: str, directory: Path) -> dict[str, str]:
    settings = environment(redis_url=redis_url, data_dir=directory / "data")
    return settings | {"CHORES_REDIS_URL": diary, "TMPDIR": str(directory)}


def test_a_worker_without_options_serves_every_queue(
    env: dict[str, str], redis: Redis, diary: str, tmp_path: Path
) -> None:
    """The roster lists the worker with every queue until it ends."""
    roster = Roster(redis, "pagetrail")
    with worker(env, tmp_path):
        wait_for(roster.workers, "the worker is in the roster")
        assert roster.workers() == {"worker@test": tuple(sorted(QUEUES))}
        for queue in QUEUES:
            publish(env, "chores.note", queue, queue)
        assert {line.split()[0] for line in said(diary, len(QUEUES))} == set(QUEUES)
    assert roster.workers() == {}


def test_a_worker_continues_when_redis_dies_during_a_task(diary: str, tmp_path: Path) -> None:
    """Without our guarded channel, the late acknowledgement ends the process (kombu 5.7.0)."""
    port = free_port()
    env = fleet_environment(f"redis://127.0.0.1:{port}/0", diary, tmp_path)
    with ExitStack() as first:
        first.enter_context(redis_server(port, tmp_path / "redis"))
        process = first.enter_context(worker(env, tmp_path))
        publish(env, "chores.dawdle", "fetch", "3")
        began = said(diary, 1)[0].split()[1]
        assert began == str(process.pid)
        kill_redis(port)
        log = tmp_path / "worker.log"
        wait_for(lambda: "Connection" in log.read_text(), "the worker noticed")
        # The task ends while there is no Redis, so its acknowledgement is lost.
        wait_for(lambda: "Cannot connect" in log.read_text(), "the worker tries again")
        with redis_server(port, tmp_path / "redis"):
            publish(env, "chores.note", "seal", "back")
            wait_for(
                lambda: f"back {process.pid}" in said(diary, 2), "the same process works again"
            )
            assert process.poll() is None
            assert end(process) == 0


def kill_redis(port: int) -> None:
    with Redis(port=port) as client:
        os.kill(int(client.info("server")["process_id"]), 9)


def test_a_worker_continues_after_redis_was_emptied(
    env: dict[str, str], redis: Redis, diary: str, tmp_path: Path
) -> None:
    with worker(env, tmp_path):
        publish(env, "chores.note", "fetch", "before")
        said(diary, 1)
        redis.flushall()
        publish(env, "chores.note", "fetch", "after")
        assert said(diary, 2)[1].startswith("after ")


def test_a_worker_waits_for_a_redis_that_is_not_there_yet(diary: str, tmp_path: Path) -> None:
    port = free_port()
    env = fleet_environment(f"redis://127.0.0.1:{port}/0", diary, tmp_path)
    log = tmp_path / "early.log"
    left = tmp_path / f"pagetrail-{os.getuid()}" / "early@test.ready"
    left.parent.mkdir(mode=0o700)
    left.touch()  # as if a worker with that name was killed
    with running(celery(*WORKER, "-n", "early@test"), env, log) as process:
        wait_for(lambda: "Cannot connect" in log.read_text(), "the worker tries")
        assert health(env, "live", "early@test") == ""
        assert "not take work" in health(env, "ready", "early@test")
        with redis_server(port):
            wait_for(lambda: "takes work" in log.read_text(), "the worker takes work")
            wait_for(lambda: not health(env, "ready", "early@test"), "the worker is ready")
            assert end(process) == 0
    assert "not take work" in health(env, "ready", "early@test")


def health(env: dict[str, str], *question: str) -> str:
    """Return why the worker isn't ready, or ""."""
    answer = subprocess.run(
        [sys.executable, "-m", "workers.health", *question],
        env=env, cwd=ROOT, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert (answer.returncode == 0) == (not answer.stderr)
    return answer.stderr


def test_a_redis_behind_tls_has_to_show_a_certificate_that_is_known(
    redis: Redis, redis_url: str, diary: str, tmp_path: Path
) -> None:
    """By itself, kombu accepts any certificate if the URL says nothing about it."""
    port = redis.connection_pool.connection_kwargs["port"]
    with tls_relay(port, tmp_path) as (tls_port, certificate):
        stranger = fleet_environment(f"rediss://127.0.0.1:{tls_port}/0", diary, tmp_path)
        refused = subprocess.run(
            [sys.executable, "-c", PUBLISH, "chores.note", "fetch", "unheard"],
            env=stranger, cwd=ROOT, text=True, capture_output=True, check=False,
        )  # fmt: skip
        assert "CERTIFICATE_VERIFY_FAILED" in refused.stderr
        env = stranger | {"SSL_CERT_FILE": str(certificate)}
        with worker(env, tmp_path):
            publish(env, "chores.note", "fetch", "heard")
            assert said(diary, 1)[0].startswith("heard ")


def test_beat_publishes_one_tick_at_a_time(
    env: dict[str, str], redis: Redis, tmp_path: Path
) -> None:
    """Without a worker, only one tick waits. After it is taken, the next one is sent."""
    with running(celery("beat"), env, tmp_path / "beat.log"):
        for _ in range(3):
            assert redis.blpop("pagetrail:plan", timeout=30)
        wait_for(lambda: redis.llen("pagetrail:plan") == 1, "the next tick waits")
        redis.flushall()
        assert redis.blpop("pagetrail:plan", timeout=30)
        assert b"tasks.plan.tick" in redis.blpop("pagetrail:plan", timeout=30)[1]


def test_beat_outlives_redis(diary: str, tmp_path: Path) -> None:
    port = free_port()
    env = fleet_environment(f"redis://127.0.0.1:{port}/0", diary, tmp_path)
    log = tmp_path / "beat.log"
    with running(celery("beat"), env, log) as process:
        wait_for(lambda: log.exists() and "no ticks" in log.read_text(), "beat misses Redis")
        for _ in range(2):
            with redis_server(port), Redis(port=port, socket_timeout=None) as client:
                assert client.blpop("pagetrail:plan", timeout=30)
                kill_redis(port)
        assert health(env, "live", "beat") == ""
        assert process.poll() is None
        assert end(process) == 0


@pytest.mark.parametrize("role", [["worker"], ["beat"], ["flower", "--port=0"]], ids=lambda r: r[0])
def test_a_wrong_setting_stops_the_start_with_one_sentence(role: list[str], tmp_path: Path) -> None:
    env = environment(redis_url="redis://127.0.0.1:1/0", worker_slots="many", data_dir=tmp_path)
    started = subprocess.run(
        celery(*role), env=env, cwd=ROOT, text=True, capture_output=True, check=False
    )
    assert started.returncode == 1
    assert started.stderr.startswith("PAGETRAIL_WORKER_SLOTS must be ")
    assert started.stderr.count("\n") == 1


def test_a_tool_of_the_workshop_is_imported_without_celery() -> None:
    code = "import sys, workers.state.limiter, workers.health; sys.exit('celery' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
