"""The ledger's reply about a source becomes one typed account."""

import orjson

from workers.state.progress import Progress, read_progress


def test_a_source_without_a_run_has_times_and_nothing_else() -> None:
    reply = orjson.dumps({"run": [], "now": 1_000, "due_at": 5_000})
    assert read_progress(reply) == Progress(now=1_000, due_at=5_000)


def test_a_time_between_two_milliseconds_is_rounded() -> None:
    """A look may be due at such a time, because a wait was divided."""
    reply = orjson.dumps({"run": [], "now": 1_000, "look_at": 1_764_537_616_770.4})
    assert read_progress(reply).look_at == 1_764_537_616_770


def test_counts_have_the_names_of_their_subjects_and_fields_of_a_newer_version_are_ignored() -> (
    None
):
    run = [
        "run",
        "00000001",
        "closed",
        "3",
        "requests:users",
        "4",
        "unsure:teams",
        "1",
        "later_field",
        "x",
    ]
    progress = read_progress(orjson.dumps({"run": run, "now": 1}))
    assert (progress.run, progress.closed) == ("00000001", 3)
    assert (progress.requests, progress.unsure) == ({"users": 4}, {"teams": 1})
