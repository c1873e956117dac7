"""The command line of the Camelyon studies."""

import argparse
from collections.abc import Sequence
from pathlib import Path


def read_arguments(description: str | None, seeds: Sequence[int], exclude_help: str) -> argparse.Namespace:
    """Return the parsed arguments: `config`, `overrides`, `data`, `seeds`, `exclude`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", help="key.sub=value")
    parser.add_argument("--data", type=Path, required=True, help="the folder of the download")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    parser.add_argument("--exclude", action="append", metavar="SLIDE", help=exclude_help)
    return parser.parse_intermixed_args()
