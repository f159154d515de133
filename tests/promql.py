"""The queries of our dashboard and alerts, and the series that each query reads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
OBSERVABILITY = ROOT / "observability"
_WORDS = {
    "absent", "and", "group_left", "histogram_quantile", "increase", "max", "on", "or", "rate",
    "sum", "time", "unless", "by",
}  # fmt: skip
_LABELS = re.compile(r"\b(?:by|on|group_left)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"\{([^}]*)\}")


def panels() -> list[dict[str, Any]]:
    """Return the panels of the dashboard that have queries."""
    found = json.loads((OBSERVABILITY / "grafana" / "pagetrail.json").read_text("utf-8"))["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def alerts() -> list[dict[str, Any]]:
    """Return the alerts of every group."""
    groups = yaml.safe_load((OBSERVABILITY / "alerts.yml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries() -> list[str]:
    """Return every query of the dashboard and of the alerts."""
    asked = [target["expr"] for panel in panels() for target in panel["targets"]]
    return asked + [rule["expr"] for rule in alerts()]


def series_in(query: str) -> set[str]:
    """Return the names of the series that *query* reads: every word that isn't part of PromQL."""
    bare = re.sub(r"\[[^]]*\]", " ", _SELECTOR.sub(" ", _LABELS.sub(" ", query)))
    return set(re.findall(r"[a-z_:][a-z0-9_:]*", bare)) - _WORDS


def labels_in(query: str) -> set[str]:
    """Return the labels that *query* selects, joins or groups by."""
    named = {name.strip() for found in _LABELS.findall(query) for name in found.split(",")}
    for selector in _SELECTOR.findall(query):
        named |= set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", selector))
    return named - {""}
