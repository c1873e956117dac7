"""wsi-mil refine RUN --model NAME"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wsi_mil.cli.common import finish

if TYPE_CHECKING:
    from wsi_mil.refine.evaluation import RefinementResult


@click.command(
    "refine",
    epilog="Example: wsi-mil refine runs/demo --model focus_mil, then open runs/demo/heatmaps/focus_mil in QuPath",
)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--model", required=True, metavar="NAME", help="Which of the run's models is to be refined.")
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
    """From tiles to pixels: train a small network on tiles of RUN (a run folder or its configuration) that the model is sure of, and write
    pixel-level maps of suspicious tiles into the heatmaps and finer contours into the GeoJSON. Ends with Dice and FROC before and after, where
    outlines of held-out slides are known.
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
    click.echo(f"heatmaps: {config.run / 'heatmaps' / model}")
    context.exit(code)


def table(found: "RefinementResult") -> str:
    """Return Dice and FROC before and after as aligned text."""
    heading = f"{found.model}, {found.test_slides} held-out slides"
    lines = [heading.ljust(44) + " tiles  refined  difference"]
    for title, row in found.titled():
        interval = "" if math.isnan(row.low) else f" ({row.low:+.3f} to {row.high:+.3f})"
        values = f"{_shown(row.second):>5}  {_shown(row.first):>7}  {_shown(row.difference, '+'):>6}"
        lines.append(f"{title:<44} {values}{interval}")
    return "\n".join(lines)


def _shown(value: float, sign: str = "") -> str:
    return "-" if math.isnan(value) else f"{value:{sign}.3f}"
