"""The requests for opening, looking after and following a source, with ten earlier runs and with ten thousand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from tasks import api, purge
from tasks.evidence.erasures import Purged
from tasks.evidence.layout import manifest_key, plan_key
from tasks.runs import opening, restoring
from tests.integration.steps import SOURCE, Fleet
from tests.manifests import manifest_text
from workers.storage import open_storage
from workers.storage.registry import Source


class Counted:
    """A bucket in memory that counts the requests that each call would need. A list has 1,000 names per request."""

    def __init__(self) -> None:
        self._storage = open_storage("memory://")
        self.requests = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._storage, name)

        def counted(*arguments: Any) -> Any:
            found = method(*arguments)
            if name == "list":
                found = list(found)
            listed = len(found) if name in ("list", "children") else 0
            self.requests += max(1, ceil(listed / 1_000))
            return iter(found) if name == "list" else found

        return counted


def with_runs(fleet: Fleet, count: int) -> tuple[Counted, Source]:
    """Give *fleet* a storage with *count* runs. The newest is a real run, and the others are only names."""
    storage = Counted()
    fleet.runtime = fleet.runtime.replaced(storage=storage)
    fleet.storage = storage  # type: ignore[assignment]  # it has every method that is used
    source = fleet.runtime.sources.save(replace(fleet.connect(), resources=("teams",)))
    opening.collect_now(fleet.runtime, source)
    fleet.live()
    newest = f"{count:08d}"
    manifest = orjson.loads(storage.get(manifest_key(SOURCE, "00000001")))
    opened = orjson.loads(storage.get(plan_key(SOURCE, "00000001")))
    for number in range(2, count):
        storage.put_new(plan_key(SOURCE, f"{number:08d}"), b"{}")
    storage.put_new(
        plan_key(SOURCE, newest),
        msgspec.json.format(orjson.dumps(opened | {"run": newest}), indent=2),
    )
    storage.put_new(manifest_key(SOURCE, newest), manifest_text(manifest | {"run": newest}))
    fleet.lose_redis()
    return storage, source


def costs(fleet: Fleet, count: int) -> dict[str, int]:
    """Return the number of requests that each step takes with *count* runs."""
    storage, source = with_runs(fleet, count)
    newest = f"{count:08d}"
    found: dict[str, int] = {}

    def measure(what: str, step: Callable[[], object]) -> Any:
        storage.requests = 0
        result = step()
        found[what] = storage.requests
        return result

    measure("restored from nothing", lambda: restoring.restore(fleet.runtime))
    measure("looked after", lambda: purge.look_after(SOURCE))
    assert fleet.runtime.sources.get(SOURCE) == source
    keeping = fleet.runtime.sources.save(replace(source, retention_months=24))
    measure("looked after, with a retention", lambda: purge.look_after(SOURCE))
    assert measure("shown", lambda: api.run(fleet.runtime, SOURCE)).run == newest
    opened = measure("opened", lambda: opening.collect_now(fleet.runtime, keeping))
    assert opened.run == f"{count + 1:08d}"
    assert measure("joined", lambda: opening.collect_now(fleet.runtime, keeping)).joined
    purged = Purged(fleet.runtime.storage, SOURCE)
    assert measure("followed", lambda: purged.newest(newest)) == opened.run
    return found


@pytest.mark.timeout(120)
def test_what_lies_behind_a_source_costs_nothing(
    make: Callable[[Path], Fleet], tmp_path: Path
) -> None:
    """Only finding the newest run from nothing takes more requests, and only in proportion to the number's digits."""
    few, many = (costs(make(tmp_path / str(count)), count) for count in (10, 10_000))
    assert max(few.values()) <= 25, few
    forgetful = "restored from nothing"
    assert many.pop(forgetful) <= few.pop(forgetful) + 22
    assert many == few
