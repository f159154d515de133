"""Runs `pagetrail` as a person does, in a separate process with its own settings."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

PROGRAM = [sys.executable, "-m", "tasks.cli"]
_CELERY = [sys.executable, "-m", "celery", "-A", "workers"]


class Pagetrail:
    """Runs the command with the same settings each time. Keyword arguments change some of them."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        kept = {name: value for name, value in os.environ.items() if "PAGETRAIL" not in name}
        self.environment = kept | dict(settings)

    def __call__(
        self, *arguments: str, key: str = "", **settings: str
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*PROGRAM, *arguments],
            input=key,
            env=self.environment | settings,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def json(self, *arguments: str, key: str = "", exit_code: int = 0, **settings: str) -> Any:
        """Run a command with --json and return its document."""
        done = self(*arguments, "--json", key=key, **settings)
        assert done.returncode == exit_code, done.stderr
        return json.loads(done.stdout)

    def refused(self, exit_code: int, *arguments: str, key: str = "", **settings: str) -> str:
        """Run a command that fails and return its one sentence."""
        done = self(*arguments, key=key, **settings)
        assert (done.returncode, done.stdout) == (exit_code, ""), done.stderr
        assert done.stderr.count("\n") == 1
        assert "Traceback" not in done.stderr
        return done.stderr

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start a command, and read its output later."""
        return subprocess.Popen(
            [*PROGRAM, *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @contextmanager
    def fleet(self, logs: Path) -> Iterator[None]:
        """Run one worker and beat until the block ends. They write into *logs*."""
        worker = [
            "worker",
            "-Q",
            "plan,fetch,backfill,seal,sign",
            "-n",
            f"test-{os.getpid()}@pagetrail",
        ]
        with ExitStack() as stack:
            for name, arguments in (("worker", worker), ("beat", ["beat"])):
                log = stack.enter_context((logs / f"{name}.log").open("w"))
                process = subprocess.Popen(
                    [*_CELERY, *arguments],
                    env=self.environment | {"PAGETRAIL_WORKER_SLOTS": "10"},
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
                stack.callback(_end, process)
            yield


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
