"""What Pagetrail can be asked to do: functions for the command line, and for a backend in the same environment.

    from tasks import api
    from workers.runtime import runtime

    fleet = runtime()  # settings come from the environment, as for every process of the fleet
    api.connect(fleet, "acme/main", key, api.Wishes(every_seconds=3600))
    api.collect(fleet, "acme/main")

A source is named `tenant/name`. Everything that goes in or comes out is a frozen dataclass. What goes wrong is a
`workers.errors.Fault` whose text is one sentence for a person and never holds a key: `UsageFault` (what was given
can't be right; nothing was done), `NotFound`, `Exists`, `KeyRefused`, `Busy` (trying again later helps),
`RedisUnreachable`, `StorageUnreachable`, `StorageConflict`, `VaultFault`. Nothing here prints or asks.

Every change of a source is one conditional write of its document in storage, which happens whole or not at all; of two
changes at once one raises `Busy`. What follows from it in Redis is repeated by the fleet where it got lost. Functions
that take a `Storage` need storage alone, neither Redis nor vault keys.
"""

from tasks.api.evidence import Export, artifacts, export, verify
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
from tasks.runs.asking import budget
from tasks.runs.erasing import check_purge, purge
from tasks.runs.keys import Resealed, reseal_all

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
    "verify",
]
