"""wsi-mil demo"""

from pathlib import Path

import click

from wsi_mil.cli.output import finish
from wsi_mil.cli.parameters import overrides_argument

POSITION = 20
SUMMARY = "a synthetic cohort to a report: no download, no GPU"


@click.command(
    "demo",
    epilog="Example: wsi-mil demo run=runs/demo2 synthetic.pairs=10",
)
@overrides_argument
@click.pass_context
def command(context: click.Context, overrides: tuple[str, ...]) -> None:
    """Make a synthetic cohort, learn from its slide labels, and report how well the lesions were found.

    Takes a few minutes on two cores; needs no download and no GPU. The configuration is configs/demo.yaml.
    """
    from wsi_mil.config import load_config, packaged_config
    from wsi_mil.evaluation.metrics_file import read_metrics
    from wsi_mil.stages.pipeline import run_pipeline

    config = load_config(packaged_config("demo"), overrides)
    summary = run_pipeline(config)
    code = finish(summary, config.run)
    click.echo(f"{'model':<14} {'slide AUC':>9} {'patch AUC':>9} {'FROC':>6}   (held-out slides)")
    for name in config.models:
        metrics = read_metrics(config.run / "evaluation" / name / "metrics.json")
        if metrics is None:
            continue
        found = (metrics.slide.metrics["auc"], metrics.patch.metrics["auc"], metrics.froc.metrics["score"])
        shown = [f"{metric.value:.3f}" if metric.defined else "-" for metric in found]
        click.echo(f"{name:<14} {shown[0]:>9} {shown[1]:>9} {shown[2]:>6}")
    click.echo(f"report: {Path(config.run) / 'report.html'}")
    context.exit(code)
