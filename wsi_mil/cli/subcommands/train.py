"""wsi-mil train CONFIG [key=value ...] --aggregator NAME"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from wsi_mil.cli.output import finish, load_or_plan
from wsi_mil.cli.parameters import TYPED_NAME
from wsi_mil.cli.stage_command import described

if TYPE_CHECKING:
    from wsi_mil.config import RunConfig

POSITION = 70
SUMMARY = "train models on features and labels"


@described("train", example="wsi-mil train configs/demo.yaml --aggregator all")
@click.option(
    "--aggregator",
    type=TYPED_NAME,
    multiple=True,
    metavar="NAME",
    help="Train these aggregators instead of the configuration's, beside those that the run has trained: "
    "a name, a pattern such as 'clam*', or all. Repeatable.",
)
def command(
    context: click.Context,
    config: Path,
    overrides: tuple[str, ...],
    dry_run: bool,
    aggregator: tuple[str, ...],
) -> None:
    from wsi_mil.config.loading import with_trained
    from wsi_mil.config.schema import with_aggregators
    from wsi_mil.stages.pipeline import run_stage

    def with_models(found: "RunConfig") -> "RunConfig":
        return with_trained(with_aggregators(found, aggregator)) if aggregator else found

    loaded = load_or_plan(config, overrides, dry_run, with_models)
    if loaded is None:
        return
    summary = run_stage(loaded, "train")
    _print_comparison(loaded)
    context.exit(finish(summary, loaded.run))


def _print_comparison(config: "RunConfig") -> None:
    """Print one line per model: the mean over its trainings of what they measured on the test part."""
    from wsi_mil.io.tables import text_table
    from wsi_mil.run.folder import RunFolder
    from wsi_mil.run.trainings import summarise
    from wsi_mil.tasks import task_class

    rows = summarise(RunFolder(config.run).comparison, task_class(config.task.kind).kind)
    click.echo(text_table(rows, align="<>"))
