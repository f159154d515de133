"""The signer gets a new key, and the list of public keys loses none."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tasks.api import seal_keys
from workers.signing.keys import KEYS, KeyStore
from workers.signing.signers import PrivateKey
from workers.storage import open_storage


@pytest.mark.parametrize("used", [False, True])
def test_the_old_key_is_kept_although_an_older_copy_of_the_store_lacks_it(
    tmp_path: Path, *, used: bool
) -> None:
    """The signer sealed with it, then its store was restored, and then the key is replaced at once."""
    today = datetime.now(UTC).date()
    heads, private = open_storage("memory://"), PrivateKey(None, tmp_path / "signer.key")
    keys = KeyStore(heads)
    fleet = cast(Any, SimpleNamespace(private_key=private, public_keys=keys))
    ids = []
    if used:
        ids.append(keys.use(private.opened(today).public, today).keys[-1].id)
        heads.delete(KEYS)
    ids.append(seal_keys.rotate(fleet).keys[-1].id)
    assert [key.id for key in keys.read().keys] == ids
    assert [key.last_day for key in keys.read().keys] == [*([today] if used else []), None]
