"""`pagetrail verify`: recompute every digest and count of a source. It needs only storage."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click

from tasks import api
from tasks.cli import output, parse
from tasks.evidence.erasure_records import Purge
from tasks.verifying.facts import ResourceFound
from tasks.verifying.report import Difference, RecordFound, Report, SealFound
from workers.errors import UsageFault
from workers.settings.environment import load_settings
from workers.signing.keys import PublicKeys
from workers.storage import open_storage

_DIGEST = re.compile(r"[0-9a-f]{64}")
_SHOWN = 200


@click.command()
@parse.source_argument
@parse.run_option("all of them")
@click.option(
    "--keys",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Check the signatures with this file of public keys, which `pagetrail keys --json` prints.",
)
@click.option(
    "--head",
    metavar="DIGEST|FILE",
    help="The digest of a seal that has to be there, or a file with it, or a copy of the seal.",
)
@click.option(
    "--as-at",
    metavar="DATE",
    help="Name an open run as a difference if its source's interval was over by then.",
)
@output.json_option
def verify(
    source: str,
    run: str | None,
    keys: Path | None,
    head: str | None,
    as_at: str | None,
    as_json: bool,
) -> None:
    """Recompute every digest and count of a source from storage, and name every difference.

    It trusts neither Redis nor the fleet. The exit code is 3 if anything differs from what was sealed.

    \b
    Examples:
      pagetrail verify acme/main
      pagetrail verify acme/main --keys keys.json --head newest.txt
      pagetrail verify acme/main --run 7 --json
    """
    storage = open_storage(load_settings().storage_url_or_default)
    with output.waiting(f"Verifying {source}"):
        report = api.verify(
            storage,
            source,
            run,
            keys=_keys_in(keys) if keys else None,
            head=_digest_in(head) if head else None,
            as_at=parse.date(as_at) if as_at else None,
        )
    if as_json:
        output.emit(_verified(source, report))
    else:
        _show(report)
        _show_facts(source, report)
    if not report.ok:
        output.end(3)


def _keys_in(path: Path) -> PublicKeys:
    try:
        return PublicKeys.from_json(path.read_bytes())
    except ValueError as error:
        raise UsageFault(
            f"{path} isn't a file of public keys ({error}): `pagetrail keys --json` prints one."
        ) from None


def _digest_in(head: str) -> str:
    """Return the digest that *head* is, or that the file of this name has or is the seal of."""
    if _DIGEST.fullmatch(head.lower()):
        return head.lower()
    text, why = b"", "there is no such file"
    try:
        if Path(head).is_file():
            text, why = Path(head).read_bytes(), "the file has neither a digest nor a seal"
    except OSError as error:
        why = error.strerror or why
    word = (text.split() or [b""])[0].decode("ascii", "replace").lower()
    if _DIGEST.fullmatch(word):
        return word
    if text[:1] == b"{":
        return hashlib.sha256(text).hexdigest()
    raise UsageFault(
        f"{head[:_SHOWN]} doesn't name a seal ({why}): --head takes the SHA-256 of a seal, a file that begins with it, "
        "or a copy of seal.dsse.json."
    )


@dataclass(frozen=True, slots=True)
class FollowedRenaming:
    """A change of the account's subdomain, and the first run after it."""

    run: str
    old: str
    new: str
    at: datetime
    by: str
    because: str


@dataclass(frozen=True, slots=True)
class Verified:
    """The outcome of a verification, as --json prints it."""

    source: str
    account: dict[str, str] | None
    period: dict[str, datetime | None] | None  # from the first to the last verified run
    resources: dict[str, ResourceFound]  # of the newest verified run
    verified_at: datetime
    tool: dict[str, str]
    ok: bool
    runs: list[str]
    objects: int
    differences: list[Difference]
    purged: list[Purge]
    renamed: list[FollowedRenaming]
    open: list[str]
    unsealed: list[str]
    head: SealFound | None
    anchored: bool
    records: list[RecordFound]
    keys: list[str] | None  # ids of the keys that signed; None if the signatures were not checked


def _verified(source: str, report: Report) -> Verified:
    facts = report.facts
    account, period = facts.account, {"since": facts.since, "until": facts.until}
    return Verified(
        source,
        {"region": account.region, "subdomain": account.subdomain} if account else None,
        period if facts.since else None,
        facts.resources,
        datetime.now(UTC),
        {"name": "pagetrail", "version": version("pagetrail")},
        report.ok,
        report.runs,
        report.objects,
        report.differences,
        report.purged,
        [FollowedRenaming(run, **asdict(each)) for run, each in report.renamed],
        report.open,
        report.unsealed,
        report.head,
        report.anchored,
        report.records,
        report.signers if report.keyed else None,
    )


def _show_facts(source: str, report: Report) -> None:
    facts = report.facts
    now, tool = output.utc(datetime.now(UTC)), f"pagetrail {version('pagetrail')}"
    if facts.account is None:
        output.say(f"{tool} verified {source} at {now}.")
        return
    output.say(
        f"{tool} verified {source} at {now}: account {facts.account.subdomain} in region "
        f"{facts.account.region}, {output.utc(facts.since)} to {output.utc(facts.until)}."
    )
    named: dict[str, list[str]] = {}
    for name, each in facts.resources.items():
        state = f"{each.state} ({each.reason})" if each.reason else each.state
        named.setdefault(state, []).append(name)
    said = "; ".join(f"{', '.join(names)}: {state}" for state, names in named.items())
    output.say(f"In the newest of these runs: {said}.")
    if report.keyed:
        output.say(f"Signed with key {', '.join(report.signers)}.")


def _show(report: Report) -> None:
    if report.differences:
        output.table(
            ("RUN", "KIND", "WHAT", "KEY"),
            ((each.run, each.kind, each.detail, each.key) for each in report.differences),
        )
    wrong = sum(difference.counts for difference in report.differences)
    result = "everything is as it was sealed"
    if wrong:
        differences = output.counted(wrong, "difference")
        result = f"{differences}, restore the named objects from a copy of the storage"
    objects, runs = output.counted(report.objects, "object"), len(report.runs)
    output.say(f"Verified {objects} of {output.counted(runs, 'run')}: {result}.")
    for purge in report.purged:
        output.say(
            f"The runs up to {purge.through} were purged at {output.utc(purge.at)} by {purge.by} "
            f"({purge.why}), as its record says."
        )
    for run, each in report.renamed:
        output.say(
            f"From run {run} on the account {each.old} is called {each.new}, as {each.by} confirmed "
            f"at {output.utc(each.at)}: {each.because}."
        )
    if report.signers and not report.keyed:
        output.say("The signatures were not checked: --keys takes the public keys.")
    if report.head:
        output.say(f"Newest seal: run {report.head.run}, digest {report.head.sha256}.")
        if not (report.anchored or any(each.kind == "head" for each in report.differences)):
            output.say("The end is not anchored: --head takes the digest of a seal that you know.")
    if report.unsealed:
        output.say(f"Ended, but without a seal yet: run {', '.join(report.unsealed)}.")
    if report.open:
        output.say(f"Not sealed yet, so not verified: run {', '.join(report.open)}.")
