"""The subcommands: one module each. A module that is added to this folder is a new subcommand; nothing else
changes.

A module has the name of its subcommand; those that are words of Python end with an underscore (`import_`). At
its top level, in a line of its own each, it has

    POSITION = 15                      its place in `wsi-mil --help`
    SUMMARY = "count slides"           its line there
    command = ...                      a click command

POSITION and SUMMARY must be literals: the list reads them from the text of the file, because importing all
modules would make `wsi-mil --help` slow. For the same reason this file does without pathlib and pkgutil.
"""

import os
import re
from ast import literal_eval
from importlib import import_module
from typing import NamedTuple

import click

DECLARATION = re.compile(r"^(POSITION|SUMMARY) = (.+)$", re.MULTILINE)


class Listed(NamedTuple):
    """One line of `wsi-mil --help`; lines are sorted by position, then by name."""

    position: int
    name: str
    summary: str


def _files() -> dict[str, str]:
    """Return subcommand -> file of its module."""
    return {
        file.removesuffix(".py").removesuffix("_"): os.path.join(folder, file)
        for folder in __path__
        for file in os.listdir(folder)
        if file.endswith(".py") and not file.startswith("_")
    }


def subcommand_names() -> list[str]:
    """Return the names of all subcommands, in alphabetical order. Imports none of them.

    >>> subcommand_names()[:3]
    ['audit', 'check', 'demo']
    """
    return sorted(_files())


def load_subcommand(name: str) -> click.Command:
    """Return the click command of a subcommand, whose module is imported.

    >>> load_subcommand("ls").name
    'ls'
    """
    module = os.path.basename(_files()[name]).removesuffix(".py")
    found = import_module(f"{__name__}.{module}").command
    assert isinstance(found, click.Command)
    return found


def list_subcommands() -> list[Listed]:
    """Return the lines of `wsi-mil --help`, in order. Imports no subcommand.

    >>> list_subcommands()[0]
    Listed(position=10, name='run', summary='the whole pipeline, from slides to report')
    """
    return sorted(_declared(name, file) for name, file in _files().items())


def _declared(name: str, file: str) -> Listed:
    with open(file, encoding="utf-8") as text:
        found = dict(DECLARATION.findall(text.read()))
    return Listed(literal_eval(found["POSITION"]), name, literal_eval(found["SUMMARY"]))
