"""Each way in which a real Redis can refuse us gives one sentence that says what to do, without a secret."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tasks.cli import perform
from tests.redis_process import redis_server
from tests.tls_process import tls_relay
from workers.errors import RedisRefuses, RedisUnreachable
from workers.runtime import runtime
from workers.state.client import check, connect
from workers.state.faults import is_outage
from workers.state.ledger import Ledger

PREFIX = "fleet"


def ready(client: redis.Redis) -> object:
    return check(client, PREFIX)


def refusal(url: str, call: Callable[[redis.Redis], object] = ready) -> RedisUnreachable:
    """Return the sentence for the failure of *call* with the Redis at *url*."""
    with connect(url) as client, pytest.raises(RedisUnreachable) as caught:
        call(client)
    return caught.value


def at(url: str, user: str = "", database: int = 0) -> str:
    """Return *url* with a user and password, or with another database."""
    host = url.removeprefix("redis://").partition("/")[0]
    return f"redis://{user}{'@' if user else ''}{host}/{database}"


@contextmanager
def administrator(url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(url) as client:
        yield client


def test_a_database_the_server_does_not_have() -> None:
    with redis_server(options={"databases": "1"}) as url:
        fault = refusal(at(url, database=5))
    assert "doesn't have the database that PAGETRAIL_REDIS_URL names" in str(fault)
    assert not is_outage(fault)


def test_cluster_mode() -> None:
    """It is named at once, although such a server answers a ping. This holds before it has slots and after."""
    with redis_server(options={"cluster-enabled": "yes"}) as url, administrator(url) as admin:
        assert admin.ping()
        for slots in ((), (0, 8_191), (8_192, 16_383)):
            if slots:
                admin.execute_command("CLUSTER ADDSLOTSRANGE", *slots)
            fault = refusal(url)
            assert "runs in cluster mode" in str(fault)
            assert isinstance(fault, RedisRefuses)


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("", "asks for a password"),
        (":hunter3", "refuses the user or the password"),
        ("app:hunter3", "refuses the user or the password"),
    ],
)
def test_a_password(user: str, words: str) -> None:
    """The sentence tells a missing password from a wrong one, and shows neither."""
    with redis_server() as url, administrator(url) as admin:
        admin.config_set("requirepass", "hunter2")
        fault = refusal(at(url, user))
    assert words in str(fault)
    assert "hunter" not in str(fault)
    assert not is_outage(fault)


@pytest.mark.parametrize(
    ("rights", "words"),
    [
        (("+@all", "-del", f"~{PREFIX}:*"), "forbids its user the 'del' command"),
        (("+@all", "~other:*"), "forbids its user a key"),
    ],
)
def test_a_user_without_a_right(rights: tuple[str, ...], words: str) -> None:
    """The sentence names the missing right."""
    with redis_server() as url:
        with administrator(url) as admin:
            admin.execute_command("ACL SETUSER", "app", "on", ">hunter2", "&*", *rights)
        fault = refusal(at(url, "app:hunter2"))
    assert words in str(fault)


def test_a_channel_that_is_forbidden() -> None:
    """Flower and remote control need channels."""
    with redis_server() as url:
        with administrator(url) as admin:
            admin.execute_command("ACL SETUSER", "app", "on", ">x", "~*", "+@all", "resetchannels")
        fault = refusal(at(url, "app:x"), lambda client: client.publish("told", "x"))
    assert "forbids its user a channel" in str(fault)


def test_a_replica_and_one_that_lost_its_primary() -> None:
    """This passes by itself, because a failover ends."""
    with redis_server() as url, administrator(url) as admin:
        admin.replicaof("127.0.0.1", "1")
        replica = refusal(url)
        admin.config_set("replica-serve-stale-data", "no")
        lost = refusal(url, lambda client: client.get("x"))
    for fault in (replica, lost):
        assert "is a replica" in str(fault)
        assert is_outage(fault)


def test_no_memory_is_left() -> None:
    with redis_server() as url, administrator(url) as admin:
        admin.config_set("maxmemory", "1")
        fault = refusal(url, lambda client: client.eval("redis.call('set', 'x', 'y')", 0))
    assert "no memory left" in str(fault)
    assert isinstance(fault, RedisRefuses)


def test_no_connection_is_left() -> None:
    with redis_server(options={"maxclients": "1"}) as url, administrator(url) as admin:
        admin.ping()
        assert "takes no more connections" in str(refusal(url))


def test_too_few_replicas() -> None:
    with redis_server(options={"min-replicas-to-write": "1"}) as url:
        assert "too few replicas" in str(refusal(url))


def test_a_script_that_does_not_end() -> None:
    """While another program's script runs, the server doesn't answer."""
    endless = "while true do end"
    with redis_server(options={"busy-reply-threshold": "10"}) as url, administrator(url) as admin:

        def occupy() -> None:
            with administrator(url) as other, pytest.raises(redis.RedisError):
                other.eval(endless, 0)

        busy = threading.Thread(target=occupy)
        busy.start()
        try:
            while "busy with a script" not in (said := _said(url)):
                assert said == ""  # the script hasn't begun
        finally:
            admin.script_kill()
            busy.join()


def _said(url: str) -> str:
    try:
        with connect(url) as client:
            check(client, PREFIX)
    except RedisUnreachable as fault:
        return str(fault)
    return ""


def test_keys_of_another_program() -> None:
    with redis_server() as url, administrator(url) as admin:
        admin.set("taken", "x")
        fault = refusal(url, lambda client: client.hget("taken", "x"))
    assert "PAGETRAIL_KEY_PREFIX" in str(fault)


def test_a_command_the_server_lacks() -> None:
    """The sentence has the command's name, but not its arguments."""
    with redis_server() as url:
        fault = refusal(url, lambda client: client.execute_command("NEWER", "hunter2"))
    assert "the command 'NEWER'" in str(fault)
    assert "hunter2" not in str(fault)


def test_tls_on_one_side_only(tmp_path: Path) -> None:
    """A mismatch of redis:// and rediss:// is named, and so is an unknown certificate."""
    with redis_server() as url:
        port = int(url.rpartition(":")[2].partition("/")[0])
        with tls_relay(port, tmp_path) as (secure, certificate):
            known = f"rediss://127.0.0.1:{secure}/0?ssl_ca_certs={certificate}"
            with connect(known) as client:
                check(client, PREFIX)
            assert "must begin with rediss://" in str(refusal(f"redis://127.0.0.1:{secure}/0"))
            assert "certificate of Redis" in str(refusal(f"rediss://127.0.0.1:{secure}/0"))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://nosuch.invalid:6379/0", "can't be found"),
        ("redis://:hunter2@127.0.0.1:1/0", "does not answer"),
        ("unix:///no/such.sock", "does not answer"),
    ],
)
def test_a_server_that_is_not_there(url: str, words: str) -> None:
    fault = refusal(url)
    assert words in str(fault)
    assert "hunter2" not in str(fault)
    assert is_outage(fault)


WAYS: dict[str, Callable[[redis.Redis], object]] = {
    "command": lambda client: client.get("x"),
    "script": lambda client: client.register_script("return 1")(),
    "pipeline": lambda client: client.pipeline().get("x").execute(),
    "transaction": lambda client: client.transaction(lambda pipe: pipe.get("x"), "watched"),
    "lock": lambda client: client.lock("x").acquire(),
    "scan": lambda client: list(client.scan_iter()),
    "ledger": lambda client: Ledger(client, PREFIX).progress("acme/main"),
}


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_ask_raises_the_fault(way: str) -> None:
    assert "does not answer" in str(refusal("redis://127.0.0.1:1/0", WAYS[way]))


def test_a_write_by_another_program_is_not_a_failure_of_redis() -> None:
    with redis_server() as url, connect(url) as client, client.pipeline() as pipe:
        pipe.watch("x")
        client.set("x", 1)
        pipe.multi()
        pipe.set("x", 2)
        with pytest.raises(redis.WatchError):
            pipe.execute()


def test_a_command_says_the_same_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A command ends with exit code 1 and one line on stderr, without a traceback in a log."""
    monkeypatch.setenv("PAGETRAIL_DATA_DIR", str(tmp_path))
    with redis_server(options={"databases": "1"}) as url:
        monkeypatch.setenv("PAGETRAIL_REDIS_URL", at(url, database=3))
        runtime.cache_clear()
        try:
            assert perform(["status"]) == 1
        finally:
            runtime().redis.close()
            runtime().pagerduty.close()
            runtime.cache_clear()
    err = capsys.readouterr().err
    assert err.startswith("This Redis doesn't have the database")
    assert err.count("\n") == 1
    assert not (tmp_path / "logs" / "cli.log").exists()


def test_a_mistake_in_our_code_keeps_its_traceback() -> None:
    """A failure that only our own code can cause is not turned into a sentence."""
    with redis_server() as url, connect(url) as client:
        with pytest.raises(redis.ResponseError) as caught:
            client.execute_command("SET", "key")
        assert not is_outage(caught.value)
