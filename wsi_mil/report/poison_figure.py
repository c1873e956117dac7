"""The poison experiment as one picture: slide AUC of every method, clean and poisoned."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wsi_mil.evaluation.intervals import Spread
from wsi_mil.io.files import write_aside
from wsi_mil.robustness.poison.study import PoisonedModel, PoisonStudy

SHOWN = (
    ("none", "nothing poisoned", "0.25", "o"),
    ("alike", "every slide poisoned", "C0", "s"),
    ("train_only", "training only", "C2", "^"),
    ("test_only", "test only", "C1", "v"),
    ("poison", "normal in training, tumour in test", "C3", "D"),
    ("mirrored", "mirrored: tumour in training, normal in test", "C4", "P"),
)


def draw_poison(study: PoisonStudy, path: Path) -> None:
    """Write a PNG: a row per method with a mark per condition and its 95 % interval over trainings; beside it
    the fraction of the score that lies on poison, in both directions.
    """
    models = sorted(study.models, key=lambda m: mean_of(m, "poison", "slide_auc"))
    figure, (left, right) = new_figure(len(models), (3, 1.3))
    draw_aucs(left, models)
    add_legend(figure, left)
    for condition, colour, shift in (("poison", "C3", 0.15), ("mirrored", "C4", -0.15)):
        shares = [max(mean_of(m, condition, "poison_share"), 0.0) for m in models]
        rows = [row + shift for row in range(len(models))]
        right.barh(rows, shares, color=colour, alpha=0.6, height=0.28)
    right.axvline(study.share_of_tiles, color="0.3", linewidth=0.9, linestyle="--")
    right.set(xlim=(0, 1), xlabel="fraction of score on poison\n(dashed: fraction of tiles)")
    save_figure(figure, path)


def new_figure(rows: int, widths: tuple[float, ...]) -> tuple[Any, Any]:
    """Return a figure for `rows` methods, and its panels side by side with relative `widths`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 1.7 + 0.4 * rows), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, len(widths), width_ratios=widths, sharey=True, squeeze=False)[0]


def add_legend(figure: Any, axes: Any) -> None:
    """Put the legend of a panel above the figure."""
    handles = axes.get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=3, fontsize=8, frameon=False)


def draw_aucs(axes: Any, models: Sequence[PoisonedModel]) -> None:
    """Draw the slide AUC of every method (one row each, from below) in every condition that was measured."""
    for number, (condition, label, colour, marker) in enumerate(SHOWN):
        found = [(row, model.metric(condition, "slide_auc")) for row, model in enumerate(models)]
        rows = [(row, auc) for row, auc in found if auc is not None and auc.mean == auc.mean]
        if not rows:
            continue
        spans = [span_of(auc) for _, auc in rows]
        axes.errorbar(
            [auc.mean for _, auc in rows],
            [row + (2.5 - number) * 0.13 for row, _ in rows],
            xerr=[[low for low, _ in spans], [high for _, high in spans]],
            fmt=marker,
            color=colour,
            markersize=5,
            elinewidth=0.8,
            linestyle="none",
            label=label,
        )
    axes.axvline(0.5, color="0.7", linewidth=0.8)
    axes.set(xlim=(-0.03, 1.03), xlabel="slide AUC (95 % t interval)")
    axes.set_yticks(range(len(models)), [model.model for model in models])
    axes.grid(axis="x", color="0.93", linewidth=0.6)


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with write_aside(path) as aside:
        figure.savefig(aside, format="png", metadata={"Software": None})


def mean_of(model: PoisonedModel, condition: str, name: str) -> float:
    """Return the mean of a metric over trainings, -1 where it is unknown, so that it is sorted first."""
    found = model.metric(condition, name)
    return -1.0 if found is None or found.mean != found.mean else found.mean


def span_of(found: Spread) -> tuple[float, float]:
    """Return how far the interval of an AUC reaches below and above the mean, cut at 0 and 1."""
    if found.low != found.low:
        return 0.0, 0.0
    return max(found.mean - max(found.low, 0.0), 0.0), max(min(found.high, 1.0) - found.mean, 0.0)
