"""A purge with the signer away and back, over the command line. Workers, beat and signer are processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.fleet import CommandLine, account, environment, settings_for, until
from tests.redis_process import redis_server
from tests.simulator_process import SimulatorProcess

SOURCE, KEY = "leave/main", "leave-Key-0000000001"


@contextmanager
def process(log: Path, settings: dict[str, str], *arguments: str) -> Iterator[None]:
    """Run a process of the fleet until the block ends."""
    with log.open("a") as out:
        command = [sys.executable, "-m", "celery", "-A", "workers", *arguments]
        running = subprocess.Popen(
            command, env=environment(settings), stdout=out, stderr=subprocess.STDOUT, text=True
        )
        try:
            yield
        finally:
            running.terminate()
            try:
                running.wait(30)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait(10)


@pytest.mark.timeout(300)
def test_a_purge_waits_for_the_signer_and_ends_by_itself_when_it_is_back(
    pagerduty: SimulatorProcess, tmp_path: Path
) -> None:
    """Nothing is deleted before. The record is signed, and an edit of it is found with the public keys."""
    pagerduty.control("POST", "accounts", **account("leave", [KEY], incidents=30, users=5))
    with redis_server() as url:
        own = settings_for(tmp_path / "data", pagerduty, {"PAGETRAIL_REDIS_URL": url})
        shell = CommandLine(own)
        runs = tmp_path / "data" / "artifacts" / SOURCE / "runs"
        worker = ("worker", "--without-gossip", "--without-mingle", "-c", "2", "-Q")
        with (
            process(tmp_path / "worker.log", own, *worker, "plan,fetch,backfill,seal"),
            process(tmp_path / "beat.log", own, "beat", "-s", str(tmp_path / "beat")),
        ):

            def ask(*words: str, code: int = 0) -> str:
                ran = shell.run(*words)
                assert ran.code == code, f"{ran.err}{(tmp_path / 'worker.log').read_text()[-3000:]}"
                return ran.out + ran.err

            connect = ("source", "connect", SOURCE, "--resources", "users", "--yes")
            ran = shell.run(*connect, "--every", "never", key=KEY)
            assert ran.code == 0, ran.err
            with process(tmp_path / "signer.log", own, *worker, "sign", "-n", "signer@%h"):
                ask("collect", SOURCE, "--wait")
                seal = runs / "00000001" / "seal.dsse.json"
                until(seal.exists, 90, "see the run sealed", (tmp_path / "signer.log").read_text)
            ask("source", "pause", SOURCE)
            said = ask("source", "purge", SOURCE, "--yes", code=1)
            assert "waits for the signer, so nothing is deleted yet" in said
            assert seal.exists()
            [row] = json.loads(ask("status", "--json"))["sources"]
            assert (row["purge"]["through"], row["purge"]["why"]) == ("00000001", "purge")
            assert "purge up to run 00000001 not finished" in ask("source", "show", SOURCE)
            kinds = [json.loads(each)["kind"] for each in ask("events", "--json").splitlines()]
            assert kinds[-1] == "purge.asked"
            with process(tmp_path / "signer.log", own, *worker, "sign", "-n", "signer@%h"):
                until(
                    lambda: not runs.exists(), 90, "see the runs erased",
                    (tmp_path / "signer.log").read_text,
                )  # fmt: skip
                until(lambda: json.loads(ask("status", "--json"))["sources"][0]["purge"] is None,
                      30, "see the purge end")  # fmt: skip
            kinds = [json.loads(each)["kind"] for each in ask("events", "--json").splitlines()]
            assert kinds[-2:] == ["purge.signed", "evidence.erased"]
            purged = json.loads(ask("source", "purge", SOURCE, "--yes", "--json"))["purged"]
            assert purged["runs"] == ["00000001"]

        (tmp_path / "keys.json").write_text(ask("keys", "--json"))
        record = tmp_path / "data" / "artifacts" / ".purged" / SOURCE / "00000001.dsse.json"
        whole = record.read_bytes()
        record.chmod(0o600)
        document = json.loads(whole)
        document["signatures"][0]["sig"] = "A" * 86 + "=="
        record.write_text(json.dumps(document, indent=2))
        said = ask("verify", SOURCE, "--keys", str(tmp_path / "keys.json"), code=3)
        assert "its signature isn't one of key" in said
