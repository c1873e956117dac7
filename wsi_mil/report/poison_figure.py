"""The poison experiment in one picture: slide AUC of every method, clean and poisoned."""

from pathlib import Path
from typing import Any

from wsi_mil.io.files import write_aside

SHOWN = (
    ("none", "nothing poisoned", "0.25", "o"),
    ("alike", "every slide poisoned", "C0", "s"),
    ("train_only", "training only", "C2", "^"),
    ("test_only", "test only", "C1", "v"),
    ("poison", "normal in training, tumour in test", "C3", "D"),
)


def draw_poison(study: dict[str, Any], path: Path) -> None:
    """Write a PNG of poison.json: a row per method, a mark per condition with its 95 % interval over trainings; beside it the share
    of the score that lies on poison."""
    models = sorted(study["models"], key=lambda m: _mean(m, "poison", "slide_auc"))
    figure, (left, right) = _figure(len(models), (3, 1.3))
    _auc_panel(left, models)
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside upper center", ncols=5, fontsize=8, frameon=False
    )
    shares = [_mean(m, "poison", "poison_share") for m in models]
    right.barh(range(len(models)), [max(s, 0.0) for s in shares], color="C3", alpha=0.6, height=0.55)
    right.axvline(study["share_of_tiles"], color="0.3", linewidth=0.9, linestyle="--")
    right.set(xlim=(0, 1), xlabel="share of score on poison\n(dashed: share of tiles)")
    _save(figure, path)


def draw_cohorts(studies: dict[str, dict[str, Any]], path: Path) -> None:
    """Write a PNG of several cohorts side by side, the methods in one order: by their mean AUC under poison."""
    names = [model["model"] for model in next(iter(studies.values()))["models"]]
    by_name = {cohort: {m["model"]: m for m in study["models"]} for cohort, study in studies.items()}
    order = sorted(
        names, key=lambda name: sum(_mean(models[name], "poison", "slide_auc") for models in by_name.values())
    )
    figure, panels = _figure(len(order), (1.0,) * len(studies))
    for axes, (cohort, models) in zip(panels, by_name.items(), strict=True):
        _auc_panel(axes, [models[name] for name in order])
        axes.set_title(cohort)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=5, fontsize=8, frameon=False
    )
    _save(figure, path)


def _figure(rows: int, widths: tuple[float, ...]) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 1.6 + 0.34 * rows), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, len(widths), width_ratios=widths, sharey=True, squeeze=False)[0]


def _auc_panel(axes: Any, models: list[dict[str, Any]]) -> None:
    for number, (condition, label, colour, marker) in enumerate(SHOWN):
        found = [(i, m["conditions"].get(condition, {}).get("slide_auc")) for i, m in enumerate(models)]
        rows = [(i, value) for i, value in found if value and value["mean"] is not None]
        if not rows:
            continue
        y = [i + (2 - number) * 0.14 for i, _ in rows]
        spans = [_span(value) for _, value in rows]
        errors = [[low for low, _ in spans], [high for _, high in spans]]
        axes.errorbar(
            [value["mean"] for _, value in rows],
            y,
            xerr=errors,
            fmt=marker,
            color=colour,
            markersize=5,
            elinewidth=0.8,
            linestyle="none",
            label=label,
        )
    axes.axvline(0.5, color="0.7", linewidth=0.8)
    axes.set(xlim=(-0.03, 1.03), xlabel="slide AUC (95 % t interval)")
    axes.set_yticks(range(len(models)), [m["model"] for m in models])
    axes.grid(axis="x", color="0.93", linewidth=0.6)


def _save(figure: Any, path: Path) -> None:
    with write_aside(path) as aside:
        figure.savefig(aside, format="png", metadata={"Software": None})


def _mean(model: dict[str, Any], condition: str, key: str) -> float:
    value = model["conditions"].get(condition, {}).get(key, {}).get("mean")
    return -1.0 if value is None else float(value)


def _span(value: dict[str, Any]) -> tuple[float, float]:
    """How far the interval reaches down and up; an AUC ends at 0 and 1."""
    if value["low"] is None:
        return 0.0, 0.0
    return max(value["mean"] - max(value["low"], 0.0), 0.0), max(min(value["high"], 1.0) - value["mean"], 0.0)


def draw_doses(doses: dict[str, dict[float, dict[str, Any]]], path: Path) -> None:
    """Write a PNG: slide AUC under poison against coverage and against strength, a line and a band per method."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(doses), sharey=True, squeeze=False)[0]
    for axes, (axis, by_step) in zip(panels, doses.items(), strict=True):
        steps = sorted(by_step)
        names = [model["model"] for model in by_step[steps[0]]["models"]] if steps else []
        for number, name in enumerate(names):
            found = [
                next(m for m in by_step[s]["models"] if m["model"] == name)["conditions"]["poison"][
                    "slide_auc"
                ]
                for s in steps
            ]
            axes.plot(
                steps, [f["mean"] for f in found], marker="o", markersize=4, color=f"C{number}", label=name
            )
            spans = [_span(f) for f in found]
            low = [f["mean"] - s[0] for f, s in zip(found, spans, strict=True)]
            high = [f["mean"] + s[1] for f, s in zip(found, spans, strict=True)]
            axes.fill_between(steps, low, high, color=f"C{number}", alpha=0.12, linewidth=0)
        axes.axhline(0.5, color="0.7", linewidth=0.8)
        axes.set(xlabel=f"{axis} of the poison", ylim=(-0.02, 1.02), xscale="log")
        axes.set_xticks(steps, [f"{s:g}" for s in steps])
        axes.minorticks_off()
        axes.grid(color="0.93", linewidth=0.6)
    panels[0].set_ylabel("slide AUC, poisoned test (95 % t interval)")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=6, fontsize=9, frameon=False
    )
    _save(figure, path)
