"""The summary of runs that belong together."""

from datetime import UTC, datetime

import pytest

from tasks.cli.summaries import exit_code, summary
from tasks.evidence.outcomes import ResourceOutcome, RunOutcome


def outcome(run: str, state: str, reason: str = "role", **resources: tuple[str, int]) -> RunOutcome:
    return RunOutcome(
        run=run,
        state=state,
        since=datetime(2026, 1, int(run), tzinfo=UTC),
        until=datetime(2026, 2, 1, tzinfo=UTC),
        opened_at=datetime(2026, 2, 1, tzinfo=UTC),
        sealed_at=datetime(2026, 2, 1, 0, 1, tzinfo=UTC),
        backlog=False,
        resources={
            name: ResourceOutcome(came, "" if came == "complete" else reason, "", records, 1)
            for name, (came, records) in resources.items()
        },
    )


def test_runs_that_belong_together_are_summed_and_the_worst_state_counts() -> None:
    told = summary(
        [
            outcome("1", "partial", teams=("complete", 4), users=("unavailable", 0)),
            outcome("2", "complete", teams=("complete", 6)),
        ]
    )
    assert (told.run, told.runs, told.state) == ("1", ["1", "2"], "partial")
    assert told.since == datetime(2026, 1, 1, tzinfo=UTC)
    assert told.resources == {
        "teams": ResourceOutcome("complete", "", "", records=10, requests=2),
        "users": ResourceOutcome("unavailable", "role", "", records=0, requests=1),
    }


def test_the_last_run_makes_up_for_the_backlog_of_earlier_runs() -> None:
    left = outcome("1", "partial", "backlog", incidents=("partial", 9), teams=("complete", 1))
    done = outcome("2", "complete", incidents=("complete", 3), teams=("complete", 1))
    told = summary([left, done])
    assert (told.state, told.resources["incidents"].state) == ("complete", "complete")
    assert summary([left, left]).state == "partial"
    assert summary([left]).resources["incidents"].reason == "backlog"
    lacking = outcome("1", "partial", "unproved", incidents=("partial", 9))
    assert summary([lacking, done]).state == "partial"


@pytest.mark.parametrize(
    ("state", "code"), [("complete", 0), ("failed", 1), ("partial", 3), ("cancelled", 3)]
)
def test_a_state_has_its_exit_code(state: str, code: int) -> None:
    assert exit_code(state) == code
