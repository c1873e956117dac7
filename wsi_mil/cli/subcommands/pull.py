"""wsi-mil pull URL RUN"""

from pathlib import Path

import click

from wsi_mil.cli.parameters import URL

POSITION = 180
SUMMARY = "copy a run from an object store"


@click.command(
    "pull",
    epilog="Example: wsi-mil pull s3://bucket/runs/mine runs/mine",
)
@click.argument("url", type=URL)
@click.argument("run", type=click.Path(path_type=Path))
def command(url: str, run: Path) -> None:
    """Copy a run from an object store into a folder. Every file is compared with its digest; a store is never
    left half copied."""
    from wsi_mil.interop.object_store import pull
    from wsi_mil.run.lock import locked

    with locked(run):
        found = pull(url, run)
    click.echo(f"{run}: {found.copied} copied, {found.same} were here")
