"""Subcommands that run one stage: their help comes from the table of stages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from wsi_mil.cli.output import finish, load_or_plan
from wsi_mil.cli.parameters import config_arguments
from wsi_mil.stages.table import STAGES


def described(stage: str, example: str = "") -> Callable[[Callable[..., Any]], click.Command]:
    """Return a decorator that makes the click command of a stage, with its help and CONFIG [KEY=VALUE]...
    --dry-run."""

    def decorator(function: Callable[..., Any]) -> click.Command:
        return click.command(
            stage,
            help=STAGES[stage].description,
            epilog=f"Example: {example or f'wsi-mil {stage} configs/demo.yaml'}",
        )(config_arguments(click.pass_context(function)))

    return decorator


def stage_command(stage: str, *options: Callable[[Callable[..., Any]], Callable[..., Any]]) -> click.Command:
    """Return the click command of a stage. options: decorators that add options, see `cli.parameters`."""

    def command(
        context: click.Context,
        config: Path,
        overrides: tuple[str, ...],
        dry_run: bool,
        strict: bool = False,
    ) -> None:
        run_one_stage(context, stage, config, overrides, dry_run, strict)

    function: Callable[..., Any] = command
    for option in options:
        function = option(function)
    return described(stage)(function)


def run_one_stage(
    context: click.Context,
    stage: str,
    config: Path,
    overrides: tuple[str, ...],
    dry_run: bool,
    strict: bool = False,
) -> None:
    """Run one stage of CONFIG, or print its plan, and leave with the exit code. strict: see `finish`."""
    from wsi_mil.stages.pipeline import run_stage

    loaded = load_or_plan(config, overrides, dry_run)
    if loaded is not None:
        context.exit(finish(run_stage(loaded, stage), loaded.run, strict=strict))
