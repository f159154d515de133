"""Events for a backend: a stream of bounded length in Redis, to which every event is added at least once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct
from redis import Redis

from workers.decoding import convert
from workers.state.client import now_ms

DAY_SECONDS = 86_400
MOST = 50_000
"""About how many events are kept. They take 32 MB of Redis as a rule, and never more than 75 MB (docs/events.md)."""
START = "0"
"""The position before the oldest event."""
_BATCH = 500
_BLOCK_MS = 2_000  # below SOCKET_SECONDS, after which a connection counts as dead


class EventData(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The data of one kind of event; each kind is a subclass. Never give it a secret."""

    kind: ClassVar[str]
    of_run: ClassVar[bool] = True  # whether the event is about one run


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """Something that became true, as the stream holds it. Every repeat has the same `id`."""

    format: Literal[1] = 1
    id: Annotated[str, Meta(description="The same for every repeat of the event", max_length=250)]
    kind: str
    at: Annotated[datetime, Meta(tz=True, description="When it was sent, by Redis's clock")]
    source: str
    run: str | None
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(StoredEvent):
    """An event, and its place in the stream."""

    position: str


class Events:
    """The stream of one fleet. Safe to share between threads. docs/events.md has every kind."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis: Any = redis  # the stubs allow awaitables as replies
        self._stream = f"{prefix}:events"
        self._told = f"{prefix}:told"

    def emit(
        self,
        data: EventData,
        source: str,
        run: str | None = None,
        *,
        about: str = "",
        quiet_seconds: int = 0,
    ) -> None:
        """Add an event, unless the same one was added in the last *quiet_seconds*.

        Its id is made of source, run, kind and *about*. If the process dies meanwhile, the event was added whole or
        not at all.
        """
        event_id = "/".join(part for part in (source, run, data.kind, about) if part)
        told = f"{self._told}:{event_id}"
        if quiet_seconds and self._redis.exists(told):
            return
        at = now_ms(self._redis)
        event = StoredEvent(
            id=event_id,
            kind=data.kind,
            at=datetime.fromtimestamp(at / 1000, UTC),
            source=source,
            run=run,
            data=msgspec.to_builtins(data),
        )
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.xadd(self._stream, {"event": msgspec.json.encode(event)}, maxlen=MOST)
            if quiet_seconds:
                pipe.set(told, 1, ex=quiet_seconds)
            pipe.execute()

    def read(self, after: str = START, *, follow: bool = False) -> Iterator[Event]:
        """Yield the events after a position, oldest first; with *follow*, go on forever and wait for new ones.

        Events that newer ones have pushed out of the stream are skipped.
        """
        while True:
            found = self._redis.xread(
                {self._stream: after}, count=_BATCH, block=_BLOCK_MS if follow else None
            )
            for position, fields in found[0][1] if found else ():
                after = position.decode()
                event = msgspec.json.decode(fields[b"event"])
                yield convert(event | {"position": after}, Event)
            if not found and not follow:
                return
