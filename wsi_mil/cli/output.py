"""What subcommands print: the plan of a run, its problems, and whether there was something to do."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wsi_mil.cli.exit_codes import EXIT_SOME_FAILED

if TYPE_CHECKING:
    from wsi_mil.config import RunConfig
    from wsi_mil.run.context import RunSummary
    from wsi_mil.run.plan import RunPlan


def load_or_plan(
    config: Path,
    overrides: tuple[str, ...],
    dry_run: bool,
    change: "Callable[[RunConfig], RunConfig]" = lambda config: config,
) -> "RunConfig | None":
    """Return the configuration, after `change`; for a dry run print the plan instead and return None."""
    from wsi_mil.config import load_config
    from wsi_mil.run.plan import plan_run

    loaded = change(load_config(config, overrides))
    if not dry_run:
        return loaded
    click.echo(plan_text(plan_run(loaded)))
    return None


def plan_text(plan: "RunPlan") -> str:
    """Return what a run would start from, one line per fact."""
    from wsi_mil.io.tables import text_table
    from wsi_mil.run.plan import CohortPlan
    from wsi_mil.stages.table import STAGES

    config, work = plan.config, plan.work
    lines = [("run folder", f"{config.run}" + (" (exists)" if plan.exists else ""))]
    if isinstance(work, CohortPlan):
        lines.append(("synth", f"{work.slides} synthetic slides into {work.folder}"))
        lines += [(stage, "would run") for stage in STAGES]
        return text_table(lines, least=(12, 0), gap=1)
    asked = f"{config.tiles.size_px} px at {config.tiles.mpp:g} µm/px"
    trained = ", ".join(work.trained) or "none"
    lines += [
        ("slides", f"{work.slides} below {work.folder}"),
        ("tile", f"{work.tiled} have tiles; asked: {asked}"),
        ("extract", f"{work.extracted} have {config.encoder.key} features{_computed(config)}"),
        ("train", f"models {', '.join(config.models)}; trained before: {trained}"),
    ]
    if config.execution.cluster is not None:
        lines.append(("cluster", config.execution.cluster.describe()))
    return f"{text_table(lines, least=(12, 0), gap=1)}\nconfiguration digest {plan.config_digest}"


def _computed(config: "RunConfig") -> str:
    """Return precision and backend of the run's network; "" without one."""
    if not config.encoder.runs_a_network or config.imported:
        return ""
    return "".join(f"; {key} {value}" for key, value in config.encoder.computed.items())


MOST_EMPTY = 0.1
"""Without --strict, a larger fraction of labelled slides without tiles gives EXIT_SOME_FAILED."""


def finish(summary: "RunSummary", folder: Path, quiet: bool = False, strict: bool = False) -> int:
    """Print the slides that failed or were skipped, and unless `quiet` whether there was nothing to do.

    folder: that of the run, which holds outcomes.csv. strict: one labelled slide without tiles gives exit
    code 3; otherwise more than a tenth of them do. Returns the exit code.
    """
    from wsi_mil.run.outcomes import problem_table

    if summary.problems:
        click.echo(problem_table(summary.problems), err=True)
    too_many = summary.empty_labelled > (0 if strict else MOST_EMPTY * summary.labelled)
    if summary.empty_labelled:
        click.echo(
            f"{summary.empty_labelled} of {summary.labelled} labelled slides have no tiles: look at "
            f"{folder / 'previews'}, then set tissue.method or draw the tissue in QuPath",
            err=True,
        )
    if summary.failed:
        count = len({row.slide_id for row in summary.failed})
        slides = f"{count} slide{'s' if count != 1 else ''}"
        click.echo(f"{slides} failed; see {folder / 'outcomes.csv'}", err=True)
        return EXIT_SOME_FAILED
    if too_many:
        return EXIT_SOME_FAILED
    if not quiet and not any(summary.work.values()):
        click.echo("nothing to do: everything is up to date")
    return 0
