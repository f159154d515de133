"""Two hundred honest histories, with everything that may go wrong in them. Prints how often each thing happened."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from redis import Redis

from tests.integration.history import FAULTS
from tests.integration.honest import live, new_history

FIRST = int(os.environ.get("HONEST_FIRST", "1000"))
HISTORIES = int(os.environ.get("HONEST_HISTORIES", "200"))
HAPPENS = {
    *(f"fault {kind}" for kind in (*FAULTS, "unauthorized")),
    *(f"a run ended {state}" for state in ("complete", "partial", "cancelled")),
    *(f"a run ended because it was {ended}" for ended in ("done", "cancelled")),
    *("a run was cancelled", "a run was due", "lists moved"),
    *("a run was reopened from storage", "Redis was emptied"),
    *("a message was lost", "a message came twice"),
    *("a process died before it wrote", "a process died after it wrote"),
    *("a page was stored after the seal", "a page was stored after its run was purged"),
    *("a key lacked a right", "a plan lacked a feature", "settings were changed"),
    *("a source was paused and resumed", "all requests were paused and resumed"),
    *("a source was held", "a source was released", "a source got a new key"),
    *("a source was disconnected and connected again", "an account was renamed"),
    *(
        "a person purged all runs",
        "a retention erased runs",
        "a person purged runs that had no seal yet",
    ),
    *("a hold kept a purge from erasing", "a hold kept a retention from erasing"),
    *("the signer died while it sealed", "the signer got a new key", "the signer lost its head"),
    *("the signer was away for a while", "the signer's store was restored from an older copy"),
    "an auditor looked in between",
}
"""Everything that has to happen in some history."""
happened: Counter[str] = Counter()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(FIRST, FIRST + HISTORIES))
def test_an_honest_history_raises_no_alarm(
    seed: int, tmp_path: Path, redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with new_history(seed, tmp_path, redis, redis_url, monkeypatch) as history:
        try:
            live(history)
            history.finish()
        finally:
            happened.update(history.happened)
            happened.update({f"event {kind}": n for kind, n in history.heard.kinds.items()})


def test_everything_happened() -> None:
    """Otherwise the histories above say little."""
    print()
    for what, times in sorted(happened.items()):
        print(f"{times:7d}  {what}")
    assert HAPPENS - {what for what, times in happened.items() if times} == set()
