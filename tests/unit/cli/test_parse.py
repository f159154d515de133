"""Typed text becomes a value, or one sentence that says how to write it."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from tasks.cli import parse
from tasks.reading.catalog import CATALOG
from workers.errors import UsageFault


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2024-02-29", datetime(2024, 2, 29, tzinfo=UTC)),
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31t12:00:00.999z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00+02:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_a_date_is_a_day_or_a_time_with_its_zone(text: str, when: datetime) -> None:
    assert parse.date(text) == when


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-02-30",
        "2023-02-29",
        "2026-13-01",
        "2026-00-10",
        "0000-01-01",
        "0001-01-01",
        "2008-12-31",
        "9999-12-31",
        "9999-12-31T23:59:59-23:59",
        "0001-01-01T00:00:00+23:59",
        "2026-01-31T25:00:00Z",
        "2026-01-31T12:00:00",
        "2026-01-31T12:00:00+25:00",
        "2026-1-1",
        "20260131",
        "2026-W05",
        "31.01.2026",
        "\u0662\u0660\u0662\u0664-01-01",
        "2026-01-31\n",
        "2" * 300,
    ],
)
def test_an_impossible_or_future_date_is_refused(text: str) -> None:
    refused(parse.date, text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("24h", 86_400), ("7d", 604_800), ("1m", 60), ("90s", 90), ("366d", 31_622_400)],
)
def test_an_interval_is_a_number_with_its_unit(text: str, seconds: int) -> None:
    assert parse.every(text) == seconds


def test_an_interval_may_be_never() -> None:
    assert parse.every("never") is None


@pytest.mark.parametrize(
    "text", ["", "24", "0h", "-1h", "59s", "367d", "1.5h", "Never", "1w", "1h1m", "9" * 300 + "h"]
)
def test_an_interval_out_of_bounds_is_refused(text: str) -> None:
    refused(parse.every, text)


@pytest.mark.parametrize(
    ("text", "value"), [("0%", 0.0), ("10%", 0.1), ("2.5%", 0.025), ("90%", 0.9)]
)
def test_a_reserve_is_a_percentage(text: str, value: float) -> None:
    assert parse.share(text) == pytest.approx(value)


@pytest.mark.parametrize(
    "text", ["", "%", "10", "0.1", "91%", "90.1%", "100%", "-1%", "1e1%", "nan%"]
)
def test_another_reserve_is_refused(text: str) -> None:
    refused(parse.share, text)


def test_resources_are_a_list_or_everything() -> None:
    assert parse.resources("teams, users,teams") == ("teams", "users")
    assert parse.resources("all") is None


@pytest.mark.parametrize("text", ["", "teams,", "nothing", "teams,nothing", "Teams", "../teams"])
def test_an_unknown_resource_is_refused_with_a_list_of_the_known_ones(text: str) -> None:
    assert "incidents" in refused(parse.resources, text)


def test_every_resource_of_the_catalog_can_be_named() -> None:
    assert parse.resources(",".join(CATALOG)) == tuple(CATALOG)


def test_leading_zeros_of_a_run_may_be_left_out() -> None:
    assert parse.run_id("7") == parse.run_id("00000007") == "00000007"


@pytest.mark.parametrize("text", ["", "0", "-1", "latest", "../1", "1" * 9, "\u0661"])
def test_another_run_is_refused(text: str) -> None:
    refused(parse.run_id, text)


def refused(parser: Callable[[str], object], text: str) -> str:
    """Return the sentence with which *text* is refused."""
    with pytest.raises(UsageFault) as caught:
        parser(text)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert len(sentence) < 400
    return sentence
