"""A backend's own Celery processes import `tasks.api` and stay unchanged."""

import os
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
from redis import Redis

from tests.ports import free_port
from tests.processes import environment, running, wait_for

GUEST = [sys.executable, "-m", "celery", "-A", "tests.integration.guest"]
WORKER = ["worker", "--pool=threads", "--concurrency=1", "--loglevel=INFO", "-n", "guest@test"]


def test_another_apps_processes_keep_their_logs_ports_files_and_libraries(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    """This holds for its worker, beat and Flower, in an environment with everything that our own app needs."""
    metrics, flower = free_port(), free_port()
    env = {
        **environment(redis_url=redis_url, data_dir=tmp_path / "data", metrics_port=metrics),
        "GUEST_REDIS_URL": redis_url,
        "TMPDIR": str(tmp_path),
    }
    roles = {
        "worker": WORKER,
        "beat": ["beat", "--loglevel=INFO", f"--schedule={tmp_path / 'schedule'}"],
        "flower": ["flower", f"--port={flower}"],
    }
    logs = {name: tmp_path / f"{name}.log" for name in roles}
    with ExitStack() as stack, httpx.Client() as client:
        for name, arguments in roles.items():
            stack.enter_context(running([*GUEST, *arguments], env, logs[name]))
        page = f"http://127.0.0.1:{flower}/"
        wait_for(lambda: answers(client, page), "the guest's Flower answers")
        assert client.get(page).status_code == 200, "Flower doesn't ask for our login"
        wait_for(lambda: "Scheduler: Sending due task" in logs["beat"].read_text(), "beat sends")
        wait_for(lambda: "guest's own fault" in logs["worker"].read_text(), "a task has failed")
        assert set(redis.lrange("guest", 0, -1)) == {b"nothing"}
        assert not answers(client, f"http://127.0.0.1:{metrics}/metrics")
    told = logs["worker"].read_text()
    assert "INFO/MainProcess] guest@test ready." in told
    assert "Task guest.fail[" in told
    assert not any(words in told for words in ("pagetrail", "task failed", "takes work"))
    assert "INFO/MainProcess] beat: Starting" in logs["beat"].read_text()
    assert not (tmp_path / f"pagetrail-{os.getuid()}").exists()
    assert not (tmp_path / "data").exists()


def answers(client: httpx.Client, url: str) -> bool:
    try:
        return bool(client.get(url))
    except httpx.ConnectError:
        return False
