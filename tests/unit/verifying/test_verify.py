"""Verification finds every change to evidence, and no change stops it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import msgspec
import orjson
import pytest
from msgspec import structs

from tasks.evidence import documents
from tasks.evidence.layout import manifest_key, plan_key, sums_key
from tasks.evidence.manifests import read_manifest
from tasks.evidence.verdicts import NOT_KNOWN
from tasks.reading.answers import Answer
from tasks.reading.catalog import CATALOG, FEEDS
from tasks.reading.pages import Page, Request
from tasks.reading.windows import ALL
from tasks.verifying.report import Difference
from tasks.verifying.verify import verify
from tests.lists_model import Lists, answer_to, make, record
from tests.manifests import DAY, period
from tests.sealed_run import SealedRun
from workers.errors import NotFound
from workers.storage import Storage, open_storage
from workers.storage.renamings import Renaming

SOURCE, FIRST, SECOND = "acme/main", "00000001", "00000002"


def account() -> Lists:
    found = [record(n) for n in range(120)]
    details = [record(n, type="schedule") for n in range(3)]
    return Lists(
        {"/teams": found, "/log_entries": found, "/schedules": details, "/v3/schedules": []}
    )


@pytest.fixture
def storage() -> Storage:
    """Two sealed runs, one after the other."""
    stored, last = open_storage("memory://"), None
    for _ in range(2):
        newest = last["run"] if last else None
        plan = make("teams", "log_entries", "schedules", last=last, newest=newest)  # fmt: skip
        last = SealedRun(plan, account().answer, stored).seal()
        assert last["state"] == "complete"
    return stored


def found(storage: Storage, run: str | None = None) -> list[Difference]:
    *_, report = verify(storage, SOURCE, run)
    assert report.ok == (not any(each.counts for each in report.differences))
    return report.differences


def keys(storage: Storage) -> Iterator[str]:
    return (each.key for each in list(storage.list(f"{SOURCE}/runs")))


def replace(storage: Storage, key: str, content: bytes) -> bytes:
    """Replace an object. Return its old content."""
    before = storage.get(key)
    assert before is not None
    storage.delete(key)
    assert storage.put_new(key, content)
    return before


def test_untouched_evidence_has_no_difference(storage: Storage) -> None:
    *_, report = verify(storage, SOURCE)
    assert report.ok
    assert (report.runs, report.open, report.differences) == ([FIRST, SECOND], [], [])
    assert report.objects == len(list(keys(storage)))
    with pytest.raises(NotFound, match="no run 00000009"):
        next(verify(storage, SOURCE, "00000009"))


def test_any_missing_object_is_found(storage: Storage) -> None:
    for key in keys(storage):
        content = storage.get(key)
        assert content
        storage.delete(key)
        *_, report = verify(storage, SOURCE)
        if key == manifest_key(SOURCE, SECOND):
            assert report.open == [SECOND], "it looks like a run that was never sealed"
        else:
            kinds = {d.kind for d in report.differences if d.key == key}
            assert kinds == ({"chain"} if key.endswith("manifest.json") else {"missing"})
        storage.put_new(key, content)
    assert found(storage) == []


def test_any_object_with_a_flipped_bit_is_found(storage: Storage) -> None:
    """The right object is named, even if the object is no longer JSON or a zstd frame."""
    for number, key in enumerate(keys(storage)):
        content = storage.get(key)
        assert content
        damaged = bytearray(content)
        damaged[(number * 37) % len(content)] ^= 1 << number % 8
        replace(storage, key, bytes(damaged))
        assert key in {d.key for d in found(storage) if d.counts}
        replace(storage, key, content)
    assert found(storage) == []


@pytest.mark.parametrize("content", [b"", b"[]", b'{"sha256":"x"}'])
def test_anything_in_the_place_of_an_object_is_found(storage: Storage, content: bytes) -> None:
    for key in keys(storage):
        before = replace(storage, key, content)
        assert key in {d.key for d in found(storage) if d.counts}
        replace(storage, key, before)


def test_two_objects_that_changed_places_are_found(storage: Storage) -> None:
    one, other = (
        f"{SOURCE}/runs/{FIRST}/pages/teams/all.1/{n}.json.zst" for n in ("000000", "000099")
    )
    content = storage.get(other)
    assert content
    replace(storage, other, replace(storage, one, content))
    assert {(d.key, d.kind) for d in found(storage)} == {(one, "changed"), (other, "changed")}


def forged(storage: Storage, change: Callable[[dict[str, Any]], None], run: str = SECOND) -> bytes:
    """Change a manifest and its digest in `SHA256SUMS`. Return the old text."""
    key = manifest_key(SOURCE, run)
    before = storage.get(key) or b""
    manifest = orjson.loads(before)
    change(manifest)
    text = msgspec.json.format(orjson.dumps(manifest), indent=2)
    listed = storage.get(sums_key(SOURCE, run)) or b""
    digests = (hashlib.sha256(each).hexdigest().encode() for each in (before, text))
    replace(storage, sums_key(SOURCE, run), listed.replace(*digests))
    return replace(storage, key, text)


@pytest.mark.parametrize(
    "name",
    [
        "state",
        "reason",
        "period",
        "outside",
        "withheld",
        "vanished",
        "records",
        "sightings",
        "redacted",
        "windows",
    ],
)
def test_a_count_that_was_changed_with_its_digest_is_found_by_its_pages(
    storage: Storage, name: str
) -> None:
    others = {
        "state": "partial",
        "reason": "plan",
        "records": 7,
        "sightings": 7,
        "redacted": 1,
        "vanished": ["P1"],
        "period": period("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
        "outside": [
            period("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z") | {"reason": "retention"}
        ],
    }
    forged(storage, lambda m: m["resources"]["teams"].update({name: others.get(name, [])}))
    assert {d.kind for d in found(storage) if d.counts}


@pytest.mark.parametrize("name", ["covered", "backlog", "unsettled", "denied", "sizes"])
def test_changed_statements_for_the_next_run_are_found(storage: Storage, name: str) -> None:
    """Otherwise a period that is falsely listed as covered would never be read."""
    changed: dict[str, Any] = {
        "denied": {"P1": DAY[0]},
        "sizes": {"size": 25, "since": DAY[0]},
    }
    forged(storage, lambda m: m.update({name: {"log_entries": changed.get(name, [])}}))
    assert {(d.kind, d.detail.split()[0]) for d in found(storage) if d.counts} == {("count", name)}


def not_known(manifest: dict[str, Any], **other: Any) -> None:
    manifest["resources"]["teams"] |= {"words": NOT_KNOWN, "windows": [], "artifacts": [], **other}


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(state="partial"),
        lambda m: m["resources"].pop("teams"),
        lambda m: not_known(m, records=0),
        lambda m: not_known(m, state="failed", reason="error"),
    ],
)
def test_a_manifest_with_false_claims_about_its_run_is_found(
    storage: Storage, change: Callable[[dict[str, Any]], None]
) -> None:
    """It may hide a resource, or claim like an older release that there is nothing to compare."""
    forged(storage, change)
    assert (manifest_key(SOURCE, SECOND), "count") in {(d.key, d.kind) for d in found(storage)}


def every_place(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each member of a document, and of the first element of each list."""
    members = value.items() if isinstance(value, dict) else enumerate(value[:1])
    for name, member in members:
        yield (*path, name)
        if isinstance(member, dict | list):
            yield from every_place(member, (*path, name))


@pytest.mark.parametrize("other", [..., None, "text", {}], ids=repr)
def test_a_manifest_of_any_shape_does_not_stop_verification(storage: Storage, other: Any) -> None:
    """A member is missing or has another type, and the digest fits."""
    whole = orjson.loads(storage.get(manifest_key(SOURCE, SECOND)) or b"")
    for *path, name in every_place(whole):

        def change(manifest: dict[str, Any], path: list[Any] = path, name: Any = name) -> None:
            place: Any = manifest
            for step in path:
                place = place[step]
            if other is ...:
                del place[name]
            else:
                place[name] = other

        before = forged(storage, change)
        list(verify(storage, SOURCE, SECOND))
        replace(storage, manifest_key(SOURCE, SECOND), before)


def test_a_run_that_follows_another_manifest_is_found(storage: Storage) -> None:
    forged(storage, lambda m: m.update(sealed_at="2026-03-01T00:01:00Z"), FIRST)
    assert [(d.run, d.key, d.kind) for d in found(storage)] == [
        (SECOND, manifest_key(SOURCE, FIRST), "chain")
    ]


def test_unlisted_objects_are_extra_but_a_late_page_is_not() -> None:
    model = account()

    def ask(page: Page, request: Request) -> Answer | None:
        return model.answer(page, request) if page.first else None

    run = SealedRun(make("teams"), ask)
    assert run.seal()["resources"]["teams"]["records"] == 100
    last = Page("teams", ALL, number=99, end=199, held=True)
    late = run.store(last, answer_to(last, teams=[record(n) for n in range(99, 120)], more=False))
    copied = late.replace("000099", "000198")
    run.storage.put_new(copied, run.storage.get(late) or b"")
    run.storage.put_new(f"{SOURCE}/runs/{FIRST}/artifacts/teams.009.jsonl.zst", b"?")
    kinds = {each.key: each.kind for each in found(run.storage)}
    assert kinds == {late: "late", copied: "extra",
                     f"{SOURCE}/runs/{FIRST}/artifacts/teams.009.jsonl.zst": "extra"}  # fmt: skip


def test_an_open_run_is_named_and_its_plan_is_checked(storage: Storage) -> None:
    last = read_manifest(storage, SOURCE, SECOND)
    plan = make("teams", "log_entries", "schedules", last=last, newest=SECOND)
    key = plan_key(SOURCE, "00000003")
    storage.put_new(key, documents.written(plan))
    *_, report = verify(storage, SOURCE)
    assert (report.open, report.differences) == (["00000003"], [])
    replace(storage, key, documents.written(structs.replace(plan, previous=None)))
    assert {(d.run, d.key, d.kind) for d in found(storage)} == {("00000003", key, "chain")}


@patch.dict(CATALOG)
@patch.dict(FEEDS)
def test_a_resource_that_left_the_catalog_can_not_be_counted_again(storage: Storage) -> None:
    """Its objects are still compared, and the report says that the rest was left out."""
    for name in ("teams", "team_members"):
        del CATALOG[name], FEEDS[name]
    assert {(d.run, d.kind, d.detail[:5]) for d in found(storage)} == {
        (FIRST, "count", "teams"),
        (SECOND, "count", "teams"),
    }
    key = f"{SOURCE}/runs/{FIRST}/pages/teams/all.1/000000.json.zst"
    replace(storage, key, b"?")
    assert (key, "changed") in {(d.key, d.kind) for d in found(storage)}


def of_accounts(*subdomains: str, renamings: tuple[Renaming, ...] = ()) -> Storage:
    """Return a storage with one sealed run for each account in turn. The run's records link to the account."""
    stored, last = open_storage("memory://"), None
    for name in subdomains:
        listed = [record(n, html_url=f"https://{name}.pagerduty.com/teams/{n}") for n in range(3)]
        newest = last["run"] if last else None
        more = {"subdomain": name, "renamings": renamings, "last": last, "newest": newest}
        last = SealedRun(make("teams", **more), Lists({"/teams": listed}).answer, stored).seal()
        assert last["account"]["seen"] == [name]
    return stored


def test_an_account_that_changes_between_runs_is_a_difference() -> None:
    (difference,) = found(of_accounts("acme", "other"))
    assert (difference.kind, difference.key) == ("chain", manifest_key(SOURCE, FIRST))
    assert "account acme in region us" in difference.detail


def test_a_renaming_that_a_person_confirmed_is_named_and_is_not_a_difference() -> None:
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    steps = tuple(Renaming(*pair, at, "ann@host", "3 of 3") for pair in (("acme", "b"), ("b", "c")))
    storage = of_accounts("acme", "c", "c", renamings=steps)
    *_, report = verify(storage, SOURCE)
    assert report.ok, report.differences
    assert report.renamed == [(SECOND, step) for step in steps]


def test_links_that_a_manifest_leaves_out_are_a_difference() -> None:
    storage = of_accounts("acme")

    def silent(manifest: dict[str, Any]) -> None:
        manifest["account"]["seen"] = []

    forged(storage, silent, FIRST)
    assert [each.kind for each in found(storage)] == ["count"]
