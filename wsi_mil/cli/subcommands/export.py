"""wsi-mil export CONFIG OUT --layout LAYOUT"""

from pathlib import Path

import click

POSITION = 160
SUMMARY = "features for TRIDENT, CLAM, torchmil or AnnData"
LAYOUTS = ["trident", "clam", "torchmil", "h5ad", "zarr"]


@click.command(
    "export",
    epilog="Example: wsi-mil export runs/demo exported --layout trident",
)
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--layout", required=True, type=click.Choice(LAYOUTS), help="h5ad and zarr are AnnData.")
def command(config: Path, out: Path, layout: str) -> None:
    """Write the features of a run (CONFIG: its folder or YAML file) below OUT, for other tools.

    trident: one h5 per slide with features, coords and their attributes. clam: h5_files, pt_files, patches.
    torchmil: folders of npy files, lesion labels included where outlines are known. h5ad, zarr: AnnData per
    slide with scores.
    """
    from wsi_mil.config import load_config
    from wsi_mil.interop.exports import export_features

    outcomes = export_features(load_config(config), out, layout)
    tiles = sum(outcome.counts["tiles"] for outcome in outcomes)
    click.echo(f"{len(outcomes)} slides, {tiles:,} tiles as {layout} in {out}")
