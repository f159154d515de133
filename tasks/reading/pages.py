"""A page: its identity, and the request that asks for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from tasks.reading.catalog import FEEDS, PAGE_LIMIT, PAGE_SIZES, Call, Feed, Paging
from tasks.reading.plans import Plan
from tasks.reading.windows import Rest, is_part, is_plain, period_in, rfc3339


class NewerPage(Exception):
    """The page has a member that this version doesn't know, so only a newer worker can ask for it."""


@dataclass(frozen=True, slots=True)
class Page:
    """One request and its results. Its identity (all members but the payload) fixes its storage key."""

    segment: str
    window: str
    pass_: int = 1
    number: int = 0  # the offset; in a list with cursors, the number of the page
    end: int = PAGE_LIMIT  # the page has to bring the records [number, end)
    size: int = PAGE_LIMIT  # most records that one request asks for
    held: bool = False  # it is the last of its pass, and waits until no other page is open
    cuts: bool = False  # it is read to find where to cut a window with too many records
    cursor: str | None = None
    mark: str | None = None  # digest from an earlier page (see `_repeats`, `_chained`)
    nth: int = 0  # how many pages of its pass come before it, where each opens the next
    parent: Mapping[str, Any] | None = None  # reference to the record that it is read for
    # The index of its window in the plan, and how many pages were planned before it.
    chain: tuple[int, int] | None = None
    rest: Rest = ()  # parts of its planned window that are read after it
    splits: int = 0  # what splitting its planned window has cost so far
    denied_at: str | None = None  # when an earlier request for its window got a 404

    @property
    def group(self) -> str:
        return f"{self.segment}/{group_name(self.window, self.pass_, self.size)}"

    @property
    def id(self) -> str:
        return f"{self.group}/{self.number:06d}"

    @property
    def first(self) -> bool:
        return self.number == 0

    @property
    def limit(self) -> int:
        """How many records to ask for: those it has to bring, but never more than its size."""
        return min(self.size, self.end - self.number)

    @property
    def opener(self) -> Page:
        """The first page of its pass, without the windows that follow. It is enough to read the pass back."""
        return Page(
            self.segment,
            self.window,
            self.pass_,
            size=self.size,
            parent=self.parent,
            splits=self.splits,
            denied_at=self.denied_at,
        )

    @property
    def feed(self) -> Feed:
        return FEEDS[self.segment]

    @property
    def call(self) -> Call:
        call = self.feed.each if self.of_record else self.feed.list
        if call is None:
            raise KeyError(f"{self.segment} has no call for {self.window}")
        return call

    @property
    def askable(self) -> bool:
        """Whether it can be asked for: if it has a parent, the parent's id must be plain."""
        return self.parent is None or is_plain(str(self.parent.get("id", "")))

    @property
    def of_record(self) -> bool:
        """Whether it is asked for below a record's own address: the record's details, or a list of its children."""
        return self.window.startswith("of-")

    @property
    def unsure(self) -> bool:
        """Whether nobody knows yet how many pages of its list follow."""
        if self.of_record:
            return False  # almost always one page
        return self.first or self.cuts or self.call.paging in (Paging.CHAIN, Paging.CURSOR)

    def payload(self) -> str:
        """Return the members outside the identity, as JSON; empty for most pages.

        Redis keeps it while the page is open. It holds only a parent's id, so that names stay out of Redis.
        """
        extra = {
            name: value
            for name in _PAYLOAD
            if (value := getattr(self, name)) != getattr(_BLANK, name)
        }
        if self.parent:
            extra["parent"] = {"id": self.parent["id"]}
        return orjson.dumps(extra).decode() if extra else ""

    @classmethod
    def parse(cls, page_id: str, payload: str = "") -> Page:
        """Return the page with this id, and with the payload that `payload` returned.

        Raises `NewerPage` if the payload has a member that this version doesn't know.
        """
        segment, group, number = page_id.split("/")
        window, pass_, size = parse_group(group)
        extra = orjson.loads(payload) if payload else {}
        if strange := extra.keys() - set(_PAYLOAD):
            raise NewerPage(f"{page_id}: {', '.join(sorted(strange))}")
        if chain := extra.get("chain"):
            extra["chain"] = tuple(chain)
        if rest := extra.get("rest"):
            extra["rest"] = tuple(map(tuple, rest))
        return cls(segment, window, pass_, int(number), size=size, **extra)


_BLANK = Page("", "")


def group_name(window: str, pass_: int, size: int = PAGE_LIMIT) -> str:
    """Return the name of a pass in page ids and storage keys: `<window>.<pass>`, or `<window>.<pass>s<size>`."""
    return f"{window}.{pass_}" if size == PAGE_LIMIT else f"{window}.{pass_}s{size}"


def parse_group(name: str) -> tuple[str, int, int]:
    """Return window, pass and page size from a name that `group_name` returned; ValueError for any other text."""
    window, _, pass_ = name.rpartition(".")
    pass_, _, size = pass_.partition("s")
    return window, int(pass_), int(size or PAGE_LIMIT)


def gave_way(page: Page, groups: Iterable[str]) -> bool:
    """Return whether one of *groups* (names, all of one feed) replaced the pass of *page* because it was too slow.

    The replacement has the same window in smaller pages, or a part of the window in the smallest pages. It is the only
    trace of slowness, because a request that took too long leaves no answer.
    """
    for name in groups:
        try:
            window, pass_, size = parse_group(name)
        except ValueError:  # not a name that Pagetrail writes
            continue
        if size < page.size and (window, pass_) == (page.window, page.pass_):
            return True
        if size == PAGE_SIZES[-1] and is_part(window, page.window):
            return True
    return False


def in_words(page_id: str) -> str:
    """Return a page's id for a person: "incidents 20260801..20260901 pass 1 offset 300"."""
    page = Page.parse(page_id)
    window = _PERIOD.sub(r"\1..\2", page.window).replace("of-", "of ", 1)
    cursor = page.segment in FEEDS and page.call.paging is Paging.CURSOR
    place = "page" if cursor else "offset"
    size = "" if page.size == PAGE_LIMIT else f" by {page.size}"
    return f"{page.segment} {window} pass {page.pass_}{size} {place} {page.number}"


_PERIOD = re.compile(r"^(\d{8})T\d{6}Z_(\d{8})T\d{6}Z$")
_PAYLOAD = (
    *("end", "held", "cuts", "cursor", "mark", "nth", "parent"),
    *("chain", "rest", "splits", "denied_at"),
)


@dataclass(frozen=True, slots=True)
class Request:
    """A GET: its path, its parameters, and the endpoint class whose limit applies too."""

    path: str
    params: tuple[tuple[str, str], ...]
    endpoint_class: str = ""


def request_of(page: Page, plan: Plan) -> Request:
    """Return the GET that asks for *page*; ValueError if it isn't askable."""
    call = page.call
    params = list(call.params)
    if period := period_in(page.window):
        params += [("since", rfc3339(period.since)), ("until", rfc3339(period.until))]
    elif call.rendered:
        params += [("since", rfc3339(plan.period.since)), ("until", rfc3339(plan.period.until))]
    elif call.instant:
        params += [(bound, rfc3339(plan.period.until)) for bound in ("since", "until")]
    if call.paging in (Paging.CLASSIC, Paging.CHAIN):
        params += [("limit", str(page.limit)), ("offset", str(page.number))]
        if call.paging is Paging.CLASSIC and (page.first or page.held):
            params.append(("total", "true"))
    elif call.paging is Paging.CURSOR:
        params.append(("limit", str(page.size)))
        if page.cursor:
            params.append(("cursor", page.cursor))
    path = path_of(call, str((page.parent or {}).get("id", "")))
    return Request(path, tuple(params), call.endpoint_class)


def path_of(call: Call, parent_id: str = "") -> str:
    """Return the path of *call* for the record *parent_id*; ValueError for an id that isn't plain."""
    if "{id}" in call.path and not is_plain(parent_id):
        raise ValueError(f"{call.path} can't be asked for: the id isn't plain")
    return call.path.replace("{id}", parent_id)
