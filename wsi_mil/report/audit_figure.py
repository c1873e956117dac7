"""The audit of a trained model as one picture with a panel for each check."""

from pathlib import Path
from typing import Any

from wsi_mil.io.files import write_aside
from wsi_mil.robustness.audit.model_audit import ENOUGH, CheckResult, ModelAudit

COLOURS = {"pass": "#1b6e3c", "fail": "#b3261e", "not measured": "0.5"}
EXPECTED = {"flips": "slides that flip", "keeps": "slides that keep their call"}
COLUMNS = 4


def draw_audit(audit: ModelAudit, path: Path) -> None:
    """Write a PNG: for each check the fraction of slides that did as expected, with its interval. Dashed
    lines mark the point and the fraction that decide the verdict.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(audit.checks) // COLUMNS)
    figure = Figure(figsize=(13, 3.1 * rows), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes, check in zip(panels, audit.checks, strict=False):
        _panel(axes, check)
    for axes in panels[len(audit.checks) :]:
        axes.set_axis_off()
    with write_aside(path) as aside:
        figure.savefig(aside, format="png", metadata={"Software": None})


def _panel(axes: Any, check: CheckResult) -> None:
    colour = COLOURS[check.verdict]
    points = [point for point in check.points if point.n]
    x, y = [point.x for point in points], [point.share for point in points]
    # rounding can put a bound on the wrong side of a fraction of 0 or 1; an unknown bound is drawn as no bar
    down = [max(p.share - p.low, 0.0) if p.low == p.low else 0.0 for p in points]
    up = [max(p.high - p.share, 0.0) if p.high == p.high else 0.0 for p in points]
    axes.errorbar(
        x,
        y,
        yerr=[down, up],
        color=colour,
        marker="o",
        markersize=4,
        capsize=2,
        linewidth=1.2,
        elinewidth=0.7,
    )
    axes.axvline(check.question.held_at, color="0.75", linewidth=0.8, linestyle="--")
    axes.axhline(ENOUGH, color="0.75", linewidth=0.8, linestyle="--")
    axes.set_title(f"{check.question.name}: {check.verdict}", fontsize=10, color=colour)
    axes.set_xlabel(check.question.axis, fontsize=8)
    axes.set_ylabel(EXPECTED[check.question.expected], fontsize=8)
    axes.set_ylim(-0.04, 1.04)
    if len(x) > 1 and max(x) / min(x) > 20:
        axes.set_xscale("log")
        axes.set_xticks(x, [f"{v:g}" for v in x])
        axes.minorticks_off()
    axes.tick_params(labelsize=8)
    axes.grid(color="0.93", linewidth=0.6)
