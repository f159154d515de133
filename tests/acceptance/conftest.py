"""One simulator and one fleet, which most of these tests share. Each test uses its own account."""

from collections.abc import Iterator

import pytest

from tests.acceptance.fleet import Fleet, account, fleet_of
from tests.simulator_process import SimulatorProcess, running_simulator


@pytest.fixture(scope="session")
def pagerduty() -> Iterator[SimulatorProcess]:
    """A simulator. If it fails because of its own bug, the tests that used it fail."""
    nobody = account("nobody", ["nobodys-key-00000000"], incidents=0)
    # A short minute, so that waiting for its end takes seconds.
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
    """A running fleet."""
    yield shared_fleet
    pagerduty.clear_faults()
    pagerduty.control("DELETE", "churn")
