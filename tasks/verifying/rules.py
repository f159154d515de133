"""The table of rules: what has to be true of a stored run, one small function each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tasks.verifying.copies import RunCopy

Finding = tuple[str, str]
"""The key of an object, and what is wrong with it."""
Find = Callable[[RunCopy], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule. `kind` is the kind of the differences that it finds, `sentence` says what has to be true."""

    name: str
    kind: str
    sentence: str
    find: Find


RULES: list[Rule] = []
"""All rules, in the order in which they are applied."""
KINDS = {
    "missing": "a plan, page, artifact or list of digests is gone",
    "changed": "an object isn't the one that was sealed",
    "extra": "no manifest lists this object, or it has a name that no run and no object of a run has",
    "manifest": "a plan or a manifest isn't written as Pagetrail writes it",
    "chain": "a run doesn't follow the run before it",
    "count": "the pages don't add up to what the manifest says",
    "page": "a stored page isn't an answer to a request of its run's plan",
    "record": (
        "an object below `.purged/` isn't the record of an erasure, isn't signed, or contradicts the record before it, "
        "a seal or a stored manifest; `verify` ignores what it says"
    ),
    "seal": "a seal isn't about its run, doesn't follow the seal before, or isn't signed; or a run was left out",
    "head": "the newest seal is not the one given with `--head`, and doesn't follow it",
    "open": "a run has not ended, although the interval of its source is over",
    "late": "a page of this run was stored too late to count; this isn't a difference",
    "left": "part of a purged run is still stored; this isn't a difference",
}
"""Each kind of difference, in a sentence."""


def rule(kind: str, sentence: str) -> Callable[[Find], Find]:
    """Add a function to the rules."""
    assert kind in KINDS

    def added(find: Find) -> Find:
        RULES.append(Rule(find.__name__, kind, sentence, find))
        return find

    return added
