"""wsi-mil ls WHAT [PATTERN]"""

from pathlib import Path

import click

POSITION = 200
SUMMARY = "list encoders, aggregators, readers, or what a run holds"


@click.command(
    "ls",
    epilog="Example: wsi-mil ls encoders 'timm:vit*'",
)
@click.argument("what")
@click.argument("pattern", default="*")
def command(what: str, pattern: str) -> None:
    """List encoders, aggregators, readers or layouts whose name matches PATTERN; or what the run folder WHAT
    holds."""
    from fnmatch import fnmatch

    from wsi_mil.errors import ConfigError

    if what == "encoders":
        from wsi_mil.encoders import list_encoders
        from wsi_mil.encoders.published import PUBLISHED, catalog_table

        names = list_encoders(pattern)
        known = [name for name in names if name in PUBLISHED]
        if known:
            click.echo(catalog_table(known))
            names = [name for name in names if name not in PUBLISHED]
    elif what == "aggregators":
        from wsi_mil.aggregators import AGGREGATORS

        names = [name for name in AGGREGATORS if fnmatch(name, pattern)]
    elif what == "readers":
        from wsi_mil.slides.opening import READERS

        names = [name for name in READERS if fnmatch(name, pattern)]
    elif what == "layouts":
        from wsi_mil.interop.layouts import LAYOUTS

        names = [name for name in LAYOUTS if fnmatch(name, pattern)]
    elif Path(what).is_dir():
        from wsi_mil.run.folder import RunFolder

        run = RunFolder(Path(what))
        names = [
            f"{stage}: {run.ledger.summary(stage)}"
            for stage in sorted({row.stage for row in run.ledger.rows()})
        ]
    else:
        raise ConfigError(f"{what!r}: expected encoders, aggregators, readers, layouts, or a run folder")
    if names:
        click.echo("\n".join(names))
