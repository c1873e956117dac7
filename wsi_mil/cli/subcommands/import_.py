"""wsi-mil import RUN FEATURES --layout trident|clam"""

from pathlib import Path

import click

from wsi_mil.cli.output import finish
from wsi_mil.cli.parameters import NameFrom

POSITION = 150
SUMMARY = "features that TRIDENT or CLAM made, into a run"


def _names() -> list[str]:
    from wsi_mil.interop.layouts import import_layout_names

    return import_layout_names()


@click.command(
    "import",
    epilog="Example: wsi-mil import runs/uni trident/20x_256px_0px_overlap/features_uni_v1 --layout trident "
    "--tile-mpp 0.5 --labels labels.csv, then wsi-mil run runs/uni",
)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("features", type=click.Path(path_type=Path))
@click.option("--layout", required=True, type=NameFrom(_names), help="The tool that made the features.")
@click.option("--labels", type=click.Path(path_type=Path), help="CSV with the columns slide,label.")
@click.option(
    "--annotations", type=click.Path(path_type=Path), help="Folder of lesion outlines, for evaluation."
)
@click.option(
    "--slides",
    type=click.Path(path_type=Path),
    help="The slides: their size and scale are compared with the features, and heatmaps show them.",
)
@click.option("--encoder", help="Name of the encoder, if the files do not state it.")
@click.option(
    "--tile-px", type=int, help="Side of a tile in the encoder's pixels, if the files do not state it."
)
@click.option("--tile-level0-px", type=float, help="The same side in level-0 pixels.")
@click.option(
    "--tile-mpp",
    type=float,
    help="µm per tile pixel, which these layouts do not state: 0.5 for what is called 20x.",
)
@click.option("--overlap-px", type=int, help="Overlap of neighbouring tiles in the encoder's pixels.")
@click.pass_context
def command(
    context: click.Context,
    run: Path,
    features: Path,
    layout: str,
    labels: Path | None,
    annotations: Path | None,
    slides: Path | None,
    encoder: str | None,
    tile_px: int | None,
    tile_level0_px: float | None,
    tile_mpp: float | None,
    overlap_px: int | None,
) -> None:
    """Import features that another tool made (folder FEATURES) into the run folder RUN.

    What the files do not state must be given; nothing is guessed. An option that contradicts the files or the
    slides is refused.
    """
    from wsi_mil.interop.foreign import StatedTiles
    from wsi_mil.interop.imports import ImportSource, import_features

    stated = StatedTiles(tile_px, tile_level0_px, tile_mpp, overlap_px)
    source = ImportSource(features, layout, labels, annotations, slides, encoder, stated)
    summary = import_features(run, source)
    code = finish(summary, run)
    click.echo(f"imported into {run}: next, wsi-mil run {run}" + ("" if labels else " slides.labels=PATH"))
    context.exit(code)
