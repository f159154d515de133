"""The dashboard and the alerts are complete, and use metrics and runbook entries that exist."""

import json
import re
import shutil
import subprocess
from functools import cache
from itertools import combinations
from typing import Any

import pytest

from tests.promql import OBSERVABILITY, ROOT, alerts, labels_in, panels, queries, series_in
from tests.scrape import SUFFIXES
from tests.unit.process.test_metrics import documented

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text("utf-8")
TARGET_LABELS = {"job", "instance"}  # Prometheus adds these for every target


@cache
def series() -> dict[str, set[str]]:
    """Return the labels of every documented series, by name."""
    return {
        name + suffix: set(filter(None, labels.split(", ")))
        for name, kind, labels in documented("worker") + documented("beat")
        for suffix in SUFFIXES.get(kind, ("",))
    }


@pytest.mark.parametrize("query", queries())
def test_a_query_reads_series_and_labels_that_exist(query: str) -> None:
    read, known = series_in(query), series()
    ours = {name for name in read if not name.startswith("process_")}
    assert ours
    assert ours <= known.keys()
    labels = {"le", *TARGET_LABELS}.union(*(known[name] for name in ours))
    assert labels_in(query) <= labels


def test_the_series_of_a_query_are_found_in_all_its_forms() -> None:
    query = (
        'sum by (job) (rate(a_total{x="b_total"}[5m])) / on () (c * 2 > 1) or absent(d) unless e'
    )
    assert series_in(query) == {"a_total", "c", "d", "e"}
    assert labels_in(query) == {"job", "x"}


def test_the_dashboard_can_be_provisioned_anywhere() -> None:
    dashboard = json.loads((OBSERVABILITY / "grafana" / "pagetrail.json").read_text("utf-8"))
    assert dashboard["id"] is None
    assert dashboard["uid"] == "pagetrail-fleet"
    assert dashboard["schemaVersion"] >= 36
    [variable] = dashboard["templating"]["list"]
    assert (variable["type"], variable["query"], variable["name"]) == (
        "datasource", "prometheus", "datasource",
    )  # fmt: skip


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    for part in (panel, *panel["targets"]):
        assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_no_two_panels_lie_on_each_other() -> None:
    assert len({panel["id"] for panel in panels()}) == len(panels())
    for one, other in combinations((panel["gridPos"] for panel in panels()), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_says_how_bad_it_is_and_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{alert['alert'].lower()}"


def test_the_runbook_has_an_entry_for_each_alert_and_no_other() -> None:
    assert re.findall("^### (.*)$", RUNBOOK, re.M) == [alert["alert"] for alert in alerts()]
    for name in re.findall(r"\*(Pagetrail\w+)\*", RUNBOOK):
        assert f"### {name}\n" in RUNBOOK


def test_the_runbook_names_panels_that_exist() -> None:
    """Text in single stars is an alert, a heading, or the title of a panel."""
    titles = {panel["title"].lower() for panel in panels()}
    headings = {heading.lower() for heading in re.findall("^## (.*)$", RUNBOOK, re.M)}
    found = re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", RUNBOOK)
    named = {" ".join(name.split()).lower() for name in found}
    assert named - titles - headings <= {alert["alert"].lower() for alert in alerts()}


@pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="needs promtool, which comes with Prometheus (Debian: prometheus)",
)
@pytest.mark.parametrize(
    "check",
    [
        ("check", "rules", "observability/alerts.yml"),
        ("check", "config", "--syntax-only", "observability/prometheus.yml"),
        ("test", "rules", "tests/unit/alerts.yml"),
    ],
    ids=" ".join,
)
def test_promtool_takes_the_files_and_each_alert_fires_when_it_should(check: tuple[str]) -> None:
    told = subprocess.run(
        ["promtool", *check], cwd=ROOT, capture_output=True, text=True, check=False  # noqa: S607 - whichever is installed
    )  # fmt: skip
    assert told.returncode == 0, told.stdout + told.stderr
