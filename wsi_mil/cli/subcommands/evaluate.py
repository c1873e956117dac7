"""wsi-mil evaluate CONFIG [key=value ...] --compare A B"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wsi_mil.cli.output import finish, load_or_plan
from wsi_mil.cli.stage_command import described
from wsi_mil.paths import child

if TYPE_CHECKING:
    from wsi_mil.config import RunConfig
    from wsi_mil.contracts.metric import Metric
    from wsi_mil.evaluation.delong import AucComparison
    from wsi_mil.evaluation.paired import PairedDifference
    from wsi_mil.evaluation.results import ClassesResult

POSITION = 110
SUMMARY = "compute metrics on held-out slides"


@described("evaluate", example="wsi-mil evaluate configs/demo.yaml --compare focus_mil abmil_gated")
@click.option(
    "--compare",
    nargs=2,
    metavar="A B",
    help="Then compare two models on the same slides: paired bootstrap over patients, "
    "DeLong's test for the slide AUC.",
)
def command(
    context: click.Context,
    config: Path,
    overrides: tuple[str, ...],
    dry_run: bool,
    compare: tuple[str, str] | None,
) -> None:
    from wsi_mil.stages.pipeline import run_stage

    loaded = load_or_plan(config, overrides, dry_run)
    if loaded is None:
        return
    summary = run_stage(loaded, "evaluate")
    _print_metrics(loaded)
    if compare is not None:
        _print_differences(loaded, *compare)
    context.exit(finish(summary, loaded.run, quiet=compare is not None))


def _print_metrics(config: "RunConfig") -> None:
    """Print two lines per model: the figures, and below each its 95 % interval over patients."""
    from wsi_mil.evaluation.metrics_file import read_metrics
    from wsi_mil.evaluation.table import shown_metrics
    from wsi_mil.io.tables import text_table
    from wsi_mil.tasks import task_class

    columns = shown_metrics("terminal", task_class(config.task.kind).kind)
    lines = [["", *(entry.short or entry.title for entry in columns)]]
    for name in config.models:
        found = read_metrics(child(config.run / "evaluation", name, "model name") / "metrics.json")
        if found is None:
            continue
        values, intervals = [name], [""]
        for entry in columns:
            metric = found.metrics(entry.level)[entry.name]
            values.append(f"{metric.value:.3f}" if metric.defined else "-")
            interval = metric.interval
            defined = interval is not None and interval.defined
            intervals.append(f"{interval.low:.3f}-{interval.high:.3f}" if interval and defined else "")
        lines += [values, intervals]
    click.echo(text_table(lines, align="<>", least=(14,)))
    for name in config.models:
        found = read_metrics(child(config.run / "evaluation", name, "model name") / "metrics.json")
        if found is not None and found.classes is not None:
            _print_classes(name, found.classes)


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
    interval = metric.interval
    return f" ({interval.low:.3f}-{interval.high:.3f})" if interval and interval.defined else ""


def _print_differences(config: "RunConfig", first: str, second: str) -> None:
    from wsi_mil.io.tables import text_table
    from wsi_mil.stages.compare import run_compare

    found = run_compare(config, first, second)
    click.echo(f"\n{first} - {second}, {found.slides} slides; 95 % interval over patients, two-sided p")
    rows = []
    for level, differences in found.levels().items():
        for metric, row in differences.items():
            rows.append(_difference_cells(f"{level} {metric}", row, row.low, row.high))
        if level == "slide" and (test := found.slide.delong) is not None:
            rows.append(_difference_cells("slide auc (DeLong)", test, *test.interval))
    click.echo(text_table(rows, align="<>>><", least=(24, 6, 6, 7, 0), gap=1))


def _difference_cells(
    title: str, row: "PairedDifference | AucComparison", low: float, high: float
) -> list[str]:
    values = (row.first, row.second, row.difference, low, high, row.p_two_sided)
    a, b, difference, lower, upper, p = ("-" if math.isnan(value) else f"{value:.3f}" for value in values)
    return [title, a, b, difference, f"({lower} to {upper})  p {p}"]
