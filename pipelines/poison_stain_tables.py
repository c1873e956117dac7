"""Tables and figures of the poison study: per cohort and method, the ablation, and curves over dose."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from wsi_mil.experiments.poison_table import spread_text
from wsi_mil.io.tables import markdown_table
from wsi_mil.report.poison_figure import add_legend, draw_aucs, mean_of, new_figure, save_figure, span_of
from wsi_mil.robustness.poison.study import PoisonedModel, PoisonStudy

Doses = Mapping[str, Mapping[float, PoisonStudy]]
"""Axis (coverage or strength) -> value on that axis -> study."""

METHOD_HEAD = (
    "cohort",
    "method",
    "slide AUC, clean",
    "training only",
    "test only",
    "**poison**",
    "all alike",
    "patch AUC, clean",
    "poison",
    "FROC, clean",
    "poison",
    "score on poison",
    "top on poison",
    "verdict",
)
ABLATION_HEAD = (
    "cohort",
    "method",
    "training AUC",
    "test AUC",
    "patch AUC",
    "under poison: training AUC",
    "test AUC",
    "patch AUC",
)


def method_table(studies: Mapping[str, PoisonStudy]) -> str:
    """Return a Markdown table: slide AUC in every condition, patch AUC and FROC clean and poisoned, how much
    of the score lies on poison, and the verdict.
    """
    rows = []
    for cohort, study in studies.items():
        for model in sorted(study.models, key=lambda m: -mean_of(m, "poison", "slide_auc")):
            slide = [
                spread_text(model.metric(condition, "slide_auc"))
                for condition in ("none", "train_only", "test_only", "poison", "alike")
            ]
            others = [
                _mean(model, condition, name)
                for condition, name in (
                    ("none", "patch_auc"),
                    ("poison", "patch_auc"),
                    ("none", "froc"),
                    ("poison", "froc"),
                    ("poison", "poison_share"),
                    ("poison", "poison_top"),
                )
            ]
            rows.append([cohort, model.model, *slide, *others, model.verdict or "-"])
    return markdown_table(METHOD_HEAD, rows)


def ablation_table(studies: Mapping[str, PoisonStudy], names: Sequence[str]) -> str:
    """Return a Markdown table of some models: the AUC on the training part beside the test part, clean and
    poisoned.
    """
    rows = []
    for cohort, study in studies.items():
        by_name = {model.model: model for model in study.models}
        for model in (by_name[name] for name in names if name in by_name):
            trained = [spread_text(model.train_auc.get(arm)) for arm in ("none", "normal")]
            clean, poisoned = (
                [spread_text(model.metric(condition, name)) for name in ("slide_auc", "patch_auc")]
                for condition in ("none", "poison")
            )
            rows.append([cohort, model.model, trained[0], *clean, trained[1], *poisoned])
    return markdown_table(ABLATION_HEAD, rows)


def dose_table(doses: Doses) -> str:
    """Return a Markdown table: slide AUC under poison for every coverage and strength; empty
    without studies.
    """
    steps = [(axis, step, study) for axis, by_step in doses.items() for step, study in by_step.items()]
    if not steps:
        return ""
    rows = [
        [
            model.model,
            *(spread_text(_named(study, model.model).metric("poison", "slide_auc")) for *_, study in steps),
        ]
        for model in steps[0][2].models
    ]
    return markdown_table(["method", *(f"{axis} {step:g}" for axis, step, _ in steps)], rows)


def draw_cohorts(studies: Mapping[str, PoisonStudy], path: Path) -> None:
    """Write a PNG of several cohorts side by side; the methods are sorted by their mean AUC under poison."""
    names = [model.model for model in next(iter(studies.values())).models]
    order = sorted(
        names,
        key=lambda name: sum(mean_of(_named(s, name), "poison", "slide_auc") for s in studies.values()),
    )
    figure, panels = new_figure(len(order), (1.0,) * len(studies))
    for axes, (cohort, study) in zip(panels, studies.items(), strict=True):
        draw_aucs(axes, [_named(study, name) for name in order])
        axes.set_title(cohort)
    add_legend(figure, panels[0])
    save_figure(figure, path)


def draw_doses(doses: Doses, path: Path) -> None:
    """Write a PNG: slide AUC under poison against coverage and against strength, a line and a band per
    method.
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
            found = [_named(by_step[step], name).conditions["poison"].slide_auc for step in steps]
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


def _named(study: PoisonStudy, name: str) -> PoisonedModel:
    return next(model for model in study.models if model.model == name)


def _mean(model: PoisonedModel, condition: str, name: str) -> str:
    value = mean_of(model, condition, name)
    return "-" if value < 0 else f"{value:.3f}"
