"""Tenants and their sources: each has a document in storage, which is the truth, and a copy of it in Redis."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.resources import files
from typing import Any, NamedTuple

import orjson
from redis import Redis
from redis.exceptions import LockError

from workers.errors import Busy, Exists, NotFound, StorageConflict
from workers.state.marks import MARK
from workers.state.recent import Recent
from workers.storage import Storage, Version
from workers.storage.registry import REGISTRY, Source, SourceState, document_key

log = logging.getLogger("pagetrail.sources")
_RECENT_SECONDS = 1.0
_READERS = 16  # threads that read documents while restoring
_ALONE_SECONDS, _WAIT_SECONDS = 30.0, 5.0
_BATCH = 500


class Restored(NamedTuple):
    """The number of documents that were copied to Redis, and the keys of unreadable ones."""

    copied: int
    unreadable: tuple[str, ...]


Listed = list[Source]  # spelt out here because a method named list hides the type
Sharers = list[dict[str, float]]  # the same


def source_ids(redis: Redis, prefix: str) -> list[str]:
    """Return the ids of the sources that Redis knows, sorted."""
    names = redis.hkeys(f"{prefix}:sources")
    found = (each.decode() if isinstance(each, bytes) else each for each in names)
    return sorted(name for name in found if name != MARK)


def every_source(redis: Redis, prefix: str) -> Iterator[list[Source]]:
    """Yield all sources that Redis knows, some hundreds at a time; a source that changes meanwhile may come twice."""
    cursor = None
    while cursor != 0:
        reply: Any = redis.hscan(f"{prefix}:sources", cursor or 0, count=_BATCH)
        cursor, documents = reply
        yield list(_readable(documents))


class Sources:
    """All sources. Safe to share between threads; every write goes to storage first.

    Raises `RedisUnreachable` and `StorageUnreachable` when Redis or storage fails. If storage took a write and Redis
    didn't, the next `fresh`, `save` or `restore` copies it to Redis.
    """

    def __init__(self, redis: Redis, storage: Storage, prefix: str) -> None:
        self._redis = redis
        self._storage = storage
        self._keys = [f"{prefix}:sources", f"{prefix}:credentials"]
        self._deciding = f"{prefix}:deciding"
        self._script = redis.register_script(
            files(__package__).joinpath("sources.lua").read_text("utf-8")
        )
        self._recent = Recent(self.get, _RECENT_SECONDS)
        self._reserves = Recent(self._reserve_for, _RECENT_SECONDS)

    def add(self, source: Source) -> Source:
        """Store a new source; `Exists` if its id is taken.

        A disconnected source may be connected again, but only to the same account. Its evidence continues, and a legal
        hold stays, and so does a purge that is not finished.
        """
        found = self._registered(source.id)
        if found is None:
            return self._store(replace(source, version=1), None)
        before, version = found
        if before.state is not SourceState.DISCONNECTED:
            raise Exists(
                f"{source.id} is connected already: `pagetrail source rotate {source.id}` changes "
                f"its key, `pagetrail source disconnect {source.id}` ends it."
            )
        if before.region != source.region or before.subdomain not in source.subdomains:
            raise Exists(
                f"{source.id} holds evidence of {before.subdomain} in region {before.region}, not "
                f"of {source.subdomain} in region {source.region}: choose another name for it."
            )
        again = replace(
            source,
            version=before.version + 1,
            held_since=before.held_since,
            purge=before.purge,
            newer=before.newer,
        )
        return self._store(again, version)

    def get(self, source_id: str) -> Source:
        """Return the source as Redis has it, or else as storage has it; `NotFound` if neither knows it."""
        text = self._redis.hget(self._keys[0], source_id)
        return self.fresh(source_id) if text is None else Source.from_json(text)

    def recent(self, source_id: str) -> Source:
        """Return the source as `get` does; changes by other processes may be seen a second late."""
        found = self._recent.get(source_id)
        return found if found.state is SourceState.ACTIVE else self.get(source_id)

    def fresh(self, source_id: str) -> Source:
        """Return the source as storage has it, without trusting Redis; `NotFound` if storage doesn't know it."""
        found = self._registered(source_id)
        if found is None:
            raise _missing(source_id)
        self._copy(found[0])
        return found[0]

    def list(self) -> Listed:
        """Return every source that Redis knows, in the order of their ids."""
        documents: Any = self._redis.hgetall(self._keys[0])
        return sorted(_readable(documents), key=lambda source: source.id)

    def save(self, source: Source) -> Source:
        """Store a changed source and return it as stored; `Busy` if it changed meanwhile."""
        found = self._registered(source.id)
        if found is None:
            raise NotFound(f"There is no source {source.id} any more: connect it again.")
        before, version = found
        if before.version != source.version:
            self._copy(before)
            raise changed(source.id)
        return self._store(replace(source, version=source.version + 1), version)

    @contextmanager
    def alone(self, source_id: str) -> Iterator[None]:
        """Hold the lock for decisions about a source's evidence, at most 30 s; `Busy` after waiting 5 s for it."""
        lock = self._redis.lock(f"{self._deciding}:{source_id}", timeout=_ALONE_SECONDS)
        if not lock.acquire(blocking_timeout=_WAIT_SECONDS):
            raise changed(source_id)
        try:
            yield
        finally:
            with suppress(LockError):  # it ended after 30 s, or Redis was emptied
                lock.release()

    def reserve_for(self, fingerprint: str) -> float:
        """Return the largest reserve of the sources that share a credential; 0 if no source uses it.

        Changes by other processes may be seen a second late.
        """
        return self._reserves.get(fingerprint)

    def _reserve_for(self, fingerprint: str) -> float:
        return max(self.sharers([fingerprint])[0].values(), default=0.0)

    def sharers(self, fingerprints: Sequence[str]) -> Sharers:
        """Return for each credential the sources that use it, with the reserve of each."""
        if not fingerprints:
            return []
        texts = self._redis.hmget(self._keys[1], list(fingerprints))
        return [orjson.loads(text) if text else {} for text in texts]

    def restore(self, beat: Callable[[], object] = lambda: None) -> Restored:
        """Copy to Redis the documents that it lacks or has in an older version; calls *beat* for each. Repeatable.

        An unreadable document is logged and named in the result, and the others are still copied.
        """
        keys = [stored.key for stored in self._storage.list(REGISTRY)]
        copied, unreadable = 0, []
        with ThreadPoolExecutor(_READERS) as readers:
            for key, result in zip(keys, readers.map(self._restore_one, keys), strict=True):
                beat()
                copied += bool(result)
                if result is None:
                    unreadable.append(key)
                    log.error("%s can't be read: restore it from a copy of the storage", key)
        return Restored(copied, tuple(unreadable))

    def _restore_one(self, key: str) -> bool | None:
        try:
            data = self._storage.get(key)
            source = None if data is None else _source_at(key, data)
        except (KeyError, TypeError, ValueError):
            return None
        return self._copy(source) if source else False

    def _registered(self, source_id: str) -> tuple[Source, Version] | None:
        found = self._storage.get_versioned(document_key(source_id))
        if found is None:
            return None
        try:
            return _source_at(document_key(source_id), found[0]), found[1]
        except (KeyError, TypeError, ValueError):
            raise StorageConflict(
                f"{document_key(source_id)} can't be read: restore it from a copy of the storage."
            ) from None

    def _store(self, source: Source, version: Version | None) -> Source:
        if not self._storage.replace_if(document_key(source.id), source.to_json(), version):
            raise changed(source.id)
        self._copy(source)
        return source

    def _copy(self, source: Source) -> bool:
        self._recent.forget()
        self._reserves.forget()
        reserve = "" if source.sealed_key is None else source.reserve
        return bool(
            self._script(
                keys=self._keys,
                args=[source.id, source.to_json(), source.version, source.fingerprint, reserve],
            )
        )


def _readable(documents: Mapping[bytes, bytes]) -> Iterator[Source]:
    """Yield the sources in Redis's copies; an unreadable copy is logged and skipped."""
    for name, text in documents.items():
        if name == MARK.encode():
            continue
        try:
            yield Source.from_json(text)
        except (KeyError, TypeError, ValueError):
            log.error(
                "the copy of %s in Redis can't be read: was it written by a newer version?",
                name.decode(),
            )


def _source_at(key: str, text: bytes) -> Source:
    """Return the source whose document lies under *key*; ValueError if it is another source's document."""
    source = Source.from_json(text)
    if document_key(source.id) != key:
        raise ValueError("it is the document of another source")
    return source


def _missing(source_id: str) -> NotFound:
    return NotFound(
        f"There is no source {source_id}: `pagetrail source list` shows all sources, "
        f"`pagetrail source connect {source_id}` makes this one."
    )


def changed(source_id: str) -> Busy:
    """Return the fault for two changes of a source at once."""
    return Busy(f"Somebody else changed {source_id} at the same moment: look at it and try again.")
