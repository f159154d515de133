"""Rules on the objects of a source: each has a place, and nothing else is stored."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.evidence.artifacts import RUN
from tasks.evidence.erasure_records import RECORDS
from tasks.evidence.erasures import Purged
from tasks.evidence.layout import SEALS, page_key, run_prefix, sums_key
from tasks.evidence.sums import listed_pages
from tasks.verifying.contents import is_own_page
from tasks.verifying.copies import RunCopy
from tasks.verifying.report import Difference
from tasks.verifying.rules import Finding, rule
from workers.storage import Storage


@rule("extra", "each object of a run is one that its manifest lists, or a document of the run")
def nothing_is_unlisted(run: RunCopy) -> Iterator[Finding]:
    yield from ((key, "no manifest lists it") for key in _unlisted(run) if not _is_late(run, key))


@rule("late", "a page that was stored after its run ended counts for nothing")
def late_pages_are_named(run: RunCopy) -> Iterator[Finding]:
    yield from ((key, "stored too late to count") for key in _unlisted(run) if _is_late(run, key))


def _unlisted(run: RunCopy) -> list[str]:
    manifest, prefix = run.manifest, run_prefix(run.source, run.run)
    known = {page_key(run.source, run.run, page) for page in listed_pages(manifest)}
    known |= {part.key for each in manifest.resources.values() for part in each.artifacts}
    known |= {each.key for each in (*manifest.orphans, *manifest.unreadable)}
    known |= {run.plan_key, run.manifest_key, sums_key(run.source, run.run)}
    known |= {f"{prefix}/{name}" for name in SEALS}
    return [key for key in run.sizes if key not in known]


def _is_late(run: RunCopy, key: str) -> bool:
    return is_own_page(run.storage, key)


def beside(storage: Storage, source: str, purged: Purged) -> Iterator[Difference]:
    """Yield the differences outside of the runs: among the records of erasures, and in the tree of the source."""
    for key, why in purged.faults():
        yield Difference("", key, "record", why)
    for run in purged.left:
        detail = "the run was purged, and something of it is still stored"
        yield Difference(run, run_prefix(source, run), "left", detail)
    for name in storage.children(f"{source}/runs"):
        if not RUN.fullmatch(name):
            yield Difference("", run_prefix(source, name), "extra", "no run is called so")
    for name in storage.children(source):
        if name != "runs":
            yield Difference("", f"{source}/{name}", "extra", "a source has nothing but runs")
    for prefix in (source, f"{RECORDS}/{source}"):
        for key in storage.irregular(prefix):
            yield Difference("", key, "extra", "it is a link, or no plain file, or hidden")


def doubled(keys: Iterator[str]) -> Iterator[str]:
    """Yield each key that another one differs from only in the case of its letters."""
    seen: dict[str, str] = {}
    for key in keys:
        if seen.setdefault(key.casefold(), key) != key:
            yield key
