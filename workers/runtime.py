"""Builds the parts of a worker process once; tests build them from parts of their own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from redis import Redis

from workers.pagerduty.client import PagerDuty
from workers.pagerduty.regions import RegionGate
from workers.process.measured import MeasuredStorage
from workers.room import Room
from workers.settings.environment import Settings, load_settings
from workers.settings.vault import Vault
from workers.state.client import connect
from workers.state.daily import Daily
from workers.state.events import Events
from workers.state.ledger import Ledger, Times
from workers.state.limiter import Limiter
from workers.state.marks import Marks
from workers.state.sources import Sources
from workers.state.switch import Switch
from workers.state.troubles import Troubles
from workers.storage import Storage, open_storage


@dataclass(frozen=True, slots=True)
class Runtime:
    """What every task needs; safe to share between threads."""

    settings: Settings
    redis: Redis
    storage: Storage
    vault: Vault
    marks: Marks
    sources: Sources
    switch: Switch
    troubles: Troubles
    daily: Daily
    events: Events
    limiter: Limiter
    pagerduty: PagerDuty
    ledger: Ledger
    regions: RegionGate
    room: Room


def build(settings: Settings) -> Runtime:
    """Return the parts that *settings* describe. Connects to nothing yet; raises `Fault`."""
    prefix = settings.key_prefix
    redis = connect(settings.redis_url_or_embedded())
    storage = MeasuredStorage(open_storage(settings.storage_url_or_default))
    vault = Vault(settings.vault_keys_or_file())
    times = Times(
        page_lease=settings.page_lease_seconds,
        offer_lost=settings.offer_lost_seconds,
        probe_first=settings.probe_seconds,
        probe_most=settings.probe_max_seconds,
        give_up=settings.suspend_hours * 3600,
        seal_lease=settings.seal_lease_seconds,
    )
    return Runtime(
        settings=settings,
        redis=redis,
        storage=storage,
        vault=vault,
        marks=Marks(redis, prefix),
        sources=Sources(redis, storage, vault, prefix),
        daily=Daily(redis, prefix),
        events=Events(redis, prefix),
        troubles=Troubles(redis, prefix),
        switch=Switch(redis, storage, prefix),
        limiter=Limiter(redis, prefix),
        pagerduty=PagerDuty(settings.regions),
        ledger=Ledger(redis, prefix, times),
        regions=RegionGate(settings.worker_slots),
        room=Room(settings.pages_memory_mb * 2**20),
    )


@cache
def runtime() -> Runtime:
    """Return this process's parts, built on first use."""
    return build(load_settings())
