"""Processes wait for a Redis that answers but can't serve, as during a failover, as for one that is down."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
import redis

from tests.integration.test_app import fleet_environment, publish, worker
from tests.integration.test_flower import flower
from tests.processes import celery, end, running, wait_for
from tests.redis_process import redis_server
from workers.app import GuardedConnection
from workers.errors import RedisUnreachable
from workers.state.client import NotServing, connect
from workers.state.faults import as_fault
from workers.state.switch import Switch
from workers.storage import open_storage

Admin = redis.Redis


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The URL of a server that only this test uses, so it may break it."""
    with redis_server(data_dir=tmp_path / "redis") as url:
        yield url


@pytest.fixture
def admin(server: str) -> Iterator[Admin]:
    with redis.Redis.from_url(server, socket_timeout=None) as client:
        yield client


def demote(admin: Admin) -> None:
    """Make the server a replica. Its primary doesn't exist, so it keeps its data."""
    admin.replicaof("127.0.0.1", "1")


def promote(admin: Admin) -> None:
    admin.replicaof("NO", "ONE")


def alone(admin: Admin) -> None:
    """Make the server a replica that refuses reads, because its data may be old."""
    admin.config_set("replica-serve-stale-data", "no")
    demote(admin)


def full(admin: Admin) -> None:
    admin.config_set("maxmemory", "1")


def unreplicated(admin: Admin) -> None:
    admin.config_set("min-replicas-to-write", "1")


def unsaved(admin: Admin) -> None:
    """Let a save fail, by deleting the directory."""
    admin.config_set("save", "3600 1")
    shutil.rmtree(str(admin.config_get("dir")["dir"]))
    admin.bgsave()
    wait_for(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err", "it failed")


STATES = {
    "READONLY": demote,
    "MASTERDOWN": alone,
    "OOM": full,
    "NOREPLICAS": unreplicated,
    "MISCONF": unsaved,
}
COMMANDS: dict[str, Callable[[redis.Redis, str], object]] = {
    "command": lambda client, name: client.execute_command(name, "a", "1"),
    "script": lambda client, name: client.eval(f"return redis.call('{name}', 'a', '1')", 0),
    "transaction": lambda client, name: client.transaction(
        lambda pipe: pipe.execute_command(name, "a", "1")
    ),
}


@contextmanager
def ours(url: str) -> Iterator[redis.Redis]:
    with connect(url) as client:
        yield client


@contextmanager
def celerys(url: str) -> Iterator[redis.Redis]:
    """A client like Celery's."""
    with GuardedConnection(url) as connection:
        yield connection.default_channel.client


def refusal(ask: Callable[[], object]) -> NotServing:
    """Return the error that *ask* raises, or the one from which our client made a fault."""
    with pytest.raises((NotServing, RedisUnreachable)) as caught:
        ask()
    error = caught.value
    refused = error.__context__ if isinstance(error, RedisUnreachable) else error
    assert isinstance(refused, NotServing)
    return refused


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("code", STATES)
@pytest.mark.parametrize("client", [ours, celerys])
def test_a_refusal_because_of_the_servers_state_is_a_lost_connection(
    server: str, admin: Admin, client: Callable[[str], object], code: str, command: str
) -> None:
    """This holds for commands, scripts and transactions. The next command is sent over another connection."""
    with client(server) as asking:  # type: ignore[attr-defined]  # typed for both kinds
        asking.ping()
        before = admin.info("stats")["total_connections_received"]
        STATES[code](admin)
        name = "HGET" if code == "MASTERDOWN" else "SETNX"
        refused = refusal(lambda: COMMANDS[command](asking, name))
        assert str(refused).startswith(f"{code} ")
        assert isinstance(refused, GuardedConnection(server).connection_errors)
        assert isinstance(as_fault(refused), RedisUnreachable)
        with suppress(NotServing, RedisUnreachable):  # only the connection matters here
            asking.ping()
        assert admin.info("stats")["total_connections_received"] > before
        refusal(lambda: COMMANDS[command](asking, name))


def test_a_server_that_is_busy_with_a_script_is_a_lost_connection(
    server: str, admin: Admin
) -> None:
    admin.config_set("busy-reply-threshold", "1")

    def spin() -> None:
        # The error is the end of the script, which the test kills.
        with suppress(redis.ResponseError), redis.Redis.from_url(server) as client:
            client.eval("while true do end", 0)

    spinning = threading.Thread(target=spin)
    spinning.start()

    def ask_until_refused(client: redis.Redis) -> None:
        while True:
            client.get("a")

    with connect(server) as client:
        assert str(refusal(lambda: ask_until_refused(client))).startswith("BUSY ")
    admin.script_kill()
    spinning.join()


def test_the_switch_on_a_replica_says_what_is_wrong(server: str, admin: Admin) -> None:
    """redis-py's own error for a transaction on a lost connection says that another client wrote the key."""
    with connect(server) as client:
        switch = Switch(client, open_storage("memory://"), "test")
        switch.pause()
        demote(admin)
        assert switch.known()
        for act in (switch.pause, switch.resume, switch.restore):
            with pytest.raises(RedisUnreachable, match="is a replica"):
                act()


def test_a_client_that_waits_for_a_message_notices_a_failover(server: str, admin: Admin) -> None:
    heard: list[BaseException] = []

    def wait() -> None:
        try:
            with celerys(server) as client:
                client.brpop(["nothing"], timeout=0)
        except redis.RedisError as error:
            heard.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    wait_for(lambda: admin.info("clients")["blocked_clients"] == 1, "it waits")
    demote(admin)
    waiting.join(10)
    [error] = heard
    assert isinstance(error, NotServing)
    assert str(error).startswith("UNBLOCKED ")


def test_workers_beat_and_flower_go_on_after_a_failover(server: str, tmp_path: Path) -> None:
    """While tasks run, the server becomes a replica twice. No process ends, and each works again."""
    with ExitStack() as stack:
        diary = stack.enter_context(redis_server())
        env = fleet_environment(server, diary, tmp_path) | {"FLOWER_URL_PREFIX": "ops/flower"}
        admin = stack.enter_context(redis.Redis.from_url(server))
        processes = [
            stack.enter_context(worker(env, tmp_path)),
            stack.enter_context(running(celery("beat"), env, tmp_path / "beat.log")),
        ]
        page = stack.enter_context(flower(env, tmp_path))
        log = tmp_path / "worker.log"
        for number in range(2):
            publish(env, "chores.dawdle", "fetch", "2")
            wait_for(lambda n=number: len(all_of(diary)) > 2 * n, "it began")  # type: ignore[misc]  # bound now
            demote(admin)
            wait_for(lambda n=number: refusals(log) > n, "the worker noticed")  # type: ignore[misc]  # bound now
            time.sleep(3)  # the task ends in this time, and its acknowledgement is lost
            promote(admin)
            publish(env, "chores.note", "seal", f"back{number}")
            pid = processes[0].pid
            wait_for(lambda n=number, p=pid: f"back{n} {p}" in all_of(diary), "it works again")  # type: ignore[misc]  # bound now
        assert [process.poll() for process in processes] == [None, None]
        seen = events(page)
        publish(env, "chores.note", "plan", "shown")
        wait_for(lambda: events(page) > seen, "Flower sees the task")
        assert [end(process) for process in processes] == [0, 0]
    assert "Traceback" not in (tmp_path / "beat.log").read_text()


def all_of(url: str) -> list[str]:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return client.lrange("chores", 0, -1)


def refusals(log: Path) -> int:
    return log.read_text().count("Connection to broker lost")


def events(page: httpx.Client) -> int:
    """Return how many task events Flower has seen."""
    lines = page.get("/metrics").text.splitlines()
    return sum(
        int(float(line.rpartition(" ")[2]))
        for line in lines
        if line.startswith("flower_events_total{")
    )
