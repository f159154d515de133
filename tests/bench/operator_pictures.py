"""Takes the operator's pictures in docs/img: Flower's pages, and `status --watch`.

    python -m tests.bench.operator_pictures        needs chromium and tmux; takes about two minutes

The fleet collects from the simulator, with few slots, so that messages wait. The key of one source is refused in the
middle of a run. Another source's limit falls to almost nothing, one gets failing answers, one has a user's key,
and one is idle.
"""

from __future__ import annotations

import io
import subprocess
import tempfile
import time
from pathlib import Path

import httpx
from rich.console import Console
from rich.text import Text

from tests.acceptance.fleet import PAGETRAIL, ROOT, Fleet, account, environment, fleet_of
from tests.bench.dashboard_picture import few_colours
from tests.browser import photographed
from tests.processes import wait_for
from tests.simulator_process import SimulatorProcess, running_simulator

PICTURES = ROOT / "docs" / "img"
COLUMNS, ROWS = 80, 15
PAGE = """<body style="margin:14px;background:#fff"><pre style="font:15px/19px 'DejaVu Sans Mono',Menlo,monospace">
<code style="font-family:inherit">{code}</code></pre></body>"""
BUSY = {"incidents": 30_000, "log_entries_per_incident": 2}
OPENED = ("acme", "globex", "initech", "stark", "wayne")
"""Their runs are open when the pictures are taken. The runs of the others have ended."""
SHOWN = ("suspended: key refused", "waiting for budget", "reading,", "paused", "idle ")
"""The sources in the picture: one needs a person, one waits, one reads, and two are idle."""


def key(tenant: str) -> str:
    return f"{tenant}-key-0000000000"


def opened(simulator: SimulatorProcess, fleet: Fleet) -> None:
    """Connect every source, and collect those that will be idle."""
    for tenant in (*OPENED, "hooli", "umbrella", "vandelay"):
        given = [{"key": key(tenant), "kind": "user" if tenant == "umbrella" else "account"}]
        simulator.control(
            "POST", "accounts", **account(tenant, given, **(BUSY if tenant in OPENED else {}))
        )
        more = ("--allow-user-key",) if tenant == "umbrella" else ()
        fleet.connect(f"{tenant}/main", key(tenant), *more)
    fleet.collect("umbrella/main", code=3)
    fleet.collect("vandelay/main")
    fleet.ask("source", "pause", "hooli/main")


def troubled(simulator: SimulatorProcess, fleet: Fleet) -> None:
    """Open the other runs, and cause the faults."""
    for tenant in OPENED:
        fleet.ask("collect", f"{tenant}/main")
    time.sleep(5)
    simulator.control("POST", "keys", account="acme", key=key("acme"), disabled=True)
    simulator.control("POST", "keys", account="globex", key=key("globex"), limit=12)
    simulator.fault("status_502", account="initech")
    simulator.fault("slow", seconds=0.6)
    time.sleep(10)


def screen_of(fleet: Fleet, directory: Path) -> None:
    """Show `status --watch` in a terminal of 80 columns, and take its picture."""
    tmux = ["tmux", "-L", f"pagetrail-{directory.name}", "-f", "/dev/null"]
    size = ("-x", str(COLUMNS), "-y", str(ROWS))
    subprocess.run(
        [*tmux, "new-session", "-d", *size, *PAGETRAIL, "status", "--watch"],
        cwd=ROOT, env=environment(fleet.settings), check=True,
    )  # fmt: skip
    seen = ""

    def all_shown() -> bool:
        nonlocal seen
        seen = subprocess.check_output([*tmux, "capture-pane", "-e", "-p"], text=True)
        return all(words in seen for words in SHOWN)

    try:
        wait_for(all_shown, "there is a source of every kind on the screen", every=0.5)
    finally:
        subprocess.run([*tmux, "kill-server"], check=True)
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(seen), no_wrap=True)
    page = directory / "status.html"
    page.write_text(console.export_html(inline_styles=True, code_format=PAGE), "utf-8")
    print(seen)
    take(page.as_uri(), "status-watch", 780, 320)


def flower_of(fleet: Fleet) -> None:
    """Take the pictures of Flower's four pages."""
    password = (fleet.data / "flower.password").read_text()
    with httpx.Client(
        base_url=fleet.ready["flower"], auth=("pagetrail", password), timeout=30
    ) as client:
        found = client.get("/api/tasks", params={"state": "SUCCESS", "limit": "500"}).json()
        fetched = (id for id, each in found.items() if each["name"] == "tasks.fetch.fetch_page")
        task = next(fetched)
    base = fleet.ready["flower"].replace("http://", f"http://pagetrail:{password}@")
    take(f"{base}/broker", "flower-broker", 1280, 450)
    take(f"{base}/workers", "flower-workers", 1280, 610)
    take(f"{base}/tasks", "flower-tasks", 1680, 720)
    take(f"{base}/task/{task}", "flower-task", 1280, 900)


def take(url: str, name: str, width: int, height: int) -> None:
    """Photograph a page into docs/img, in few colours."""
    picture = PICTURES / f"{name}.png"
    photographed(url, picture, width, height)
    few_colours(picture)
    print(f"{picture.relative_to(ROOT)}: {picture.stat().st_size / 1000:.0f} kB")


def main() -> None:
    nobody = account("nobody", ["nobodys-key-00000000"], incidents=0)
    with (
        tempfile.TemporaryDirectory() as name,
        running_simulator([nobody]) as simulator,
        fleet_of(
            Path(name) / "data", simulator, "--workers", "2",
            PAGETRAIL_WORKER_SLOTS="4", PAGETRAIL_PAGE_LEASE_SECONDS="40",
        ) as fleet,
    ):  # fmt: skip
        opened(simulator, fleet)
        troubled(simulator, fleet)
        screen_of(fleet, Path(name))
        flower_of(fleet)


if __name__ == "__main__":
    main()
