"""What verbs share: arguments, and the words at the end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from wsi_mil.config import RunConfig, load_config
from wsi_mil.run.context import RunSummary
from wsi_mil.run.outcomes import problem_table
from wsi_mil.run.plan import CohortPlan, RunPlan, plan_run
from wsi_mil.stages.table import STAGES

EXIT_SOME_FAILED = 3


def config_arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    """CONFIG [key=value ...] --dry-run"""
    function = click.option("--dry-run", is_flag=True, help="Say what would be done, do nothing.")(function)
    function = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")(function)
    return click.argument("config", type=click.Path(path_type=Path))(function)


def qupath_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--qupath-version and --qupath-bounds: short for the configuration's `qupath` block."""
    bounds = "Does QuPath crop slides to their bounds? auto: where a slide has them; on: demand them; off: opened with --no-crop."
    function = click.option("--qupath-bounds", type=click.Choice(["auto", "on", "off"]), help=bounds)(
        function
    )
    version = "Form of GeoJSON: 0.4 for QuPath 0.4 and later, 0.3 for 0.3.x."
    return click.option("--qupath-version", type=click.Choice(["0.3", "0.4"]), help=version)(function)


def qupath_overrides(version: str | None, bounds: str | None) -> tuple[str, ...]:
    """Return the two options as KEY=VALUE."""
    given = {"qupath.version": version, "qupath.bounds": bounds}
    return tuple(f"{key}={value}" for key, value in given.items() if value is not None)


def load_or_plan(
    config: Path,
    overrides: tuple[str, ...],
    dry_run: bool,
    change: Callable[[RunConfig], RunConfig] = lambda config: config,
) -> RunConfig | None:
    """Return the configuration, changed by the verb's own options; for a dry run print the plan and return None."""
    loaded = change(load_config(config, overrides))
    if not dry_run:
        return loaded
    click.echo(plan_text(plan_run(loaded)))
    return None


def plan_text(plan: RunPlan) -> str:
    """Return what a run would start from, one line per fact."""
    config, work = plan.config, plan.work
    lines = [("run folder", f"{config.run}" + (" (exists)" if plan.exists else ""))]
    if isinstance(work, CohortPlan):
        lines.append(("synth", f"{work.slides} synthetic slides into {work.folder}"))
        lines += [(stage, "would run") for stage in STAGES]
        return "\n".join(f"{name:<12} {text}" for name, text in lines)
    asked = f"{config.tiles.size_px} px at {config.tiles.mpp:g} µm/px"
    trained = ", ".join(work.trained) or "none"
    lines += [
        ("slides", f"{work.slides} below {work.folder}"),
        ("tile", f"{work.tiled} have tiles; asked: {asked}"),
        ("extract", f"{work.extracted} have {config.encoder.key} features"),
        ("train", f"models {', '.join(config.models)}; trained before: {trained}"),
    ]
    if config.execution.cluster is not None:
        lines.append(("cluster", config.execution.cluster.describe()))
    text = "\n".join(f"{name:<12} {value}" for name, value in lines)
    return f"{text}\nconfiguration digest {plan.config_digest}"


def finish(summary: RunSummary, where: Path, quiet: bool = False) -> int:
    """Print the table of problems, and unless `quiet` whether there was nothing to do; return the exit code."""
    if summary.problems:
        click.echo(problem_table(summary.problems), err=True)
    if summary.failed:
        slides = sorted({row.slide_id for row in summary.failed})
        click.echo(
            f"{len(slides)} slide{'s' if len(slides) != 1 else ''} failed; see {where / 'outcomes.csv'}",
            err=True,
        )
        return EXIT_SOME_FAILED
    if not quiet and not any(summary.work.values()):
        click.echo("nothing to do: everything is up to date")
    return 0
