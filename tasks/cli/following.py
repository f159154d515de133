"""Follows a run to its manifest, and the runs that go on with its backlog."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from tasks.manifests import read_manifest, runs_of
from workers.errors import Fault, RedisUnreachable, redis_faults
from workers.runtime import Runtime, build
from workers.settings import load_settings
from workers.sources import State

POLL_SECONDS = 0.5
ASLEEP_SECONDS = 10.0
"""A fleet ticks every second; silence for this long is worth a word."""
PATIENCE_SECONDS = 60.0
"""How long Redis or the fleet may be away: both may be being restarted."""

ALL_PAUSED = "all requests are paused"

Progress = Mapping[str, Any]


class Follower:
    """Waits for what the fleet does; a fleet or a Redis that restarts meanwhile is waited for."""

    def __init__(
        self,
        fleet: Runtime,
        source: str,
        show: Callable[[str, Progress], None],
        say: Callable[[str], None],
    ) -> None:
        self._fleet = fleet
        self._source = source
        self._show = show
        self._say = say
        self._said = ""
        self._away_since: float | None = None

    def follow(self, run: str) -> list[dict[str, Any]]:
        """Return the manifests of *run* and of the runs that went on with its backlog.

        Raises `Fault` when Redis or the fleet stays away; the run then waits for them.
        """
        manifests = [self._sealed(run)]
        while manifests[-1]["continues"]:
            following = self._next(manifests[-1]["run"])
            if following is None:
                break
            manifests.append(self._sealed(following))
        return manifests

    def _sealed(self, run: str) -> dict[str, Any]:
        while True:
            progress = self._look() or {"pages": 0}
            ended = progress.get("run") != run or not progress["pages"]
            manifest = read_manifest(self._fleet.storage, self._source, run) if ended else None
            if manifest:
                return manifest
            if progress.get("run") == run:
                self._show(run, progress)
                self._explain(str(progress.get("hold", "")))
            time.sleep(POLL_SECONDS)

    def _next(self, run: str) -> str | None:
        """Return the run after *run*; None if there will be none, the source being stopped."""
        while True:
            newest = runs_of(self._fleet.storage, self._source)[-1]
            if newest > run:
                return newest
            if self._look() and self._fleet.sources.get(self._source).state is not State.ACTIVE:
                return None
            time.sleep(POLL_SECONDS)

    def _look(self) -> Progress | None:
        """Return the ledger's progress; None while Redis is away."""
        try:
            with redis_faults():
                clock = self._fleet.ledger.time()
                progress = self._fleet.ledger.progress(self._source)
                if self._fleet.switch.paused():
                    progress["hold"] = ALL_PAUSED
        except RedisUnreachable as fault:
            self._wait_for("Redis is away, waiting for it.", fault)
            return None
        tick_age = (clock.now_ms - (clock.tick_ms or 0)) / 1000
        if tick_age > ASLEEP_SECONDS:
            self._wait_for(
                "No fleet is at work, waiting for one: start it with `pagetrail up`.",
                Fault(
                    f"No fleet is at work: start it with `pagetrail up`, then `pagetrail collect "
                    f"{self._source} --wait` follows the run that is open."
                ),
            )
        else:
            self._away_since = None
        return progress

    def _wait_for(self, words: str, fault: Fault) -> None:
        now = time.monotonic()
        self._away_since = self._away_since or now
        if now - self._away_since > PATIENCE_SECONDS:
            raise fault
        self._explain(words)
        if isinstance(fault, RedisUnreachable):
            self._reconnect()

    def _reconnect(self) -> None:
        """Look where Redis is now: an embedded one has a new address after a restart."""
        try:
            self._fleet = build(load_settings())
        except RedisUnreachable:
            time.sleep(POLL_SECONDS)

    def _explain(self, words: str) -> None:
        sentences = {
            "key": "PagerDuty refuses the key, so the run is suspended: `pagetrail source rotate "
            f"{self._source}` gives it another.",
            ALL_PAUSED: "All requests are paused: `pagetrail source resume --all` lets them go on.",
            "paused": f"{self._source} is paused: `pagetrail source resume {self._source}`.",
        }
        if words != self._said:
            self._said = words
            if words:
                self._say(sentences.get(words, words))
