"""What all records share: a comparison by value, and one form of error for a field that is wrong."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import singledispatch
from numbers import Number
from typing import Any

import numpy as np

from wsi_mil.errors import DataError, WsiMilError
from wsi_mil.paths import problem_of


@dataclass(frozen=True, eq=False)
class Record:
    """Base of the frozen dataclasses that stages pass to each other.

    A record that holds arrays is declared with `eq=False`: its `==` then compares identity, as two arrays
    have no single truth value. `equals` compares the values of any record.
    """

    def equals(self, other: object) -> bool:
        """Return whether `other` is a record of the same class whose fields all hold equal values.

        Arrays must agree in type, shape and values; NaN equals NaN.
        """
        return equal_values(self, other)


@singledispatch
def equal_values(one: Any, other: object) -> bool:
    """Return whether two values are equal, where arrays, NaN and records may occur at any depth.

    A further type is added with `equal_values.register`.

    >>> equal_values({"a": np.array([1.0, np.nan])}, {"a": np.array([1.0, np.nan])})
    True
    >>> equal_values(np.zeros(2, np.float32), np.zeros(2, np.float64))
    False
    """
    return type(one) is type(other) and bool(one == other)


@equal_values.register
def _records(one: Record, other: object) -> bool:
    names = [field.name for field in fields(one)]
    return type(one) is type(other) and all(
        equal_values(getattr(one, name), getattr(other, name)) for name in names
    )


@equal_values.register
def _numbers(one: Number, other: object) -> bool:
    if not isinstance(other, Number) or isinstance(one, bool) != isinstance(other, bool):
        return False
    both_nan = one != one and other != other  # only NaN differs from itself
    return bool(both_nan or one == other)


@equal_values.register
def _arrays(one: np.ndarray, other: object) -> bool:
    if not isinstance(other, np.ndarray) or one.dtype != other.dtype:
        return False
    return np.array_equal(one, other, equal_nan=one.dtype.kind in "fc")


@equal_values.register(tuple)
@equal_values.register(list)
def _sequences(one: tuple[object, ...] | list[object], other: object) -> bool:
    if not isinstance(other, tuple | list) or type(one) is not type(other) or len(one) != len(other):
        return False
    return all(map(equal_values, one, other))


@equal_values.register
def _mappings(one: Mapping, other: object) -> bool:  # type: ignore[type-arg]
    if not isinstance(other, Mapping) or one.keys() != other.keys():
        return False
    return all(equal_values(value, other[key]) for key, value in one.items())


def require(
    valid: bool,
    where: str,
    field: str,
    expected: str,
    found: object,
    error: type[WsiMilError] = DataError,
    advice: str = "",
) -> None:
    """Raise `error` unless `valid`. The message names the record, the field, what was expected and what was
    found.

    >>> require(False, "slide 'a'", "mpp_x", "positive", -1.0)
    Traceback (most recent call last):
    wsi_mil.errors.DataError: slide 'a': mpp_x must be positive, got -1.0
    """
    if not valid:
        ending = f": {advice}" if advice else ""
        raise error(f"{where}: {field} must be {expected}, got {described(found)}{ending}")


def described(value: object) -> str:
    """Return a short text for an error message: shape and type of an array, the value of anything else.

    >>> described(np.zeros((2, 3), np.float32)), described("a")
    ('(2, 3) float32', "'a'")
    """
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is None or dtype is None or len(shape) == 0:
        return repr(value)
    return f"{tuple(shape)} {str(dtype).removeprefix('torch.')}"


def require_name(value: object, where: str, field: str, error: type[WsiMilError] = DataError) -> None:
    """Raise `error` unless `value` is a text that is not empty."""
    require(isinstance(value, str) and value != "", where, field, "a text that is not empty", value, error)


def require_file_name(value: object, where: str, field: str, error: type[WsiMilError] = DataError) -> None:
    """Raise `error` unless `value` is a text that can name one file or folder: no `..`, no `/`."""
    require_name(value, where, field, error)
    valid = "/" not in str(value) and not problem_of(str(value))
    require(valid, where, field, "a file name, without / and ..", value, error)


def require_array(
    value: object, where: str, field: str, shape: tuple[int | str, ...], dtype: type[np.generic]
) -> None:
    """Raise DataError unless `value` is an array of `dtype` and of `shape`, where a text such as "N" is any
    length.

    >>> require_array(np.zeros((5, 3)), "tiles of 'a'", "coords", ("N", 2), np.int32)
    Traceback (most recent call last):
    wsi_mil.errors.DataError: tiles of 'a': coords must be (N, 2) int32, got (5, 3) float64
    """
    fits = (
        isinstance(value, np.ndarray)
        and value.dtype == dtype
        and value.ndim == len(shape)
        and all(isinstance(length, str) or length == n for length, n in zip(shape, value.shape, strict=True))
    )
    expected = f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''}) {np.dtype(dtype).name}"
    require(fits, where, field, expected, value)


def above_zero(*values: float) -> bool:
    """Return whether all values are finite and above 0.

    >>> above_zero(0.5, 2), above_zero(0.5, float("inf"))
    (True, False)
    """
    return all(math.isfinite(value) and value > 0 for value in values)
