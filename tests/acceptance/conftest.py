"""One simulator and one fleet that most of these tests share; each brings an account of its own."""

from collections.abc import Iterator

import pytest

from tests.acceptance.fleet import Fleet, account, fleet_of
from tests.simulator_process import SimulatorProcess, running_simulator


@pytest.fixture(scope="session")
def pagerduty() -> Iterator[SimulatorProcess]:
    """A simulator; what it answered wrongly by its own mistake fails the tests that used it."""
    nobody = account("nobody", ["nobodys-key-00000000"], incidents=0)
    # A short minute: whoever is told to wait for its end waits for seconds.
    with running_simulator([nobody], "--minute-seconds", "6") as simulator:
        yield simulator
        seen = simulator.stats()
        assert (seen["bugs"], seen["writes"], seen["without_accept"]) == (0, 0, 0)


@pytest.fixture(scope="session")
def shared_fleet(
    pagerduty: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    with fleet_of(tmp_path_factory.mktemp("fleet") / "data", pagerduty) as fleet:
        yield fleet


@pytest.fixture
def fleet(shared_fleet: Fleet, pagerduty: SimulatorProcess) -> Iterator[Fleet]:
    """A fleet at work."""
    yield shared_fleet
    pagerduty.clear_faults()
    pagerduty.control("DELETE", "churn")
