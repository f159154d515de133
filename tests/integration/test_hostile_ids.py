"""Whatever the ids of records are, only the address in the recipe is requested, and no record is silently left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks import api
from tasks.evidence.envelopes import decode_page
from tasks.runs import opening
from tasks.verifying.verify import verify
from tests.integration.steps import KEY, RUN, SOURCE, Fleet
from tests.simulator_process import SimulatorProcess

ODD = ("id_dots", "id_dot", "id_path", "id_percent", "id_query", "id_lines", "id_nul", "id_half")


def asked_for(simulator: SimulatorProcess) -> list[str]:
    """Return the path of each request for a page.

    Requests for one record are left out: they are probes of the limit.
    """
    return [each["path"] for each in simulator.requests() if each["query"] != "limit=1"]


@pytest.mark.parametrize("kind", ODD)
def test_a_record_whose_id_can_not_stand_in_a_path_is_named_and_not_asked_for(
    make: Callable[[Path], Fleet], tmp_path: Path, simulator: SimulatorProcess, kind: str
) -> None:
    """Its address would be another one, so its members aren't read. The members of all other teams are."""
    fleet = make(tmp_path / "data")
    source = api.connect(fleet.runtime, SOURCE, KEY, api.Wishes(resources=("team_members",)))
    simulator.fault(kind, path="/teams")
    simulator.reset_stats()
    opening.collect_now(fleet.runtime, source)
    fleet.live()
    assert simulator.stats()["faults"] == {kind: 1}
    teams = {team["id"] for team in simulator.truth("acme", "teams")}
    asked = asked_for(simulator)
    assert len(set(asked)) == len(teams)
    assert set(asked) < {"/teams", *(f"/teams/{team}/members" for team in teams)}
    assert fleet.manifest
    members = fleet.manifest["resources"]["team_members"]
    assert (members["state"], members["reason"]) == ("partial", "error")
    assert "can't be part of a request" in members["words"]
    assert members["records"] > 0
    *_, report = verify(fleet.storage, SOURCE)
    assert report.ok


def test_every_stored_recipe_names_the_address_that_was_asked_for(
    make: Callable[[Path], Fleet], tmp_path: Path, simulator: SimulatorProcess
) -> None:
    fleet = make(tmp_path / "data")
    source = api.connect(fleet.runtime, SOURCE, KEY, api.Wishes())
    simulator.fault("id_dots", path="/teams")
    simulator.reset_stats()
    opening.collect_now(fleet.runtime, source)
    fleet.live()
    stored = [
        answer.envelope.path
        for each in fleet.storage.list(f"{SOURCE}/runs/{RUN}/pages")
        if (answer := decode_page(fleet.storage.get(each.key) or b"")).envelope
    ]
    asked = asked_for(simulator)
    assert sorted(stored) == sorted(asked)
