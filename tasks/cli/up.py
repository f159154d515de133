"""`pagetrail up`: run the fleet on this machine until a signal ends it."""

from __future__ import annotations

from dataclasses import dataclass

import click

from tasks.cli import output
from tasks.cli.interrupts import until_signalled
from workers.machine.fleet import Fleet, fleet
from workers.process import metrics
from workers.process.flower import USER
from workers.process.logs import configure_logging
from workers.settings.environment import Settings, load_settings


@dataclass(frozen=True, slots=True)
class Ready:
    """A fleet that takes work, as --json prints it."""

    ready: bool
    redis: str
    flower: str | None
    metrics: dict[str, str]
    workers: int
    data_dir: str


@click.command()
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=2,
    show_default=True,
    help="Worker processes; with two or more, the first never takes backfill.",
)
@click.option("--flower/--no-flower", default=True, help="Run Flower, Celery's web page.")
@click.option(
    "--flower-port",
    type=click.IntRange(1, 65535),
    help="Port of Flower on loopback; default: any free port.",
)
@output.json_option
def up(workers: int, flower: bool, flower_port: int | None, as_json: bool) -> None:
    """Run the fleet on this machine: Redis, workers, beat and Flower.

    Redis is embedded unless PAGETRAIL_REDIS_URL is set. Ctrl-C ends everything. Open runs continue when the fleet
    starts again.
    """
    settings = load_settings()
    configure_logging(settings)
    with until_signalled():
        port = (flower_port or 0) if flower else None
        with fleet(settings, workers=workers, flower_port=port) as running:
            _tell(running, settings, as_json=as_json)
            running.supervisor.wait()


def _scraped(address: str) -> str:
    return f"http://{address}{metrics.PATH}"


def _tell(running: Fleet, settings: Settings, *, as_json: bool) -> None:
    if as_json:
        ready = Ready(
            ready=True,
            redis=running.redis,
            flower=running.flower,
            metrics={name: _scraped(address) for name, address in running.metrics.items()},
            workers=running.workers,
            data_dir=str(settings.data_dir),
        )
        output.emit_line(ready)  # a program that started us may wait for this line
        return
    pairs: list[tuple[str, object]] = [
        ("Workers", running.workers),
        ("Redis", running.redis),
        ("Data", settings.data_dir),
        ("Logs", settings.data_dir / "logs"),
    ]
    if running.flower:
        login = f"user {USER}, password {running.flower_password}"
        pairs.append(("Flower", f"{running.flower} ({login})"))
    fleet_wide = _scraped(running.metrics["beat"])
    pairs.append(("Metrics", f"{fleet_wide} (all: {settings.data_dir / 'metrics.json'})"))
    output.facts(pairs)
    click.echo("The fleet takes work. Ctrl-C ends it.")
