"""Show a source to a person: its account, its settings, and the resources its key can read."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.accounts.examining import KeyReport
from tasks.cli import output, sights
from tasks.cli.documents.sources import source_details
from tasks.watching.census import Sight
from tasks.watching.concerns import renamed_to
from workers.storage.registry import Source, SourceState


def cells(source: Source, age_days: int) -> tuple[object, ...]:
    """Return the cells of a source's row in `source list`."""
    kind = source.credential if source.sealed_key else "destroyed"
    age = f"{age_days} d" if source.sealed_key else "-"
    every = output.span(source.every_seconds)
    since = f"{source.since:%Y-%m-%d}"
    state = f"{source.state}, held" if source.held_since else source.state
    return source.id, source.subdomain, source.region, state, kind, age, every, since


def facts(sight: Sight) -> list[tuple[str, object]]:
    """Return the names and values that describe a source."""
    source = sight.source
    due = sights.next_due(sight)
    return [
        ("source", source.id),
        ("account", f"{source.subdomain} in region {source.region}"),
        *(("formerly", f"{each.old}, until {output.utc(each.at)}") for each in source.renamings),
        *(("renamed", sentence) for sentence in _renamed(sight)),
        ("state", source.state),
        ("now", sights.words(sight.doing)),
        *(("trouble", sentence) for sentence in sight.troubles.values()),
        *(("purge", sentence) for sentence in sights.purge(source)),
        ("key", f"{source.credential} key, fingerprint {source.fingerprint}"),
        ("key since", output.utc(source.keyed_at if source.sealed_key else None)),
        ("collects", ", ".join(source.resources or ("everything",))),
        ("since", output.utc(source.since)),
        ("every", output.span(source.every_seconds)),
        ("next run", output.utc(due if source.state is SourceState.ACTIVE else None)),
        ("reserve", output.percent(source.reserve)),
        ("erased after", output.months(source.retention_months)),
        ("legal hold", output.utc(source.held_since)),
    ]


def _renamed(sight: Sight) -> Iterator[str]:
    if name := renamed_to(sight.source, sight.last):
        command = f"`pagetrail source check {sight.source.id} --renamed`"
        yield f"the records of its last run link to {name}: {command} confirms the new name"


def access_rows(source: Source) -> list[tuple[str, str, str]]:
    """Return the rows that say which resources a source's key could read when it was last tried."""
    return [(name, "no" if reason else "yes", reason) for name, reason in source.access.items()]


def show_access(verdict: KeyReport) -> None:
    """Print the account of a key, and which resources it can read."""
    who = verdict.identity
    kind = "General Access key" if who.credential == "account" else "user key"
    output.say(f"Account {who.subdomain} in region {who.region}, {kind} {who.fingerprint}.")
    output.table(
        ("RESOURCE", "READABLE", "REASON", "PAGERDUTY SAYS"),
        (
            (name, "yes" if each.readable else "no", each.reason, each.words)
            for name, each in verdict.resources.items()
        ),
    )
    if missing := [name for name, each in verdict.resources.items() if not each.readable]:
        output.say(
            f"This key can't read {', '.join(missing)}: runs will name these resources as missing."
        )


def show_changed(source: Source, as_json: bool, sentence: str) -> None:
    """Print a changed source as a document, or a sentence about the change."""
    if as_json:
        output.emit(source_details(source))
    else:
        output.say(sentence)
