"""Wrong settings in one line each: the path of the key, what was expected, what was found, the nearest known
keys."""

import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from wsi_mil.errors import nearest

EXPECTED = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "dict_type": "a block of keys",
    "model_type": "a block of keys",
    "list_type": "a list",
    "tuple_type": "a list",
    "greater_than": "a number greater than {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number less than {lt}",
    "less_than_equal": "a number of at most {le}",
    "literal_error": "{expected}",
    "too_short": "at least {min_length} entries",
    "too_long": "at most {max_length} entries",
}
"""pydantic's kind of error -> what was expected; {names} are those of the error's context."""


@dataclass(frozen=True)
class Problem:
    """One wrong setting as pydantic reports it. path: the keys from the top of `model` down to it."""

    path: tuple[str, ...]
    kind: str
    message: str
    found: object
    limits: dict[str, object]


def problems_in(error: ValidationError, above: Sequence[str] = ()) -> list[Problem]:
    """Return the problems of a pydantic error; `above`: the keys that lead to the block that was checked."""
    return [
        Problem(
            (*above, *map(str, one["loc"])), one["type"], one["msg"], one.get("input"), one.get("ctx", {})
        )
        for one in error.errors()
    ]


def explain(problems: Sequence[Problem], model: type[BaseModel]) -> str:
    """Return all problems in one line.

    >>> from wsi_mil.contracts.tiles import TileSpec
    >>> try:
    ...     TileSpec(mpp=-1, size_pq=3)
    ... except ValidationError as error:
    ...     print(explain(problems_in(error), TileSpec))
    mpp: expected a number greater than 0.0, found -1; unknown key 'size_pq'. Nearest: 'size_px', 'stride_px'
    """
    return "; ".join(_explain(problem, model) for problem in problems)


def _explain(problem: Problem, model: type[BaseModel]) -> str:
    key = ".".join(problem.path)
    if problem.kind == "extra_forbidden":
        return (
            f"unknown key {key!r}. Nearest: {nearest(problem.path[-1], known_keys(problem.path[:-1], model))}"
        )
    if problem.kind == "missing":
        return (
            f"key {key!r} is missing: expected {key}: VALUE in the file, or {key}=VALUE on the command line"
        )
    found = "" if isinstance(problem.found, dict) else f", found {problem.found!r}"
    if problem.kind in EXPECTED:
        found = ", found a block of keys" if isinstance(problem.found, dict) else found
        return f"{key}: expected {EXPECTED[problem.kind].format(**problem.limits)}{found}"
    return f"{key}: {problem.message.removeprefix('Value error, ')}{found}"


def known_keys(path: Sequence[str], model: type[BaseModel]) -> list[str]:
    """Return the keys of the block at `path` below `model`; none if the path leads to no block.

    >>> from wsi_mil.contracts.tiles import TileSpec
    >>> known_keys((), TileSpec)
    ['mpp', 'size_px', 'stride_px', 'min_tissue_fraction']
    """
    for part in path:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        if typing.get_origin(annotation) in (typing.Union, types.UnionType):
            annotation = next((a for a in typing.get_args(annotation) if isinstance(a, type)), None)
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)
