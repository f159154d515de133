"""The life and end of a source, and a pause of all sources at once, over the command line."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import zstandard
from jsonschema import Draft202012Validator

from tests.acceptance.evidence import file_digest, list_again, rewrite, unpacked
from tests.acceptance.fleet import ROOT, Fleet, account, requests_of
from tests.simulator_process import SimulatorProcess

SLOW = {"latency_ms": 500, "jitter_ms": 150}  # so a run takes several seconds even on a fast fleet
QUIET_SECONDS = 3.0  # several ticks, and longer than a process remembers the switch


@pytest.fixture
def resumed(fleet: Fleet) -> Iterator[None]:
    """Resume the fleet after the test, whatever happens, so that the next test finds it at work."""
    yield
    fleet.ask("source", "resume", "--all")


def settled(fleet: Fleet, simulator: SimulatorProcess, *keys: str) -> int:
    """Wait until no request has come for a while. Return how many came in all."""
    seen = [requests_of(simulator, *keys)]

    def quiet() -> bool:
        time.sleep(QUIET_SECONDS)
        seen.append(requests_of(simulator, *keys))
        return seen[-1] == seen[-2]

    fleet.until(quiet, 30, "see requests end")
    return seen[-1]


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("resumed")
def test_all_requests_pause_and_resume_and_a_source_that_was_paused_alone_stays_paused(
    fleet: Fleet, pagerduty: SimulatorProcess
) -> None:
    """Even after Redis is emptied, no request is sent. After the resumption nothing is missing."""
    keys = {name: f"{name}-Key-{'0' * 12}" for name in ("runs", "rests")}
    for name, key in keys.items():
        pagerduty.control("POST", "accounts", **account(name, [key], incidents=2_600, teams=12))
        fleet.connect(f"{name}/main", key)
        pagerduty.control("POST", "habits", account=name, **SLOW)
    each = requests_of(pagerduty, *keys.values()) // 2 + 15
    waiting = fleet.begin("collect", "runs/main", "--wait", "--json")
    fleet.ask("collect", "rests/main")
    fleet.until(
        lambda: min(requests_of(pagerduty, key) for key in keys.values()) > each, 60, "be under way"
    )
    assert fleet.ask("source", "pause", "rests/main")["state"] == "paused"
    assert fleet.ask("source", "pause", "--all") == {"paused": True}

    stopped = settled(fleet, pagerduty, *keys.values())
    assert fleet.ask("run", "show", "runs/main")["state"] == "open", "the run is over already"
    status = fleet.ask("status")
    assert (status["working"], status["paused"]) == (True, True)
    with redis.Redis.from_url((fleet.data / "redis.url").read_text().strip()) as client:
        client.flushall()
        fleet.until(lambda: client.exists("pagetrail:marker"), 30, "see Redis filled again")
    for command in (("collect", "runs/main"), ("source", "check", "runs/main")):
        assert "source resume --all" in fleet.refused(1, *command)
    assert settled(fleet, pagerduty, *keys.values()) == stopped
    resting = requests_of(pagerduty, keys["rests"])

    for name in keys:
        pagerduty.control("POST", "habits", account=name, latency_ms=0, jitter_ms=0)
    assert fleet.ask("source", "resume", "--all") == {"paused": False}
    ran = fleet.end(waiting, timeout=120)
    assert (ran.code, ran.document["state"]) == (0, "complete"), f"{ran.err}{fleet.tail()}"
    assert fleet.ask("source", "show", "rests/main")["state"] == "paused"
    assert requests_of(pagerduty, keys["rests"]) == resting
    fleet.ask("source", "resume", "rests/main")
    assert fleet.collect("rests/main")["state"] == "complete"
    assert requests_of(pagerduty, keys["rests"]) > resting
    for name in keys:
        assert fleet.verify(f"{name}/main")["differences"] == []


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_one_source_or_all_but_not_both(fleet: Fleet, command: str) -> None:
    assert "--all" in fleet.refused(2, "source", command)
    assert "--all" in fleet.refused(2, "source", command, "runs/main", "--all")


def years_ago(document: dict[str, Any], *times: str) -> dict[str, Any]:
    return document | {name: f"2023{document[name][4:]}" for name in times}


def age_pages(run: Path, manifest: dict[str, Any]) -> None:
    """Rewrite the pages that a manifest lists as if they had been read years ago."""
    for window in (each for r in manifest["resources"].values() for each in r["windows"]):
        size = f"s{window['size']}" if "size" in window else ""
        group = run / "pages" / window["feed"] / f"{window['window']}.{window['pass']}{size}"
        for page in window["pages"]:
            path = group / f"{page['number']}.json.zst"
            recipe, head, body, _ = unpacked(path).split(b"\n")
            recipe = json.dumps(years_ago(json.loads(recipe), "fetched_at"), ensure_ascii=False,
                                separators=(",", ":")).encode()  # fmt: skip
            compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
            path.chmod(0o600)
            frames = (b"\n".join((recipe, head, b"")), body + b"\n")
            path.write_bytes(b"".join(map(compressor.compress, frames)))
            page |= {"sha256": file_digest(path), "bytes": path.stat().st_size}


def age(fleet: Fleet, source: str, *old: str) -> None:
    """Rewrite runs without seals as if *old* had been read years ago, with every digest that depends on that."""
    runs, previous = sorted((fleet.runs / source / "runs").iterdir()), None
    assert not any((run / "seal.dsse.json").exists() for run in runs)
    for run in runs:
        plan = json.loads((run / "plan.json").read_text("utf-8")) | {"previous": previous}
        manifest = json.loads((run / "manifest.json").read_text("utf-8"))
        if run.name in old:
            plan = years_ago(plan, "opened_at", "scheduled_at")
            manifest = years_ago(manifest, "opened_at", "scheduled_at", "sealed_at")
            age_pages(run, manifest)
        rewrite(run / "plan.json", plan)
        manifest |= {"previous": previous, "plan_sha256": file_digest(run / "plan.json")}
        rewrite(run / "manifest.json", manifest)
        list_again(run)
        previous = {"run": run.name, "sha256": file_digest(run / "manifest.json")}


@contextmanager
def signer_away(fleet: Fleet, source: str) -> Iterator[None]:
    """Keep the signer from a source during the block, as another signer at work would."""
    with redis.Redis.from_url((fleet.data / "redis.url").read_text().strip()) as client:
        client.set(f"pagetrail:signing:{source}", "a test")
        yield
        client.delete(f"pagetrail:signing:{source}")


def collect_old_runs(fleet: Fleet, source: str) -> None:
    """Collect three runs, two of them as if years ago, and wait until each is sealed.

    The tick tells the signer of each run twice a minute.
    """
    with signer_away(fleet, source):
        for _ in range(3):
            fleet.collect(source)
        age(fleet, source, "00000001", "00000002")
    runs = list((fleet.runs / source / "runs").iterdir())
    seals = [run / "seal.dsse.json" for run in runs]
    fleet.until(lambda: all(seal.exists() for seal in seals), 60, "see each run sealed")


@pytest.mark.timeout(240)
def test_the_life_of_a_source_from_its_connection_to_its_purge_and_back(
    fleet: Fleet, pagerduty: SimulatorProcess
) -> None:
    """A legal hold keeps everything, retention erases the old runs, a purge erases all. Records say what was erased."""
    source, key = "life/main", "life-Key-00000000001"
    pagerduty.control("POST", "accounts", **account("life", [key], incidents=150))
    chosen = ("--resources", "incidents,users,teams")
    fleet.connect(source, key, *chosen)
    collect_old_runs(fleet, source)
    assert fleet.verify(source)["purged"] == []
    counts = {name: len(fleet.export(source, name)) for name in ("incidents", "users", "teams")}

    def listed() -> list[str]:
        return [run["run"] for run in fleet.ask("run", "list", source)["runs"]]

    assert "source pause" in fleet.refused(1, "source", "purge", source), "refused before it asks"
    assert "source pause" in fleet.refused(1, "source", "purge", source, "--yes")
    fleet.ask("source", "hold", source)
    fleet.ask("source", "set", source, "--retention", "24")
    looked_at(fleet, source)
    fleet.ask("source", "pause", source)
    assert "under legal hold" in fleet.refused(1, "source", "purge", source, "--yes")
    assert len(listed()) == 3
    fleet.ask("source", "resume", source)

    fleet.ask("source", "release", source)
    fleet.until(lambda: listed() == ["00000003"], 30, "see the old runs erased")
    [purged] = fleet.verify(source)["purged"]
    assert (purged["why"], purged["runs"]) == ("retention", ["00000001", "00000002"])
    assert len(fleet.export(source, "users")) == counts["users"]
    told = fleet.run("artifact", "export", source, "--resource", "incidents")
    assert "00000002 are gone" in told.err
    assert fleet.collect(source)["runs"] == ["00000004"]
    assert fleet.verify(source)["runs"] == ["00000003", "00000004"]

    fleet.ask("source", "disconnect", source)
    assert "--yes" in fleet.refused(2, "source", "purge", source)
    gone = fleet.ask("source", "purge", source, "--yes")["purged"]
    assert (gone["why"], gone["through"]) == ("purge", "00000004")
    assert fleet.ask("source", "purge", source, "--yes")["purged"] == gone
    assert not (fleet.runs / source).exists()
    assert "all up to 00000004 were purged" in fleet.refused(1, "verify", source)
    envelope = json.loads((fleet.runs / ".purged" / source / "00000004.dsse.json").read_bytes())
    record = json.loads(base64.b64decode(envelope["payload"]))
    assert [run["run"] for run in record["runs"]] == ["00000003", "00000004"]

    pagerduty.control("POST", "accounts", **account("death", ["death-Key-0000000001"]))
    other = ("source", "connect", source, "--yes", *chosen)
    assert "holds evidence of life" in fleet.refused(1, *other, key="death-Key-0000000001")
    fleet.connect(source, key, *chosen)
    assert fleet.collect(source)["runs"] == ["00000005"]
    assert {name: len(fleet.export(source, name)) for name in counts} == counts
    assert fleet.verify(source)["differences"] == []

    heard = [event for event in events(fleet) if event["source"] == source]
    kinds = {event["id"]: event["kind"] for event in heard}
    erased = ["purge.asked", "purge.signed", "evidence.erased"]
    # The signer works on its own, so a seal may come after the next run was opened.
    assert [kind for kind in kinds.values() if kind != "run.sealed"] == [
        *["run.opened", "run.ended"] * 3,
        *erased,
        *["run.opened", "run.ended"],
        *erased,
        *["run.opened", "run.ended"],
    ]
    assert f"{source}/00000001/run.sealed" in kinds


def events(fleet: Fleet) -> list[dict[str, Any]]:
    """Return every event in its documented form, with its position in the stream."""
    schema = json.loads((ROOT / "docs" / "events.schema.json").read_text("utf-8"))
    lines = fleet.run("events", "--json").records
    for line in lines:
        event = {"format": 1} | {name: line[name] for name in line if name != "position"}
        Draft202012Validator(schema).validate(event)
    later = fleet.run("events", "--json", "--since", lines[-2]["position"]).records
    assert [event["id"] for event in later] == [lines[-1]["id"]]
    return lines


def looked_at(fleet: Fleet, source: str) -> None:
    """Make a source's daily look due, and wait until the fleet has done it."""
    with redis.Redis.from_url((fleet.data / "redis.url").read_text().strip()) as client:
        tomorrow = (time.time() + 3600) * 1000
        fleet.until(
            lambda: (
                (client.zscore("pagetrail:daily", source) or 0) > tomorrow
                and not client.exists("pagetrail:seal", "pagetrail:unacked")
            ),
            30,
            "see the source looked at",
        )
