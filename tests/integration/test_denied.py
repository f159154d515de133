"""A record that PagerDuty lists answers 404: it is requested again after a minute.

If the 404 stays, the run names it.
"""

from __future__ import annotations

from collections import defaultdict

from tasks.reading.proofs import ProofState
from tasks.verifying.verify import verify
from tests.integration.steps import RUN, SOURCE, Fleet
from tests.simulator_process import SimulatorProcess
from workers.pagerduty.replies import Reply

MINUTE_MS = 60_000
VANISHED = {"schedules", "schedule_coverage", "team_members"}
DENIED = ("/schedules/*", "/v3/schedules/*", "/teams/*/members")


def until_denied(fleet: Fleet, seen: dict[str, list[tuple[int, int]]]) -> None:
    """Let the run continue until PagerDuty answers 404 for the first time."""
    while not any(asked[0][1] == 404 for asked in seen.values()):
        if fleet.messages:
            fleet.step()
        else:
            fleet.idle()


def watched(fleet: Fleet) -> dict[str, list[tuple[int, int]]]:
    """Return the requests from now on: path -> times by the ledger's clock, each with the status of the answer."""
    seen: dict[str, list[tuple[int, int]]] = defaultdict(list)

    def note(path: str, reply: Reply) -> Reply:
        seen[path].append((fleet.now_ms, reply.status or 0))
        return reply

    fleet.pagerduty.answer = note
    return seen


def test_a_404_that_passes_costs_a_minute_and_no_record(
    fleet: Fleet, simulator: SimulatorProcess
) -> None:
    """Only the denied pages wait. In the meantime the rest of the run is read, with every lane."""
    for path in DENIED:
        simulator.fault("status_404", path=path, each=1)
    began, seen = fleet.now_ms, watched(fleet)
    fleet.live()
    assert fleet.manifest
    assert fleet.manifest["state"] == "complete"
    denied = {path: asked for path, asked in seen.items() if asked[0][1] == 404}
    assert len(denied) == 3 + 2 + 5, "schedules and members of teams"
    for (first, _), *further in denied.values():
        assert {status for _, status in further} == {200}
        assert further[-1][0] - first >= MINUTE_MS * 0.9  # minus one step of the test
    others = [at for path, asked in seen.items() if path not in denied for at, _ in asked]
    assert max(others) - began < MINUTE_MS / 2
    *_, report = verify(fleet.runtime.storage, SOURCE)
    assert report.ok


def test_what_is_listed_and_denied_twice_is_named_and_the_rest_is_there(
    fleet: Fleet, simulator: SimulatorProcess
) -> None:
    for path in DENIED:
        simulator.fault("status_404", path=path, each=4)  # two resources request each schedule
    seen = watched(fleet)
    fleet.live()
    assert fleet.manifest
    assert fleet.manifest["state"] == "partial"
    resources = fleet.manifest["resources"]
    for name in VANISHED:
        account = resources[name]
        assert (account["state"], account["reason"]) == (ProofState.PARTIAL, "vanished")
        assert len(account["vanished"]) == 5
        assert all(any(record_id in path for path in seen) for record_id in account["vanished"])
    assert {n for n, r in resources.items() if r["state"] != "complete"} == VANISHED
    *_, report = verify(fleet.runtime.storage, SOURCE)
    assert report.ok


def test_redis_is_lost_and_the_run_paused_while_a_404_waits(
    fleet: Fleet, simulator: SimulatorProcess
) -> None:
    """The 404 is in storage. The reopened run waits for the rest of the minute, and asks once more."""
    simulator.fault("status_404", path="/schedules/*", each=1)
    seen = watched(fleet)
    until_denied(fleet, seen)
    fleet.lose_redis()
    fleet.idle()
    fleet.runtime.ledger.hold(SOURCE, "paused")
    fleet.runtime.ledger.resume(SOURCE)
    fleet.live()
    assert fleet.manifest
    assert (fleet.manifest["state"], fleet.manifest["run"]) == ("complete", RUN)
    denied = [asked for asked in seen.values() if asked[0][1] == 404]
    assert len(denied) == 3
    assert all([status for _, status in asked] == [404, 200, 200] for asked in denied)


def test_a_run_that_is_cancelled_while_a_404_waits_ends_at_once(
    fleet: Fleet, simulator: SimulatorProcess
) -> None:
    simulator.fault("status_404", path="/teams/*/members", each=1)
    seen = watched(fleet)
    until_denied(fleet, seen)
    at = fleet.now_ms
    fleet.runtime.ledger.cancel(SOURCE, RUN)
    fleet.live()
    assert fleet.manifest
    assert fleet.manifest["state"] == "cancelled"
    assert fleet.now_ms - at < MINUTE_MS
    *_, report = verify(fleet.runtime.storage, SOURCE)
    assert report.ok
