"""A program that uses `tasks.api` in Pagetrail's environment, as a backend does.

It reads {"key", "next", "other"} from stdin: two keys of one account and one of another. A fleet must be running.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from celery import Celery, current_app
from pytest import raises  # noqa: PT013 - nothing else of pytest is used, this isn't a test

from tasks import api
from workers.errors import Busy, Exists, Fault, KeyRefused, NotFound, UsageFault
from workers.runtime import Runtime, runtime
from workers.storage.registry import SourceState

SOURCE = "backend/main"
WRONG: list[dict[str, Any]] = [{"region": "mars"}, {"resources": ("nothing",)}, {"reserve": 2.0}]


def main(keys: dict[str, str]) -> None:
    """Take a source from connecting to disconnecting. The program ends if something is wrong."""
    own = Celery("backend")
    fleet = runtime()
    connect(fleet, keys)
    look_after(fleet, keys)
    collect(fleet)
    leave(fleet)
    assert current_app._get_current_object() is own, "the backend's own Celery app stays its own"


def connect(fleet: Runtime, keys: dict[str, str]) -> None:
    wishes = api.Wishes(every_seconds=None, resources=("teams", "users"))
    with raises(UsageFault):
        api.connect(fleet, "../x", keys["key"], wishes)
    for wrong in WRONG:
        with raises(UsageFault):
            api.connect(fleet, SOURCE, keys["key"], api.Wishes(**wrong))
    with raises(Fault, match="not that one"):
        api.connect(fleet, SOURCE, keys["key"], wishes, agree=refuse)
    with raises(NotFound):
        api.get(fleet, SOURCE)
    connected = api.connect(fleet, SOURCE, keys["key"], wishes)
    assert api.get(fleet, SOURCE) == connected
    assert connected in api.sources(fleet)
    with raises(Exists):
        api.connect(fleet, SOURCE, keys["key"], wishes)


def look_after(fleet: Runtime, keys: dict[str, str]) -> None:
    with raises(KeyRefused):
        api.rotate(fleet, SOURCE, keys["other"])
    before = api.get(fleet, SOURCE).fingerprint
    assert api.rotate(fleet, SOURCE, keys["next"]).fingerprint != before
    changed = api.change(fleet, SOURCE, retention_months=24, reserve=0.2)
    assert (changed.retention_months, changed.reserve) == (24, 0.2)
    assert changed.resources == ("teams", "users")
    with raises(UsageFault):
        api.change(fleet, SOURCE, every_seconds=1)
    held_since = api.hold(fleet, SOURCE).held_since
    assert held_since
    for expected in (held_since, None):
        released, was_held = api.release(fleet, SOURCE)
        assert (released.held_since, was_held) == (None, expected)
    assert api.pause(fleet, SOURCE).state is SourceState.PAUSED
    with raises(Busy):
        api.collect(fleet, SOURCE)
    assert api.resume(fleet, SOURCE).state is SourceState.ACTIVE


def collect(fleet: Runtime) -> None:
    opened = api.collect(fleet, SOURCE)
    assert not opened.joined
    while api.run(fleet, SOURCE).state == "open":
        time.sleep(0.1)
    [run] = api.runs(fleet, SOURCE)
    assert (run.run, run.state, set(run.resources)) == (opened.run, "complete", {"teams", "users"})
    assert run.records == sum(each.records for each in api.artifacts(fleet.storage, SOURCE)[1])
    export = api.export(fleet.storage, SOURCE, "users")
    assert len(list(export.records)) == run.resources["users"].records
    assert export.choice.whole
    assert api.verify(fleet.storage, SOURCE).ok
    with raises(Fault, match="nothing to cancel"):
        api.cancel(fleet, SOURCE)
    with raises(NotFound):
        api.export(fleet.storage, SOURCE, "teams", "00000077")


def leave(fleet: Runtime) -> None:
    gone = api.disconnect(fleet, SOURCE)
    assert (gone.state, gone.sealed_key) == (SourceState.DISCONNECTED, None)
    assert api.verify(fleet.storage, SOURCE).ok
    purged = api.purge(fleet, SOURCE, "the backend's own user")
    assert purged
    kinds = [event.kind for event in api.events(fleet) if event.source == SOURCE]
    # The signer works on its own, so the seal may come before the purge or not at all.
    assert [kind for kind in kinds if kind != "run.sealed"] == [
        "run.opened",
        "run.ended",
        "purge.asked",
        "purge.signed",
        "evidence.erased",
    ]
    assert (purged.runs, purged.by) == (("00000001",), "the backend's own user")
    assert api.runs(fleet, SOURCE) == []
    with raises(NotFound, match="were purged"):
        api.verify(fleet.storage, SOURCE)


def refuse(verdict: object) -> None:
    raise Fault(f"not that one: {verdict}")


main(json.load(sys.stdin))
