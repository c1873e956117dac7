"""Kinds of arguments that click lacks, and options that several subcommands have."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from wsi_mil.io.remote import Location, as_location, is_url
from wsi_mil.trust import is_reference, trust


class PathOrUrl(click.ParamType):  # type: ignore[type-arg]
    """A path, or a URL left as it is written."""

    name = "path or URL"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Location:
        return as_location(value)


class Url(click.ParamType):  # type: ignore[type-arg]
    """A URL, with its protocol."""

    name = "URL"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not is_url(value):
            self.fail(f"{value!r} is not a URL: expected for example s3://bucket/runs/mine", param, ctx)
        return value


class TypedName(click.ParamType):  # type: ignore[type-arg]
    """A name that the user typed: `package.module:Name` is trusted."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if is_reference(value):
            trust(value)
        return value


class NameFrom(TypedName):
    """One of the names that `names()` returns, or `package.module:Name`, which is trusted.

    `names` is called only when a value or the subcommand's help needs it.
    """

    name = "name"

    def __init__(self, names: Callable[[], list[str]]) -> None:
        self.names = names

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return f"[{'|'.join(self.names())}]"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        known = self.names()
        if ":" not in value and value not in known:
            self.fail(f"{value!r} is not one of {', '.join(map(repr, known))}.", param, ctx)
        return super().convert(value, param, ctx)


PATH_OR_URL, URL, TYPED_NAME = PathOrUrl(), Url(), TypedName()


def trust_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """--trust MODULE[:NAME]: for subcommands that read a configuration, a model or a run folder."""
    text = "Import this code if a file names it; a file cannot by itself. Repeatable."
    return click.option(
        "--trust",
        multiple=True,
        metavar="MODULE[:NAME]",
        help=text,
        expose_value=False,
        callback=lambda context, option, names: trust(*names),
    )(function)


def overrides_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """[KEY=VALUE]... and --trust: settings that replace those of the configuration."""
    return click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")(trust_option(function))


def config_arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    """CONFIG [KEY=VALUE]... --dry-run"""
    function = click.option("--dry-run", is_flag=True, help="Say what would be done, do nothing.")(function)
    return click.argument("config", type=click.Path(path_type=Path))(overrides_argument(function))


def strict_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """--strict"""
    text = "Exit code 3 if any labelled slide has no tiles (otherwise: if more than a tenth of them)."
    return click.option("--strict", is_flag=True, help=text)(function)


def qupath_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--qupath-version and --qupath-bounds: short for the configuration's `qupath` block."""
    bounds = (
        "Does QuPath crop slides to their bounds? auto: where a slide has them; on: demand them; "
        "off: opened with --no-crop."
    )
    version = "Form of GeoJSON: 0.4 for QuPath 0.4 and later, 0.3 for 0.3.x."
    function = click.option("--qupath-bounds", type=click.Choice(["auto", "on", "off"]), help=bounds)(
        function
    )
    return click.option("--qupath-version", type=click.Choice(["0.3", "0.4"]), help=version)(function)


def qupath_config_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--qupath-version and --qupath-bounds, added to `overrides`: for subcommands that have a CONFIG."""

    @wraps(function)
    def with_overrides(
        *arguments: Any,
        overrides: tuple[str, ...],
        qupath_version: str | None,
        qupath_bounds: str | None,
        **others: Any,
    ) -> Any:
        given = (*overrides, *qupath_overrides(qupath_version, qupath_bounds))
        return function(*arguments, overrides=given, **others)

    return qupath_options(with_overrides)


def qupath_overrides(version: str | None, bounds: str | None) -> tuple[str, ...]:
    """Return the two options as KEY=VALUE.

    >>> qupath_overrides("0.3", None)
    ('qupath.version=0.3',)
    """
    given = {"qupath.version": version, "qupath.bounds": bounds}
    return tuple(f"{key}={value}" for key, value in given.items() if value is not None)
