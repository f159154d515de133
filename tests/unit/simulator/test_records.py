"""Records and stores: unique ids, list order, and a version for every change."""

from math import gcd

import pytest

from simulator.records import IDS_PER_KIND, Record, Store, Version, make_id
from simulator.records import SCRAMBLE as STEP


def store_of(*names: str) -> Store:
    """Return a store of records ordered by name."""
    records = (Record("things", n, name, (name, name), 0) for n, name in enumerate(names))
    return Store(lambda record: record.id.encode(), records)


def names(store: Store) -> list[str]:
    """Return the ids in list order."""
    return [record.id for record in store.rows]


def test_ids_are_unique_and_never_in_sequence() -> None:
    """A hundred thousand ids of one kind are different, and neighbours don't share a prefix."""
    ids = [make_id("incidents", n, "Q") for n in range(100_000)]
    assert len(set(ids)) == len(ids)
    assert all(id.startswith("Q") and len(id) == 8 for id in ids)
    assert sorted(ids) != ids
    assert gcd(STEP, IDS_PER_KIND) == 1  # so the whole range is used before an id repeats


def test_ids_are_the_same_at_every_start_and_differ_by_kind() -> None:
    """An id only depends on kind and number."""
    assert make_id("users", 5) == make_id("users", 5) != make_id("teams", 5)


def test_a_change_keeps_the_former_body_as_a_version() -> None:
    """Each version says when it was current. The first version began before the start."""
    store = store_of("a")
    record = store.rows[0]
    store.change(record, b"second", 10.0)
    store.change(record, b"third", 20.0)
    assert list(store.versions(record)) == [
        Version(None, 10.0, b"a"), Version(10.0, 20.0, b"second"), Version(20.0, None, b"third"),
    ]  # fmt: skip
    assert [store.body_at(record, at) for at in (5, 10, 15, 20)] == [
        b"a",
        b"second",
        b"second",
        b"third",
    ]


def test_a_change_of_order_moves_the_record() -> None:
    """A renamed record appears where its new name belongs."""
    store = store_of("a", "b", "c")
    store.change(store.by_id["a"], b"z", 1.0, ("z", "a"))
    assert names(store) == ["b", "c", "a"]


def test_a_removed_record_leaves_lists_and_keeps_its_history() -> None:
    """Deleting ends the last version, and the record is among the removed ones."""
    store = store_of("a", "b", "c")
    gone = store.by_id["b"]
    store.remove(gone, 7.0)
    assert names(store) == ["a", "c"]
    assert store.removed == [gone]
    assert list(store.versions(gone)) == [Version(None, 7.0, b"b")]
    assert store.body_at(gone, 7.0) is None


def test_an_added_record_takes_its_place_and_has_a_beginning() -> None:
    """A record that is made while serving doesn't exist before that moment."""
    store = store_of("a", "c")
    made = Record("things", 9, "b", ("b", "b"), 0)
    store.add(made, 5.0)
    assert names(store) == ["a", "b", "c"]
    assert store.body_at(made, 4.9) is None
    assert store.body_at(made, 5.0) == b"b"


@pytest.mark.parametrize("act", ["add", "change", "remove"])
def test_every_change_raises_the_revision(act: str) -> None:
    """So lists drop what they remembered after any change."""
    store = store_of("a")
    record = Record("things", 9, "b", ("b", "b"), 0) if act == "add" else store.rows[0]
    before = store.revision
    getattr(store, act)(record, *([b"x"] if act == "change" else []), 1.0)
    assert store.revision > before


def test_bodies_are_made_once_and_only_when_asked_for() -> None:
    """So an account with many records starts at once. `keep` says whether a body stays in memory."""
    made: list[str] = []

    def render(record: Record) -> bytes:
        made.append(record.id)
        return b"{}"

    for keep, times in ((True, 1), (False, 2)):
        made.clear()
        store = Store(render, [Record("things", 0, "a", ("a", "a"), 0)], keep=keep)
        assert made == []
        store.body(store.rows[0])
        store.body(store.rows[0])
        assert len(made) == times
