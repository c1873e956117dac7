"""wsi-mil tile CONFIG [key=value ...] [--strict]"""

from pathlib import Path

import click

from wsi_mil.cli.parameters import qupath_options, qupath_overrides, strict_option
from wsi_mil.cli.stage_command import described, run_one_stage

POSITION = 50
SUMMARY = "find tissue and lay a grid of tiles over it"


@described("tile")
def command(
    context: click.Context,
    config: Path,
    overrides: tuple[str, ...],
    dry_run: bool,
    qupath_version: str | None,
    qupath_bounds: str | None,
    strict: bool,
) -> None:
    overrides += qupath_overrides(qupath_version, qupath_bounds)
    run_one_stage(context, "tile", config, overrides, dry_run, strict)


qupath_options(strict_option(command))
