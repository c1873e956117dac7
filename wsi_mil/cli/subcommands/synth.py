"""wsi-mil synth FOLDER"""

from pathlib import Path

import click

POSITION = 30
SUMMARY = "write a synthetic cohort with exact truth"
ODD = ("no_mpp", "flat", "anisotropic", "empty", "pen", "truncated")


@click.command(
    "synth",
    epilog="Example: wsi-mil synth cohort --pairs 10 --seed 3 --odd no_mpp --odd truncated",
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--pairs", default=20, show_default=True, help="Tumour slides, and as many normal ones.")
@click.option("--centres", default=3, show_default=True, help="Centres with their own stain and scanner.")
@click.option("--seed", default=7, show_default=True)
@click.option(
    "--odd", multiple=True, type=click.Choice(ODD), help="Also a slide with this defect (repeatable)."
)
@click.option("--workers", default=0, show_default=True, help="Processes; 0: one per core.")
def command(folder: Path, pairs: int, centres: int, seed: int, odd: tuple[str, ...], workers: int) -> None:
    """Write synthetic H&E slides (tiled JPEG pyramids), labels.csv, and lesion outlines as ASAP XML and
    GeoJSON."""
    from wsi_mil.config.loading import checked
    from wsi_mil.execution import ExecutionSpec
    from wsi_mil.synthetic import SynthSpec, write_cohort

    spec = checked(SynthSpec, {"pairs": pairs, "centres": centres, "seed": seed, "odd": odd})
    labels = write_cohort(folder, spec, ExecutionSpec(workers=workers))
    click.echo(f"{2 * pairs + len(odd)} slides in {folder / 'slides'}, labels in {labels}")
