"""Sources in a real Redis and a real storage directory."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from redis import Redis

from tasks.accounts.keys import Resealed, key_of, reseal_all
from tests.unit.state.test_sources import SOURCE
from workers.errors import Busy, Exists, Fault, NotFound, StorageConflict, VaultFault
from workers.runtime import Runtime
from workers.settings.environment import Settings
from workers.settings.vault import Vault
from workers.settings.vault_keys import generate_key
from workers.state.client import impatient
from workers.state.sources import Sources, every_source
from workers.storage import Storage, open_storage
from workers.storage.registry import Source, SourceState

Make = Callable[..., Source]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage((tmp_path / "artifacts").as_uri())


@pytest.fixture
def vault() -> Vault:
    return Vault([generate_key()])


@pytest.fixture
def sources(redis: Redis, storage: Storage, prefix: str) -> Sources:
    return Sources(redis, storage, prefix)


@pytest.fixture
def make(vault: Vault) -> Make:
    """Make a source with a key that its vault sealed."""

    def made(source_id: str = "acme/main", **changes: object) -> Source:
        sealed = vault.seal("u+abcdefghijklmnop12", source_id)
        return replace(SOURCE, id=source_id, sealed_key=sealed, **changes)  # type: ignore[arg-type]  # any field

    return made


def disconnected(source: Source) -> Source:
    return replace(source, state=SourceState.DISCONNECTED, sealed_key=None)


def test_an_added_source_is_found_again(sources: Sources, make: Make, vault: Vault) -> None:
    added = sources.add(make())
    assert sources.get("acme/main") == added
    assert sources.list() == [added]
    assert key_of(vault, added) == "u+abcdefghijklmnop12"


def test_a_copy_that_cannot_be_read_hides_no_other_source(
    sources: Sources, make: Make, redis: Redis, prefix: str
) -> None:
    """A person may have changed it by hand, or a newer version wrote another form before it was rolled back."""
    other, newer = sources.add(make("acme/other")), make("acme/newer")
    copy = orjson.loads(newer.to_json()) | {"keyed_at": "long ago"}
    redis.hset(f"{prefix}:sources", newer.id, orjson.dumps(copy))
    assert sources.list() == [other]
    assert [batch for batch in every_source(redis, prefix) if batch] == [[other]]


def test_a_source_that_nobody_added_is_not_found(sources: Sources) -> None:
    with pytest.raises(NotFound, match="acme/other"):
        sources.get("acme/other")


def test_a_second_add_of_an_id_changes_nothing(sources: Sources, make: Make) -> None:
    first = sources.add(make())
    with pytest.raises(Exists):
        sources.add(make(subdomain="other"))
    assert sources.get("acme/main") == first


def test_a_disconnected_source_comes_back_only_with_its_account(
    sources: Sources, make: Make
) -> None:
    sources.save(disconnected(sources.add(make())))
    for other in (make(subdomain="other"), make(region="eu")):
        with pytest.raises(Exists, match="evidence of acme in region us"):
            sources.add(other)
    again = sources.add(make(reserve=0.2))
    assert (again.version, sources.get("acme/main")) == (3, again)


def test_one_of_many_adds_at_once_wins(sources: Sources, make: Make) -> None:
    def attempt(number: int) -> bool:
        try:
            sources.add(make(subdomain=f"account-{number}"))
        except (Exists, Busy):
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(attempt, range(16))) == 1


def test_a_save_of_an_outdated_source_is_refused(sources: Sources, make: Make) -> None:
    outdated = sources.add(make())
    newer = sources.save(replace(outdated, state=SourceState.PAUSED))
    with pytest.raises(Busy):
        sources.save(replace(outdated, reserve=0.5))
    assert sources.get("acme/main") == newer


def test_the_largest_reserve_of_the_sharers_counts(sources: Sources, make: Make) -> None:
    first = sources.add(make("acme/one", reserve=0.1))
    second = sources.add(make("beta/two", reserve=0.3))
    sources.add(make("beta/other", reserve=0.8, fingerprint="f" * 16))
    assert sources.reserve_for(SOURCE.fingerprint) == 0.3
    second = sources.save(replace(second, reserve=0.2))
    assert sources.reserve_for(SOURCE.fingerprint) == 0.2
    sources.save(replace(second, fingerprint="e" * 16))
    assert sources.reserve_for(SOURCE.fingerprint) == 0.1
    assert sources.reserve_for("e" * 16) == 0.2
    sources.save(disconnected(first))
    assert sources.reserve_for(SOURCE.fingerprint) == 0.0


def test_an_emptied_redis_is_filled_from_storage(
    sources: Sources, make: Make, redis: Redis
) -> None:
    added = [sources.add(make(f"acme/s{n:02}", reserve=n / 100)) for n in range(20)]
    redis.flushall()
    assert sources.restore() == (20, ())
    assert sources.list() == added
    assert sources.reserve_for(SOURCE.fingerprint) == 0.19
    assert sources.restore() == (0, ())


def test_a_source_is_found_in_an_emptied_redis_before_it_is_restored(
    sources: Sources, make: Make, redis: Redis
) -> None:
    added = sources.add(make())
    redis.flushall()
    assert sources.get("acme/main") == added
    assert sources.list() == [added]


def test_a_redis_that_fell_back_to_an_older_state_is_put_right(
    sources: Sources, make: Make, redis: Redis, prefix: str
) -> None:
    old = sources.add(make())
    new = sources.save(replace(old, fingerprint="e" * 16))
    older = Sources(redis, open_storage("memory://"), prefix)
    redis.flushall()
    older.add(old)
    with pytest.raises(Busy):
        sources.save(sources.get("acme/main"))
    assert sources.get("acme/main") == new
    assert (sources.reserve_for("e" * 16), sources.reserve_for(old.fingerprint)) == (0.1, 0.0)


def test_a_newer_copy_is_never_replaced_by_an_older_one(
    sources: Sources, make: Make, redis: Redis, prefix: str
) -> None:
    newest = replace(sources.add(make()), version=9, reserve=0.7)
    redis.hset(f"{prefix}:sources", "acme/main", newest.to_json())
    assert sources.restore() == (0, ())
    assert sources.get("acme/main") == newest


@pytest.mark.parametrize("text", [b"", b'{"id":', b"[]", b'"id"', b"{}", SOURCE.to_json()])
def test_an_unreadable_document_hides_no_other_source(
    sources: Sources, make: Make, redis: Redis, storage: Storage, text: bytes
) -> None:
    """An empty document, or a copy of another source's, is named too, and counts for neither source."""
    sources.add(make("acme/main"))
    storage.put_new(".registry/acme/broken.json", text)
    redis.flushall()
    assert sources.restore() == (1, (".registry/acme/broken.json",))
    assert [source.id for source in sources.list()] == ["acme/main"]
    with pytest.raises(StorageConflict):
        sources.get("acme/broken")


def test_the_key_of_a_disconnected_source_is_deleted_from_redis_and_storage(
    sources: Sources, make: Make, vault: Vault, redis: Redis, storage: Storage, prefix: str
) -> None:
    gone = sources.save(disconnected(sources.add(make())))
    with pytest.raises(VaultFault):
        key_of(vault, gone)
    copies = [redis.hget(f"{prefix}:sources", "acme/main"), storage.get(".registry/acme/main.json")]
    assert [orjson.loads(copy or b"{}")["sealed_key"] for copy in copies] == [None, None]


def test_a_sealed_key_moved_to_another_source_stays_closed(
    sources: Sources, make: Make, vault: Vault
) -> None:
    stolen = sources.add(make("acme/main")).sealed_key
    other = sources.add(replace(make("evil/main"), sealed_key=stolen))
    with pytest.raises(VaultFault):
        key_of(vault, other)


def test_reseal_moves_a_key_to_the_first_vault_key(
    redis: Redis, storage: Storage, prefix: str
) -> None:
    old, new = generate_key(), generate_key()
    sealed = Vault([old]).seal("u+abcdefghijklmnop12", "acme/main")
    fleet = Runtime(
        Settings(key_prefix=prefix), redis=redis, storage=storage, vault=Vault([new, old])
    )
    fleet.sources.add(replace(SOURCE, sealed_key=sealed))
    assert reseal_all(fleet) == Resealed(1, 0, {})
    assert reseal_all(fleet) == Resealed(0, 1, {})
    source = fleet.sources.get("acme/main")
    assert key_of(Vault([new]), source) == "u+abcdefghijklmnop12"


def test_an_idle_source_takes_less_than_4_kb_of_redis(
    sources: Sources, make: Make, redis: Redis
) -> None:
    before = int(redis.info("memory")["used_memory"])
    for number in range(200):
        sources.add(make(f"tenant-{number}/main", fingerprint=f"{number:016x}"))
    assert (int(redis.info("memory")["used_memory"]) - before) / 200 < 4_000


def test_a_redis_that_is_gone_is_one_plain_sentence(storage: Storage, prefix: str) -> None:
    nowhere = impatient("redis://127.0.0.1:1", 1.0)
    with pytest.raises(Fault, match="Redis does not answer"):
        Sources(nowhere, storage, prefix).get("acme/main")
