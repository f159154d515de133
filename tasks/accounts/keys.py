"""The API keys of sources: open one for a request, and seal all again when the vault gets a new key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from workers.errors import Fault, VaultFault
from workers.runtime import Runtime
from workers.settings.vault import Vault
from workers.storage.registry import Source


@dataclass(frozen=True, slots=True)
class Resealed:
    """How many keys were sealed again, how many needed no change, and which could not be sealed."""

    resealed: int
    already: int
    failed: Mapping[str, str]  # id of the source, or storage key of its document -> the reason


def key_of(vault: Vault, source: Source) -> str:
    """Return the API key of *source*, for one request; `VaultFault` if it can't be opened."""
    if source.sealed_key is None:
        raise VaultFault(f"{source.id} is disconnected, its key is destroyed: connect it again.")
    return vault.open(source.sealed_key, source.id)


def reseal_all(fleet: Runtime) -> Resealed:
    """Seal every key with the first vault key, also those of sources that Redis has lost. Safe to repeat."""
    failed = {
        key: f"{key} can't be read: restore it from a copy of the storage."
        for key in fleet.sources.restore().unreadable
    }
    changed: list[bool] = []
    for source in fleet.sources.list():
        try:
            changed.append(_reseal(fleet, source))
        except Fault as fault:
            failed[source.id] = str(fault)
    return Resealed(changed.count(True), changed.count(False), failed)


def _reseal(fleet: Runtime, source: Source) -> bool:
    """Seal the key of *source* with the first vault key; False if it already was."""
    if source.sealed_key is None or fleet.vault.seals_with_first(source.sealed_key):
        return False
    key = key_of(fleet.vault, source)
    fleet.sources.save(replace(source, sealed_key=fleet.vault.seal(key, source.id)))
    return True
