"""wsi-mil poison RUN [key=value ...]"""

from pathlib import Path

import click

from wsi_mil.cli.exit_codes import EXIT_SOME_FAILED
from wsi_mil.cli.parameters import TYPED_NAME, NameFrom, config_arguments

POSITION = 140
SUMMARY = "train with a signal that has nothing to do with tumour: who follows it?"


def kinds() -> list[str]:
    """Return the names of the kinds of poison."""
    from wsi_mil.robustness.poison.kinds import POISONS

    return list(POISONS)


@click.command(
    "poison",
    epilog="Example: wsi-mil poison runs/demo --kind noise --coverage 0.15 split.kind=kfold",
)
@config_arguments
@click.option(
    "--kind",
    type=NameFrom(kinds),
    help="The signal that is painted on the slides; default: green noise.",
)
@click.option(
    "--coverage", type=float, help="Fraction of a slide's tiles that are painted on; 1: the whole slide."
)
@click.option("--strength", type=float, help="From just above 0 to 1.")
@click.option(
    "--placement",
    type=click.Choice(["off_tumour", "anywhere"]),
    help="off_tumour (default): no pixel of an outlined lesion changes.",
)
@click.option(
    "--direction",
    type=click.Choice(["normal", "tumour", "both"]),
    help="Class that carries the poison in training; the other class carries it in the test. Default: both, "
    "each with a verdict of its own.",
)
@click.option(
    "--aggregator",
    type=TYPED_NAME,
    multiple=True,
    metavar="NAME",
    help="Aggregators to train instead of the configuration's models: a name, a pattern, all, or "
    "package.module:Class. Repeatable.",
)
@click.option(
    "--no-control",
    is_flag=True,
    help="Leave out the trainings with every slide poisoned, which take a quarter of the time.",
)
@click.pass_context
def command(
    context: click.Context,
    config: Path,
    overrides: tuple[str, ...],
    dry_run: bool,
    kind: str | None,
    coverage: float | None,
    strength: float | None,
    placement: str | None,
    direction: str | None,
    aggregator: tuple[str, ...],
    no_control: bool,
) -> None:
    """Find out which models of CONFIG (a run folder or a YAML file) follow a painted signal instead of
    tumour.

    Every model is trained on clean slides, with the poison on normal slides, and with the poison on tumour
    slides. In the test the poison lies on the other class. The files of slides do not change: the poison is
    painted on the pixels that are read, and tiles without poison keep their features. Every fold, repeat and
    seed of `split` is a training; a single training has no interval.
    """
    from wsi_mil.config import load_config
    from wsi_mil.config.schema import with_aggregators
    from wsi_mil.experiments.poison import run_poison
    from wsi_mil.experiments.poison_store import poison_folder
    from wsi_mil.experiments.poison_table import verdict_rows
    from wsi_mil.robustness.poison.conditions import training_arms
    from wsi_mil.run.folder import RunFolder
    from wsi_mil.run.outcomes import problem_table

    given = {"kind": kind, "coverage": coverage, "strength": strength, "placement": placement}
    options = tuple(f"poison.{key}={value}" for key, value in given.items() if value is not None)
    if direction is not None:
        chosen = "normal, tumour" if direction == "both" else direction
        options += (f"poison.directions=[{chosen}]",)
    loaded = with_aggregators(load_config(config, (*overrides, *options)), aggregator)
    arms = training_arms(loaded.poison.directions, control=not no_control)
    if dry_run:
        spec, models = loaded.poison, ", ".join(loaded.models)
        what = f"{spec.kind} on {spec.share:.0%} of the tiles, strength {spec.strength:g}, {spec.placement}"
        click.echo(f"poison       {spec.title}: {what}")
        click.echo(f"into         {poison_folder(RunFolder(loaded.run), spec)}")
        click.echo(f"trainings    {models}; arms {', '.join(arms)}; every fold, repeat and seed of the split")
        return
    done = run_poison(loaded, arms)
    for row in verdict_rows(done.study):
        click.echo(row)
    if not done.trained:
        click.echo("nothing to do: everything is up to date")
    report = loaded.run / "report.html"
    shown = f"; report: {report}" if report.exists() else ""
    click.echo(f"table, figure, places for QuPath: {done.folder}{shown}")
    lost = [row for row in done.problems if row.status == "failed"]
    if lost:
        click.echo(problem_table(lost), err=True)
        click.echo(f"{len(lost)} slides could not be poisoned; see {loaded.run / 'outcomes.csv'}", err=True)
    context.exit(EXIT_SOME_FAILED if lost else 0)
