"""Kinds of arguments that click lacks."""

import click

from wsi_mil.io.remote import Location, as_location, is_url


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
            self.fail(f"{value!r} is no URL: expected for example s3://bucket/runs/mine", param, ctx)
        return value


PATH_OR_URL, URL = PathOrUrl(), Url()
