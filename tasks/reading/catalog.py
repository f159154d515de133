"""The catalog of PagerDuty resources that Pagetrail can read: one declarative entry each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

CATALOG_VERSION = 4
"""Goes up with every change of an entry. A plan names the version that it was made with."""
PAGE_LIMIT = 100
"""Records asked for per page: PagerDuty's documented maximum of classic pagination."""
PAGE_SIZES = (PAGE_LIMIT, 50, 25, 10)
"""Page sizes. If a list can't be read in pages of one size, the next smaller size is tried."""
OFFSET_CAP = 10_000
"""`offset + limit` may not exceed this on classic lists (PagerDuty's pagination guide)."""

SECRETS = frozenset(
    {
        "integration_key",
        "integration_email",
        "routing_key",
        "routing_keys",
        "http_cal_url",
        "web_cal_url",
        "endpoint_url",
    }
)
"""Fields whose values are credentials, in whatever record they occur."""


class Paging(StrEnum):
    """How a call pages."""

    CLASSIC = "classic"  # limit, offset, more, total
    CHAIN = "chain"  # limit, offset, more, but no total: each page shows whether another follows
    CURSOR = "cursor"  # next_cursor, null at the end
    SINGLE = "single"  # one answer has everything


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One GET: its path, the member that wraps its records, and how it pages."""

    path: str  # `{id}` stands for the parent's id
    wrapper: str
    paging: Paging = Paging.CLASSIC
    params: tuple[tuple[str, str], ...] = ()
    rendered: bool = False  # the run's period is sent as since/until; it changes the records, and doesn't filter them
    instant: bool = False  # the period's end is sent as since and until: all pages show one moment
    endpoint_class: str = ""  # names a limit of its own, which applies besides the key's


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """One way into a resource: a list, calls per record, or both.

    `segment` names the feed in page ids and storage keys. With `details`, the records are the answers of `each`, which
    is called for every record of `list`. With `parent`, they are the answers of `each`, which is called for every
    record of the parent feed. `settled` names a field and its final values. A record with another value is read again
    by the next run, with `each`.
    """

    segment: str
    list: Call | None = None
    each: Call | None = None
    details: bool = False
    parent: str | None = None  # a feed's segment
    # If records have no id, this member of them gets the reference to their parent.
    parent_field: str | None = None
    window_days: int | None = None  # longest period of one window; None: the list is a snapshot
    retention_days: int | None = None  # PagerDuty deletes older records
    settled: tuple[str, frozenset[str]] | None = None
    # The list is sorted by this field, so it shows whether pages overlap. If it is a time, it also
    # shows where to cut a window that is too long.
    sort_field: str = "name"
    missing_means_plan: bool = False  # a 404 for the list means that the account's plan lacks it

    @property
    def changing(self) -> bool:
        """Whether the list can gain and lose records while it is read."""
        return self.window_days is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One kind of PagerDuty record."""

    name: str
    feeds: tuple[Feed, ...]
    key: tuple[str, ...] = ("id",)  # dotted fields; (): the digest of the record is its key
    secrets: frozenset[str] = SECRETS  # fields redacted before storing, at any depth

    @property
    def needs(self) -> frozenset[str]:
        """The parents of this resource: it is read for each of their records."""
        return frozenset(f.parent.partition(".")[0] for f in self.feeds if f.parent)

    @property
    def windowed(self) -> bool:
        return any(feed.window_days for feed in self.feeds)


def _snapshot(name: str, *params: tuple[str, str]) -> Resource:
    call = Call(path=f"/{name}", wrapper=name, params=params)
    return Resource(name=name, feeds=(Feed(segment=name, list=call),))


_UTC = ("time_zone", "UTC")

_ENTRIES = (
    Resource(
        name="incidents",
        feeds=(
            Feed(
                segment="incidents",
                list=Call(
                    path="/incidents",
                    wrapper="incidents",
                    params=(("sort_by", "incident_number:asc"), _UTC),
                ),
                each=Call(path="/incidents/{id}", wrapper="incident", paging=Paging.SINGLE),
                window_days=150,  # documented maximum: 6 months, exact day count unverified
                sort_field="created_at",  # incident numbers are in the order of creation
                settled=("status", frozenset({"resolved"})),
            ),
        ),
    ),
    Resource(
        name="log_entries",
        feeds=(
            Feed(
                segment="log_entries",
                list=Call(
                    path="/log_entries",
                    wrapper="log_entries",
                    params=(("include[]", "channels"), _UTC),
                ),
                window_days=31,  # maximum not documented
                sort_field="created_at",
            ),
        ),
    ),
    _snapshot("services", ("include[]", "integrations"), _UTC),
    _snapshot("escalation_policies"),
    Resource(
        name="schedules",
        feeds=(
            Feed(
                segment="schedules",
                list=Call(path="/schedules", wrapper="schedules"),
                each=Call(
                    path="/schedules/{id}",
                    wrapper="schedule",
                    paging=Paging.SINGLE,
                    params=(_UTC,),
                ),
                details=True,
            ),
            Feed(
                segment="schedules.shift",
                list=Call(path="/v3/schedules", wrapper="schedules", paging=Paging.CHAIN),
                each=Call(
                    path="/v3/schedules/{id}",
                    wrapper="schedule",
                    paging=Paging.SINGLE,
                    params=(_UTC,),
                ),
                details=True,
                sort_field="summary",
            ),
        ),
        key=("type", "id"),
    ),
    Resource(  # a resource of its own, so that definitions are read even if a rendering takes too long
        name="schedule_coverage",
        feeds=(
            Feed(
                segment="schedule_coverage",
                each=Call(
                    path="/schedules/{id}",
                    wrapper="schedule",
                    paging=Paging.SINGLE,
                    params=(_UTC,),
                    rendered=True,
                ),
                parent="schedules",
            ),
            Feed(
                segment="schedule_coverage.shift",
                each=Call(
                    path="/v3/schedules/{id}",
                    wrapper="schedule",
                    paging=Paging.SINGLE,
                    params=(("include[]", "final_schedule"), _UTC),
                    rendered=True,
                ),
                parent="schedules.shift",
            ),
        ),
        key=("type", "id"),
    ),
    _snapshot("teams"),
    Resource(
        name="team_members",
        feeds=(
            Feed(
                segment="team_members",
                each=Call(path="/teams/{id}/members", wrapper="members"),
                parent="teams",
                parent_field="team",
            ),
        ),
        key=("team.id", "user.id"),
    ),
    _snapshot(
        "users",
        ("include[]", "contact_methods"),
        ("include[]", "notification_rules"),
        ("include[]", "teams"),
    ),
    Resource(
        name="oncalls",
        feeds=(
            Feed(
                segment="oncalls",
                list=Call(
                    path="/oncalls",
                    wrapper="oncalls",
                    params=(_UTC,),
                    instant=True,  # by default each page would show the time of its own request
                    endpoint_class="oncalls",  # PagerDuty limits it separately, and doesn't publish the limit
                ),
            ),
        ),
        key=(),
    ),
    Resource(
        name="audit_records",
        feeds=(
            Feed(
                segment="audit_records",
                list=Call(path="/audit/records", wrapper="records", paging=Paging.CURSOR),
                window_days=31,  # documented maximum of one request
                retention_days=365,
                sort_field="execution_time",
            ),
        ),
    ),
)

CATALOG: dict[str, Resource] = {entry.name: entry for entry in _ENTRIES}
FEEDS: dict[str, Feed] = {feed.segment: feed for entry in _ENTRIES for feed in entry.feeds}


def larger(size: int) -> int:
    """Return the page size above *size*, or the largest."""
    return min((each for each in PAGE_SIZES if each > size), default=PAGE_LIMIT)


def resource_of(segment: str) -> Resource:
    """Return the resource that the feed *segment* belongs to."""
    return CATALOG[segment.partition(".")[0]]


def children_of(segment: str, feeds: Iterable[Feed]) -> tuple[Feed, ...]:
    """Return those of *feeds* that are read for each record of *segment*."""
    return tuple(
        feed
        for feed in feeds
        if feed.parent == segment or (feed.details and feed.segment == segment)
    )


def with_parents(names: Iterable[str]) -> tuple[str, ...]:
    """Return *names* and their parent resources, in the order of the catalog.

    Names that the catalog doesn't have are left out.
    """
    wanted = set(names) & CATALOG.keys()
    while missing := {need for name in wanted for need in CATALOG[name].needs} - wanted:
        wanted |= missing
    return tuple(name for name in CATALOG if name in wanted)
