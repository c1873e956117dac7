"""JSON files and texts. JSON knows no NaN and no infinity: what is written never holds them."""

import json
import math
from pathlib import Path
from typing import Any

from wsi_mil import limits
from wsi_mil.errors import StoreError
from wsi_mil.io.bounded import check_size
from wsi_mil.io.files import write_text
from wsi_mil.io.seals import AGAIN, DamagedFileError, sealed, unsealed

NESTED = frozenset((dict, list))
"""The types that json.loads returns for what holds other values."""


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
    """Return the value of a JSON text. Raises ValueError for other text, and for lists and objects nested
    deeper than limits.JSON_DEPTH: the caller names the source.

    >>> parse_json('{"a": [1, null]}')
    {'a': [1, None]}
    """
    most = limits.JSON_DEPTH.most
    try:
        value = json.loads(text)
        too_deep = _deeper_than(value, most)
    except RecursionError:
        too_deep = True
    if too_deep:
        raise ValueError(f"more than {most} {limits.JSON_DEPTH.what}: {limits.JSON_DEPTH.remedy}")
    return value


def _deeper_than(value: Any, most: int) -> bool:
    """Return whether lists and objects are nested deeper than `most` levels, without recursion."""
    level = [value] if type(value) in NESTED else []
    for _ in range(most):
        inner = [part.values() if type(part) is dict else part for part in level]
        level = [item for items in inner for item in items if type(item) in NESTED]
        if not level:
            return False
    return True


def decode_json(data: bytes) -> str:
    """Return the text of a JSON file in UTF-8, UTF-16 or UTF-32, without its byte-order mark.

    Raises UnicodeDecodeError, a ValueError, for bytes that are not text of the encoding that they begin with.

    >>> decode_json('{"name": "Läsion"}'.encode("utf-16"))
    '{"name": "Läsion"}'
    """
    return data.decode(json.detect_encoding(data))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as `json_text` gives it, in UTF-8, whole or not at all.

    An object gets the digest of its content, which `read_json` compares and removes.
    """
    write_text(path, json_text(sealed(value) if isinstance(value, dict) else value) + "\n")


def read_json(path: Path, remedy: str = AGAIN) -> dict[str, Any]:
    """Return the object that `write_json` wrote. remedy: what to do about a damaged file.

    Raises OSError if the file is missing, DamagedFileError (a StoreError and a ValueError) if it is not JSON,
    no object, or not what was written.
    """
    return unsealed(read_plain_json(path, remedy), path, remedy)


def read_plain_json(path: Path, remedy: str = AGAIN) -> Any:
    """Return the value of a JSON file that has no digest at its top. Raises as `read_json`."""
    check_size(path, limits.JSON_BYTES, StoreError)
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(path, f"expected JSON, found {error}", remedy) from error


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
