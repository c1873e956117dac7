"""JSON files and texts. JSON knows no NaN and no infinity: what is written never holds them."""

import json
import math
from pathlib import Path
from typing import Any

from wsi_mil.io.files import write_text


def json_text(value: Any, indent: int = 2) -> str:
    """Return `value` as indented JSON with sorted keys. Raises ValueError for a NaN or an infinity.

    >>> print(json_text({"b": 1, "a": [0.5]}))
    {
      "a": [
        0.5
      ],
      "b": 1
    }
    """
    return json.dumps(value, indent=indent, sort_keys=True, allow_nan=False)


def json_line(value: Any, sort: bool = False) -> str:
    """Return `value` as JSON in one line; `sort` sorts the keys. Raises ValueError for a NaN or an infinity.

    >>> json_line({"b": 1, "a": None}), json_line({"b": 1, "a": None}, sort=True)
    ('{"b": 1, "a": null}', '{"a": null, "b": 1}')
    """
    return json.dumps(value, sort_keys=sort, allow_nan=False)


def compact_json(value: Any) -> str:
    """Return `value` as ASCII JSON in one line, without spaces. Raises ValueError for a NaN or an infinity.

    >>> compact_json({"name": "µm", "at": [1, 2]})
    '{"name":"\\\\u00b5m","at":[1,2]}'
    """
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text. Raises ValueError for other text: the caller names the source.

    >>> parse_json('{"a": [1, null]}')
    {'a': [1, None]}
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("its lists and objects are nested too deeply") from error


def decode_json(data: bytes) -> str:
    """Return the text of a JSON file in UTF-8, UTF-16 or UTF-32, without its byte-order mark.

    Raises UnicodeDecodeError, a ValueError, for bytes that are not text of the encoding that they begin with.

    >>> decode_json('{"name": "Läsion"}'.encode("utf-16"))
    '{"name": "Läsion"}'
    """
    return data.decode(json.detect_encoding(data))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as `json_text` gives it, in UTF-8, whole or not at all."""
    write_text(path, json_text(value) + "\n")


def read_json(path: Path) -> Any:
    """Return the value of a JSON file. Raises OSError if it is missing, ValueError if it is not JSON."""
    return parse_json(path.read_text(encoding="utf-8"))


def without_nan(value: Any) -> Any:
    """Return `value` with None in place of every NaN and infinity, and lists in place of tuples, at any
    depth.

    >>> without_nan({"auc": float("nan"), "range": (0.0, float("inf"))})
    {'auc': None, 'range': [0.0, None]}
    """
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
