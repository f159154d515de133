"""Real processes for tests. Each has its own log and ends with its block."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def environment(**settings: object) -> dict[str, str]:
    """Return this process's environment without our settings, plus *settings*: `redis_url="..."`."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PAGETRAIL_")}
    return env | {f"PAGETRAIL_{name.upper()}": str(value) for name, value in settings.items()}


def celery(*arguments: str) -> list[str]:
    """Return the command line of a process of the fleet."""
    return [sys.executable, "-m", "celery", "-A", "workers", "--quiet", *arguments]


@contextmanager
def running(
    argv: Sequence[str], env: Mapping[str, str], log: Path, cwd: Path = ROOT
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends. Its output goes to *log*."""
    with log.open("ab") as output:
        process = subprocess.Popen(argv, env=env, stdout=output, stderr=output, cwd=cwd)
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[Any], seconds: float = 30.0) -> int:
    """Tell *process* to end, kill it after *seconds*, and return its exit code."""
    process.terminate()
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def wait_for(
    happened: Callable[[], object], what: str, seconds: float = 60.0, every: float = 0.05
) -> None:
    """Return when *happened* is true; AssertionError names *what* never happened."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"{what}, not within {seconds:g} s"
        time.sleep(every)
