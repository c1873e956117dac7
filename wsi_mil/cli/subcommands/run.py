"""wsi-mil run CONFIG.yaml [key=value ...]"""

from pathlib import Path

import click

from wsi_mil.cli.output import finish, load_or_plan
from wsi_mil.cli.parameters import config_arguments, qupath_config_options, strict_option

POSITION = 10
SUMMARY = "the whole pipeline, from slides to report"


@click.command(
    "run",
    epilog="Example: wsi-mil run configs/demo.yaml run=runs/other tiles.mpp=1.0",
)
@config_arguments
@qupath_config_options
@strict_option
@click.pass_context
def command(
    context: click.Context,
    config: Path,
    overrides: tuple[str, ...],
    dry_run: bool,
    strict: bool,
) -> None:
    """Run the whole pipeline of CONFIG (a YAML file, or a run folder). What is up to date is not done
    again."""
    from wsi_mil.stages.pipeline import run_pipeline

    loaded = load_or_plan(config, overrides, dry_run)
    if loaded is None:
        return
    code = finish(run_pipeline(loaded), loaded.run, strict=strict)
    click.echo(f"report: {loaded.run / 'report.html'}")
    context.exit(code)
