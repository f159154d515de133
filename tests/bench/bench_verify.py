"""Compares the CPU of a strict verification with `zstd -dc | sha256sum` over the same objects, and shows its memory.

A run of full pages is stored and ended without a fleet. Then `pagetrail verify` and zstd take turns. Sealing (pages are
read back, artifacts are written) is measured beside them. `--memory` measures one run of 1,000 pages and one of 10,000,
and `--large` also a source of 100,000 pages in 250 runs.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import orjson

from tasks.evidence import documents
from tasks.evidence.envelopes import encode_page
from tasks.evidence.layout import page_key, plan_key
from tasks.reading.beginnings import first_pages
from tasks.reading.catalog import PAGE_LIMIT
from tasks.reading.pages import Page, request_of
from tasks.reading.paging import decide
from tasks.reading.plans import Plan
from tests.bench.rig import ROOT, report
from tests.lists_model import NOW, make
from tests.sealed_run import FINGERPRINT, SealedRun
from workers.pagerduty.replies import Outcome, Reply
from workers.storage import Storage, open_storage

SOURCE = "acme/main"
FULL, SMALL = 2_700, 300
"""Bytes of a record: of an incident in the simulator's accounts, and where only the number of pages counts."""
IN_A_WINDOW = 94  # full pages; fewer than a list may have
LISTS = ("services", "escalation_policies", "teams", "users")
WORDS = (
    *("the", "database", "of", "a", "payment", "service", "in", "this", "region"),
    *("answers", "slowly", "since", "its", "deployment"),
)
VERIFY = [sys.executable, "-m", "tasks.cli", "verify"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=470)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--large", action="store_true")
    options = parser.parse_args()
    rows, more = cpu(options.pages, options.rounds)
    report("verify", f"CPU of a verification: {options.pages} pages", rows, **more)
    sizes = [(1_000, 1), (10_000, 1)] if options.memory or options.large else []
    sizes += [(100_000, 250)] if options.large else []
    if sizes:
        report("verify-memory", "Peak memory of a verification", [memory(*each) for each in sizes])


def cpu(pages: int, rounds: int) -> tuple[list[dict[str, object]], dict[str, Any]]:
    """Return the CPU of each program, and relative to zstd and sha256sum in the same round."""
    with TemporaryDirectory(prefix="bench-") as directory, TemporaryDirectory() as nearly_empty:
        one_run(Path(nearly_empty), 1, SMALL)
        sealing = one_run(Path(directory), pages, FULL)
        unpacking = f"find {directory} -name '*.zst' | xargs zstd -dcq"
        unpacked = subprocess.run(["sh", "-c", f"{unpacking} | wc -c"], check=True, capture_output=True)  # fmt: skip  # noqa: S607
        packed = sum(each.stat().st_size for each in Path(directory).rglob("*.zst"))
        tool, ours = [], []
        for _ in range(rounds):
            tool.append(spent(["sh", "-c", f"{unpacking} | sha256sum"])[0])
            start = spent([*VERIFY, SOURCE], nearly_empty)[0]
            ours.append(spent([*VERIFY, SOURCE], directory)[0] - start)
    base, ratios = (
        statistics.median(tool),
        [mine / its for mine, its in zip(ours, tool, strict=True)],
    )
    rows = [
        row("zstd -dc | sha256sum", base, base, pages),
        row("pagetrail verify, without its start", statistics.median(ours), base, pages),
        row("sealing", sealing, base, pages),
    ]
    return rows, {
        "unpacked_MB": int(unpacked.stdout) / 1e6,
        "packed_MB": packed / 1e6,
        "start_of_verify_seconds": start,
        "ratios_of_the_rounds": ", ".join(f"{each:.2f}" for each in ratios),
    }


def spent(argv: Sequence[str], directory: str = "") -> tuple[float, int]:
    """Run a program with the storage in *directory*. Return its CPU seconds, and its peak memory in bytes."""
    settings = {"PAGETRAIL_STORAGE_URL": Path(directory or "/").as_uri()}
    before = os.times()
    process = subprocess.Popen(
        argv,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **settings},
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{argv} failed with {process.returncode}")
    after = os.times()
    children = after.children_user + after.children_system
    return children - before.children_user - before.children_system, usage.ru_maxrss * 1024


def memory(pages: int, runs: int = 1) -> dict[str, object]:
    """Return the peak memory of the verification of a source with so many pages."""
    with TemporaryDirectory(prefix="bench-") as directory:
        if runs == 1:
            one_run(Path(directory), pages, SMALL)
        else:
            many_runs(Path(directory), pages // runs, runs)
        seconds, peak = spent([*VERIFY, SOURCE], directory)
    return {"pages": pages, "runs": runs, "peak MB": peak / 1e6, "CPU s": seconds}


def one_run(root: Path, pages: int, record_bytes: int) -> float:
    """Store a run with at least so many pages. Return the CPU that sealing took."""
    windows = -(-pages // IN_A_WINDOW)
    in_a_window = -(-pages // windows)
    plan = make("log_entries", days=31 * windows, budget=2 * pages)
    run = Stored(plan, in_a_window, record_bytes, open_storage(root.as_uri()))
    return sealed(run)["seconds"]


def many_runs(root: Path, pages: int, runs: int) -> None:
    """Store runs with so many pages each."""
    storage, last = open_storage(root.as_uri()), None
    for _ in range(runs):
        plan = make(*LISTS, last=last, newest=last["run"] if last else None)
        last = sealed(Stored(plan, pages // len(LISTS), SMALL, storage))["manifest"]


def sealed(run: SealedRun) -> dict[str, Any]:
    before = time.process_time()
    manifest = run.seal()
    assert manifest["state"] == "complete", manifest
    return {"manifest": manifest, "seconds": time.process_time() - before}


class Stored(SealedRun):
    """A run whose lists all have the same number of full pages. Each answer is stored as it is made."""

    def __init__(self, plan: Plan, pages: int, record_bytes: int, storage: Storage) -> None:
        self.plan, self.storage = plan, storage
        storage.put_new(plan_key(plan.source, plan.run), documents.written(plan))
        source: Any = SimpleNamespace(
            id=plan.source, region=plan.region, credential=plan.credential, fingerprint=FINGERPRINT
        )
        queue, number = deque(first_pages(plan)), 0
        while queue:
            page = queue.popleft()
            body = body_of(page, pages * PAGE_LIMIT, record_bytes)
            reply = Reply(Outcome.OK, 200, body, date=NOW + timedelta(seconds=5))
            at = NOW + timedelta(milliseconds=number)
            answer, blob = encode_page(
                source, plan.run, page, request_of(page, plan), reply, sent=1, fetched_at=at
            )
            storage.put_new(page_key(plan.source, plan.run, page.id), blob)
            step = decide(page, answer, plan)
            queue += (*step.followers, *step.onward)
            number += 1


def body_of(page: Page, total: int, record_bytes: int) -> bytes:
    """Return the answer of a list with so many records."""
    last = min(page.number + page.limit, total)
    records = [record(page.window, each, record_bytes) for each in range(page.number, last)]
    rest = b'],"limit":100,"offset":%d,"total":%d,"more":%s}' % (
        page.number,
        total,
        b"true" if last < total else b"false",
    )
    return b'{"%s":[' % page.call.wrapper.encode() + b",".join(records) + rest


def record(window: str, number: int, record_bytes: int) -> bytes:
    name = f"P{window[:8]}{number:06d}"
    head = orjson.dumps({"id": name, "type": "record", "name": name, "created_at": "2026-02-01T00:00:00Z"})  # fmt: skip
    return head[:-1] + details(number % 997, record_bytes - len(head))


@cache
def details(seed: int, size: int) -> bytes:
    """Return the rest of a record: links, texts and ids, which compress as those of incidents do."""
    dice, found, length = random.Random(seed), {}, 0
    while length < size:
        words = " ".join(dice.choices(WORDS, k=6))
        url = f"https://acme.pagerduty.com/things/{dice.randbytes(7).hex().upper()}"
        found[f"member_{len(found)}"] = {"id": url[-14:], "summary": words, "self": url, "html_url": None}  # fmt: skip
        length += 190
    return b"," + orjson.dumps(found)[1:]


def row(who: str, seconds: float, base: float, pages: int) -> dict[str, object]:
    return {
        "who": who,
        "CPU s": seconds,
        "ms a page": seconds / pages * 1e3,
        "of zstd | sha256sum": seconds / base,
    }


if __name__ == "__main__":
    main()
