"""The whole fleet on one machine under one supervisor: workers, beat, Flower, and Redis if no other one is set."""

import json
import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from kombu.exceptions import OperationalError

from workers.app import celery
from workers.machine.embedded import free_port, free_ports, start_redis
from workers.machine.supervisor import Child, Supervisor
from workers.process.flower import password_of
from workers.runtime import Runtime
from workers.settings.environment import PREFIX, Settings
from workers.settings.secret_files import SECRETS_DIR, replace_private
from workers.state import client

log = logging.getLogger("pagetrail.fleet")

_FLOWER = (sys.executable, "-m", "celery", "-A", "workers", "--quiet", "flower")


@dataclass(frozen=True, slots=True)
class Fleet:
    """A running fleet; only *flower_password* is secret."""

    supervisor: Supervisor
    redis: str
    workers: int
    flower: str | None
    flower_password: str | None
    metrics: Mapping[str, str]
    """The address of each process for Prometheus; beat's address also has the metrics of the whole fleet."""


@contextmanager
def fleet(settings: Settings, *, workers: int = 2, flower_port: int | None = 0) -> Iterator[Fleet]:
    """Run the fleet during the block; the block begins when every worker takes work.

    *flower_port* 0 means any free port, None means no Flower. Raises `Busy` if a fleet is already running in this data
    directory. If a process can't be started, ends all processes and raises another `Fault`.
    """
    data_dir = settings.make_data_dir()
    with Supervisor(data_dir) as supervisor:
        if settings.redis_url is None:
            start_redis(supervisor, settings)
        _check(settings)
        env = _environment(settings)
        children = [Child("beat", _node("beat"), env)]
        children += [_worker(number, workers, env) for number in range(1, workers + 1)]
        children, metrics = _measured(children, settings)
        replace_private(data_dir / "metrics.json", _targets(metrics))
        flower = password = None
        if flower_port is not None:
            password = password_of(settings)
            port = flower_port or free_port()
            flower = f"http://127.0.0.1:{port}"
            children.append(_flower(port, env))
        supervisor.start(*children)
        url = urlsplit(settings.redis_url_or_embedded())
        shown = f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"
        yield Fleet(supervisor, shown, workers, flower, password, metrics)


def queues_of(number: int, workers: int) -> str:
    """Return the queues of worker *number* of *workers*. Of several, the first takes no backfill. Only it signs."""
    backfill = "" if number == 1 and workers > 1 else ",backfill"
    sign = ",sign" if number == 1 else ""
    return f"plan,fetch{backfill},seal{sign}"


def _check(settings: Settings) -> None:
    """Raise the `Fault` that every worker would run into."""
    parts = Runtime(settings)
    parts.check()
    if warning := client.warning(parts.redis):
        log.warning("%s", warning)
    parts.redis.close()


def _node(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "workers.machine.node", *arguments]


def _worker(number: int, workers: int, env: Mapping[str, str]) -> Child:
    name = f"worker{number}"
    node = f"{name}@{socket.gethostname()}"
    argv = _node("worker", node, queues_of(number, workers))
    return Child(name, argv, env, ready=lambda: _takes_work(node))


def _takes_work(node: str) -> bool:
    """Say whether the worker takes work: it answers a ping as soon as it does."""
    try:
        return bool(celery.control.ping([node], timeout=1.0))
    except OperationalError:
        return False


def _measured(children: list[Child], settings: Settings) -> tuple[list[Child], dict[str, str]]:
    """Return *children*, each with its metrics port, and their addresses by name."""
    first, host = settings.metrics_port, settings.metrics_host
    count = len(children)
    ports = range(first, first + count) if first else free_ports(count)
    pairs = list(zip(children, ports, strict=True))
    return (
        [replace(c, env={**c.env, f"{PREFIX}METRICS_PORT": str(port)}) for c, port in pairs],
        {c.name: f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for c, port in pairs},
    )


def _targets(metrics: Mapping[str, str]) -> str:
    """Return the addresses as the text of a file for Prometheus's file_sd_configs."""
    return json.dumps(
        [{"targets": [address], "labels": {"process": name}} for name, address in metrics.items()]
    )


def _flower(port: int, env: Mapping[str, str]) -> Child:
    return Child(
        "flower",
        [*_FLOWER, "--address=127.0.0.1", f"--port={port}"],
        env,
        ready=lambda: listens(port),
        grace_seconds=10.0,  # it saves its state
    )


def listens(port: int) -> bool:
    """Say whether a process listens on the loopback *port*."""
    with socket.socket() as one:
        one.settimeout(1.0)
        return one.connect_ex(("127.0.0.1", port)) == 0


def _environment(settings: Settings) -> dict[str, str]:
    """Return the variables to add to our environment, because the processes run in another directory."""
    env = {f"{PREFIX}DATA_DIR": str(settings.data_dir)}
    if directory := os.environ.get(SECRETS_DIR):
        env[SECRETS_DIR] = str(Path(directory).absolute())
    if settings.redis_server is not None:
        env[f"{PREFIX}REDIS_SERVER"] = str(settings.redis_server)
    # With many threads, glibc's many arenas keep memory that no thread uses.
    env["MALLOC_ARENA_MAX"] = os.environ.get("MALLOC_ARENA_MAX", "2")
    return env
