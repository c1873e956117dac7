"""Templates, each in the folder of the module that uses it, and the filters of all templates."""

import base64
import math
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(__file__).parent


def fill(module_file: str, **values: Any) -> str:
    """Return the HTML of the template of a module: section.html for the `__file__` of section.py.

    Values are escaped. A name that the template uses and `values` lacks raises UndefinedError.
    """
    path = Path(module_file)
    return _environment(path.parent).get_template(f"{path.stem}.html").render(**values)


@lru_cache(maxsize=8)
def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader([folder, HERE]), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {
        "number": number,
        "interval": interval,
        "interval01": interval_01,
        "jpeg": lambda data: data_uri(data, "jpeg"),
        "png": lambda data: data_uri(data, "png"),
        "url": lambda path: quote(str(path)),
    }
    return environment


def image_uri(path: Path, width_px: int) -> str:
    """Return a picture, at most `width_px` wide, as the data URI of a JPEG; an empty text if it cannot be
    read.
    """
    import cv2

    from wsi_mil.errors import DataError
    from wsi_mil.io.images import encode_jpeg, read_image

    try:
        image = read_image(path)
    except DataError:
        return ""
    scale = min(width_px / image.shape[1], 1.0)
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return data_uri(encode_jpeg(cv2.resize(image, size, interpolation=cv2.INTER_AREA), 82), "jpeg")


def data_uri(data: bytes, kind: str) -> str:
    """Return a picture as a data URI; kind: jpeg or png.

    >>> data_uri(b"abc", "png")
    'data:image/png;base64,YWJj'
    """
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def number(value: float | None) -> str:
    """Return three decimals, or a dash for an undefined value.

    >>> number(0.12345), number(None), number(float("nan"))
    ('0.123', '–', '–')
    """
    return "–" if value is None or value != value else f"{value:.3f}"


class Bounds(Protocol):
    """An interval; both bounds are NaN where it is unknown."""

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...


def interval(value: Bounds | None) -> str:
    """Return "low to high", or an empty text without an interval.

    >>> from wsi_mil.contracts.metric import Interval
    >>> interval(Interval(0.1, 0.25, "Wilson")), interval(None)
    ('0.100 to 0.250', '')
    >>> interval(Interval(0.84, 1.0, "one-sided exact bound", one_sided=True))
    'at least 0.840'
    """
    if value is None or math.isnan(value.low):
        return ""
    if getattr(value, "one_sided", False):
        return f"at least {value.low:.3f}" if value.high == 1 else f"at most {value.high:.3f}"
    return f"{value.low:.3f} to {value.high:.3f}"


def interval_01(value: Bounds | None) -> str:
    """Return `interval`, cut at 0 and 1: a t interval can exceed the range of its metric.

    >>> from wsi_mil.contracts.metric import Interval
    >>> interval_01(Interval(-0.1, 0.25, "t"))
    '0.000 to 0.250'
    """
    if value is None or math.isnan(value.low):
        return ""
    return f"{max(value.low, 0.0):.3f} to {min(value.high, 1.0):.3f}"
