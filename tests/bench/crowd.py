"""Handles many sources at once through the product's own parts, because one command each would take minutes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from tasks import api
from tests.acceptance.fleet import ROOT, Fleet, environment
from workers.pagerduty.keys import fingerprint
from workers.runtime import Runtime
from workers.settings.environment import load_settings
from workers.storage.registry import Source


def parts_of(fleet: Fleet) -> Runtime:
    """Return the parts of a process of *fleet*, for use in this process."""
    os.environ.update(fleet.settings)
    return Runtime(load_settings())


def register(
    parts: Runtime,
    keys: Mapping[str, str],
    *,
    resources: tuple[str, ...] = ("incidents",),
    days: int = 120,
    region: str = "us",
) -> None:
    """Register sources (name to key) without asking PagerDuty for their accounts."""
    now = datetime.now(UTC).replace(microsecond=0)

    def add(pair: tuple[str, str]) -> None:
        name, key = pair
        parts.sources.add(
            Source(
                id=name,
                region=region,
                subdomain="bench",
                credential="account",
                fingerprint=fingerprint(region, key),
                sealed_key=parts.vault.seal(key, name),
                keyed_at=now,
                connected_at=now,
                since=now - timedelta(days=days),
                resources=resources,
            )
        )

    with ThreadPoolExecutor(4) as several:
        list(several.map(add, keys.items()))


def begin(fleet: Fleet, sources: Iterable[str]) -> None:
    """Open a run of every source."""
    names = "\n".join(sources)
    argv = [sys.executable, "-m", "tests.bench.crowd"]  # Celery knows one broker per process
    subprocess.run(
        argv, input=names, text=True, check=True, cwd=ROOT, env=environment(fleet.settings)
    )


def completion_seconds(
    fleet: Fleet, sources: Iterable[str], seconds: float = 600
) -> dict[str, float]:
    """Return when the first run of each source was sealed, counted from now."""
    began, done, left = time.monotonic(), dict[str, float](), set(sources)
    while left:
        for source in list(left):
            if next((fleet.runs / source / "runs").glob("*/manifest.json"), None):
                done[source] = time.monotonic() - began
                left.discard(source)
        assert time.monotonic() - began < seconds, f"{len(left)} sources are not sealed"
        time.sleep(0.05)
    return done


def main() -> None:
    """Open a run of every source named on stdin."""
    parts = Runtime(load_settings())
    with ThreadPoolExecutor(4) as several:
        list(several.map(lambda source: api.collect(parts, source), sys.stdin.read().split()))


if __name__ == "__main__":
    main()
