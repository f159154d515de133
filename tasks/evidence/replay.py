"""Reads a run back from storage: its records, proofs and counts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import IO

from tasks.evidence.artifacts import Collation
from tasks.evidence.compression import sha256
from tasks.evidence.envelopes import decode_page, unpacked_room
from tasks.evidence.layout import page_key, pages_prefix
from tasks.reading.answers import Answer, lines, served, subdomain_of
from tasks.reading.catalog import FEEDS, PAGE_LIMIT, Paging
from tasks.reading.pages import Page, gave_way
from tasks.reading.plans import Plan
from tasks.reading.proofs import Reading, Use, Verdict, walk
from tasks.reading.sealed import ListedPage, PageSize, ProofState, StoredObject, WindowPass
from tasks.reading.windows import Period, merged, period_in
from workers import exact
from workers.room import Room, Share
from workers.storage import Storage

_SPOOL_BYTES = 1 << 18
_SUBDOMAINS = 5
"""Most subdomains that are noted. An account has one, or two in a run during which it is renamed."""


@dataclass(slots=True)
class Gathered:
    """One resource of a run, according to its stored pages."""

    name: str
    collation: Collation
    windows: list[WindowPass] = field(default_factory=list)
    verdicts: list[tuple[Page, Verdict]] = field(default_factory=list)  # of readings that count
    requests: int = 0
    redacted: int = 0
    lives: dict[str, tuple[str, bool]] = field(default_factory=dict)  # id -> seen last, still alive
    named: set[str] = field(default_factory=set)  # by a proved list, of those to be read again
    denied: dict[str, str] = field(default_factory=dict)  # to be read again, and last a 404 -> when


class Evidence:
    """A run read back from storage. Use `gather`: the lines wait in temporary files."""

    def __init__(
        self,
        plan: Plan,
        storage: Storage,
        files: ExitStack,
        only: Collection[str] | None,
        share: Share | None = None,
        *,
        strict: bool = False,
    ) -> None:
        def another() -> IO[bytes]:
            return files.enter_context(_spool())

        self.plan = plan
        self.resources = {
            name: Gathered(name, Collation(another(), another)) for name in plan.resources
        }
        self.objects: dict[str, tuple[str, int]] = {}  # page id -> sha256, bytes
        self.unreadable: list[StoredObject] = []
        self.fingerprints: set[str] = set()
        self.credential = plan.credential  # "user" as soon as any page was read with a user's key
        self.subdomains: list[str] = []  # that the records' links name, as they came
        self._opened: dict[str, int] = {}  # feed -> index of the last window opened
        self._refused: set[str] = set()
        self._proved: dict[str, list[Period]] = {}
        self._worked: dict[str, int] = {}  # feed -> smallest page size that proved a list of it
        self._storage = storage
        self._only = only
        self._share = share or Share(Room())
        self._strict = strict
        self.faults: list[tuple[str, str]] = []  # keys of unreadable objects, and what is wrong

    def read(self, page: Page) -> Answer | None:
        """Return the stored answer of a page. An unreadable one counts as missing, and its key is noted."""
        if self._only is not None and page.id not in self._only:
            return None
        key = page_key(self.plan.source, self.plan.run, page.id)
        blob = self._storage.get(key)
        if blob is None:
            return None
        self.objects[page.id] = (sha256(blob), len(blob))
        self._share.give_back()
        self._share.take(unpacked_room(blob))
        try:
            answer = decode_page(blob, strict=self._strict)
            assert answer.envelope
            if (answer.envelope.run, answer.envelope.page) == (self.plan.run, page.id):
                return answer
            self.faults.append((key, "it is another page"))
        except ValueError as error:
            self.faults.append((key, str(error)))
        digest, size = self.objects[page.id]
        self.unreadable.append(StoredObject(key=key, sha256=digest, bytes=size))
        return None

    def parts(self, page: Page) -> bool:
        """Whether smaller pages that replaced *page* after time-outs have stored answers."""
        return gave_way(page, self._groups(page.segment))

    def _groups(self, segment: str) -> Iterable[str]:
        """Return the names of the groups of a feed that have stored pages."""
        if self._only is None:
            pages = pages_prefix(self.plan.source, self.plan.run)
            return self._storage.children(f"{pages}/{segment}")
        return [name.split("/")[1] for name in self._only if name.startswith(f"{segment}/")]

    def use(self, page: Page, answer: Answer) -> None:
        """Add the records of an answer to its resource."""
        gathered = self.resources[_resource(page.segment)]
        envelope, fetched_at = answer.envelope, answer.fetched_at
        assert envelope, "it was read from storage"
        gathered.requests += envelope.requests
        gathered.redacted += len(envelope.redacted)
        self.fingerprints.add(envelope.fingerprint)
        if envelope.credential == "user":
            self.credential = "user"
        for number, (key, line) in enumerate(lines(page, answer)):
            gathered.collation.add(key, fetched_at, line)
            if number == 0:
                self._note_subdomain(line)
        if page.feed.settled:
            self._follow(gathered, page, answer, fetched_at)

    def _note_subdomain(self, line: bytes) -> None:
        link = exact.members(line).get("html_url", b"null")
        found = subdomain_of({"html_url": exact.loads(bytes(link))})
        if found and found not in self.subdomains and len(self.subdomains) < _SUBDOMAINS:
            self.subdomains.append(found)

    def take(self, reading: Reading) -> None:
        """Count a finished reading, or note that it was superseded."""
        first, verdict = reading.first, reading.verdict
        gathered = self.resources[_resource(first.segment)]
        counts = verdict.state is not ProofState.SUPERSEDED
        gathered.collation.end_pass(counts=counts)
        gathered.windows.append(self._row(reading))
        if counts:
            gathered.verdicts.append((first, verdict))
        if first.chain and period_in(first.window):
            self._opened[first.segment] = first.chain[0]
            if verdict.state is ProofState.UNAVAILABLE:
                self._refused.add(first.segment)
        if verdict.state is ProofState.PROVED and first.call.paging is not Paging.SINGLE:
            least = self._worked.get(first.segment, PAGE_LIMIT)
            self._worked[first.segment] = min(least, first.size)
        if verdict.state is ProofState.PROVED and (period := period_in(first.window)):
            self._proved.setdefault(first.segment, []).append(period)
            gathered.named |= reading.keys.intersection(self.plan.unsettled.get(first.segment, ()))

    @property
    def covered(self) -> dict[str, tuple[Period, ...]]:
        """The proved periods of every windowed feed, earlier runs included."""
        feeds = {**self.plan.covered, **dict.fromkeys(self.plan.windows, ())}
        return {
            name: tuple(merged([*self.plan.covered.get(name, ()), *self._proved.get(name, ())]))
            for name in feeds
        }

    @property
    def progressed(self) -> bool:
        """Whether the next run would have less to read. Newly passed time does not count."""

        def merely_new(name: str, period: Period) -> bool:
            edge = max((p.until for p in self.plan.covered.get(name, ())), default=None)
            return edge is not None and period.since <= edge <= period.until

        return any(
            not merely_new(name, period)
            for name, periods in self._proved.items()
            for period in periods
        )

    @property
    def backlog(self) -> dict[str, tuple[Period, ...]]:
        """The planned windows that the page budget left to a further run."""
        left = {
            name: tuple(merged(windows[self._opened[name] + 1 :]))
            for name, windows in self.plan.windows.items()
            if name not in self._refused and name in self._opened
        }
        return {name: periods for name, periods in left.items() if periods}

    @property
    def unsettled(self) -> dict[str, tuple[str, ...]]:
        """Ids of records whose life isn't over, earlier runs included."""
        found = {segment: set(ids) for segment, ids in self.plan.unsettled.items()}
        for feed in self.plan.feeds:
            if feed.settled:
                lives = self.resources[_resource(feed.segment)].lives
                alive = {record_id for record_id, (_, is_alive) in lives.items() if is_alive}
                found[feed.segment] = found.get(feed.segment, set()) - lives.keys() | alive
        return {segment: tuple(sorted(ids)) for segment, ids in found.items()}

    @property
    def denied(self) -> dict[str, dict[str, str]]:
        """When PagerDuty last answered 404 for a record whose life isn't over, earlier runs included."""
        found = {segment: dict(ids) for segment, ids in self.plan.denied.items()}
        for feed in self.plan.feeds:
            if feed.settled:
                gathered = self.resources[_resource(feed.segment)]
                before = found.get(feed.segment, {})
                still = {id_: at for id_, at in before.items() if id_ not in gathered.lives}
                found[feed.segment] = dict(sorted((still | gathered.denied).items()))
        return {segment: ids for segment, ids in found.items() if ids}

    @property
    def sizes(self) -> dict[str, PageSize]:
        """Per feed that needs smaller pages their size, and since when; earlier runs included."""
        found = dict(self.plan.sizes)
        for segment, size in self._worked.items():
            if size != self.plan.size_of(segment):
                found[segment] = PageSize(size, self.plan.opened_at)
        return found

    def _follow(self, gathered: Gathered, page: Page, answer: Answer, at: str) -> None:
        assert page.feed.settled
        name, ends = page.feed.settled
        seen = {record["id"]: record.get(name) not in ends for record in served(page, answer)}
        if page.parent and answer.status == 404:
            gathered.denied[page.parent["id"]] = at
        elif page.parent:
            gathered.denied.pop(page.parent["id"], None)
        for record_id, is_alive in seen.items():
            last, _ = gathered.lives.get(record_id, ("", False))
            if last <= at:
                gathered.lives[record_id] = (at, is_alive)

    def _row(self, reading: Reading) -> WindowPass:
        first, verdict = reading.first, reading.verdict
        return WindowPass(
            feed=first.segment,
            window=first.window,
            pass_=first.pass_,
            size=first.size,
            state=verdict.state,
            reason=verdict.reason,
            words=verdict.words,
            total=verdict.total,
            unique=verdict.unique,
            proof=verdict.proof,
            pages=tuple(self._listed(page, len(seen.keys)) for page, seen in reading.pages if seen),
        )

    def _listed(self, page: Page, records: int) -> ListedPage:
        digest, size = self.objects[page.id]
        return ListedPage(number=f"{page.number:06d}", sha256=digest, bytes=size, records=records)


def _spool() -> IO[bytes]:
    return tempfile.TemporaryFile(buffering=_SPOOL_BYTES)


@contextmanager
def gather(
    plan: Plan,
    storage: Storage,
    beat: Callable[[], None] = lambda: None,
    *,
    only: Collection[str] | None = None,
    room: Room | None = None,
    look: Use = lambda _page, _answer: None,
    strict: bool = False,
) -> Iterator[Evidence]:
    """Read a run back from storage, in the order of `walk`; *beat* is called before each page.

    Each page takes the memory it needs from *room*, which other readers share; the default has no limit. *only* are
    the ids of the pages that a seal counted; pages that were stored later are ignored. If *strict*, the body of each
    page is decoded, and must say what its head says.
    """
    with ExitStack() as files:
        with (room or Room()).share() as share:
            evidence = Evidence(plan, storage, files, only, share, strict=strict)

            def read(page: Page) -> Answer | None:
                beat()
                answer = evidence.read(page)
                if answer is not None:
                    look(page, answer)
                return answer

            for reading in walk(plan, read, evidence.use, evidence.parts):
                evidence.take(reading)
        yield evidence


def _resource(segment: str) -> str:
    assert segment in FEEDS
    return segment.partition(".")[0]
