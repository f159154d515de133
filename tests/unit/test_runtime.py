"""The parts of a process: built when they are used, once, and replaced by tests."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from workers import runtime as module
from workers.errors import VaultFault
from workers.runtime import Runtime
from workers.settings.environment import Settings
from workers.storage import open_storage


def test_a_process_builds_only_the_parts_that_it_uses(tmp_path: Path) -> None:
    """Evidence can be read where the vault key can't, and where there is no Redis."""
    (tmp_path / "vault.key").touch(0o644)
    fleet = Runtime(Settings(data_dir=tmp_path))
    assert list(fleet.storage.list("")) == []
    with pytest.raises(VaultFault):
        _ = fleet.vault


def test_threads_that_ask_at_once_get_the_same_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two memories for pages would allow twice the memory."""

    def slowly(size: int) -> object:
        time.sleep(0.01)
        return [size]

    monkeypatch.setattr(module, "Room", slowly)
    fleet = Runtime(Settings())
    with ThreadPoolExecutor(8) as threads:
        rooms = {id(room) for room in threads.map(lambda _: fleet.room, range(8))}
    assert rooms == {id(fleet.room)}


def test_a_replaced_part_is_used_by_the_parts_that_were_not_built_yet() -> None:
    """And the parts that were built stay those of the runtime before."""
    storage: Any = open_storage("memory://")
    fleet = Runtime(Settings())
    other = fleet.replaced(room="a room", storage=storage)
    assert (other.room, other.storage) == ("a room", storage)
    assert other.replaced(storage="another").room == "a room"
    assert fleet.room is fleet.replaced().room
