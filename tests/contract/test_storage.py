"""One suite for every storage: a directory, obstore's memory, a real S3 server, and a bucket with Object Lock."""

import json
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from workers.storage import Storage, Stored, open_storage

RACERS = 8
KEYS = 4  # few, because in SeaweedFS threads that race for a key wait for seconds
STEPS = 10


@pytest.fixture(params=["file", "s3"])
def shared_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty storage that several processes can open."""
    if request.param == "s3":
        return str(request.getfixturevalue("s3_url"))
    return (tmp_path / "not made yet" / "evidence").as_uri()


@pytest.fixture(params=["file", "memory", "s3", "object lock"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """An empty storage."""
    if request.param == "memory":
        return open_storage("memory://")
    if request.param == "s3":
        return open_storage(request.getfixturevalue("s3_url"))
    if request.param == "object lock":
        return open_storage(request.getfixturevalue("locked_url"))
    return open_storage((tmp_path / "not made yet" / "evidence").as_uri())


def test_an_object_comes_back_as_it_was_stored(storage: Storage) -> None:
    """An object comes back byte for byte, whole or in chunks."""
    data = bytes(range(256)) * 10
    assert storage.put_new("a/b/c.json", data)
    assert storage.get("a/b/c.json") == data
    assert b"".join(storage.open("a/b/c.json") or ()) == data


@pytest.mark.parametrize("size", [1, 100, 2_559, 2_560, 2_561, 1 << 22])
def test_the_start_of_an_object_is_as_long_as_asked_for(storage: Storage, size: int) -> None:
    """If the object is shorter, all of it comes back."""
    data = bytes(range(256)) * 10
    storage.put_new("a/b", data)
    assert storage.get_start("a/b", size) == data[:size]


def test_an_empty_object_is_an_object(storage: Storage, tmp_path: Path) -> None:
    """An empty object is not a missing object."""
    (tmp_path / "spool").touch()
    assert storage.put_new("empty", b"")
    assert storage.put_new_file("also/empty", tmp_path / "spool")
    assert storage.get("empty") == storage.get("also/empty") == b""
    assert storage.get_start("empty", 10) == b""
    assert list(storage.open("empty") or ("missing",)) == []
    assert list(storage.list("")) == [Stored("also/empty", 0), Stored("empty", 0)]


def test_a_taken_key_is_never_overwritten(storage: Storage, tmp_path: Path) -> None:
    """The first object stays, whatever is put after it and however it is put."""
    (tmp_path / "spool").write_bytes(b"third")
    assert storage.put_new("a/key", b"first")
    assert not storage.put_new("a/key", b"second")
    assert not storage.put_new_file("a/key", tmp_path / "spool")
    assert not storage.replace_if("a/key", b"fourth", None)
    assert storage.get("a/key") == b"first"


def test_missing_keys_are_none(storage: Storage) -> None:
    """A key that was never stored reads as None, even if it is the beginning of another key."""
    storage.put_new("a/b/c", b"1")
    for key in ("missing", "a", "a/b", "a/b/c/d", "a/b/cc"):
        assert storage.get(key) is None
        assert storage.get_start(key, 10) is None
        assert storage.open(key) is None
        assert storage.get_versioned(key) is None


def test_deleting_is_idempotent(storage: Storage) -> None:
    """Deleting removes one object and nothing else. Deleting a missing object succeeds."""
    storage.put_new("a/b", b"1")
    storage.put_new("a/bb", b"2")
    storage.delete("a/b")
    storage.delete("a/b")
    storage.delete("never/was")
    assert [stored.key for stored in storage.list("")] == ["a/bb"]
    assert storage.put_new("a/b", b"again")


def test_a_deleted_object_leaves_no_trace(tmp_path: Path) -> None:
    """A directory disappears with its last object, and comes back with the next one."""
    storage = open_storage(tmp_path.as_uri())
    for key in ("tenant/secret/a", "tenant/secret/b", "tenant/c"):
        storage.put_new(key, b"1")
    storage.delete("tenant/secret/a")
    assert (tmp_path / "tenant/secret/b").exists()
    storage.delete("tenant/secret/b")
    assert [path.name for path in (tmp_path / "tenant").iterdir()] == ["c"]
    storage.delete("tenant/c")
    assert not (tmp_path / "tenant").exists()
    assert storage.put_new("tenant/secret/a", b"2")


def test_an_empty_storage_lists_nothing(storage: Storage) -> None:
    """Listing an empty storage gives an empty list, and doesn't fail."""
    assert list(storage.list("")) == list(storage.list("a/b")) == []
    assert storage.children("") == storage.children("a/b") == []


def test_a_prefix_is_whole_segments(storage: Storage) -> None:
    """Listing below a/b finds neither a/bc nor a/b itself, with or without a final slash."""
    for key in ("a/b/1", "a/b/2/3", "a/bc", "ab"):
        storage.put_new(key, key.encode())
    expected = [Stored("a/b/1", 5), Stored("a/b/2/3", 7)]
    assert list(storage.list("a/b")) == list(storage.list("a/b/")) == expected


def test_lists_follow_the_order_of_keys(storage: Storage) -> None:
    """A list is in the order of the keys' bytes, and a directory has no special place in it."""
    keys = [
        "t/a/x",
        "t/a-b",
        "t/a.b/x",
        "t/a0",
        "t/a b",
        "t/Z",
        "t/é",
        "t/日/x",
        "t/😀",
        "t/\uffee",
    ]
    for key in keys:
        storage.put_new(key, b"")
    assert [stored.key for stored in storage.list("")] == sorted(keys, key=str.encode)


def test_keys_are_kept_as_they_are(storage: Storage) -> None:
    """Percent signs, and everything else that a PagerDuty id could have, are kept literally."""
    keys = [
        "t/%2F",
        "t/%2e%2e",
        "t/a%20b",
        "t/a b+c",
        "t/a&b=c?d#e",
        "t/ünï",
        "t/*~'\"<>|:;",
        "t/.x",
    ]
    for key in keys:
        assert storage.put_new(key, key.encode())
    assert {stored.key for stored in storage.list("t")} == set(keys)
    assert all(storage.get(key) == key.encode() for key in keys)
    assert storage.children("t") == sorted(key.removeprefix("t/") for key in keys)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "a" * 256,
        "/".join(["a" * 99] * 10),
        "/a",
        "a/",
        "a//b",
        "a/../b",
        "..",
        ".",
        "a/./b",
        "a\0b",
        "a\nb",
        "a\\b",
        ".~new/x",
        "a/.~b",
    ],
)
def test_unfit_keys_are_refused(storage: Storage, key: str) -> None:
    """A key that could leave the root, or that some storage would change, is refused before it reaches storage."""
    with pytest.raises(ValueError, match="not a storage key"):
        storage.put_new(key, b"")
    with pytest.raises(ValueError, match="not a storage key"):
        storage.get(key)


def test_children_are_the_names_below(storage: Storage) -> None:
    """Children are objects and prefixes with objects below them, each once, sorted."""
    for key in (
        "t/runs/1/a",
        "t/runs/1/b",
        "t/runs/2/pages/x/y",
        "t/plan.json",
        ".registry/t.json",
    ):
        storage.put_new(key, b"")
    assert storage.children("") == [".registry", "t"]
    assert storage.children("t") == storage.children("t/") == ["plan.json", "runs"]
    assert storage.children("t/runs") == ["1", "2"]
    assert storage.children("t/plan.json") == []


def test_the_name_after_another_is_found_without_the_names_before(storage: Storage) -> None:
    """The next name is that of an object or of a prefix with objects below it. Gaps and empty names don't count."""
    for key in ("t/runs/00000002/a", "t/runs/00000002/b/c", "t/runs/00000010/plan", "t/runs/x"):
        storage.put_new(key, b"")
    storage.put_new("t/runs/00000011/plan", b"")
    storage.delete("t/runs/00000011/plan")
    steps = {"": "00000002", "00000001": "00000002", "00000002": "00000010", "00000009": "00000010"}
    steps |= {"00000010": "x", "00000011": "x"}
    assert {name: storage.after("t/runs", name) for name in steps} == steps
    assert storage.after("t/runs", "x") is None
    assert storage.after("t/none", "") is None
    assert storage.after("", "") == "t"


def test_names_that_begin_like_a_number_do_not_hide_the_next_number(
    storage: Storage,
) -> None:
    """In most stores `2-old` and `2.bak` come before the objects below `2`. SeaweedFS skips them."""
    for key in ("n/1/a", "n/2-old/a", "n/2.bak", "n/2/a", "n/3/a"):
        assert storage.put_new(key, b"")
    names, name = [], storage.after("n", "")
    while name is not None:
        names.append(name)
        name = storage.after("n", name)
    assert [each for each in names if each.isdecimal()] == ["1", "2", "3"]
    assert set(names) <= {"1", "2-old", "2.bak", "2", "3"}


def test_long_lists_are_complete(storage: Storage) -> None:
    """All objects are listed in order, even if they need more than one answer of the object store."""
    keys = [f"many/{number:05d}" for number in range(1_100)]
    with ThreadPoolExecutor(RACERS) as threads:
        assert all(threads.map(lambda key: storage.put_new(key, b"x"), keys))
    assert [stored.key for stored in storage.list("many")] == keys
    assert storage.children("many") == [key.removeprefix("many/") for key in keys]


def test_a_large_file_goes_in_and_comes_out_in_chunks(storage: Storage, tmp_path: Path) -> None:
    """A spooled file is stored and read back without being whole in memory."""
    data = os.urandom(1 << 20) * 20 + b"end"
    (tmp_path / "spool").write_bytes(data)
    assert storage.put_new_file("large", tmp_path / "spool")
    (tmp_path / "spool").write_bytes(b"used again")
    chunks = list(storage.open("large") or ())
    assert b"".join(chunks) == data
    assert max(map(len, chunks)) < len(data) / 2
    assert list(storage.list("")) == [Stored("large", len(data))]


def test_replacing_needs_the_version_last_read(storage: Storage) -> None:
    """If two read the same version, only the first can replace it."""
    assert storage.replace_if("doc", b"1", None)
    data, version = storage.get_versioned("doc") or (b"", None)
    assert data == b"1"
    assert storage.replace_if("doc", b"2", version)
    assert not storage.replace_if("doc", b"3", version)
    assert not storage.replace_if("doc", b"3", None)
    assert storage.get("doc") == b"2"


def test_replacing_a_deleted_object_fails(storage: Storage) -> None:
    """The version of a deleted object can't be used any more."""
    storage.put_new("doc", b"1")
    _, version = storage.get_versioned("doc") or (b"", None)
    storage.delete("doc")
    assert not storage.replace_if("doc", b"2", version)
    assert storage.get("doc") is None


def test_replacing_an_object_by_its_own_content_succeeds(storage: Storage) -> None:
    """So a repeat succeeds if the answer to the first try was lost."""
    storage.put_new("doc", b"1")
    _, version = storage.get_versioned("doc") or (b"", None)
    assert storage.replace_if("doc", b"2", version)
    assert storage.replace_if("doc", b"2", version)


def test_a_working_storage_passes_its_check(storage: Storage) -> None:
    """The check may run any number of times, and leaves no object that a list shows."""
    storage.check()
    storage.check()
    assert list(storage.list("")) == []
    assert storage.children("") == []


def test_threads_race_for_a_key_and_one_wins(storage: Storage) -> None:
    """If many threads put one key, one succeeds, and its object stays."""
    barrier = threading.Barrier(RACERS)
    with ThreadPoolExecutor(RACERS) as threads:
        rounds = [
            threads.submit(create_keys, storage, f"racer {racer}", barrier.wait)
            for racer in range(RACERS)
        ]
    assert_one_winner_each(storage, [finished.result() for finished in rounds])


def test_threads_race_for_versions_and_one_wins_each(storage: Storage) -> None:
    """If threads count in one document by replacing it, no step is lost."""
    storage.put_new("count", b'{"steps": []}')
    with ThreadPoolExecutor(RACERS) as threads:
        list(threads.map(lambda racer: count_up(storage, racer), range(RACERS)))
    assert_no_step_lost(storage)


@pytest.mark.timeout(120)
def test_processes_race_and_one_wins(shared_url: str) -> None:
    """Processes exclude each other as threads do, for new keys and for versions."""
    storage = open_storage(shared_url)
    storage.put_new("count", b'{"steps": []}')
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(RACERS)
    with ProcessPoolExecutor(RACERS, context, join_race, (barrier, shared_url)) as processes:
        wins = list(processes.map(race, range(RACERS)))
    assert_one_winner_each(storage, wins)
    assert_no_step_lost(storage)


def create_keys(storage: Storage, name: str, wait: Callable[[], object]) -> list[str]:
    won = []
    for number in range(KEYS):
        wait()
        if storage.put_new(f"race/{number}", f"{name} {number}".encode()):
            won.append(f"{name} {number}")
    return won


def assert_one_winner_each(storage: Storage, wins: list[list[str]]) -> None:
    stored = sorted((storage.get(f"race/{number}") or b"").decode() for number in range(KEYS))
    assert sorted(name for won in wins for name in won) == stored


def count_up(storage: Storage, racer: int) -> None:
    done, attempts = 0, 0
    while done < STEPS:
        attempts += 1
        assert attempts < 10_000
        data, version = storage.get_versioned("count") or (b"", None)
        document = json.loads(data)
        document["steps"].append([racer, done])
        done += storage.replace_if("count", json.dumps(document).encode(), version)


def assert_no_step_lost(storage: Storage) -> None:
    steps = json.loads(storage.get("count") or b"")["steps"]
    assert sorted(steps) == [[racer, step] for racer in range(RACERS) for step in range(STEPS)]


def join_race(barrier: threading.Barrier, url: str) -> None:
    globals().update(_barrier=barrier, _storage=open_storage(url))


def race(racer: int) -> list[str]:
    _barrier: threading.Barrier = globals()["_barrier"]
    _storage: Storage = globals()["_storage"]
    won = create_keys(_storage, f"racer {racer}", lambda: _barrier.wait(60))
    count_up(_storage, racer)
    return won
