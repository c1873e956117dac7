"""The command line: one file per subcommand, loaded only when its subcommand is called."""

from wsi_mil.cli.main import main

__all__ = ["main"]
