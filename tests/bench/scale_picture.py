"""Draws `docs/img/scale.png` from the last results of the benchmark of scale."""

import json

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from tests.bench.rig import RESULTS, ROOT

PANELS = ("pages/s", "worker ms/page", "redis ms/page")


def main() -> None:
    rows = json.loads((RESULTS / "scale.json").read_text("utf-8"))["rows"]
    figure, axes = plt.subplots(1, len(PANELS), figsize=(11, 3.2), layout="constrained")
    for axis, name in zip(axes, PANELS, strict=True):
        for workers in sorted({row["workers"] for row in rows}):
            line = [(row["sources"], row[name]) for row in rows if row["workers"] == workers]
            axis.plot(*zip(*line, strict=True), marker="o", label=f"{workers} worker process(es)")
        axis.set(xscale="log", xlabel="active sources", title=name)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(ROOT / "docs" / "img" / "scale.png", dpi=80)


if __name__ == "__main__":
    main()
