"""Faults on demand: rules that say which requests fail, how, and how often."""

import random
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from simulator import hostile

# The faults that happen by accident. `simulator.hostile` has those of hostile accounts.
ACCIDENTS = {
    "status_500": "500 with HTML, as gateways answer.",
    "status_502": "502 with HTML.",
    "status_503": "503 with HTML.",
    "status_504": "504 with HTML.",
    "status_404": "404 with JSON, as for a record that was made a moment ago.",
    "status_408": "408 with JSON.",
    "status_429": "429 with the limit's headers.",
    "bare_429": "429 with neither headers nor body.",
    "unauthorized": "401 with HTML.",
    "drop_before": "The connection ends before the answer.",
    "drop_middle": "The connection ends in the middle of the body.",
    "short_body": "The connection ends seven bytes before the end of the body.",
    "cut_json": "Two thirds of the body, with the length of the two thirds.",
    "slow": "The page, `seconds` later.",
    "trickle": "The page in 20 parts, spread over `seconds`.",
    "hang": "No answer at all.",
    "smaller": "A page of at most `served` records.",
    "duplicate": "A page that begins with the last record of the page before.",
    "cursor_expired": "400 to a cursor.",
    "cursor_repeated": "The cursor of the request again, as the next cursor.",
}
KINDS: dict[str, str] = ACCIDENTS | {name: kind.sentence for name, kind in hostile.KINDS.items()}
NEEDS = {"cursor_expired": "cursor", "cursor_repeated": "cursor", "duplicate": "offset"}


class FaultError(ValueError):
    """Says in one sentence what is wrong with a fault rule."""


@dataclass(slots=True)
class Fault:
    """A rule that makes matching requests fail, each with a probability, or only a number of them."""

    kind: str
    account: str | None = None
    key: str | None = None
    path: str = "*"  # fnmatch over the path; * matches slashes too
    probability: float = 1.0
    next: int | None = None  # how many more times it fires; None: unlimited
    each: int | None = None  # how many times it fires for one path; None: unlimited
    param: str | None = None  # only requests that have a parameter with this name
    skip: int = 0  # this many matching requests pass first
    lasting: float | None = None  # seconds since its first request; None: unlimited
    seconds: float = 1.0
    served: int = 10
    number: int = 0
    fired: int = 0
    dice: random.Random = field(default_factory=random.Random, repr=False)
    struck: Counter[str] = field(default_factory=Counter, repr=False)  # path -> times
    began: float | None = field(default=None, repr=False)

    def strikes(self, account: str, key: str, path: str) -> bool:
        """Say whether this request fails, and if so count it."""
        if self.next == 0 or (self.account or account) != account or (self.key or key) != key:
            return False
        if not fnmatchcase(path, self.path):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self._is_over(path):
            return False
        if self.dice.random() >= self.probability:
            return False
        self.fired += 1
        self.struck[path] += self.each is not None
        if self.next is not None:
            self.next -= 1
        return True

    def _is_over(self, path: str) -> bool:
        now = time.monotonic()
        self.began = self.began or now
        late = self.lasting is not None and now - self.began >= self.lasting
        return late or (self.each is not None and self.struck[path] >= self.each)


class Faults:
    """All active rules. The first one that strikes wins."""

    def __init__(self) -> None:
        self.rules: list[Fault] = []
        self.fired: Counter[str] = Counter()
        self.added = 0

    def add(self, data: dict[str, Any]) -> Fault:
        """Activate a rule; FaultError if it is invalid."""
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
        """Return the fault for a request with *params* (names)."""
        for rule in self.rules:
            if NEEDS.get(rule.kind, "") not in ("", *params):
                continue
            if rule.param is not None and rule.param not in params:
                continue
            if rule.strikes(account, key, path):
                self.fired[rule.kind] += 1
                return rule
        return None

    def clear(self, number: int | None = None) -> None:
        """Deactivate one rule, or all rules."""
        self.rules = [r for r in self.rules if number is not None and r.number != number]
