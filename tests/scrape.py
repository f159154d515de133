"""What a process shows to Prometheus, read as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

SUFFIXES = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_sum", "_count"),
    "info": ("_info",),
}
"""What the series of a metric of each type end in."""


@dataclass(frozen=True)
class Scrape:
    """The samples of one or more processes."""

    samples: tuple[Sample, ...]
    names: frozenset[str]
    """What series are or may be called: some have no sample before something happens."""

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of the series of *name* that carry *labels*."""
        return sum(
            sample.value
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


def scrape(addresses: Iterable[str]) -> Scrape:
    """Read all of *addresses*, one after another."""
    samples: list[Sample] = []
    names: set[str] = set()
    for address in addresses:
        answer = httpx.get(address, trust_env=False, timeout=30)
        answer.raise_for_status()
        for family in text_string_to_metric_families(answer.text):
            samples += family.samples
            names |= {family.name + suffix for suffix in SUFFIXES.get(family.type, ("",))}
    return Scrape(tuple(samples), frozenset(names))
