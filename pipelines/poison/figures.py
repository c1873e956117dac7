"""Figures of the poison study: slide AUC by cohort and method, and by dose."""

from collections.abc import Mapping
from pathlib import Path

from pipelines.poison.tables import Doses, model_named
from wsi_mil.report.poison_figure import add_legend, draw_aucs, mean_of, new_figure, save_figure, span_of
from wsi_mil.robustness.poison.study import PoisonStudy


def draw_cohorts(studies: Mapping[str, PoisonStudy], path: Path) -> None:
    """Write a PNG with a panel per cohort; the methods are sorted by their mean AUC under poison."""
    names = [model.model for model in next(iter(studies.values())).models]
    order = sorted(
        names,
        key=lambda name: sum(mean_of(model_named(s, name), "poison", "slide_auc") for s in studies.values()),
    )
    figure, panels = new_figure(len(order), (1.0,) * len(studies))
    for axes, (cohort, study) in zip(panels, studies.items(), strict=True):
        draw_aucs(axes, [model_named(study, name) for name in order])
        axes.set_title(cohort)
    add_legend(figure, panels[0])
    save_figure(figure, path)


def draw_doses(doses: Doses, path: Path) -> None:
    """Write a PNG of the slide AUC under poison against coverage and strength.

    Every method has a line of means over trainings and a band of their 95 % t interval.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(doses), sharey=True, squeeze=False)[0]
    for axes, (axis, by_step) in zip(panels, doses.items(), strict=True):
        steps = sorted(by_step)
        names = [model.model for model in by_step[steps[0]].models] if steps else []
        for number, name in enumerate(names):
            found = [model_named(by_step[step], name).conditions["poison"].slide_auc for step in steps]
            means, spans = [auc.mean for auc in found], [span_of(auc) for auc in found]
            axes.plot(steps, means, marker="o", markersize=4, color=f"C{number}", label=name)
            low = [mean - span[0] for mean, span in zip(means, spans, strict=True)]
            high = [mean + span[1] for mean, span in zip(means, spans, strict=True)]
            axes.fill_between(steps, low, high, color=f"C{number}", alpha=0.12, linewidth=0)
        axes.axhline(0.5, color="0.7", linewidth=0.8)
        axes.set(xlabel=f"{axis} of the poison", ylim=(-0.02, 1.02), xscale="log")
        axes.set_xticks(steps, [f"{step:g}" for step in steps])
        axes.minorticks_off()
        axes.grid(color="0.93", linewidth=0.6)
    panels[0].set_ylabel("slide AUC, poisoned test (95 % t interval)")
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=6, fontsize=9, frameon=False)
    save_figure(figure, path)
