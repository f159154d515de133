"""`pagetrail demo`: run everything on this machine, against the PagerDuty simulator."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click

from tasks import api
from tasks.cli import output
from tasks.cli.bars import bars
from tasks.cli.following import Follower
from tasks.cli.interrupts import until_signalled
from tasks.cli.summaries import Summary, summary
from tasks.evidence.layout import manifest_key, seal_key
from tasks.evidence.outcomes import sealed_outcome
from tasks.reading.sealed import Manifest
from tasks.watching.census import Sight
from workers.errors import Fault
from workers.machine.embedded import free_port
from workers.machine.fleet import Fleet, fleet, listens
from workers.machine.supervisor import Child
from workers.runtime import runtime
from workers.settings.environment import PREFIX, load_settings

_KEPT = {f"{PREFIX}REDIS_SERVER"}
"""The only setting of yours that the demo uses. It sets the others itself, so that it can't touch another fleet."""
_ENV = "demo.env"
_KEYS = "keys.json"
_LOOK_SECONDS = 0.1
_SIGNER_SECONDS = 30.0
"""How long the demo waits for seals. Without them `verify` says that the runs have none yet."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """One of the demo's three customers."""

    source: str
    region: str
    key: str


@dataclass(frozen=True, slots=True)
class Demonstration:
    """The outcome of a demo, as --json prints it."""

    seconds: float
    longest_wait_seconds: float
    data_dir: str
    artifacts: str
    flower: str | None
    sources: dict[str, Summary]


@click.command()
@click.option("--keep", is_flag=True, help="Keep everything running until Ctrl-C.")
@output.json_option
def demo(keep: bool, as_json: bool) -> None:
    """Collect three tenants of a simulated PagerDuty on this machine, and verify the evidence.

    It starts Redis, a simulator, workers, beat and Flower on free loopback ports, in a directory of
    its own below the data directory. It sends nothing to PagerDuty.
    """
    port = free_port()
    directory = _directory(load_settings().data_dir, port)
    began = time.monotonic()
    output.say(f"Starting Redis, simulator, workers, beat and Flower in {directory} ...")
    with fleet(load_settings()) as running:
        running.supervisor.start(_simulator(port))
        tenants = _tenants()
        _connect(directory, tenants)
        manifests = _collect(tenants)
        _await_seals(manifests)
        _prove(directory, tenants)
        done = _done(directory, running, tenants, manifests, time.monotonic() - began)
        if as_json:
            output.emit(done)
        else:
            _tell(done, running, keep=keep)
        if keep:
            with until_signalled():
                running.supervisor.wait()


def _directory(data_dir: Path, port: int) -> Path:
    """Make the demo's directory, and point the settings of this process and its children at it."""
    in_a_demo = (data_dir / _ENV).exists()  # a demo must not be inside another one
    demos = data_dir.parent if in_a_demo else data_dir / "demo"
    directory = demos / time.strftime("%Y%m%d-%H%M%S")
    try:
        directory.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise Fault(
            f"{directory} can't be made ({error.strerror}): choose another place with "
            "PAGETRAIL_DATA_DIR."
        ) from None
    regions = {name: f"http://127.0.0.1:{port}/{name}" for name in ("us", "eu")}
    ours = {f"{PREFIX}DATA_DIR": str(directory), f"{PREFIX}REGIONS": json.dumps(regions)}
    for name in [name for name in os.environ if name.startswith(PREFIX) and name not in _KEPT]:
        del os.environ[name]
    os.environ.update(ours)
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in ours.items()]
    commands = shlex.quote(sysconfig.get_path("scripts"))
    # The shell has to find the suggested commands.
    lines.append(f'export PATH={commands}:"$PATH"\n')
    (directory / _ENV).write_text("".join(lines), "utf-8")
    return directory


def _simulator(port: int) -> Child:
    argv = [sys.executable, "-m", "simulator", "--demo", "--port", str(port)]
    return Child("simulator", argv, ready=lambda: listens(port))


def _tenants() -> list[Tenant]:
    from simulator import demo_accounts

    return [
        Tenant(f"{account.subdomain}/main", account.region, account.keys[0].key)
        for account in demo_accounts()
    ]


def _connect(directory: Path, tenants: list[Tenant]) -> None:
    for tenant in tenants:
        file = directory / f"{tenant.source.partition('/')[0]}.key"
        file.touch(mode=0o600)
        file.write_text(tenant.key, "ascii")
        _run("source", "connect", tenant.source, "--region", tenant.region,
             "--key-file", str(file), "--yes")  # fmt: skip
        file.unlink()


def _run(*arguments: str, into: Path | None = None) -> None:
    """Print a command, and run it as a person would; *into* is the file that its output goes to."""
    redirected = f" > {shlex.quote(str(into))}" if into else ""
    output.say(f"$ pagetrail {shlex.join(arguments)}{redirected}")
    done = subprocess.run(
        [sys.executable, "-m", "tasks.cli", *arguments],
        # By default not stdout: that is for our own output, which may be one JSON document.
        stdout=into.open("xb") if into else sys.stderr,
        process_group=0,  # so that Ctrl-C reaches only this process
        check=False,
    )
    if done.returncode not in (0, 3):
        raise Fault(
            f"`pagetrail {arguments[0]}` ended with {done.returncode}: the demo stops here."
        )


def _collect(tenants: list[Tenant]) -> dict[str, list[Manifest]]:
    """Collect all tenants side by side and return their manifests."""
    parts = runtime()
    interrupted = threading.Event()
    with bars([tenant.source for tenant in tenants], lines=True) as show_of:

        def follow(tenant: Tenant) -> list[Manifest]:
            opened = api.collect(parts, tenant.source)
            source = api.get(parts, tenant.source)
            show = show_of(source.id)

            def look(sight: Sight) -> None:
                if interrupted.is_set():
                    raise click.Abort
                show(sight)

            return Follower(parts, source, look, output.say).follow(opened.run)

        with ThreadPoolExecutor(len(tenants)) as followers:
            results = followers.map(follow, tenants)
            try:
                return dict(zip((tenant.source for tenant in tenants), results, strict=True))
            except KeyboardInterrupt:
                interrupted.set()  # each follower sees it at its next look and ends
                raise


def _await_seals(manifests: Mapping[str, list[Manifest]]) -> None:
    """Wait until the signer has sealed every run."""
    storage, until = runtime().storage, time.monotonic() + _SIGNER_SECONDS
    for source, runs in manifests.items():
        for each in runs:
            while time.monotonic() < until and storage.get(seal_key(source, each.run)) is None:
                time.sleep(_LOOK_SECONDS)


def _prove(directory: Path, tenants: list[Tenant]) -> None:
    keys = directory / _KEYS
    _run("keys", "--json", into=keys)
    for tenant in tenants:
        _run("verify", tenant.source, "--keys", str(keys))
    file = directory / "incidents.csv"
    _run("artifact", "export", tenants[0].source, "--resource", "incidents",
         "--format", "csv", "--output", str(file))  # fmt: skip


def _done(
    directory: Path,
    running: Fleet,
    tenants: list[Tenant],
    manifests: Mapping[str, list[Manifest]],
    seconds: float,
) -> Demonstration:
    return Demonstration(
        seconds=round(seconds, 1),
        longest_wait_seconds=max(map(_longest_wait, tenants)),
        data_dir=str(directory),
        artifacts=str(directory / "artifacts"),
        flower=running.flower,
        sources={
            source: summary([sealed_outcome(each) for each in found])
            for source, found in manifests.items()
        },
    )


def _longest_wait(tenant: Tenant) -> float:
    """Return the longest time, in seconds, that a request waited for the tenant's budget."""
    fleet = runtime()
    state = api.budget(fleet, api.get(fleet, tenant.source))
    return round(state.longest_wait_seconds, 1)


def _row(source: str, found: Summary) -> tuple[object, ...]:
    records = sum(each.records for each in found.resources.values())
    requests = sum(each.requests for each in found.resources.values())
    return source, found.state, records, requests, _lacking(found)


def _lacking(found: Summary) -> str:
    return ", ".join(
        f"{name} ({each.reason})"
        for name, each in found.resources.items()
        if each.state != "complete"
    )


def _tell(done: Demonstration, running: Fleet, *, keep: bool) -> None:
    output.table(
        ("SOURCE", "STATE", "#RECORDS", "#REQUESTS", "NOT COMPLETE"),
        (_row(source, found) for source, found in done.sources.items()),
    )
    click.echo()
    first, found = next(iter(done.sources.items()))
    manifest = manifest_key(first, found.runs[0])
    flower = f"{running.flower} (user pagetrail, password {running.flower_password})"
    output.facts(
        [
            ("took", f"{done.seconds:.0f} s"),
            ("longest wait for budget", f"{done.longest_wait_seconds:.1f} s"),
            ("artifacts", done.artifacts),
            ("a manifest", f"{manifest} in it"),
            ("export", f"{done.data_dir}/incidents.csv"),
            ("Flower", flower if keep else f"{running.flower} (--keep leaves it running)"),
        ]
    )
    click.echo("\nWhat to try next:")
    click.echo(f"  . {done.data_dir}/demo.env")
    click.echo(f"  pagetrail verify {first} --keys {done.data_dir}/{_KEYS}")
    click.echo(f"  pagetrail artifact list {first}")
    if keep:
        click.echo(f"  pagetrail collect {first} --wait")
        click.echo("  pagetrail status --watch")
        click.echo("\nEverything runs until Ctrl-C.")
    else:
        click.echo("  pagetrail demo --keep             the same, but it keeps running")
