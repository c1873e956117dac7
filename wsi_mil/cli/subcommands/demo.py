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
    from wsi_mil.evaluation.table import metrics_at
    from wsi_mil.io.tables import text_table
    from wsi_mil.run.folder import RunFolder
    from wsi_mil.stages.pipeline import run_pipeline

    config = load_config(packaged_config("demo"), overrides)
    summary = run_pipeline(config)
    code = finish(summary, config.run)
    patch_auc = next(entry for entry in metrics_at("patch", "detection") if entry.name == "auc")
    rows = [["model", "slide AUC", "patch AUC", "in slides", "FROC"]]
    for name in config.models:
        metrics = read_metrics(RunFolder(config.run).evaluation(name) / "metrics.json")
        if metrics is None:
            continue
        found = (metrics.slide.metrics["auc"], metrics.patch.metrics["auc"], metrics.froc.metrics["score"])
        cells = [f"{metric.value:.3f}" if metric.defined else "-" for metric in found]
        within = metrics.within_slides(patch_auc)
        cells.insert(2, f"{within.mean:.3f}" if within and within.n_slides else "-")
        rows.append([name, *cells])
    header, *lines = text_table(rows, align="<>", least=(14, 9, 9, 9, 6), gap=1).splitlines()
    click.echo("\n".join([f"{header}   (held-out slides)", *lines]))
    click.echo(f"report: {Path(config.run) / 'report.html'}")
    context.exit(code)
