"""The ledger's account of one source: its open run, its pages by state, and when it is due."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from workers.decoding import convert

_COUNTS = ("requests", "unsure", "ahead")
"""Counts per feed or resource, which the ledger keeps as `<count>:<name>`."""
_TIMES = ("offered_at", "claimed_at", "due_at", "look_at")


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """One source as it was at `now`. Times are in ms of Redis's clock; None: there isn't one.

    Other fields, which a run of a newer version may have, are ignored.
    """

    now: int = 0
    run: str = ""  # id of the open run; "" if no run is open
    queue: str = ""
    hold: str = ""  # why its requests are stopped: "key", "paused" ...
    verdict: str = ""  # why it ends without its remaining pages: "refused", "silent", "cancelled"
    why: str = ""  # why pages came back since the last success
    why_at: int | None = None  # since when

    pages: int = 0  # open pages; the next four numbers are parts of it
    ready: int = 0
    later: int = 0
    offered: int = 0
    claimed: int = 0
    apart: int = 0  # part of `later`: pages that wait alone for a budget of their own
    closed: int = 0

    offered_at: int | None = None  # of the oldest offered page
    claimed_at: int | None = None  # of the oldest claimed page
    success_at: int | None = None
    wait_until: int | None = None  # the whole run waits until then
    empty_at: int | None = None  # when its last page was closed
    seal_at: int | None = None
    seal_lease: int | None = None  # when the lease of its sealer ends
    seals: int = 0  # sealers it had, one after another
    lanes: int = 0

    due_at: int | None = None  # of the next run
    look_at: int | None = None  # when the source is looked at next

    requests: dict[str, int] = msgspec.field(default_factory=dict)  # sent, by resource
    unsure: dict[str, int] = msgspec.field(default_factory=dict)
    """By feed, open pages whose answers tell how many more follow."""
    ahead: dict[str, int] = msgspec.field(default_factory=dict)
    """By feed, expected pages that are not open yet."""


def read_progress(reply: bytes) -> Progress:
    """Return the account in the *reply* of the ledger's script."""
    told = orjson.loads(reply)
    flat = told.pop("run") or ()
    # Scores of sorted sets, which may lie between two milliseconds.
    told |= {name: round(told[name]) for name in _TIMES if told.get(name) is not None}
    fields: dict[str, Any] = {}
    for name, value in zip(flat[::2], flat[1::2], strict=True):
        count, _, of = name.partition(":")
        if count not in _COUNTS:
            fields[name] = value
        elif of:
            fields.setdefault(count, {})[of] = value
    return convert(fields | dict.fromkeys(_TIMES) | told, Progress, strict=False)
