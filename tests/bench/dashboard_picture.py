"""Draws docs/img/dashboard.png with the dashboard's own queries, from a real Prometheus that scrapes a real fleet.

    python -m tests.bench.dashboard_picture        needs the program `prometheus`; takes about four minutes

The fleet collects from the simulator. The simulator fails sometimes, refuses a key in the middle of a run, and
lowers the limit of another key to almost nothing. The script prints the last value of every series, so that you can
check them.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from PIL import Image  # comes with matplotlib

from tests.acceptance.fleet import ROOT, Fleet, account, fleet_of
from tests.ports import free_port
from tests.processes import wait_for
from tests.simulator_process import SimulatorProcess, running_simulator

DASHBOARD = ROOT / "observability" / "grafana" / "pagetrail.json"
PICTURE = ROOT / "docs" / "img" / "dashboard.png"
SECONDS, STEP_SECONDS, RATE = 150, 3, "20s"
SCRAPE = """
global: {{scrape_interval: 3s, evaluation_interval: 3s}}
rule_files: [{rules}]
scrape_configs: [{{job_name: pagetrail, file_sd_configs: [{{files: [{targets}]}}]}}]
"""
SERIES = 'count by (process) ({__name__=~"pagetrail_.*|process_.*"})'
TENANTS = ("acme", "globex", "initech", "umbrella", "hooli")
UNIT_INCHES = 0.38
"""The height of one unit of the dashboard."""
LEGEND_LETTERS = 50
"""The number of letters that fit side by side below a panel of a third of the width."""
LOOK = {
    "font.size": 12, "axes.titlesize": 13, "axes.titleweight": "bold", "legend.fontsize": 12,
    "legend.frameon": False, "legend.handlelength": 1.0, "legend.columnspacing": 1.2,
    "legend.labelspacing": 0.2, "legend.borderaxespad": 0.0, "lines.linewidth": 2.0,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
}  # fmt: skip
Series = dict[str, list[tuple[float, float]]]
"""Each series by its legend: minutes since the beginning, and values."""


@contextmanager
def prometheus(directory: Path, targets: Path) -> Iterator[httpx.Client]:
    """Run a Prometheus that scrapes *targets* and evaluates our rules."""
    config = directory / "prometheus.yml"
    rules = ROOT / "observability" / "alerts.yml"
    config.write_text(SCRAPE.format(rules=rules, targets=targets), "utf-8")
    address = f"127.0.0.1:{free_port()}"
    options = [f"--config.file={config}", f"--storage.tsdb.path={directory / 'tsdb'}"]
    with (
        (directory / "prometheus.log").open("w") as log,
        subprocess.Popen(
            ["prometheus", *options, f"--web.listen-address={address}"],  # noqa: S607 - whichever is installed
            stdout=log,
            stderr=log,
        ) as process,
        httpx.Client(base_url=f"http://{address}", trust_env=False, timeout=30) as client,
    ):
        try:
            wait_for(lambda: _is_ready(client), "Prometheus is ready")
            yield client
        finally:
            process.terminate()


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").status_code == 200
    except httpx.ConnectError:
        return False


def work(fleet: Fleet, simulator: SimulatorProcess) -> None:
    """Let the fleet collect again and again until the time is over."""
    keys = {tenant: f"{tenant}-key-0000000000" for tenant in TENANTS}
    for tenant, key in keys.items():
        many = account(
            tenant, [{"key": key}], incidents=4000, users=120, services=80, audit_records=600
        )
        simulator.control("POST", "accounts", **many)
        fleet.connect(f"{tenant}/main", key, "--since", "2026-01-01")
    simulator.fault("status_502", account="globex", probability=0.1)
    simulator.fault("slow", account="hooli", seconds=1.5, probability=0.3)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for tenant in TENANTS:
            fleet.run("collect", f"{tenant}/main")
        if time.monotonic() > deadline - SECONDS / 2:
            simulator.control("POST", "keys", account="initech", key=keys["initech"], disabled=True)
            simulator.control("POST", "keys", account="umbrella", key=keys["umbrella"], limit=12)
        time.sleep(5)


def series_of(client: httpx.Client, panel: Mapping[str, Any], begin: float, end: float) -> Series:
    """Return the values of every series of a panel."""
    found: Series = {}
    for target in panel["targets"]:
        answer = client.get(
            "/api/v1/query_range",
            params={
                "query": target["expr"].replace("$__rate_interval", RATE),
                "start": begin, "end": end, "step": STEP_SECONDS,
            },
        )  # fmt: skip
        assert answer.status_code == 200, (panel["title"], answer.text)
        for each in answer.json()["data"]["result"]:
            legend = target["legendFormat"]
            for name, value in each["metric"].items():
                legend = legend.replace("{{" + name + "}}", value)
            values = [((float(at) - begin) / 60, float(value)) for at, value in each["values"]]
            found[legend] = [pair for pair in values if pair[1] == pair[1]]  # without NaN
    return {legend: values for legend, values in found.items() if values}


def shown(value: float, unit: str) -> str:
    match unit:
        case "percentunit":
            return f"{value:.0%}"
        case "s":
            return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"
        case "bytes":
            return f"{value / 2**20:.0f} MiB"
    return f"{value:.4g}"


def draw(axes: Axes, panel: Mapping[str, Any], series: Series) -> None:
    """Draw one panel: its lines or areas, and its legend below, as Grafana does."""
    unit = panel["fieldConfig"]["defaults"]["unit"]
    axes.set_title(panel["title"], loc="left")
    if panel["type"] == "stat" or not series:
        axes.axis("off")
        text = shown(next(iter(series.values()))[-1][1], unit) if series else "nothing"
        axes.text(0, 0.5, text, va="center", fontsize=24 if series else 12)
        return
    axes.yaxis.set_major_formatter(lambda value, _: shown(value, unit))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 3, 6, 10]))
    axes.xaxis.set_major_formatter(lambda minutes, _: f"{minutes:g} min")
    if panel["type"] == "bargauge":
        latest = {name: values[-1][1] for name, values in series.items()}
        axes.barh(list(latest), list(latest.values()))
        return
    if "stacking" in panel["fieldConfig"]["defaults"]["custom"]:
        moments = sorted({at for values in series.values() for at, _ in values})
        rows = [[dict(values).get(at, 0.0) for at in moments] for values in series.values()]
        axes.stackplot(moments, rows, labels=list(series), alpha=0.8)
    else:
        for name, values in series.items():
            axes.plot(*zip(*values, strict=True), label=name)
    highest = max(value for values in series.values() for _, value in values)
    axes.set_ylim(0, None if highest else 1)
    axes.set_xlim(0, SECONDS / 60)
    columns = max(1, int(LEGEND_LETTERS / (max(map(len, series)) + 4)))
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.14), ncols=columns)


def picture(client: httpx.Client, begin: float, end: float) -> None:
    """Draw every panel at its place, and print its values."""
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    height = max(each["gridPos"]["y"] + each["gridPos"]["h"] for each in panels)
    figure = plt.figure(figsize=(16, height * UNIT_INCHES))
    for panel in panels:
        place = panel["gridPos"]
        bottom = 1 - (place["y"] + place["h"]) / height
        if panel["type"] == "row":
            figure.text(0.01, bottom + 0.3 / height, panel["title"], fontsize=18, weight="bold")
            continue
        series = series_of(client, panel, begin, end)
        print(panel["title"])
        for name, values in series.items():
            print(f"    {name:<40} {values[-1][1]:.4g} (most {max(v for _, v in values):.4g})")
        tall, beside, beneath = (
            place["h"] / height,
            0.05,
            0.36,
        )  # room for scales and legend
        if panel["type"] == "stat":
            tall, beside, beneath = tall * 0.9, 0.01, 0.0
        box = (place["x"] / 24 + beside, bottom + beneath * tall, place["w"] / 24 - beside - 0.015,
               (0.88 - beneath) * tall)  # fmt: skip
        draw(figure.add_axes(box), panel, series)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE)
    few_colours(PICTURE)


def few_colours(picture: Path) -> None:
    """Reduce the colours of a picture, which makes its file a third of the size."""
    with Image.open(picture) as image:
        image.convert("RGB").quantize(128).save(picture, optimize=True)


def main() -> None:
    nobody = account("nobody", ["nobodys-key-00000000"], incidents=0)
    with (
        tempfile.TemporaryDirectory() as name,
        running_simulator([nobody]) as simulator,
        fleet_of(Path(name) / "data", simulator, "--workers", "2", "--no-flower") as fleet,
        prometheus(Path(name), fleet.data / "metrics.json") as client,
    ):
        begin = time.time()
        work(fleet, simulator)
        with plt.rc_context(LOOK):
            picture(client, begin, time.time())
        counted = client.get("/api/v1/query", params={"query": SERIES}).json()["data"]["result"]
        print("series:", {each["metric"]["process"]: each["value"][1] for each in counted})
        firing = client.get("/api/v1/alerts").json()["data"]["alerts"]
        print("alerts:", sorted({(each["labels"]["alertname"], each["state"]) for each in firing}))


if __name__ == "__main__":
    main()
