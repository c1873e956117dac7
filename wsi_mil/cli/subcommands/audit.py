"""wsi-mil audit --aggregator NAME|all, wsi-mil audit RUN --model NAME, wsi-mil audit RUN --sites"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from wsi_mil.cli.exit_codes import EXIT_VERDICT
from wsi_mil.cli.parameters import TYPED_NAME, overrides_argument
from wsi_mil.cli.site_audit import audit_sites

if TYPE_CHECKING:
    from wsi_mil.robustness.audit.model_audit import ModelAudit

POSITION = 130
SUMMARY = "does a method, a trained model or a cohort show tumour or a shortcut?"


@click.command(
    "audit",
    epilog="Example: wsi-mil audit --aggregator all --out audits; "
    "wsi-mil audit runs/demo --model focus_mil --require pass; wsi-mil audit runs/demo --sites",
)
@click.argument("run", required=False, type=click.Path(path_type=Path))
@overrides_argument
@click.option(
    "--aggregator",
    type=TYPED_NAME,
    multiple=True,
    metavar="NAME",
    help="Test a method on bags with a known shortcut: a name, a pattern, all, or package.module:Class. "
    "Repeatable.",
)
@click.option(
    "--model",
    help="The model of RUN to audit on its own held-out slides; not needed if RUN has only one.",
)
@click.option(
    "--sites",
    is_flag=True,
    help="Audit the centres of RUN: label, features, and slide AUC by centre (with --model: of that model).",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for audit.json and its page or picture; default for a model: RUN/audit/<model>, for sites: "
    "RUN/sites.",
)
@click.option(
    "--seeds",
    default=3,
    show_default=True,
    type=click.IntRange(min=1),
    help="How often each bag test is trained. A training that does not learn its own bags is not counted.",
)
@click.option(
    "--slides",
    default=8,
    show_default=True,
    type=click.IntRange(min=0),
    help="How many slides of each class get their pixels repainted; 0: none.",
)
@click.option("--workers", default=0, show_default=True, help="Processes for the bag tests; 0: one per core.")
@click.option(
    "--require",
    type=click.Choice(["pass"]),
    help="Exit with code 4 unless every verdict is pass: for CI.",
)
@click.pass_context
def command(
    context: click.Context,
    run: Path | None,
    overrides: tuple[str, ...],
    aggregator: tuple[str, ...],
    model: str | None,
    sites: bool,
    out: Path | None,
    seeds: int,
    slides: int,
    workers: int,
    require: str | None,
) -> None:
    """Does a method, or a trained model, see tumour or a shortcut?

    With --aggregator: train a method on generated bags with a known shortcut; no slides are needed. With RUN:
    change slides that a model was not trained on and score them again: tumour removed, only the highest tiles
    kept, normal tiles swapped, stained or repainted. The model is not trained again.

    With RUN --sites: how the label is tied to the centre, how well features name the centre, and the slide
    AUC of each centre. It needs a column with the centre of each slide in the labels.
    """
    if (run is None) == (not aggregator):
        raise click.UsageError("Give either RUN (and --model) or --aggregator, not both.", context)
    if sites:
        if run is None:
            raise click.UsageError("--sites audits a run: give RUN, not --aggregator.", context)
        verdicts = [audit_sites(run, overrides, model, out)]
    elif run is None:
        verdicts = _audit_methods(aggregator, out, seeds, workers)
    else:
        verdicts = [_audit_model(run, overrides, model, slides, out)]
    failed = [verdict for verdict in verdicts if verdict != "pass"]
    context.exit(EXIT_VERDICT if require and failed else 0)


def _audit_methods(patterns: tuple[str, ...], out: Path | None, seeds: int, workers: int) -> list[str]:
    from wsi_mil.aggregators.names import matching_aggregators
    from wsi_mil.execution import ExecutionSpec
    from wsi_mil.experiments.method_audit import run_method_audit
    from wsi_mil.io.tables import text_table

    audit = run_method_audit(matching_aggregators(patterns), out, seeds, ExecutionSpec(workers=workers))
    rows = audit.aggregators
    for row in rows:
        lines = [[row.aggregator, "mean", "worst", "best", "learned", row.verdict]]
        for test in row.tests:
            values = (_shown(value) for value in (test.test_auc.mean, test.worst, test.best))
            name = test.test if test.held_against else f"{test.test} *"
            learned = f"{test.learned} of {len(test.results)}"
            lines.append([name, *values, learned, SHORT[test.verdict]])
        click.echo(text_table(lines, align="<>>>><", least=(28, 6, 6, 6, 8, 11)))
    click.echo(
        "AUC on test bags whose shortcut goes with the opposite label "
        "(add_normal, remove_positive: fraction of bags called rightly after the change), over "
        f"{len(audit.seeds)} trainings."
    )
    click.echo(
        "learned: trainings with an AUC of at least 0.9 on their own bags; the others are not counted."
    )
    click.echo("*: reported, not part of the verdict: no rule of pooling can exclude this shortcut.")
    if out is not None:
        click.echo(f"page: {out / 'audit.html'}")
    return [row.verdict for row in rows]


SHORT = {"pass": "pass", "fail": "FAIL", "not learned": "not learned"}


def _audit_model(
    run: Path, overrides: tuple[str, ...], model: str | None, slides: int, out: Path | None
) -> str:
    from wsi_mil.config import load_config
    from wsi_mil.errors import ConfigError
    from wsi_mil.experiments.model_audit import run_audit
    from wsi_mil.run.folder import RunFolder
    from wsi_mil.stages.pipeline import run_stage

    config = load_config(run, overrides)
    first = next(iter(config.models))
    if model is None and len(config.models) > 1:
        raise ConfigError(
            f"{run} has {len(config.models)} models: name one with --model, for example {first}"
        )
    found = run_audit(config, model or first, slides, out)
    if out is None:
        run_stage(config, "report")
    _print_model(found)
    folder = out or RunFolder(config.run).audit(found.model)
    report = "" if out else f"; report: {config.run / 'report.html'}"
    click.echo(f"{folder}/audit.json{report}")
    return found.verdict


def _print_model(found: "ModelAudit") -> None:
    from wsi_mil.io.tables import text_table

    called = f"{found.rightly_called} of {found.slides} test slides"
    click.echo(f"{found.model}: {called} are called rightly; the checks use these")
    rows = []
    for check in found.checks:
        question, point = check.question, check.decisive
        did = ["-", "", "", ""] if point is None else [_shown(point.share), "of", str(point.n), "slides"]
        what = "flip" if question.expected == "flips" else "keep their call"
        where = f"{question.axis} {question.held_at:g}"
        rows.append([question.name, *did, f"{what} at {where}: {check.verdict}"])
    agrees = found.agreement
    auc = _shown(agrees.tile_auc.value) if agrees.tile_auc is not None else "-"
    mean = f"tile AUC against outlines, mean over {agrees.n} slides"
    click.echo(text_table(rows, align="<<<><<", least=(14, 0, 0, 3, 0), gap=1))
    click.echo(text_table([["agreement", f"{auc} {mean}: {agrees.verdict}"]], least=(14, 0), gap=1))
    for slide_id, reason in found.skipped.items():
        click.echo(f"pixels of slide {slide_id} were not changed: {reason}")
    click.echo(f"verdict: {found.verdict}" + (f" ({', '.join(found.failed)})" if found.failed else ""))


def _shown(value: float) -> str:
    return "    -" if value != value else f"{value:.3f}"
