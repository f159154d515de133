"""Tampers with a history of three runs in more than a hundred ways: verify names each of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import msgspec
import orjson
import pytest
import zstandard

from tasks.evidence.envelopes import encode_page
from tasks.evidence.frames import parts
from tasks.evidence.layout import manifest_key, page_key, plan_key, run_prefix, sums_key
from tasks.reading.answers import Answer
from tasks.reading.pages import Page, Request
from tasks.verifying.verify import verify
from tests.lists_model import Lists, make, record
from tests.sealed_run import SealedRun
from workers.storage import Storage, open_storage

SOURCE = "acme/main"
RUNS = ("00000001", "00000002", "00000003")
SECOND = RUNS[1]
Document = dict[str, Any]
Change = Callable[[Document], object]


def account(later: int) -> Lists:
    """Return an account. Each run finds a few records more."""
    found = [record(n) for n in range(120 + later)]
    incidents = [record(n, status="triggered" if n < 3 else "resolved") for n in range(40 + later)]
    integrations = [{"id": f"I{n}", "integration_key": "secret"} for n in range(2)]
    services = [record(n, integrations=integrations) for n in range(4)]
    return Lists({"/teams": found, "/log_entries": found, "/incidents": incidents, "/services": services,
                  "/audit/records": found})  # fmt: skip


def history() -> dict[str, bytes]:
    """Return the objects of three runs, one after the other."""
    stored, last = open_storage("memory://"), None
    for later in range(len(RUNS)):
        newest = last["run"] if last else None
        resources = ("teams", "log_entries", "incidents", "services", "audit_records")
        plan = make(*resources, days=20, last=last, newest=newest)
        model = account(later)

        def ask(page: Page, request: Request, model: Lists = model) -> Answer:
            return model.answer(page, request)

        last = SealedRun(plan, ask, stored).seal()
        assert last["state"] == "complete"
    return {each.key: stored.get(each.key) or b"" for each in stored.list(SOURCE)}


HISTORY = history()


def storage_of(objects: dict[str, bytes]) -> Storage:
    stored = open_storage("memory://")
    for key, blob in objects.items():
        assert stored.put_new(key, blob)
    return stored


def kinds(objects: dict[str, bytes]) -> set[str]:
    *_, report = verify(storage_of(objects), SOURCE)
    return {each.kind for each in report.differences if each.counts}


def sha256(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()


def written(document: Document) -> bytes:
    return msgspec.json.format(orjson.dumps(document), indent=2)


class Forger:
    """Changes objects, and makes every digest fit again: in the list of digests, and in the runs that follow."""

    def __init__(self) -> None:
        self.objects = dict(HISTORY)

    def document(self, key: str, change: Change) -> None:
        document = orjson.loads(self.objects[key])
        change(document)
        self.objects[key] = written(document)

    def page(self, run: str, page_id: str, change: Callable[[Document, Document], object]) -> None:
        """Change the request and the body of a page."""
        recipe, _, body, _ = self.lines(run, page_id)
        envelope, data = orjson.loads(recipe), orjson.loads(body)
        change(envelope, data)
        body = orjson.dumps(data)
        if envelope["received_sha256"] == envelope["stored_sha256"]:
            envelope["received_sha256"] = sha256(body)
        envelope["stored_sha256"] = sha256(body)
        self.put(run, page_id, orjson.dumps(envelope), head_of(Page.parse(page_id), body), body)

    def lines(self, run: str, page_id: str) -> list[bytes]:
        """Return the three lines of a page, and the nothing after them."""
        blob = self.objects[page_key(SOURCE, run, page_id)]
        with zstandard.ZstdDecompressor().stream_reader(blob, read_across_frames=True) as text:
            return text.read().split(b"\n")

    def put(self, run: str, page_id: str, recipe: bytes, head: bytes, body: bytes) -> None:
        """Store a page with these lines."""
        self.frames(run, page_id, b"\n".join((recipe, head, b"")), body + b"\n")

    def frames(self, run: str, page_id: str, *texts: bytes) -> None:
        """Store an object with a frame for each of *texts*."""
        compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
        self.objects[page_key(SOURCE, run, page_id)] = b"".join(map(compressor.compress, texts))

    def fit(self) -> dict[str, bytes]:
        """Make the digests fit, from the oldest run on."""
        previous: Document | None = None
        for run in RUNS:
            plan, manifest = plan_key(SOURCE, run), manifest_key(SOURCE, run)
            if manifest not in self.objects or plan not in self.objects:
                continue
            document = orjson.loads(self.objects[plan])
            if document["previous"] and previous:
                document["previous"]["sha256"] = previous["sha256"]
            self.objects[plan] = written(document)
            sealed = orjson.loads(self.objects[manifest])
            if sealed["previous"] and previous:
                sealed["previous"]["sha256"] = previous["sha256"]
            sealed["plan_sha256"] = sha256(self.objects[plan])
            for resource in sealed["resources"].values():
                self._fit_resource(run, resource)
            self.objects[manifest] = written(sealed)
            previous = {"run": run, "sha256": sha256(self.objects[manifest])}
            self._list(run)
        return self.objects

    def _fit_resource(self, run: str, resource: Document) -> None:
        for window in resource["windows"]:
            size = f"s{window['size']}" if "size" in window else ""
            for page in window["pages"]:
                name = (
                    f"{window['feed']}/{window['window']}.{window['pass']}{size}/{page['number']}"
                )
                if blob := self.objects.get(page_key(SOURCE, run, name)):
                    page |= {"sha256": sha256(blob), "bytes": len(blob)}
        for part in resource["artifacts"]:
            if blob := self.objects.get(part["key"]):
                part |= {"sha256": sha256(blob), "bytes": len(blob)}

    def _list(self, run: str) -> None:
        """List the digests of the run's objects again; names that were listed stay."""
        key, prefix = sums_key(SOURCE, run), run_prefix(SOURCE, run)
        names = [line.split("  ")[1] for line in self.objects[key].decode().splitlines()]
        digests = {name: sha256(self.objects.get(f"{prefix}/{name}", b"")) for name in names}
        self.objects[key] = "".join(f"{digests[name]}  {name}\n" for name in names).encode()


def head_of(page: Page, body: bytes) -> bytes:
    """Return the second line that the product would write for this body; {} if it couldn't store the body."""
    reply: Any = SimpleNamespace(
        status=200, date=None, words="", request_id=None, body=body, members=None
    )
    source: Any = SimpleNamespace(id="", region="", credential="", fingerprint="")
    at = datetime.now(UTC)
    try:
        _, blob = encode_page(source, "", page, Request("", ()), reply, sent=1, fetched_at=at)
    except ValueError:
        return b"{}"
    return parts(blob)[0].split(b"\n")[1]


def test_an_honest_history_has_no_difference() -> None:
    assert kinds(HISTORY) == set()
    assert kinds(Forger().fit()) == set(), "making the digests fit changes nothing by itself"


@pytest.mark.parametrize("key", sorted(HISTORY))
def test_each_object_that_is_gone_is_missed(key: str) -> None:
    """The newest manifest is the exception: without it, its run looks as if it had not ended."""
    objects = {name: blob for name, blob in HISTORY.items() if name != key}
    newest = key == manifest_key(SOURCE, RUNS[-1])
    assert bool(kinds(objects)) is not newest


@pytest.mark.parametrize("key", sorted(HISTORY))
def test_each_object_that_has_another_content_is_found(key: str) -> None:
    blob = HISTORY[key]
    other = next(each for name, each in HISTORY.items() if name != key and each != blob)
    for changed in (b"", blob[:-1], blob + b"\n", other, blob[: len(blob) // 2]):
        assert kinds({**HISTORY, key: changed}), f"{len(changed)} bytes instead of {len(blob)}"


def members(document: Document) -> Iterator[tuple[str, ...]]:
    """Yield the path of each member of a document that holds a value."""
    for name, value in document.items():
        if isinstance(value, dict) and value:
            yield from ((name, *rest) for rest in members(value))
        else:
            yield (name,)


def another(value: Any) -> Any:
    """Return another value of the same kind."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str() if value[:2] == "20" and value[-1:] == "Z":
            return f"2019{value[4:]}"
        case str():
            return f"{value}x"
        case [dict(), *rest]:
            return rest
        case [first, *_]:
            return [another(first)]
        case None:
            return 7
    return ["x"] if value == [] else {"x": []}


CHOSEN = {"ask_again_seconds", "every_seconds", "page_budget"}
"""Members of a plan that a person chose, and that leave no other trace."""


def paths(key: str) -> list[tuple[str, ...]]:
    return list(members(orjson.loads(HISTORY[key])))


def told(path: tuple[str, ...]) -> bool:
    """Whether pages tell what a member should be. Only Redis knew how many requests were sent in all."""
    return path[0] != "resources" or path[-1] != "requests"


def changing(path: tuple[str, ...]) -> Change:
    """Return a function that changes the member at *path* of a document."""

    def change(document: Document) -> None:
        place = document
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = another(place[path[-1]])

    return change


@pytest.mark.parametrize(
    "path", [each for each in paths(manifest_key(SOURCE, SECOND)) if told(each)], ids=".".join
)
def test_each_member_of_a_manifest_that_is_changed_is_found(path: tuple[str, ...]) -> None:
    """All digests fit again, in the list of digests and in the run after it."""
    forger = Forger()
    forger.document(manifest_key(SOURCE, SECOND), changing(path))
    objects = forger.objects if path[-1] in ("plan_sha256", "sha256") else forger.fit()
    assert kinds(objects), f"{'.'.join(path)} was changed"


@pytest.mark.parametrize(
    "path",
    [each for each in paths(plan_key(SOURCE, SECOND)) if each[0] not in CHOSEN],
    ids=".".join,
)
def test_each_member_of_a_plan_that_is_changed_is_found(path: tuple[str, ...]) -> None:
    """All digests fit again."""
    forger = Forger()
    forger.document(plan_key(SOURCE, SECOND), changing(path))
    objects = forger.objects if path[-1] == "sha256" else forger.fit()
    assert kinds(objects), f"{'.'.join(path)} was changed"


PAGE = "teams/all.1/000000"


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("format", 1),
        ("source", "acme/else"),
        ("run", "00000001"),
        ("page", "teams/all.1/000099"),
        ("method", "POST"),
        ("path", "/users"),
        ("params", [["limit", "100"], ["offset", "0"]]),
        ("params", [["limit", "100"], ["offset", "0"], ["total", "true"], ["query", "x"]]),
        ("status", 404),
        ("fetched_at", "2019-01-01T00:00:00.000000Z"),
        ("fetched_at", "2031-01-01T00:00:00.000000Z"),
        ("fetched_at", "yesterday"),
        ("region", "eu"),
        ("credential", "user"),
        ("credential", "nobody"),
        ("fingerprint", "f" * 16),
        ("fingerprint", ""),
        ("requests", 0),
        ("requests", -1),
        ("received_sha256", "0" * 64),
        ("stored_sha256", "0" * 64),
        ("rewritten", True),
        ("redacted", ["/teams/0/name"]),
        ("more", 1),
    ],
)
def test_each_member_of_a_pages_request_that_is_changed_is_found(member: str, value: Any) -> None:
    forger = Forger()
    forger.page(SECOND, PAGE, lambda envelope, _: envelope.update({member: value}))
    if member in ("received_sha256", "stored_sha256"):  # it was made to fit: undo that
        recipe, head, body, _ = forger.lines(SECOND, PAGE)
        forger.put(SECOND, PAGE, orjson.dumps(orjson.loads(recipe) | {member: value}), head, body)
    assert kinds(forger.fit()), f"{member} is {value}"


@pytest.mark.parametrize(
    "change",
    [
        lambda _, data: data["teams"].pop(),
        lambda _, data: data["teams"].pop(0),
        lambda _, data: data["teams"].reverse(),
        lambda _, data: data["teams"].append({"id": "NEW", "name": "n000050"}),
        lambda _, data: data["teams"][5].update(name="n999999", summary="n999999"),
        lambda _, data: data["teams"][5].update(id="OTHER"),
        lambda _, data: data.update(total=99),
        lambda _, data: data.update(more=False),
        lambda _, data: data.pop("total"),
        lambda _, data: data.pop("teams"),
        lambda _, data: data.update(teams=[]),
        lambda _, data: data["teams"].append(data["teams"][0]),
    ],
)
def test_each_change_of_a_pages_records_is_found(change: Any) -> None:
    """The artifacts and counts no longer follow from the pages, even if every digest fits."""
    forger = Forger()
    forger.page(SECOND, PAGE, change)
    assert kinds(forger.fit())


@pytest.mark.parametrize(
    "change",
    [
        {"total": 99},
        {"more": False},
        {"more": None},
        {"total": None},
        {"next_cursor": "x"},
        {"records": []},
        {"records": None},
        {"cuts": None},
        {"cuts": []},
        {"note": "x"},
    ],
    ids=str,
)
def test_each_member_of_a_pages_head_that_is_changed_is_found(change: Document) -> None:
    """The body is as it was, and every digest fits."""
    forger = Forger()
    recipe, head, body, _ = forger.lines(SECOND, PAGE)
    assert orjson.loads(head).keys() == {"more", "total", "records", "cuts"}
    forger.put(SECOND, PAGE, recipe, orjson.dumps(orjson.loads(head) | change), body)
    assert "page" in kinds(forger.fit())


@pytest.mark.parametrize("member", ["id", "name", "type"])
def test_each_member_of_a_records_head_that_is_changed_is_found(member: str) -> None:
    forger = Forger()
    recipe, head, body, _ = forger.lines(SECOND, PAGE)
    document = orjson.loads(head)
    document["records"][7][member] += "x"
    forger.put(SECOND, PAGE, recipe, orjson.dumps(document), body)
    assert "page" in kinds(forger.fit())


def test_the_head_of_another_page_is_found() -> None:
    for run, page_id in ((RUNS[0], PAGE), (SECOND, "teams/all.1/000099")):
        forger = Forger()
        recipe, head, body, _ = forger.lines(SECOND, page_id)
        other = forger.lines(run, PAGE)[1] if run != SECOND else forger.lines(SECOND, PAGE)[1]
        assert other != head
        forger.put(SECOND, page_id, recipe, other, body)
        assert "page" in kinds(forger.fit())


@pytest.mark.parametrize(
    "texts",
    [
        lambda first, second: (second, first),
        lambda first, second: (first + second,),
        lambda first, second: (first, second, second),
        lambda first, second: (first, second, b"{}\n"),
        lambda first, second: (first, second, b""),
        lambda first, second: (first.replace(b"\n", b"\n{}\n", 1), second),
        lambda first, second: (first.split(b"\n")[0] + b"\n", first.split(b"\n")[1] + b"\n" + second),
        lambda first, second: (first, b""),
        lambda first, second: (first,),
    ],
    ids=["swapped", "one frame", "body twice", "third frame", "empty third frame", "two heads",
         "head with the body", "empty body", "no body"],
)  # fmt: skip
def test_a_page_with_other_frames_is_found(texts: Callable[[bytes, bytes], tuple[bytes, ...]]) -> None:  # fmt: skip
    """Every digest fits, and `zstd -dc` may even print the same."""
    forger = Forger()
    recipe, head, body, _ = forger.lines(SECOND, PAGE)
    forger.frames(SECOND, PAGE, *texts(recipe + b"\n" + head + b"\n", body + b"\n"))
    assert "page" in kinds(forger.fit())


@pytest.mark.parametrize("run", RUNS[:-1])
def test_a_run_that_is_removed_as_a_whole_is_missed(run: str) -> None:
    prefix = f"{run_prefix(SOURCE, run)}/"
    assert "chain" in kinds({k: v for k, v in HISTORY.items() if not k.startswith(prefix)})


def moved(run: str, to: str) -> dict[str, bytes]:
    """Return the history with one run under another number, and nothing else changed."""
    here, there = run_prefix(SOURCE, run), run_prefix(SOURCE, to)
    return {key.replace(f"{here}/", f"{there}/"): blob for key, blob in HISTORY.items()}


@pytest.mark.parametrize(
    ("run", "to"), [(RUNS[2], "00000004"), (RUNS[2], "00000009"), (RUNS[0], "00000004")]
)
def test_a_run_under_another_number_is_found(run: str, to: str) -> None:
    assert kinds(moved(run, to))


def test_a_run_that_is_replayed_after_the_newest_is_found() -> None:
    here, there = run_prefix(SOURCE, RUNS[0]), run_prefix(SOURCE, "00000004")
    copy = {k.replace(here, there): v for k, v in HISTORY.items() if k.startswith(here)}
    assert kinds({**HISTORY, **copy})


def test_a_run_of_another_source_is_found() -> None:
    objects = {key: blob.replace(b"acme/main", b"acme/else") if key.endswith("json") else blob
               for key, blob in HISTORY.items()}  # fmt: skip
    assert kinds(objects)


@pytest.mark.parametrize(
    "name",
    [
        f"{SOURCE}/notes.txt",
        f"{SOURCE}/runs/notes.txt",
        f"{SOURCE}/runs/00000000/plan.json",
        f"{SOURCE}/runs/{SECOND}/notes.txt",
        f"{SOURCE}/runs/{SECOND}/MANIFEST.json",
        f"{SOURCE}/runs/{SECOND}/Plan.json",
        f"{SOURCE}/runs/{SECOND}/artifacts/teams.001.jsonl.zst",
        f"{SOURCE}/runs/{SECOND}/artifacts/users.000.jsonl.zst",
        f"{SOURCE}/runs/{SECOND}/pages/teams/all.9/000000.json.zst",
        f"{SOURCE}/runs/{SECOND}/pages/teams/all.1/000000.json",
        f"{SOURCE}/runs/{SECOND}/manifest.json/x",
        f".purged/{SOURCE}/00000001.json",
        f".purged/{SOURCE}/00000003.json",
        f".purged/{SOURCE}/00000001.done.json",
        f".purged/{SOURCE}/notes.txt",
    ],
)
def test_an_object_that_nothing_lists_is_found(name: str) -> None:
    assert kinds({**HISTORY, name: b"{}"}) & {"extra", "record"}


def test_an_artifact_of_another_run_in_the_manifest_is_found() -> None:
    """The records may be the same. But a run's artifacts are its own."""
    forger = Forger()

    def borrow(document: Document) -> None:
        document["resources"]["teams"]["artifacts"][0]["key"] = (
            f"{SOURCE}/runs/{RUNS[0]}/artifacts/teams.000.jsonl.zst"
        )

    forger.document(manifest_key(SOURCE, SECOND), borrow)
    assert kinds(forger.fit())


@pytest.mark.parametrize("list_", ["unreadable", "orphans"])
@pytest.mark.parametrize(
    "name", [f"pages/{PAGE}.json.zst", "artifacts/teams.000.jsonl.zst", "plan.json"]
)
def test_an_object_that_counts_can_not_be_called_uncounted(list_: str, name: str) -> None:
    forger = Forger()
    key = f"{run_prefix(SOURCE, SECOND)}/{name}"
    entry = {"key": key, "sha256": sha256(HISTORY[key]), "bytes": len(HISTORY[key])}
    forger.document(manifest_key(SOURCE, SECOND), lambda each: each[list_].append(entry))
    assert kinds(forger.fit())


def test_what_only_a_signature_or_a_head_finds_is_this() -> None:
    """A cut-off end, and a history that was forged as a whole with the product's own code."""
    newest = f"{run_prefix(SOURCE, RUNS[-1])}/"
    assert kinds({k: v for k, v in HISTORY.items() if not k.startswith(newest)}) == set()
    other = open_storage("memory://")
    SealedRun(make("teams", days=20), Lists({"/teams": [record(1)]}).answer, other).seal()
    forged = {each.key: other.get(each.key) or b"" for each in other.list(SOURCE)}
    assert kinds(forged) == set()
