"""`verify` finds nothing in honest histories, and the signer refuses none of them. `make honest` tries many more."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis

from tests.integration.honest import live, new_history


@pytest.mark.parametrize("seed", [0, 6, 7])
def test_an_honest_history_raises_no_alarm(
    seed: int, tmp_path: Path, redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers die, Redis is emptied, pages come late, runs are purged, keys change, the signer forgets."""
    with new_history(seed, tmp_path, redis, redis_url, monkeypatch) as history:
        live(history)
        history.finish()
        assert history.heard.kinds["run.sealed"] > 1
