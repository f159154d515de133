"""`pagetrail collect`: start a run now or join the open one, and follow it to its end."""

from __future__ import annotations

import click

from tasks import api
from tasks.cli import output, parse, summaries
from tasks.cli.bars import bars
from tasks.cli.documents.runs import estimate_document
from tasks.cli.following import Follower
from tasks.cli.run import show_summary
from tasks.evidence.outcomes import sealed_outcome
from workers.errors import Fault, UsageFault
from workers.runtime import Runtime, runtime


@click.command()
@parse.source_argument
@click.option("--wait", is_flag=True, help="Follow the run, and its backlog, to the end.")
@click.option(
    "--estimate", is_flag=True, help="Print how many requests a run would send; start nothing."
)
@output.json_option
def collect(source: str, wait: bool, estimate: bool, as_json: bool) -> None:
    """Start a run of a source now, or join the one that is open.

    With --wait the exit code is 0 if the run is complete, 3 if it is partial or cancelled, and 1 if
    it failed. Ctrl-C ends the waiting, but not the run.

    \b
    Examples:
      pagetrail collect acme/main
      pagetrail collect acme/main --wait
      pagetrail collect acme/main --estimate
    """
    fleet = runtime()
    if estimate:
        if wait:
            raise UsageFault(
                "--estimate starts nothing that --wait could wait for: leave one of them out."
            )
        _estimate(fleet, source, as_json=as_json)
        return
    opened = api.collect(fleet, source)
    if not wait:
        if as_json:
            output.emit({"run": opened.run, "state": "open", "joined": opened.joined})
        _say_opened(fleet, source, opened.run, joined=opened.joined)
        return
    try:
        with bars([source]) as show_of:
            found = api.get(fleet, source)
            manifests = Follower(fleet, found, show_of(source), output.say).follow(opened.run)
    except KeyboardInterrupt:
        raise Fault(
            f"Interrupted: run {opened.run} of {source} continues; `pagetrail collect {source} "
            f"--wait` follows it again, `pagetrail run cancel {source}` ends it."
        ) from None
    outcome = summaries.summary([sealed_outcome(each) for each in manifests])
    if as_json:
        output.emit(outcome)
    else:
        show_summary(source, outcome)
    output.end(summaries.exit_code(outcome.state))


def _say_opened(fleet: Runtime, source: str, run: str, *, joined: bool) -> None:
    done = f"Joined the open run {run}" if joined else f"Opened run {run}"
    output.say(f"{done} of {source}: `pagetrail collect {source} --wait` follows it.")
    if not api.status(fleet, []).working:
        output.say("No fleet is at work, so the run waits: start it with `pagetrail up`.")


def _estimate(fleet: Runtime, source: str, *, as_json: bool) -> None:
    with output.waiting("Asking PagerDuty how long each list is"):
        found = api.estimate(fleet, source)
    budget = api.budget(fleet, api.get(fleet, source))
    document = estimate_document(found, budget)
    if as_json:
        output.emit(document)
        return
    output.table(
        ("RESOURCE", "#REQUESTS", ""),
        (
            (name, each.requests, "at least" if each.unsure else "")
            for name, each in found.resources.items()
        ),
    )
    about = "at least" if found.unsure else "about"
    minutes = output.age(document.least_minutes * 60)
    output.say(
        f"A run of {source} would send {about} {output.counted(found.requests, 'request')}, "
        f"{minutes} at {budget.ceiling:,} a minute."
    )
    if found.unsure:
        output.say(f"The first run will show how long {', '.join(found.unsure)} is.")
    if found.backlog:
        output.say("Its page budget leaves older periods to later runs, which start by themselves.")
