"""Beat shows the fleet when it is told to, and never because a module was imported."""

from __future__ import annotations

import pytest
from celery.utils.imports import symbol_by_name
from prometheus_client import CollectorRegistry
from pydantic import Secret

from tasks.watching import scrape
from workers.process import metrics
from workers.settings.environment import Settings

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.mark.parametrize(("port", "shown"), [(None, []), (9100, ["pagetrail_redis_up"])])
def test_the_fleet_is_shown_where_metrics_are(
    monkeypatch: pytest.MonkeyPatch, port: int | None, shown: list[str]
) -> None:
    """The name is the one by which the Celery app knows the function; here Redis does not answer."""
    registry = CollectorRegistry()
    monkeypatch.setattr(metrics, "BEAT", registry)
    show = symbol_by_name("tasks.watching.scrape:show")
    assert show is scrape.show
    show(Settings(redis_url=Secret(NOWHERE), metrics_port=port))
    assert [family.name for family in registry.collect()] == shown
