"""The verdict on each resource of a run, from the readings of its feeds: pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from tasks.evidence.replay import Evidence
from tasks.reading.catalog import CATALOG, Feed, resource_of
from tasks.reading.proofs import Verdict
from tasks.reading.sealed import Outside, ProofState, ResourceState
from tasks.reading.windows import Period, common, missing, rfc3339

NOT_KNOWN = "this version of Pagetrail can't read it"
"""The words in a manifest for a resource that the sealing version's catalog lacks."""
_LAST = ("plan", "vanished")
"""Reasons that are named only if there is no other one: a feed that the plan lacks leaves a run complete, and a
vanished record is named only where nothing else is missing."""
_SHOWN = 5
"""Most ids in one sentence. The manifest lists all of them."""


_STATES: Mapping[ProofState, ResourceState] = {
    ProofState.PROVED: "complete",
    ProofState.PARTIAL: "partial",
    ProofState.UNAVAILABLE: "unavailable",
    ProofState.FAILED: "failed",
}


def states(evidence: Evidence, *, refused: bool = False) -> dict[str, Verdict]:
    """Return the verdict on each resource: complete, partial, unavailable or failed, and why."""
    found: dict[str, Verdict] = {}
    for name in evidence.resources:
        if name not in CATALOG:
            found[name] = Verdict(ProofState.FAILED, "error", NOT_KNOWN)
            continue
        verdict = _whole([_of_feed(evidence, feed) for feed in CATALOG[name].feeds])
        if verdict.state is ProofState.PROVED or verdict.reason == "vanished":
            verdict = _lacks(evidence, name) or Verdict(ProofState.PROVED)
        if refused and verdict.state is ProofState.FAILED:
            verdict = Verdict(ProofState.FAILED, "key", "PagerDuty refused the key")
        found[name] = verdict
    return found


def withheld(evidence: Evidence, name: str) -> dict[str, str]:
    """Return the feeds of a resource that the account's plan lacks, with PagerDuty's words."""
    feeds = CATALOG[name].feeds if name in CATALOG else ()
    verdicts = {feed.segment: _of_feed(evidence, feed) for feed in feeds}
    return {segment: v.words for segment, v in verdicts.items() if _plan_lacks(v)}


def vanished(evidence: Evidence, name: str) -> list[str]:
    """Return the ids of records that a list of the run names, and whose own address answered 404 twice."""
    gathered = evidence.resources[name]
    found = {
        page.parent["id"]
        for page, verdict in gathered.verdicts
        if page.parent
        and (
            verdict.reason == "vanished"
            or (verdict.reason == "denied" and page.parent["id"] in gathered.named)
        )
    }
    return sorted(found)


def outside(evidence: Evidence, name: str) -> list[Outside]:
    """Return the parts of a resource's period that neither this run nor an earlier one proved, oldest first."""
    period = evidence.plan.period_of(name)
    feeds = [f for f in CATALOG[name].feeds if f.window_days] if name in CATALOG else []
    return sorted(
        part
        for feed in feeds
        if period
        for gap in missing(period, evidence.covered[feed.segment])
        for part in _parts(evidence, feed, gap)
    )


def _parts(evidence: Evidence, feed: Feed, gap: Period) -> Iterator[Outside]:
    """Yield the parts of *gap*: no longer kept by PagerDuty, left to later runs, or failed."""
    edge = gap.since
    if feed.retention_days:
        edge = evidence.plan.period.until - timedelta(days=feed.retention_days)
    lost = common(gap, [Period(gap.since, edge)])
    left = evidence.backlog.get(feed.segment, ())
    yield from (Outside(since=part.since, until=part.until, reason="retention") for part in lost)
    for kept in missing(gap, lost):
        yield from (
            Outside(since=part.since, until=part.until, reason="backlog")
            for part in common(kept, left)
        )
        yield from (
            Outside(since=part.since, until=part.until, reason="unread")
            for part in missing(kept, left)
        )


def _lacks(evidence: Evidence, name: str) -> Verdict | None:
    """Return the verdict that names what a resource with only proved readings still lacks; None if nothing."""
    if evidence.credential == "user":
        return Verdict(ProofState.PARTIAL, "key", "a user key sees what its user may see")
    if left := [gap for gap in outside(evidence, name) if gap.reason != "retention"]:
        shown = ", ".join(
            f"{rfc3339(each.since)} to {rfc3339(each.until)}" for each in left[:_SHOWN]
        )
        return Verdict(ProofState.PARTIAL, "backlog", f"left to later runs: {shown}{_more(left)}")
    if ids := vanished(evidence, name):
        words = f"PagerDuty lists {', '.join(ids[:_SHOWN])}{_more(ids)}, and twice answered 404 for each"
        return Verdict(ProofState.PARTIAL, "vanished", words)
    return None


def _more(found: Sequence[object]) -> str:
    return f" and {len(found) - _SHOWN} more" if found[_SHOWN:] else ""


def _plan_lacks(verdict: Verdict) -> bool:
    return verdict.state is ProofState.UNAVAILABLE and verdict.reason == "plan"


def _whole(feeds: list[Verdict]) -> Verdict:
    """Return the verdict on all feeds of a resource. A feed that the plan lacks does not affect the others."""
    return _overall([v for v in feeds if not _plan_lacks(v)] or feeds, [])


def _of_feed(evidence: Evidence, feed: Feed) -> Verdict:
    """Return the verdict on a feed. It is never better than that of the list that names its records."""
    names = feed.segment if feed.details else feed.parent
    parents = _verdicts(evidence, names, lists=True) if names else []
    own = _verdicts(evidence, feed.segment, lists=not feed.details, each=True)
    return _overall(own, parents)


def _verdicts(
    evidence: Evidence, segment: str, *, lists: bool, each: bool = False
) -> list[Verdict]:
    """Return the verdicts on a feed's lists, on its readings for single records, or on both."""
    gathered = evidence.resources.get(resource_of(segment).name)
    return [
        verdict
        for page, verdict in (gathered.verdicts if gathered else ())
        if page.segment == segment and (each if page.of_record else lists)
    ]


def _overall(verdicts: list[Verdict], parents: list[Verdict]) -> Verdict:
    doubts = [v for v in [*parents, *verdicts] if v.state is not ProofState.PROVED]
    if not doubts:
        return Verdict(ProofState.PROVED)
    worst = min(doubts, key=_rank)
    if any(v.state in (ProofState.PROVED, ProofState.PARTIAL) for v in verdicts or parents):
        state = ProofState.PARTIAL
    elif all(v.state is ProofState.UNAVAILABLE for v in doubts):
        state = ProofState.UNAVAILABLE
    else:
        state = ProofState.FAILED
    return Verdict(state, worst.reason or "error", worst.words)


def _rank(verdict: Verdict) -> tuple[bool, int]:
    """Return the sort key of a verdict. The worst verdict has the smallest."""
    reason = verdict.reason
    return verdict.state is not ProofState.FAILED, _LAST.index(reason) + 1 if reason in _LAST else 0


def state_of(verdict: Verdict) -> ResourceState:
    """Return the state of a resource in the manifest's words: a proved one is `complete`."""
    return _STATES[verdict.state]
