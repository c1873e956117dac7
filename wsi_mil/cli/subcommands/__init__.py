"""The subcommands: one module each. A module that is added to this folder is a new subcommand; nothing else changes.

A module has the name of its subcommand; those that are words of Python end with an underscore (`import_`). At its top
level, in a line of its own each, it has

    POSITION = 15                      its place in `wsi-mil --help`
    SUMMARY = "count slides"           its line there
    command = ...                      a click command

POSITION and SUMMARY must be literals: the list reads them from the text of the file, because importing all modules
would make `wsi-mil --help` slow.
"""

import re
from ast import literal_eval
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import NamedTuple

import click

DECLARATION = re.compile(r"^(POSITION|SUMMARY) = (.+)$", re.MULTILINE)


class Listed(NamedTuple):
    """One line of `wsi-mil --help`; lines are sorted by position, then by name."""

    position: int
    name: str
    summary: str


def _modules() -> dict[str, str]:
    """Return subcommand -> name of its module."""
    return {module.name.removesuffix("_"): module.name for module in iter_modules(__path__)}


def subcommand_names() -> list[str]:
    """Return the names of all subcommands, in alphabetical order. Imports none of them.

    >>> subcommand_names()[:3]
    ['audit', 'check', 'demo']
    """
    return sorted(_modules())


def load_subcommand(name: str) -> click.Command:
    """Return the click command of a subcommand, whose module is imported.

    >>> load_subcommand("ls").name
    'ls'
    """
    found = import_module(f"{__name__}.{_modules()[name]}").command
    assert isinstance(found, click.Command)
    return found


def list_subcommands() -> list[Listed]:
    """Return the lines of `wsi-mil --help`, in order. Imports no subcommand.

    >>> list_subcommands()[0]
    Listed(position=10, name='run', summary='the whole pipeline, from slides to report')
    """
    return sorted(_declared(path) for folder in __path__ for path in Path(folder).glob("[!_]*.py"))


def _declared(path: Path) -> Listed:
    found = dict(DECLARATION.findall(path.read_text(encoding="utf-8")))
    return Listed(
        literal_eval(found["POSITION"]), path.stem.removesuffix("_"), literal_eval(found["SUMMARY"])
    )
