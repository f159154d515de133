"""Turn the gaps of a run into sentences for a person: pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tasks.cli import output
from tasks.evidence.outcomes import ResourceOutcome
from tasks.reading.windows import moment

_SHOWN = 5
_WHY = {
    "retention": "PagerDuty had deleted it before it was read.",
    "backlog": "later runs read it.",
}


def sentences(resources: Mapping[str, ResourceOutcome]) -> Iterator[str]:
    """Yield a sentence for each gap in the summaries of *resources*."""
    for name, each in resources.items():
        for feed in each.withheld if each.reason != "plan" else ():
            yield f"{name}: the account's plan lacks {feed}; the other lists are not affected."
        for gap in each.outside:
            since, until = (output.utc(moment(bound)) for bound in (gap.since, gap.until))
            if why := _WHY.get(gap.reason):
                yield f"{name}: {since} to {until} is missing: {why}"
        if each.vanished:
            yield (
                f"{name}: PagerDuty lists {_named(each.vanished)}, but answered 404 twice when asked "
                "for it directly. It may be deleted, or hidden from this key. The next run asks again."
            )
        if unlisted := sorted({*each.denied} - {*each.vanished}):
            yield (
                f"{name}: PagerDuty answers 404 for {_named(unlisted)}, which was open when earlier "
                "runs read it. It may be deleted, merged, or hidden from this key. The next run asks again."
            )


def _named(ids: Sequence[str]) -> str:
    shown = ", ".join(ids[:_SHOWN])
    return f"{shown} and {len(ids) - _SHOWN} more" if ids[_SHOWN:] else shown
