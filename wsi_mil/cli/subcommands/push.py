"""wsi-mil push RUN URL"""

from pathlib import Path

import click

from wsi_mil.cli.parameters import URL

POSITION = 170
SUMMARY = "copy a run folder to an object store"


@click.command(
    "push",
    epilog="Example: wsi-mil push runs/mine s3://bucket/runs/mine",
)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("url", type=URL)
def command(run: Path, url: str) -> None:
    """Copy a run folder to an object store. Files that are there already are not copied again; an interrupted
    copy is continued."""
    from wsi_mil.interop.object_store import push
    from wsi_mil.run.folder import RunFolder
    from wsi_mil.run.integrity import is_run
    from wsi_mil.run.lock import locked

    if not is_run(run):
        raise click.UsageError(f"{run} is not a run folder: expected provenance.json in it")
    with locked(run):
        found = push(RunFolder(run), url)
    if found.incomplete:
        names = ", ".join(found.incomplete[:5])
        click.echo(f"{len(found.incomplete)} stores are incomplete and were not copied: {names}", err=True)
    click.echo(f"{url}: {found.copied} copied, {found.same} were there")
