"""ROC, precision-recall, FROC and calibration of one or several models in one figure, with bands."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wsi_mil.evaluation.curves import LesionCurve, SlideCurves
from wsi_mil.evaluation.curves_file import ModelCurves
from wsi_mil.evaluation.results import Calibration, SlideResult
from wsi_mil.io.files import write_aside

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class DrawnModel:
    """What the picture shows of one model. brier: the Brier score of its slide probabilities."""

    curves: ModelCurves
    calibration: Calibration
    brier: float

    @classmethod
    def of(cls, curves: ModelCurves, slide: SlideResult) -> "DrawnModel":
        """Return the picture's part of an evaluated model."""
        return cls(curves, slide.calibration, slide.metrics["brier"].value)


def draw_curves(models: Mapping[str, DrawnModel], path: Path) -> None:
    """Write a PNG with one panel for each kind of curve; each panel shows all models.

    Bands are 95 % bootstrap intervals over patients, at each point separately.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8.6), dpi=100)
    # fixed margins: a layout that measures all texts takes as long as drawing them
    figure.subplots_adjust(left=0.07, right=0.985, bottom=0.065, top=0.955, hspace=0.27, wspace=0.18)
    FigureCanvasAgg(figure)
    ((roc, pr), (froc, reliability)) = figure.subplots(2, 2)
    for number, (name, model) in enumerate(models.items()):
        colour = f"C{number % 10}"
        if model.curves.slide is not None:
            _slide_panels(roc, pr, name, model.curves.slide, colour)
        if model.curves.froc is not None:
            _froc_panel(froc, name, model.curves.froc, colour)
        _calibration_panel(reliability, f"{name} (Brier {model.brier:.3f})", model.calibration, colour)
    for axes in (roc, reliability):
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8)
    titles = (
        (roc, "ROC, slides", "false positive rate", "true positive rate"),
        (pr, "Precision and recall, slides", "recall", "precision"),
        (froc, "FROC, lesions", "false positives per slide", "sensitivity"),
        (reliability, "Calibration, slides", "mean probability", "fraction of tumour slides"),
    )
    for axes, title, x, y in titles:
        axes.set(title=title, xlabel=x, ylabel=y, ylim=(-0.02, 1.02))
        axes.grid(color="0.93", linewidth=0.6)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower right", fontsize=8)
        else:
            axes.text(0.5, 0.5, "undefined", ha="center", va="center", transform=axes.transAxes, color="0.5")
    froc.set_xscale("symlog", base=2, linthresh=0.25, linscale=0.5)
    froc.set_xlim(0, 8)
    froc.set_xticks((0, 0.25, 0.5, 1, 2, 4, 8), ["0", "1/4", "1/2", "1", "2", "4", "8"])
    with write_aside(path) as aside:
        figure.savefig(aside, format="png", metadata={"Software": None})


def _slide_panels(roc: "Axes", pr: "Axes", name: str, found: SlideCurves, colour: str) -> None:
    roc.step(found.fpr, found.tpr, where="post", color=colour, label=f"{name} (AUC {found.auc:.3f})")
    label = f"{name} (AP {found.average_precision:.3f})"
    # scikit-learn lists falling recall; between two points the precision is that of the next higher recall
    pr.step(found.recall, found.precision, where="post", color=colour, label=label)
    _band(roc, found.roc_band.fpr, found.roc_band.low, found.roc_band.high, colour)
    _band(pr, found.pr_band.recall, found.pr_band.low, found.pr_band.high, colour)


def _froc_panel(axes: "Axes", name: str, found: LesionCurve, colour: str) -> None:
    x, y, band = found.false_positives_per_slide, found.sensitivity, found.band
    if any(map(math.isnan, y)):
        return
    # to the right of the last false positive the sensitivity stays constant, as the FROC score assumes
    axes.plot([max(8, *x), *x], [y[0], *y], color=colour, label=name)
    _band(axes, band.false_positives_per_slide, band.low, band.high, colour)


def _calibration_panel(axes: "Axes", label: str, found: Calibration, colour: str) -> None:
    bins = found.bins
    x, y = [one.mean_probability for one in bins], [one.fraction_positive for one in bins]
    # rounding can put a limit on the wrong side of a fraction of 0 or 1
    down = [max(one.fraction_positive - one.low, 0.0) for one in bins]
    up = [max(one.high - one.fraction_positive, 0.0) for one in bins]
    axes.errorbar(
        x,
        y,
        yerr=[down, up],
        color=colour,
        marker="o",
        markersize=4,
        capsize=2,
        linewidth=1,
        elinewidth=0.7,
        label=label,
    )
    axes.set_xlim(-0.02, 1.02)


def _band(axes: "Axes", x: list[float], low: list[float], high: list[float], colour: str) -> None:
    if low and not any(map(math.isnan, low)):
        axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
