"""The parts of one process, each built when it is first used; tests replace some of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from threading import RLock
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from redis import Redis

import workers
from workers.pagerduty.regions import RegionGate
from workers.process.measured import MeasuredStorage
from workers.room import Room
from workers.settings.environment import Settings, load_settings
from workers.settings.vault import Vault
from workers.state import client
from workers.state.daily import Daily
from workers.state.events import Events
from workers.state.ledger import Ledger, Times
from workers.state.limiter import Limiter
from workers.state.marks import Marks
from workers.state.seal_keys import SealKeys
from workers.state.sources import Sources
from workers.state.switch import Switch
from workers.state.troubles import Troubles
from workers.state.unsealed import Unsealed
from workers.storage import Storage, open_storage

if TYPE_CHECKING:
    from workers.pagerduty.client import PagerDuty
    from workers.process.sender import Sender
    from workers.signing.heads import Heads
    from workers.signing.keys import KeyStore
    from workers.signing.signers import PrivateKey

T = TypeVar("T")
_building = RLock()  # a part may need other parts


class Part(Generic[T]):
    """A part of a runtime, built once, by the first thread that uses it.

    The built part is then kept in the runtime's own dictionary, where Python looks first. So later uses take no lock.
    """

    def __init__(self, build: Callable[[Any], T]) -> None:
        self._build = build

    def __set_name__(self, owner: type[Runtime], name: str) -> None:
        self._name = name

    def __get__(self, runtime: Runtime, owner: type[Runtime]) -> T:
        with _building:
            parts = vars(runtime)
            if self._name not in parts:
                parts[self._name] = self._build(runtime)
            built: T = parts[self._name]
            return built


class Runtime:
    """Everything that a task needs; safe to share between threads.

    A process builds only the parts that it uses. So a process that reads evidence needs no Redis, and one that opens no
    API key needs no vault. Building a part doesn't connect to anything. It raises a `Fault` if the settings are wrong.
    """

    def __init__(self, settings: Settings, **parts: Any) -> None:
        """Use *parts* instead of those that *settings* describe."""
        self.settings = settings
        vars(self).update(parts)

    def replaced(self, **parts: Any) -> Runtime:
        """Return a runtime with *parts* of its own; it shares the other parts that were built already."""
        return Runtime(**(vars(self) | parts))

    def check(self) -> None:
        """Raise the `Fault` of the vault, Redis or storage that would keep a worker from working."""
        _ = self.vault  # reads the vault keys
        client.check(self.redis, self.settings.key_prefix)
        self.storage.check()

    def check_signer(self) -> None:
        """Raise the `Fault` that would keep a signer from working: of its key, its own store, Redis or storage."""
        today = datetime.now(UTC).date()
        self.public_keys.use(self.private_key.opened(today).public, today)
        client.check(self.redis, self.settings.key_prefix)
        self.storage.check()

    @Part
    def redis(self) -> Redis:
        return client.connect(self.settings.redis_url_or_embedded())

    @Part
    def storage(self) -> Storage:
        return MeasuredStorage(open_storage(self.settings.storage_url_or_default))

    @Part
    def vault(self) -> Vault:
        return Vault(self.settings.vault_keys_or_file())

    @Part
    def heads_storage(self) -> Storage:
        return open_storage(self.settings.heads_url_or_default)

    @Part
    def heads(self) -> Heads:
        from workers.signing.heads import Heads  # only the signer needs them

        return Heads(self.heads_storage)

    @Part
    def public_keys(self) -> KeyStore:
        from workers.signing.keys import (
            KeyStore,  # slow to load, and only seals need it
        )

        return KeyStore(self.heads_storage)

    @Part
    def private_key(self) -> PrivateKey:
        from workers.signing.signers import PrivateKey  # the same

        if self.settings.signer_uri is None:
            self.settings.make_data_dir()
        return PrivateKey(self.settings.signer_uri, self.settings.data_dir / "signer.key")

    @Part
    def sender(self) -> Sender:
        # Imported only here, with Celery: most commands send no message.
        from workers.process.sender import Sender

        return Sender(workers.celery)

    @Part
    def marks(self) -> Marks:
        return Marks(self.redis, self.settings.key_prefix)

    @Part
    def sources(self) -> Sources:
        return Sources(self.redis, self.storage, self.settings.key_prefix)

    @Part
    def switch(self) -> Switch:
        return Switch(self.redis, self.storage, self.settings.key_prefix)

    @Part
    def troubles(self) -> Troubles:
        return Troubles(self.redis, self.settings.key_prefix)

    @Part
    def daily(self) -> Daily:
        return Daily(self.redis, self.settings.key_prefix)

    @Part
    def unsealed(self) -> Unsealed:
        return Unsealed(self.redis, self.settings.key_prefix)

    @Part
    def seal_keys(self) -> SealKeys:
        return SealKeys(self.redis, self.settings.key_prefix)

    @Part
    def events(self) -> Events:
        return Events(self.redis, self.settings.key_prefix)

    @Part
    def limiter(self) -> Limiter:
        return Limiter(self.redis, self.settings.key_prefix)

    @Part
    def pagerduty(self) -> PagerDuty:
        # Imported only here: loading it takes a sixth of a command's start, and few commands ask PagerDuty.
        from workers.pagerduty.client import PagerDuty

        return PagerDuty(self.settings.regions)

    @Part
    def ledger(self) -> Ledger:
        return Ledger(self.redis, self.settings.key_prefix, times_of(self.settings))

    @Part
    def regions(self) -> RegionGate:
        return RegionGate(self.settings.worker_slots)

    @Part
    def room(self) -> Room:
        return Room(self.settings.pages_memory_mb * 2**20)


def times_of(settings: Settings) -> Times:
    """Return the ledger's times, as the settings give them."""
    return Times(
        page_lease=settings.page_lease_seconds,
        offer_lost=settings.offer_lost_seconds,
        probe_first=settings.probe_seconds,
        probe_most=settings.probe_max_seconds,
        give_up=settings.suspend_hours * 3600,
        seal_lease=settings.seal_lease_seconds,
    )


@cache
def runtime() -> Runtime:
    """Return this process's runtime, made on first use."""
    return Runtime(load_settings())
