"""ROC, precision-recall, FROC and calibration of one or several models in one picture, with
bootstrap bands.
"""

from pathlib import Path
from typing import Any

from wsi_mil.io.files import write_aside


def draw_curves(models: dict[str, dict[str, Any]], path: Path) -> None:
    """Write a PNG with one panel for each curve: {model: {"slide": {...}, "froc": {...}, "calibration":
    {...}}}.

    Bands are pointwise 95 % bootstrap intervals over patients.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8.6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    ((roc, pr), (froc, reliability)) = figure.subplots(2, 2)
    for number, (name, curves) in enumerate(models.items()):
        colour = f"C{number % 10}"
        _slide_panels(roc, pr, name, curves.get("slide") or {}, colour)
        _froc_panel(froc, name, curves.get("froc"), colour)
        _calibration_panel(reliability, name, curves.get("calibration"), colour)
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


def _slide_panels(roc: Any, pr: Any, name: str, slide: dict[str, Any], colour: str) -> None:
    if not slide:
        return
    roc.step(slide["fpr"], slide["tpr"], where="post", color=colour, label=f"{name} (AUC {slide['auc']:.3f})")
    label = f"{name} (AP {slide['average_precision']:.3f})"
    # scikit-learn lists falling recall; between two points the precision is that of the next higher recall
    pr.step(slide["recall"], slide["precision"], where="post", color=colour, label=label)
    _band(roc, slide["roc_band"], "fpr", colour)
    _band(pr, slide["pr_band"], "recall", colour)


def _froc_panel(axes: Any, name: str, froc: dict[str, Any] | None, colour: str) -> None:
    if froc and None not in froc["sensitivity"]:
        # to the right of the last false positive the sensitivity stays constant, as the FROC score assumes
        x, y = froc["false_positives_per_slide"], froc["sensitivity"]
        axes.plot([max(8, *x), *x], [y[0], *y], color=colour, label=name)
        _band(axes, froc["band"], "false_positives_per_slide", colour)


def _calibration_panel(axes: Any, name: str, found: dict[str, Any] | None, colour: str) -> None:
    if found:
        bins = found["bins"]
        x, y = [b["mean_probability"] for b in bins], [b["share_positive"] for b in bins]
        # rounding can put a limit on the wrong side of a fraction of 0 or 1
        down = [max(v - b["low"], 0.0) for v, b in zip(y, bins, strict=True)]
        up = [max(b["high"] - v, 0.0) for v, b in zip(y, bins, strict=True)]
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
            label=f"{name} (Brier {found['brier']:.3f})",
        )
        axes.set_xlim(-0.02, 1.02)


def _band(axes: Any, found: dict[str, Any], key: str, colour: str) -> None:
    if found["low"] and None not in found["low"]:
        axes.fill_between(found[key], found["low"], found["high"], color=colour, alpha=0.13, linewidth=0)
