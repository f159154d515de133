"""Follow a run to its manifest, and the runs that read its backlog."""

from __future__ import annotations

import time
from collections.abc import Callable

from tasks.cli import sights
from tasks.evidence.erasures import Purged
from tasks.evidence.manifests import read_manifest
from tasks.reading.sealed import Manifest
from tasks.watching.activity import Activity
from tasks.watching.census import Sight, census
from workers.errors import Fault, RedisUnreachable
from workers.runtime import Runtime
from workers.settings.environment import load_settings
from workers.state.client import connect
from workers.state.faults import is_outage
from workers.storage.registry import Source, SourceState

POLL_SECONDS = 0.5
SILENCE_SECONDS = 60.0
"""How long Redis or the fleet may be away, for example while it restarts."""


class Follower:
    """Waits until the fleet has sealed a run. It goes on after a restart of the fleet or of Redis."""

    def __init__(
        self,
        fleet: Runtime,
        source: Source,
        show: Callable[[Sight], None],
        say: Callable[[str], None],
    ) -> None:
        self._fleet = fleet
        self._source = source
        self._show = show
        self._say = say
        self._said = ""
        self._paused = False  # whether all requests are paused
        self._away_since: float | None = None

    def follow(self, run: str) -> list[Manifest]:
        """Return the manifests of *run* and of the runs that read its backlog.

        Raises `Fault` if Redis or the fleet stays away. The run itself isn't lost: it waits for them.
        """
        manifests = [self._sealed(run)]
        while manifests[-1].continues:
            following = self._next(manifests[-1].run)
            if following is None:
                break
            manifests.append(self._sealed(following))
        return manifests

    def _sealed(self, run: str) -> Manifest:
        while True:
            sight = self._look()
            ours = sight is not None and sight.progress.run == run
            ended = not (ours and sight and sight.progress.pages)
            manifest = read_manifest(self._fleet.storage, self._source.id, run) if ended else None
            if manifest:
                return manifest
            if sight and ours:
                self._show(sight)
                if self._away_since is None:
                    self._explain(self._sentence(sight))
            time.sleep(POLL_SECONDS)

    def _next(self, run: str) -> str | None:
        """Return the run after *run*, or None if the source was stopped before one was opened."""
        while True:
            newest = Purged(self._fleet.storage, self._source.id).newest(run)
            if newest > run:
                return newest
            sight = self._look()
            if sight and self._fleet.sources.get(self._source.id).state is not SourceState.ACTIVE:
                return None
            if sight and self._away_since is None:
                self._explain(self._sentence(sight))
            time.sleep(POLL_SECONDS)

    def _look(self) -> Sight | None:
        """Return the source as it is now, or None while Redis is away."""
        try:
            found = census(self._fleet, [self._source])
        except RedisUnreachable as fault:
            away = "Redis is away: waiting for it." if is_outage(fault) else str(fault)
            self._wait_for(away, fault)
            return None
        if found.working:
            self._away_since = None
        else:
            self._wait_for(
                "No fleet is at work: start one with `pagetrail up`. Waiting for it.",
                Fault(
                    f"No fleet is at work: start it with `pagetrail up`, then `pagetrail collect "
                    f"{self._source.id} --wait` follows the run that is open."
                ),
            )
        self._paused = found.paused
        return found.sights[0]

    def _wait_for(self, words: str, fault: Fault) -> None:
        now = time.monotonic()
        self._away_since = self._away_since or now
        if now - self._away_since > SILENCE_SECONDS:
            raise fault
        self._explain(words)
        if isinstance(fault, RedisUnreachable):
            self._fleet = found_again(self._fleet)

    def _sentence(self, sight: Sight) -> str:
        """Return a sentence that says how a person can help, if the run waits for a person; else \"\"."""
        source, now = self._source.id, sight.doing
        if trouble := sight.troubles.get("run"):
            return trouble
        match now.activity:
            case Activity.PAUSED if self._paused:
                return "All requests are paused: `pagetrail source resume --all` resumes them."
            case Activity.PAUSED:
                return f"{source} is paused: `pagetrail source resume {source}` resumes it."
            case Activity.SUSPENDED:
                return (
                    "PagerDuty refuses the key, so the run is suspended: "
                    f"`pagetrail source rotate {source}` replaces it."
                )
            case Activity.WORKER:
                return f"No worker takes the messages of {source}: start more workers, or wait."
            case Activity.STUCK:
                return f"{source} is stuck: {sights.STUCK[now.why]}."
        return ""

    def _explain(self, words: str) -> None:
        if words != self._said:
            self._said = words
            if words:
                self._say(words)


def found_again(fleet: Runtime) -> Runtime:
    """Return the fleet with the present address of Redis. An embedded Redis has another one after a restart."""
    try:
        return Runtime(settings := load_settings(), redis=connect(settings.redis_url_or_embedded()))
    except RedisUnreachable:
        return fleet
