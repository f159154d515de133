"""The runs that have outlived a retention."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tasks.evidence.layout import manifest_key, plan_key, seal_key
from tasks.evidence.manifests import account_of
from tasks.runs.erasing import months_before, outlived
from tests.manifests import manifest_document, manifest_text
from tests.unit.state.test_sources import SOURCE
from workers.errors import StorageConflict
from workers.storage import Storage, open_storage
from workers.storage.registry import SourceState

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
KEPT = replace(SOURCE, retention_months=6)  # since 25 May


@pytest.mark.parametrize(
    ("when", "months", "before"),
    [
        ("2026-11-25", 6, "2026-05-25"),
        ("2026-11-25", 11, "2025-12-25"),
        ("2026-01-31", 1, "2025-12-31"),
        ("2026-03-31", 1, "2026-02-28"),
        ("2024-03-31", 1, "2024-02-29"),
        ("2026-12-31", 12, "2025-12-31"),
        ("2026-11-25", 24, "2024-11-25"),
    ],
)
def test_months_are_those_of_the_calendar(when: str, months: int, before: str) -> None:
    assert f"{months_before(datetime.fromisoformat(when), months):%Y-%m-%d}" == before


def storage_of(*sealed_at: str | None, unsealed: tuple[str, ...] = ()) -> Storage:
    """Return a storage with runs that ended on these days. None stands for an open run."""
    storage = open_storage("memory://")
    for number, day in enumerate(sealed_at, 1):
        run = f"{number:08d}"
        storage.put_new(plan_key(SOURCE.id, run), b"{}")
        if day:
            manifest = manifest_document(source=SOURCE.id, run=run, sealed_at=f"{day}T12:00:00Z")
            storage.put_new(manifest_key(SOURCE.id, run), manifest_text(manifest))
            if run not in unsealed:
                storage.put_new(seal_key(SOURCE.id, run), b"a seal")
    return storage


@pytest.mark.parametrize(
    ("sealed_at", "count"),
    [
        ([], 0),
        (["2026-11-01"], 0),
        (["2025-01-01"], 0),  # the next run continues from it
        (["2025-01-01", "2025-02-01"], 1),
        (["2025-01-01", "2026-05-24", "2026-05-26"], 2),
        (["2025-01-01", "2026-05-25", "2026-06-01"], 1),  # isn't older than six months yet
        (["2026-06-01", "2025-01-01", "2026-06-01"], 0),  # a clock was wrong: run 1 first
        (["2025-01-01", "2025-02-01", None], 1),  # the open run may never be sealed
        (["2025-01-01", "2025-02-01", None, "2025-03-01", "2026-06-01"], 1),
    ],
)
def test_runs_are_erased_from_the_oldest_on(sealed_at: list[str | None], count: int) -> None:
    found = outlived(storage_of(*sealed_at), KEPT, NOW)
    assert found == [f"{number:08d}" for number in range(1, count + 1)]


def test_an_oldest_run_without_a_manifest_is_named_and_does_not_keep_all_others_silently() -> None:
    storage = storage_of(None, "2025-01-01", "2025-02-01", "2025-03-01")
    with pytest.raises(StorageConflict, match=r"Run 00000001 .* has no manifest"):
        outlived(storage, KEPT, NOW)


def test_a_run_without_a_seal_stays_with_all_later_ones() -> None:
    """Nobody has signed what it holds, so only a purge of all runs erases it."""
    days = ("2025-01-01", "2025-02-01", "2025-03-01")
    assert outlived(storage_of(*days, unsealed=("00000002",)), KEPT, NOW) == ["00000001"]
    with pytest.raises(StorageConflict, match=r"Run 00000001 .* has no seal"):
        outlived(storage_of(*days, unsealed=("00000001",)), KEPT, NOW)
    gone = replace(KEPT, state=SourceState.DISCONNECTED)
    assert len(outlived(storage_of(*days, unsealed=("00000001",)), gone, NOW)) == 3


def test_a_source_that_is_disconnected_keeps_no_run_for_the_next() -> None:
    gone = replace(KEPT, state=SourceState.DISCONNECTED)
    assert len(outlived(storage_of("2025-01-01", "2025-02-01"), gone, NOW)) == 2


def test_without_retention_nothing_is_outlived() -> None:
    assert outlived(storage_of("2009-01-01", "2009-01-02"), SOURCE, NOW) == []


def test_a_run_that_cannot_be_read_hides_no_account() -> None:
    """If a run has no plan, the run before shows the account of the evidence.

    So connect, check and rotate still work.
    """
    storage = open_storage("memory://")
    account = {"region": "eu", "subdomain": "acme"}
    manifest = manifest_document(source=SOURCE.id, account=account)
    storage.put_new(manifest_key(SOURCE.id, "00000001"), manifest_text(manifest))
    storage.put_new(f"{SOURCE.id}/runs/00000002/pages/teams/all.1/000000.json.zst", b"")
    storage.put_new(manifest_key(SOURCE.id, "00000003"), b"damaged")
    assert account_of(storage, SOURCE.id) == ("eu", "acme")
