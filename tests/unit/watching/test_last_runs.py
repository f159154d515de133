"""The summary of a last run, as it is written for Redis and read back."""

from datetime import UTC, datetime

from tasks.watching.last_runs import LastRun, read_last

WHEN = datetime(2026, 11, 25, 3, tzinfo=UTC)
LAST = LastRun(
    run="00000006", state="partial", ended="done", opened_at=WHEN, sealed_at=WHEN, continues=True,
    subdomains=("acme",), backlog=True,
)  # fmt: skip


def test_a_summary_is_read_back_as_it_was_written() -> None:
    assert read_last(LAST.to_json()) == LAST


def test_a_member_that_a_newer_version_added_is_left_out() -> None:
    assert read_last(LAST.to_json().replace("{", '{"mood":"sleepy",', 1)) == LAST


def test_a_source_without_a_sealed_run_has_no_summary() -> None:
    assert read_last(None) is None
