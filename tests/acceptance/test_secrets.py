"""Keys and the secrets in PagerDuty's answers are kept nowhere: the test searches every sink of a working fleet."""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import redis

from tests.acceptance.evidence import SECRETS, Evidence, read_as, unpacked
from tests.acceptance.fleet import Fleet, account, fleet_of
from tests.simulator_process import SimulatorProcess

# Part of the source's name, so every sink mentions it. If the search doesn't find it, the search is broken.
NEEDLE = "needle-5e1f"
# No pattern recognises these keys, so redaction can't hide a leak from the search.
OLD, NEW, UNKNOWN = (f"canary{number}thequickbrownfox" for number in (41, 42, 43))
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{24,}={0,2}")
FLOWER_PAGES = ("/workers", "/tasks", "/broker", "/api/workers", "/api/tasks", "/metrics")


@dataclass(slots=True)
class Sentry:
    """An endpoint for error reports, and everything that arrived there."""

    dsn: str
    envelopes: list[bytes] = field(default_factory=list)


@contextmanager
def sentry() -> Iterator[Sentry]:
    """Take envelopes on a loopback port until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            packed = self.headers.get("Content-Encoding") == "gzip"
            found.envelopes.append(gzip.decompress(body) if packed else body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Sentry(f"http://public@127.0.0.1:{server.server_port}/1")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def mentions(text: bytes, words: Iterable[str], depth: int = 2) -> set[str]:
    """Return which of *words* occur in *text*, also inside base64, which messages use."""
    found = {word for word in words if word.encode() in text}
    if depth:
        for run in _BASE64.findall(text):
            try:
                inner = base64.b64decode(run + b"=" * (-len(run) % 4), altchars=b"-_")
            except binascii.Error:
                continue
            found |= mentions(inner, words, depth - 1)
    return found


def files_in(directory: Path, *, without: Iterable[str] = ()) -> bytes:
    """Return the content of every file below *directory*, decompressed."""
    paths = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    return b"\n".join(
        unpacked(path) if path.suffix == ".zst" else path.read_bytes()
        for path in paths
        if path.name not in without
    )


def redis_content(url: str) -> bytes:
    """Return every key with its value. DUMP isn't used, because it compresses values."""
    readers = {
        "string": "GET",
        "hash": "HGETALL",
        "list": "LRANGE",
        "zset": "ZRANGE",
        "set": "SMEMBERS",
        "stream": "XRANGE",
    }
    content = []
    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter():
            kind = client.type(key).decode()
            bounds = {"list": (0, -1), "zset": (0, -1), "stream": ("-", "+")}.get(kind, ())
            content += [key, repr(client.execute_command(readers[kind], key, *bounds)).encode()]
    return b"\n".join(content)


def flower_pages(fleet: Fleet) -> bytes:
    """Return Flower's pages about the fleet and about each task."""
    password = (fleet.data / "flower.password").read_text().strip()
    with httpx.Client(
        base_url=fleet.ready["flower"], auth=("pagetrail", password), timeout=30
    ) as client:
        pages = [client.get(page).raise_for_status().content for page in FLOWER_PAGES]
        tasks = json.loads(pages[FLOWER_PAGES.index("/api/tasks")])
        for task in list(tasks)[:20]:
            pages.append(client.get(f"/task/{task}").raise_for_status().content)
            pages.append(client.get(f"/api/task/info/{task}").raise_for_status().content)
    return b"\n".join(pages)


def processes(fleet: Fleet) -> bytes:
    """Return the command lines and environments of the fleet."""
    seen = []
    for process in fleet.children():
        with process.oneshot():
            try:
                seen.append(f"{process.cmdline()} {process.environ()}".encode())
            except psutil.Error:  # it ended meanwhile
                continue
    return b"\n".join(seen)


def secrets_in(value: Any) -> Iterator[str]:
    """Yield every value whose name marks it as a secret."""
    if isinstance(value, list):
        for each in value:
            yield from secrets_in(each)
    elif isinstance(value, dict):
        for name, each in value.items():
            if name in SECRETS and each:
                yield from each if isinstance(each, list) else [each]
            else:
                yield from secrets_in(each)


def answered_secrets(fleet: Fleet, simulator: SimulatorProcess, source: str) -> set[str]:
    """Return the secrets in the answers that a source received."""
    evidence = Evidence(fleet.runs, source)
    return {
        secret
        for name in fleet.resources(source)
        for record in simulator.truth(NEEDLE, name, read_as(evidence, name)[0])
        for secret in secrets_in(record)
    }


def provoke_an_error(fleet: Fleet, simulator: SimulatorProcess, reports: Sentry) -> None:
    """Put an object that no worker could have written under the key of a page of a run."""
    source = f"{NEEDLE}/broken"
    fleet.connect(source, NEW, "--resources", "users")
    simulator.fault("status_503", account=NEEDLE)
    fleet.ask("collect", source)
    page = fleet.runs / source / "runs/00000001/pages/users/all.1/000000.json.zst"
    page.parent.mkdir(parents=True)
    page.write_bytes(b"in the way")
    simulator.clear_faults()
    fleet.until(lambda: any(b'"event"' in e for e in reports.envelopes), 60, "report the error")
    fleet.ask("run", "cancel", source)
    page.unlink()


def use(fleet: Fleet, source: str) -> None:
    """Use a key, and collect with it, so that every sink could see both."""
    fleet.connect(source, OLD)
    fleet.refused(1, "source", "connect", f"{NEEDLE}/other", "--yes", key=UNKNOWN)
    fleet.refused(2, "source", "rotate", source, key=f"{NEW} ")
    assert fleet.collect(source)["state"] == "complete"
    fleet.ask("source", "rotate", source, key=NEW)
    assert fleet.collect(source)["state"] == "complete"
    fleet.export(source, "services")


@pytest.mark.timeout(240)
def test_no_key_and_no_secret_of_an_answer_is_found_anywhere(
    pagerduty: SimulatorProcess, tmp_path: Path
) -> None:
    """Redis, its file, logs, commands, Flower, error reports, metrics, evidence and registry are searched."""
    sizes = {"incidents": 60, "audit_records": 20, "services": 12}
    pagerduty.control("POST", "accounts", **account(NEEDLE, [OLD, NEW], **sizes))
    source, data = f"{NEEDLE}/main", tmp_path / "data"
    with sentry() as reports:
        more = {"PAGETRAIL_SENTRY_DSN": reports.dsn, "PAGETRAIL_LOG_LEVEL": "DEBUG"}
        with fleet_of(data, pagerduty, "--workers", "1", **more) as fleet:
            use(fleet, source)
            provoke_an_error(fleet, pagerduty, reports)
            secrets = {OLD, NEW, UNKNOWN, *answered_secrets(fleet, pagerduty, source)}
            assert len(secrets) > 3 + 12
            sinks = {
                "redis": redis_content((data / "redis.url").read_text().strip()),
                "flower": flower_pages(fleet),
                "processes": processes(fleet),
                "metrics": b"\n".join(
                    httpx.get(each).raise_for_status().content
                    for each in fleet.ready["metrics"].values()
                ),
                "commands": "\n".join(fleet.said).encode(),
            }
            assert fleet.stop() == 0
    sinks |= {
        "append-only file": b"".join(path.read_bytes() for path in data.rglob("*.aof")),
        "logs": files_in(data / "logs") + fleet.tail().encode(),
        "error reports": b"\n".join(reports.envelopes),
        "evidence": files_in(fleet.runs / NEEDLE),
        "registry": files_in(fleet.runs / ".registry"),
        "Flower's memory": b"".join(path.read_bytes() for path in data.glob("flower.state*")),
        "data directory": files_in(data, without=("vault.key", "flower.password")),
    }
    blind = {name for name, text in sinks.items() if not mentions(text, [NEEDLE])}
    assert blind <= {"processes", "metrics"}, "the search works in this sink"
    leaks = {name: mentions(text, secrets) for name, text in sinks.items()}
    assert not any(leaks.values()), leaks
    for planted in (OLD.encode(), base64.b64encode(f'["{OLD}"]'.encode())):
        assert mentions(b'{"body": "' + planted + b'"}', secrets) == {OLD}
