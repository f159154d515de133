"""The documented metrics are the ones that processes can show."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from tasks.watching import vitals
from workers.process import metrics

DOCS = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text("utf-8")
Row = tuple[str, str, str]


def documented(role: str) -> list[Row]:
    """Return name, type and labels of each row of a table in the documentation."""
    table = re.search(rf"<!-- {role} metrics.*?-->\n(.*?)<!-- end of {role}", DOCS, re.S)
    assert table
    rows = (line.split("|") for line in table[1].strip().splitlines()[2:])
    return [(name.strip(" `"), kind.strip(), labels.strip()) for _, name, kind, labels, *_ in rows]


def registered(registry: CollectorRegistry) -> Iterator[Row]:
    for each in registry._collector_to_names:
        yield each._name, each._type, ", ".join(each._labelnames)  # type: ignore[attr-defined]  # the library tells no other way


def test_every_metric_is_documented_with_its_type_and_labels() -> None:
    process = ("pagetrail_process", "info", "role, node, version")
    of_fleet = [
        (f"pagetrail_{name}", "gauge", ", ".join(labels))
        for name, (_, labels) in vitals.GAUGES.items()
    ]
    assert documented("worker") == [process, *registered(metrics.WORKER)]
    assert documented("beat") == [process, *registered(metrics.BEAT), *of_fleet]


@pytest.mark.parametrize(
    ("status", "timed_out", "word"),
    [
        (200, False, "200"),
        (429, False, "429"),
        (408, True, "408"),
        (418, False, "4xx"),
        (599, False, "5xx"),
        (None, True, "timeout"),
        (None, False, "broken"),
    ],
)
def test_an_answer_is_counted_under_one_of_a_few_words(
    status: int | None, timed_out: bool, word: str
) -> None:
    assert metrics.status_word(status, timed_out) == word
