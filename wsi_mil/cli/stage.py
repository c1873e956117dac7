"""The subcommands of single stages, made from the table of stages."""

from pathlib import Path

import click

from wsi_mil.cli.common import config_arguments, finish, load_or_plan, qupath_options, qupath_overrides
from wsi_mil.config import RunConfig
from wsi_mil.stages.table import STAGES

EXAMPLES = {
    "train": "wsi-mil train configs/demo.yaml --aggregator all",
    "evaluate": "wsi-mil evaluate configs/demo.yaml --compare focus_mil abmil_gated",
}


def command_for(stage: str) -> click.Command:
    """Return the click command of one stage."""

    @click.command(
        stage,
        help=STAGES[stage].description,
        short_help=STAGES[stage].help,
        epilog=f"Example: {EXAMPLES.get(stage, f'wsi-mil {stage} configs/demo.yaml')}",
    )
    @config_arguments
    @click.pass_context
    def command(
        context: click.Context,
        config: Path,
        overrides: tuple[str, ...],
        dry_run: bool,
        aggregator: tuple[str, ...] = (),
        compare: tuple[str, str] | None = None,
        qupath_version: str | None = None,
        qupath_bounds: str | None = None,
    ) -> None:
        from wsi_mil.config.loading import with_trained
        from wsi_mil.config.schema import with_aggregators
        from wsi_mil.stages.pipeline import run_stage

        def asked(found: RunConfig) -> RunConfig:
            return with_trained(with_aggregators(found, aggregator)) if aggregator else found

        overrides += qupath_overrides(qupath_version, qupath_bounds)
        loaded = load_or_plan(config, overrides, dry_run, asked)
        if loaded is None:
            return
        summary = run_stage(loaded, stage)
        if stage == "evaluate":
            _print_metrics(loaded)
            if compare is not None:
                _print_differences(loaded, *compare)
        if stage == "train":
            _print_comparison(loaded)
        context.exit(finish(summary, loaded.run, quiet=compare is not None))

    if stage in ("tile", "heatmap"):
        qupath_options(command)
    if stage == "train":
        text = "Train these aggregators instead of the configuration's, beside those that the run has trained: a name, a pattern such as 'clam*', or all. Repeatable."
        click.option("--aggregator", multiple=True, metavar="NAME", help=text)(command)
    if stage == "evaluate":
        text = "Then compare two models on the same slides: paired bootstrap over patients, DeLong's test for the slide AUC."
        click.option("--compare", nargs=2, metavar="A B", help=text)(command)
    return command


def _print_differences(config: RunConfig, first: str, second: str) -> None:
    from wsi_mil.stages.compare import run_compare

    found = run_compare(config, first, second)
    click.echo(f"\n{first} - {second}, {found['slides']} slides; 95 % interval over patients, two-sided p")
    for level in ("slide", "patch", "froc"):
        for metric, row in found.get(level, {}).items():
            if metric == "reasons":
                continue
            low, high = row["interval"] if metric == "delong" else (row["low"], row["high"])
            name = "slide auc (DeLong)" if metric == "delong" else f"{level} {metric}"
            cells = [row["first"], row["second"], row["difference"], low, high, row["p_two_sided"]]
            a, b, d, lower, upper, p = ("-" if v is None else f"{v:.3f}" for v in cells)
            click.echo(f"{name:<24} {a:>6} {b:>6} {d:>7} ({lower} to {upper})  p {p}")


def _print_comparison(config: RunConfig) -> None:
    from wsi_mil.run.folder import RunFolder
    from wsi_mil.run.trainings import summarise
    from wsi_mil.tasks import task_class

    table = summarise(RunFolder(config.run).comparison, task_class(config.task.kind).kind)
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        click.echo(
            "  ".join(
                text.ljust(w) if i == 0 else text.rjust(w)
                for i, (text, w) in enumerate(zip(row, widths, strict=True))
            )
        )


def _print_metrics(config: RunConfig) -> None:
    """Two lines a model: the figures, and below each its 95 % interval over patients."""
    from wsi_mil.evaluation.metrics_file import read_metrics
    from wsi_mil.evaluation.table import shown_metrics
    from wsi_mil.tasks import task_class

    run, names = config.run, list(config.models)
    columns = shown_metrics("terminal", task_class(config.task.kind).kind)
    width = max(14, *(len(name) for name in names))
    titles = [entry.short or entry.title for entry in columns]
    click.echo("  ".join([" " * width, *(f"{title:>14}" for title in titles)]))
    for name in names:
        found = read_metrics(run / "evaluation" / name / "metrics.json")
        if found is None:
            continue
        values, intervals = [], []
        for entry in columns:
            metric = found.metrics(entry.level)[entry.name]
            values.append(f"{metric.value:.3f}" if metric.defined else "-")
            interval = metric.interval
            defined = interval is not None and interval.defined
            intervals.append(f"{interval.low:.3f}-{interval.high:.3f}" if interval and defined else "")
        click.echo("  ".join([f"{name:<{width}}", *(f"{text:>14}" for text in values)]))
        click.echo("  ".join([" " * width, *(f"{text:>14}" for text in intervals)]).rstrip())
