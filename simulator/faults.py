"""Faults on demand: rules that say which requests go wrong, how, and how often."""

import random
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

FaultKind = Literal[
    "status_500", "status_502", "status_503", "status_504", "status_408",
    "status_429", "bare_429", "unauthorized",  # answered instead of the page
    "drop_before", "drop_middle", "short_body", "cut_json",  # the page, but broken
    "slow", "trickle", "hang",  # the page, but late: at once after, spread over, or never
    "smaller", "duplicate", "cursor_expired", "cursor_repeated",  # another page than expected
]  # fmt: skip
KINDS: tuple[str, ...] = get_args(FaultKind)
NEEDS = {"cursor_expired": "cursor", "cursor_repeated": "cursor", "duplicate": "offset"}


class FaultError(ValueError):
    """One sentence saying what is wrong with a fault rule."""


@dataclass(slots=True)
class Fault:
    """A rule: requests it matches go wrong, each with a probability, or only the next so many."""

    kind: str
    account: str | None = None
    key: str | None = None
    path: str = "*"  # fnmatch over the path; * matches slashes too
    probability: float = 1.0
    next: int | None = None  # how many more times it fires; None: without end
    skip: int = 0  # let so many matching requests pass first
    seconds: float = 1.0
    served: int = 10
    number: int = 0
    fired: int = 0
    dice: random.Random = field(default_factory=random.Random, repr=False)

    def strikes(self, account: str, key: str, path: str) -> bool:
        """Tell whether this request goes wrong, and count it if so."""
        if self.next == 0 or (self.account or account) != account or (self.key or key) != key:
            return False
        if not fnmatchcase(path, self.path):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.dice.random() >= self.probability:
            return False
        self.fired += 1
        if self.next is not None:
            self.next -= 1
        return True


class Faults:
    """All rules in force; the first one that strikes wins."""

    def __init__(self) -> None:
        self.rules: list[Fault] = []
        self.fired: Counter[str] = Counter()
        self.added = 0

    def add(self, data: dict[str, Any]) -> Fault:
        """Put a rule in force; FaultError if it makes no sense."""
        values = dict(data)
        seed = values.pop("seed", self.added)
        if values.get("kind") not in KINDS:
            raise FaultError(f"kind must be one of {', '.join(KINDS)}.")
        try:
            rule = Fault(**values)
        except TypeError as error:
            raise FaultError(f"{error}.") from None
        self.added += 1
        rule.number, rule.dice = self.added, random.Random(f"fault/{seed}")
        self.rules.append(rule)
        return rule

    def pick(self, account: str, key: str, path: str, params: Collection[str]) -> Fault | None:
        """Return the fault a request with *params* (names) meets."""
        for rule in self.rules:
            if NEEDS.get(rule.kind, "") not in ("", *params):
                continue
            if rule.strikes(account, key, path):
                self.fired[rule.kind] += 1
                return rule
        return None

    def clear(self, number: int | None = None) -> None:
        """Take one rule, or all, out of force."""
        self.rules = [r for r in self.rules if number is not None and r.number != number]
