"""wsi-mil evaluate CONFIG [key=value ...] --compare A B"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wsi_mil.cli.output import finish, load_or_plan
from wsi_mil.cli.stage_command import described

if TYPE_CHECKING:
    from wsi_mil.config import RunConfig
    from wsi_mil.contracts.metric import Interval, Metric
    from wsi_mil.evaluation.delong import AucComparison
    from wsi_mil.evaluation.paired import PairedDifference
    from wsi_mil.evaluation.results import ClassesResult, MetricsFile
    from wsi_mil.evaluation.table import MetricEntry

POSITION = 110
SUMMARY = "compute metrics on held-out slides"


@described("evaluate", example="wsi-mil evaluate configs/demo.yaml --compare focus_mil abmil_gated")
@click.option(
    "--compare",
    nargs=2,
    metavar="A B",
    help="Then compare two methods over their trainings (folds, repeats, seeds; corrected resampled t), and "
    "their two fitted models on the same slides (paired bootstrap over patients; slide AUC: DeLong's test).",
)
@click.option(
    "--compare-methods",
    "every_pair",
    is_flag=True,
    help="Then compare every pair of methods over their trainings, with Holm's correction.",
)
def command(
    context: click.Context,
    config: Path,
    overrides: tuple[str, ...],
    dry_run: bool,
    compare: tuple[str, str] | None,
    every_pair: bool,
) -> None:
    from wsi_mil.stages.pipeline import run_stage

    loaded = load_or_plan(config, overrides, dry_run)
    if loaded is None:
        return
    summary = run_stage(loaded, "evaluate")
    _print_metrics(loaded)
    if every_pair:
        _print_methods(loaded, list(loaded.models))
    if compare is not None:
        _print_differences(loaded, *compare)
    context.exit(finish(summary, loaded.run, quiet=every_pair or compare is not None))


def _print_metrics(config: "RunConfig") -> None:
    """Print the figures of each model, and below each its 95 % interval by bootstrap over patients.

    A third line has the interval of the slide AUC on the logit scale, with its method. Beside a patch
    metric of all slides together stands the mean within slides that have tumour tiles. A model with two tile
    scores has two further lines, with the patch metrics of the second.
    """
    from wsi_mil.evaluation.metrics_file import read_metrics
    from wsi_mil.evaluation.results import SlideResult
    from wsi_mil.evaluation.table import shown_metrics
    from wsi_mil.io.tables import text_table
    from wsi_mil.run.folder import RunFolder
    from wsi_mil.tasks import task_class

    columns = shown_metrics("terminal", task_class(config.task.kind).kind)
    with_tiles = any(entry.level == "patch" for entry in columns)
    lines = [["", *(["tile score"] if with_tiles else [])]]
    for entry in columns:
        lines[0] += [entry.short or entry.title, *(["in slides"] if entry.level == "patch" else [])]
    for name in config.models:
        found = read_metrics(RunFolder(config.run).evaluation(name) / "metrics.json")
        if found is None:
            continue
        first, *others = _model_lines(name, found, columns)
        lines += first
        if isinstance(found.slide, SlideResult) and found.slide.delong is not None:
            estimate = found.slide.delong
            title = "exact bound" if estimate.stated.one_sided else f"{estimate.method}, logit"
            shown = [f"  {title}", *([""] if with_tiles else []), _limits(estimate.stated)]
            lines.append([*shown, *[""] * (len(lines[0]) - len(shown))])
        lines += [line for pair in others for line in pair]
    click.echo(text_table(lines, align="<<>" if with_tiles else "<>", least=(14,)))
    _print_not_learned(config)
    for name in config.models:
        found = read_metrics(RunFolder(config.run).evaluation(name) / "metrics.json")
        if found is not None and found.classes is not None:
            _print_classes(name, found.classes)


def _print_not_learned(config: "RunConfig") -> None:
    """Print one line for each model with a training that has learned nothing."""
    from wsi_mil.run.folder import RunFolder
    from wsi_mil.scoring import read_slide_scores
    from wsi_mil.training.learning import NOT_LEARNED

    for name in config.models:
        path = RunFolder(config.run).slide_scores(name)
        folds = read_slide_scores(path)[1].not_learned if path.exists() else ()
        if folds:
            click.echo(f"{name}: the model of fold {', '.join(map(str, folds))} {NOT_LEARNED}")


def _model_lines(name: str, found: "MetricsFile", columns: Sequence["MetricEntry"]) -> list[list[list[str]]]:
    """Return, for each kind of tile score of a model, two lines: the figures, and their intervals."""
    pairs, with_tiles = [], any(entry.level == "patch" for entry in columns)
    for number, patch in enumerate(found.patches):
        values, intervals = [name], ["  bootstrap"]
        if with_tiles:
            values.append(patch.score_kind or "-")
            intervals.append("")
        for entry in columns:
            if number and entry.level != "patch":  # of the slide, or by the main tile scores
                values.append("")
                intervals.append("")
                continue
            metrics = patch.metrics if entry.level == "patch" else found.metrics(entry.level)
            metric = metrics[entry.name]
            values.append(f"{metric.value:.3f}" if metric.defined else "-")
            intervals.append(_limits(metric.interval))
            if entry.level == "patch":
                within = patch.within_slides(entry)
                values.append(f"{within.mean:.3f}" if within and within.n_slides else "-")
                intervals.append("")
        pairs.append([values, intervals])
    return pairs


def _print_classes(model: str, found: "ClassesResult") -> None:
    """Print one line for each class against all others, and how often each class was predicted as which."""
    from wsi_mil.evaluation.table import all_metrics
    from wsi_mil.io.tables import text_table

    titles = {entry.name: entry.title for entry in all_metrics() if entry.level == "slide"}
    whole = [
        f"{titles[name]} {metric.value:.3f}{_range(metric)}"
        for name, metric in found.metrics.items()
        if metric.defined
    ]
    click.echo(f"\n{model}, each class against all others; of all classes: {', '.join(whole)}")
    names = [one.name for one in found.classes]
    measured = list(found.classes[0].metrics)
    lines = [["", "slides", *(titles[name] for name in measured), *(f"as {name}" for name in names)]]
    for one, counts in zip(found.classes, found.confusion, strict=True):
        cells = (
            f"{metric.value:.3f}{_range(metric)}" if metric.defined else "-"
            for metric in one.metrics.values()
        )
        lines.append([one.name, str(one.n), *cells, *map(str, counts)])
    click.echo(text_table(lines, align="<>", least=(14,)))


def _range(metric: "Metric") -> str:
    limits = _limits(metric.interval)
    return f" ({limits})" if limits else ""


def _limits(interval: "Interval | None") -> str:
    """Return "low-high", ">=low" or "<=high" of a one-sided bound, "" if the limits are not known."""
    if interval is None or not interval.defined:
        return ""
    if interval.one_sided:
        return f">={interval.low:.3f}" if interval.high == 1 else f"<={interval.high:.3f}"
    return f"{interval.low:.3f}-{interval.high:.3f}"


def _print_differences(config: "RunConfig", first: str, second: str) -> None:
    from wsi_mil.io.tables import text_table
    from wsi_mil.stages.compare import run_compare

    found = run_compare(config, first, second)
    _print_methods(config, [first, second])
    click.echo(
        f"\nthe two fitted models {first} - {second} on the same {found.slides} slides; 95 % interval over "
        "patients, two-sided p.\nOther trainings of the same methods may differ the other way."
    )
    rows, adjusted = [], found.adjusted()
    for level, differences in found.levels().items():
        for metric, row in differences.items():
            p = adjusted[level, metric]
            cells = _difference_cells(f"{level} {metric}", row, row.low, row.high)
            rows.append([*cells[:-1], cells[-1] + ("" if math.isnan(p) else f", Holm {p:.3f}")])
        if level == "slide" and (test := found.slide.delong) is not None:
            rows.append(_difference_cells(f"slide auc ({test.method})", test, *test.interval))
    click.echo(text_table(rows, align="<>>><", least=(24, 6, 6, 7, 0), gap=1))


def _print_methods(config: "RunConfig", names: list[str]) -> None:
    """Print and write the comparison of methods over trainings; several pairs go to methods.json."""
    from wsi_mil.io.tables import text_table
    from wsi_mil.run.folder import RunFolder
    from wsi_mil.run.method_comparison import compare_methods, method_table, write_methods
    from wsi_mil.tasks import task_class

    run, task = RunFolder(config.run), task_class(config.task.kind).kind
    if not run.comparison.exists():
        click.echo("\nmethods are not compared: no evaluation/comparison.csv; run `wsi-mil train`")
        return
    measured = compare_methods if len(names) == 2 < len(config.models) else write_methods
    click.echo("\nmethods over their trainings: corrected resampled t (Nadeau & Bengio 2003)")
    click.echo(text_table(method_table(measured(run, names, task)), align="<"))


def _difference_cells(
    title: str, row: "PairedDifference | AucComparison", low: float, high: float
) -> list[str]:
    values = (row.first, row.second, row.difference, low, high, row.p_two_sided)
    a, b, difference, lower, upper, p = ("-" if math.isnan(value) else f"{value:.3f}" for value in values)
    return [title, a, b, difference, f"({lower} to {upper})  p {p}"]
