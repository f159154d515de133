"""What commands show of a source: documents for programs, tables for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tasks.cli import output, sights
from tasks.runs.access import KeyReport
from tasks.watching.census import Sight, census
from tasks.watching.concerns import renamed_to
from workers.runtime import Runtime
from workers.storage.registry import Source, SourceState


def document(source: Source) -> dict[str, Any]:
    """Return a source as connect, check and show print it with --json."""
    resources = {
        name: {"readable": not reason, "reason": reason} for name, reason in source.access.items()
    }
    return _account(source) | {"resources": resources}


def row(source: Source, age_days: int, rotation_due: bool) -> dict[str, Any]:
    """Return a source as one entry of a list."""
    names = ("since", "every_seconds", "resources", "reserve", "connected_at")
    settings = {name: getattr(source, name) for name in names}
    return _account(source) | settings | {"key_age_days": age_days, "rotation_due": rotation_due}


def _account(source: Source) -> dict[str, Any]:
    names = ("region", "subdomain", "credential", "fingerprint", "state",
             "retention_months", "held_since")  # fmt: skip
    former = [each.old for each in source.renamings]
    account = {name: getattr(source, name) for name in names}
    return {"source": source.id} | account | {"former_subdomains": former}


def cells(source: Source, age_days: int) -> tuple[object, ...]:
    """Return a source as one line of a table."""
    kind = source.credential if source.sealed_key else "destroyed"
    age = f"{age_days} d" if source.sealed_key else "-"
    every = output.span(source.every_seconds)
    since = f"{source.since:%Y-%m-%d}"
    state = f"{source.state}, held" if source.held_since else source.state
    return source.id, source.subdomain, source.region, state, kind, age, every, since


def facts(fleet: Runtime, source: Source) -> list[tuple[str, object]]:
    """Return what is known of a source, name by name."""
    [sight] = census(fleet, [source]).sights
    due = sights.next_due(sight)
    return [
        ("source", source.id),
        ("account", f"{source.subdomain} in region {source.region}"),
        *(("formerly", f"{each.old}, until {output.moment(each.at)}") for each in source.renamings),
        *(("renamed", sentence) for sentence in _renamed(sight)),
        ("state", source.state),
        ("now", sights.words(sight.doing)),
        *(("trouble", sentence) for sentence in sight.troubles.values()),
        ("key", f"{source.credential} key, fingerprint {source.fingerprint}"),
        ("key since", output.moment(source.keyed_at if source.sealed_key else None)),
        ("collects", ", ".join(source.resources or ("everything",))),
        ("since", output.moment(source.since)),
        ("every", output.span(source.every_seconds)),
        ("next run", output.moment(due if source.state is SourceState.ACTIVE else None)),
        ("reserve", output.percent(source.reserve)),
        ("erased after", output.months(source.retention_months)),
        ("legal hold", output.moment(source.held_since)),
    ]


def renamed(fleet: Runtime, source: Source) -> dict[str, Any]:
    """Return what `source show --json` adds: the subdomain of the last run's links, if it is a new one."""
    [sight] = census(fleet, [source]).sights
    return {"renamed_to": renamed_to(source, sight.last) or None}


def _renamed(sight: Sight) -> Iterator[str]:
    if name := renamed_to(sight.source, sight.last):
        command = f"`pagetrail source check {sight.source.id} --renamed`"
        yield f"the records of its last run link to {name}: {command} confirms that it was renamed"


def access_rows(source: Source) -> list[tuple[str, str, str]]:
    """Return what a source's key could read when it was last tried."""
    return [(name, "no" if reason else "yes", reason) for name, reason in source.access.items()]


def show_access(verdict: KeyReport) -> None:
    """Print whose key it is and what it can read."""
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
        output.say(f"This key can't read {', '.join(missing)}: runs will name that as missing.")


def show_changed(source: Source, as_json: bool, sentence: str) -> None:
    """Print a source that was changed as a document, or say what was done."""
    if as_json:
        output.emit(document(source))
    else:
        output.say(sentence)
