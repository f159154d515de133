"""Pagetrail's functions for the command line, and for a backend in the same environment.

    from tasks import api
    from workers.runtime import runtime

    fleet = runtime()  # settings come from the environment, as for every process of the fleet
    api.connect(fleet, "acme/main", key, api.Wishes(every_seconds=3600))
    api.collect(fleet, "acme/main")

A source is named `tenant/name`. Arguments and results are frozen dataclasses. Every error is a `workers.errors.Fault`.
Its text is one sentence for a person and never holds a key: `UsageFault` (an argument is wrong; nothing was done),
`NotFound`, `Exists`, `KeyRefused`, `Busy` (try again later), `RedisUnreachable`, `StorageUnreachable`,
`StorageConflict`, `VaultFault`. No function prints or asks anything.

Every change of a source is one conditional write of its document in storage, which happens whole or not at all. If two
callers change a source at once, one of them gets `Busy`. If the change is lost in Redis, the fleet repeats it.
Functions that take a `Storage` need neither Redis nor vault keys.

A name's module is imported when the name is first used. So reading evidence doesn't load Redis.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.accounts.asking import budget
    from tasks.accounts.keys import Resealed, reseal_all
    from tasks.api.evidence import Export, artifacts, export, stored_run, stored_runs, verify
    from tasks.api.lives import (
        Agree,
        change,
        check,
        connect,
        disconnect,
        get,
        get_connected,
        hold,
        pause,
        pause_all,
        refuse_taken,
        release,
        resume,
        resume_all,
        rotate,
        sources,
    )
    from tasks.api.wishes import (
        DAY_SECONDS,
        LEAST_SECONDS,
        MOST_MONTHS,
        MOST_RESERVE,
        Changes,
        Wishes,
        check_wishes,
    )
    from tasks.api.work import cancel, collect, estimate, events, run, runs, status
    from tasks.runs.erasing import check_purge, purge

__all__ = [
    "DAY_SECONDS",
    "LEAST_SECONDS",
    "MOST_MONTHS",
    "MOST_RESERVE",
    "Agree",
    "Changes",
    "Export",
    "Resealed",
    "Wishes",
    "artifacts",
    "budget",
    "cancel",
    "change",
    "check",
    "check_purge",
    "check_wishes",
    "collect",
    "connect",
    "disconnect",
    "estimate",
    "events",
    "export",
    "get",
    "get_connected",
    "hold",
    "pause",
    "pause_all",
    "purge",
    "refuse_taken",
    "release",
    "reseal_all",
    "resume",
    "resume_all",
    "rotate",
    "run",
    "runs",
    "sources",
    "status",
    "stored_run",
    "stored_runs",
    "verify",
]

_HOMES = {
    "tasks.accounts.asking": "budget",
    "tasks.accounts.keys": "Resealed reseal_all",
    "tasks.api.evidence": "Export artifacts export stored_run stored_runs verify",
    "tasks.api.wishes": "Changes Wishes check_wishes DAY_SECONDS LEAST_SECONDS MOST_MONTHS MOST_RESERVE",
    "tasks.api.work": "cancel collect estimate events run runs status",
    "tasks.runs.erasing": "check_purge purge",
}
_LIVES = "tasks.api.lives"
"""The home of all other names."""


def __getattr__(name: str) -> Any:
    """Import the home of *name*, and keep the name here."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((home for home, names in _HOMES.items() if name in names.split()), _LIVES)
    found = globals()[name] = getattr(import_module(home), name)
    return found
