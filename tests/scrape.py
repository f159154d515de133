"""Reads the metrics of a process, as Prometheus does."""

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
"""The endings of the series of each type of metric."""


@dataclass(frozen=True)
class Scrape:
    """The samples of one or more processes."""

    samples: tuple[Sample, ...]
    names: frozenset[str]
    """The names that series may have. Some series have no sample until something happens."""

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of the series of *name* that have *labels*."""
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
