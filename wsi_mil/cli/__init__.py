"""The command line: one file per verb, loaded only when its verb is called."""

from wsi_mil.cli.main import main

__all__ = ["main"]
