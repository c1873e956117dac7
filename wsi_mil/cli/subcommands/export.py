"""wsi-mil export CONFIG OUT --layout LAYOUT"""

from pathlib import Path

import click

from wsi_mil.cli.output import finish
from wsi_mil.cli.parameters import NameFrom, trust_option

POSITION = 160
SUMMARY = "features for TRIDENT, CLAM, torchmil or AnnData"


def _names() -> list[str]:
    from wsi_mil.interop.layouts import export_layout_names

    return export_layout_names()


@click.command(
    "export",
    epilog="Example: wsi-mil export runs/demo exported --layout trident",
)
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--layout", required=True, type=NameFrom(_names), help="h5ad and zarr are AnnData.")
@trust_option
@click.pass_context
def command(context: click.Context, config: Path, out: Path, layout: str) -> None:
    """Write the features of a run (CONFIG: its folder or YAML file) below OUT, for other tools.

    trident: one h5 per slide with features, coords and their attributes. clam: h5_files, pt_files, patches.
    torchmil: folders of npy files, lesion labels included where outlines are known. h5ad, zarr: AnnData per
    slide with scores.
    """
    from wsi_mil.config import load_config
    from wsi_mil.interop.exports import export_features
    from wsi_mil.run.context import RunSummary

    outcomes = export_features(load_config(config), out, layout)
    problems = [outcome for outcome in outcomes if outcome.status == "failed"]
    code = finish(RunSummary({"export": len(outcomes)}, problems), out)
    tiles = sum(outcome.counts.get("tiles", 0) for outcome in outcomes)
    click.echo(f"{len(outcomes) - len(problems)} slides, {tiles:,} tiles as {layout} in {out}")
    context.exit(code)
