"""wsi-mil push RUN URL"""

from pathlib import Path

import click

from wsi_mil.cli.arguments import URL


@click.command("push", epilog="Example: wsi-mil push runs/mine s3://bucket/runs/mine")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("url", type=URL)
def command(run: Path, url: str) -> None:
    """Copy a run folder to an object store. What is there already is left alone; a run that was cut short is gone on with."""
    from wsi_mil.interop.object_store import push
    from wsi_mil.run.folder import RunFolder
    from wsi_mil.run.integrity import is_run
    from wsi_mil.run.lock import locked

    if not is_run(run):
        raise click.UsageError(f"{run} is no run folder")
    with locked(run):
        found = push(RunFolder(run), url)
    if found.incomplete:
        click.echo(
            f"{len(found.incomplete)} stores are not whole and stay here: {', '.join(found.incomplete[:5])}",
            err=True,
        )
    click.echo(f"{url}: {found.copied} copied, {found.same} were there")
