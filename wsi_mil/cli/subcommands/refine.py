"""wsi-mil refine RUN --model NAME"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wsi_mil.cli.output import finish
from wsi_mil.cli.parameters import overrides_argument

if TYPE_CHECKING:
    from wsi_mil.refine.evaluation import RefinementResult

POSITION = 100
SUMMARY = "pixel-level maps inside suspicious tiles"


@click.command(
    "refine",
    epilog="Example: wsi-mil refine runs/demo --model focus_mil, "
    "then open runs/demo/heatmaps/focus_mil in QuPath",
)
@click.argument("run", type=click.Path(path_type=Path))
@overrides_argument
@click.option("--model", required=True, metavar="NAME", help="Which of the run's models to refine.")
@click.option(
    "--polygons",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Outlines of training slides (QuPath GeoJSON, ASAP XML) to learn from; a few are enough.",
)
@click.pass_context
def command(
    context: click.Context, run: Path, overrides: tuple[str, ...], model: str, polygons: Path | None
) -> None:
    """From tiles to pixels: draw pixel-level tumour maps of the suspicious tiles of RUN.

    RUN is a run folder or its configuration. A small network learns from tiles that the model is sure of. The
    maps go into the heatmaps, finer contours into the GeoJSON. Where outlines of held-out slides are known,
    Dice and FROC before and after are printed.
    """
    from wsi_mil.config import load_config
    from wsi_mil.stages.pipeline import refine_run

    if polygons is not None:
        overrides += (f"refine.polygons={polygons}",)
    config = load_config(run, overrides)
    summary, found = refine_run(config, model)
    code = finish(summary, config.run)
    if found is not None:
        click.echo(table(found))
    click.echo(f"heatmaps: {config.run / 'heatmaps'}/{model}")
    context.exit(code)


def table(found: "RefinementResult") -> str:
    """Return Dice and FROC before and after refinement as aligned text."""
    from wsi_mil.io.tables import text_table

    heading = f"{found.model}, {found.test_slides} held-out slides"
    rows = [[heading, "tiles", "refined", "difference"]]
    for title, row in found.titled():
        interval = "" if math.isnan(row.low) else f" ({row.low:+.3f} to {row.high:+.3f})"
        rows.append([title, _shown(row.second), _shown(row.first), _shown(row.difference, "+") + interval])
    return text_table(rows, align="<>><", least=(43, 5, 7, 0))


def _shown(value: float, sign: str = "") -> str:
    return "-" if math.isnan(value) else f"{value:{sign}.3f}"
