"""The audit of a trained model in one picture: a panel for every what-if question."""

from pathlib import Path
from typing import Any

from wsi_mil.io.files import write_aside

COLOURS = {"pass": "#1b6e3c", "fail": "#b3261e", "not measured": "0.5"}
COLUMNS = 4


def draw_audit(found: dict[str, Any], path: Path) -> None:
    """Write a PNG of audit.json: the share of slides that did as they should, with its interval, and where the verdict is taken."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    checks = list(found["checks"].values())
    rows = -(-len(checks) // COLUMNS)
    figure = Figure(figsize=(13, 3.1 * rows), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes, check in zip(panels, checks, strict=False):
        _panel(axes, check)
    for axes in panels[len(checks) :]:
        axes.set_axis_off()
    with write_aside(path) as aside:
        figure.savefig(aside, format="png", metadata={"Software": None})


def _panel(axes: Any, check: dict[str, Any]) -> None:
    colour = COLOURS[check["verdict"]]
    points = [point for point in check["points"] if point["share"] is not None]
    x = [point["x"] for point in points]
    y = [point["share"] for point in points]
    down = [p["share"] - p["low"] if p["low"] is not None else 0.0 for p in points]
    up = [p["high"] - p["share"] if p["high"] is not None else 0.0 for p in points]
    spans = [[max(v, 0.0) for v in side] for side in (down, up)]
    axes.errorbar(
        x, y, yerr=spans, color=colour, marker="o", markersize=4, capsize=2, linewidth=1.2, elinewidth=0.7
    )
    axes.axvline(check["held_at"], color="0.75", linewidth=0.8, linestyle="--")
    axes.axhline(0.8, color="0.75", linewidth=0.8, linestyle="--")
    axes.set_title(f"{check['name']}: {check['verdict']}", fontsize=10, color=colour)
    axes.set_xlabel(check["axis"], fontsize=8)
    axes.set_ylabel(
        "slides that flip" if check["expected"] == "flips" else "slides that keep their call", fontsize=8
    )
    axes.set_ylim(-0.04, 1.04)
    if len(x) > 1 and max(x) / min(x) > 20:
        axes.set_xscale("log")
        axes.set_xticks(x, [f"{v:g}" for v in x])
        axes.minorticks_off()
    axes.tick_params(labelsize=8)
    axes.grid(color="0.93", linewidth=0.6)
