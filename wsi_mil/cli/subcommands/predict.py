"""wsi-mil predict MODEL SLIDES --out DIR"""

from pathlib import Path

import click

from wsi_mil.cli.output import finish
from wsi_mil.cli.parameters import PATH_OR_URL, qupath_options, trust_option
from wsi_mil.io.remote import Location

POSITION = 190
SUMMARY = "unlabelled slides through a trained model"


@click.command(
    "predict",
    epilog="Example: wsi-mil predict runs/demo/models/focus_mil new_slides/ --out predictions",
)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("slides", type=PATH_OR_URL)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder for predictions, heatmaps, report."
)
@click.option("--mpp", type=float, help="µm/px for slides that do not state theirs.")
@click.option(
    "--weights", help="The encoder's checkpoint on this machine, if it is elsewhere than at training."
)
@click.option(
    "--error",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.1,
    show_default=True,
    help="Fraction of slides that the column `conformal` may get wrong; a smaller one leaves more undecided.",
)
@click.option("--device", default="auto", show_default=True)
@click.option("--workers", default=0, show_default=True, help="Processes for tiling; 0: one per core.")
@click.option("--not-learned", is_flag=True, help="Use a model whose training has learned nothing.")
@qupath_options
@trust_option
@click.pass_context
def command(
    context: click.Context,
    model: Path,
    slides: Location,
    out: Path,
    mpp: float | None,
    weights: str | None,
    error: float,
    device: str,
    workers: int,
    not_learned: bool,
    qupath_version: str | None,
    qupath_bounds: str | None,
) -> None:
    """Tile, extract, score and draw unlabelled SLIDES (a folder, one file, or a URL) with MODEL: the folder
    of a training, or of all trainings of a model, whose scores are averaged."""
    from wsi_mil.contracts.qupath import QuPathSpec
    from wsi_mil.execution import ExecutionSpec
    from wsi_mil.stages.predict import predict_slides

    given = {"version": qupath_version, "bounds": qupath_bounds}
    qupath = QuPathSpec.model_validate({key: value for key, value in given.items() if value is not None})
    execution = ExecutionSpec(device=device, workers=workers)
    summary = predict_slides(
        model,
        slides,
        out,
        mpp=mpp,
        weights=weights,
        execution=execution,
        qupath=qupath,
        not_learned=not_learned,
        error=error,
    )
    code = finish(summary, out)
    click.echo(f"predictions: {out / 'predictions.csv'}; report: {out / 'report.html'}")
    context.exit(code)
