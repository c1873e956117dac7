"""ROC, precision-recall and FROC curves of one or several models in one picture."""

from pathlib import Path
from typing import Any

from wsi_mil.files import write_aside


def draw_curves(models: dict[str, dict[str, Any]], path: Path) -> None:
    """Write a PNG with one panel for each curve that is defined: {model: {"slide": {...}, "froc": {...}}}."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.9), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    roc, pr, froc = figure.subplots(1, 3)
    for name, curves in models.items():
        slide = curves.get("slide") or {}
        if slide:
            roc.step(slide["fpr"], slide["tpr"], where="post", label=f"{name} (AUC {slide['auc']:.3f})")
            label = f"{name} (AP {slide['average_precision']:.3f})"
            pr.step(slide["recall"], slide["precision"], where="post", label=label)
        points = curves.get("froc")
        if points and None not in points["sensitivity"]:
            # beyond the last false positive the sensitivity stays, as the score counts it
            x, y = points["false_positives_per_slide"], points["sensitivity"]
            froc.plot([max(8, *x), *x], [y[0], *y], label=name)
    roc.plot([0, 1], [0, 1], color="0.7", linewidth=0.8)
    titles = (
        (roc, "ROC, slides", "false positive rate", "true positive rate"),
        (pr, "Precision and recall, slides", "recall", "precision"),
        (froc, "FROC, lesions", "false positives per slide", "sensitivity"),
    )
    for axes, title, x, y in titles:
        axes.set(title=title, xlabel=x, ylabel=y, ylim=(-0.02, 1.02))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower right", fontsize=8)
        else:
            axes.text(0.5, 0.5, "undefined", ha="center", va="center", transform=axes.transAxes, color="0.5")
    froc.set_xscale("symlog", base=2, linthresh=0.25, linscale=0.5)
    froc.set_xlim(0, 8)
    ticks = (0, 0.25, 0.5, 1, 2, 4, 8)
    froc.set_xticks(ticks, ["0", "1/4", "1/2", "1", "2", "4", "8"])
    with write_aside(path) as aside:
        figure.savefig(aside, format="png", metadata={"Software": None})
