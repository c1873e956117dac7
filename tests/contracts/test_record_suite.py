"""The suite of records fails on records that are wrong, and `equal_values` compares what records hold."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import shapely
import torch

import wsi_mil.contracts.bags  # noqa: F401 (its import registers the comparison of tensors)
from wsi_mil.contracts.record import Record, described, equal_values, require
from wsi_mil.errors import DataError, SlideError
from wsi_mil.testing.records import RecordSuite


@dataclass(frozen=True, eq=False)
class Right(Record):
    name: str
    values: np.ndarray = field(default_factory=lambda: np.ones(2, np.float32))

    def __post_init__(self) -> None:
        require(self.name != "", "record", "name", "not empty", self.name)
        require(self.values.shape == (2,), "record", "values", "(2,)", self.values)


@dataclass(frozen=True)
class ComparesArraysByOperator(Right):
    pass


@dataclass(frozen=True, eq=False)
class ForgetsAField(Right):
    def equals(self, other: object) -> bool:
        return isinstance(other, ForgetsAField) and self.name == other.name


@dataclass(frozen=True, eq=False)
class IgnoresTheType(Right):
    def equals(self, other: object) -> bool:
        same = isinstance(other, IgnoresTheType) and self.name == other.name
        return same and np.array_equal(self.values, other.values)  # type: ignore[attr-defined]


@dataclass(frozen=True, eq=False)
class ComparesIdentity(Right):
    def equals(self, other: object) -> bool:
        return self is other


@dataclass(frozen=True, eq=False)
class EqualsAnything(Right):
    def equals(self, other: object) -> bool:
        return True


@dataclass(frozen=True, eq=False)
class AcceptsAnything(Right):
    def __post_init__(self) -> None:
        pass


@dataclass(frozen=True, eq=False)
class RaisesAnotherError(Right):
    def __post_init__(self) -> None:
        if self.name == "" or self.values.shape != (2,):
            raise ValueError("name or values")


@dataclass(frozen=True, eq=False)
class DoesNotNameTheField(Right):
    def __post_init__(self) -> None:
        if self.name == "" or self.values.shape != (2,):
            raise DataError("something is wrong")


@dataclass(frozen=True, eq=False)
class LosesAFieldInPickle(Right):
    def __reduce__(self) -> tuple[Any, ...]:
        return LosesAFieldInPickle, (self.name, np.zeros(2, np.float32))


@dataclass(frozen=True, eq=False)
class CannotBePickled(Right):
    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("not today")


@dataclass(frozen=True, eq=False)
class IsNoRecord:
    name: str
    values: np.ndarray = field(default_factory=lambda: np.ones(2, np.float32))
    __post_init__ = Right.__post_init__  # type: ignore[assignment]
    equals = Record.equals  # type: ignore[assignment]


def test_a_record_cannot_be_mutable() -> None:
    with pytest.raises(TypeError, match="non-frozen"):

        @dataclass
        class Mutable(Record):
            name: str


def suite_of(record: Any) -> RecordSuite[Any]:
    class Suite(RecordSuite[Any]):
        def make(self) -> Any:
            return record("a")

        def changes(self) -> Mapping[str, Any]:
            return {"name": "b", "values": np.zeros(2, np.float32)}

        def invalid(self) -> Mapping[str, list[Any]]:
            return {"name": [""], "values": [np.ones(3, np.float32)]}

    return Suite()


def failures(suite: RecordSuite[Any]) -> set[str]:
    """Names of the tests of a suite that fail."""
    found = set()
    for name in dir(suite):
        if name.startswith("test_"):
            try:
                getattr(suite, name)()
            except (Exception, pytest.fail.Exception):
                found.add(name.removeprefix("test_"))
    return found


def test_a_right_record_passes() -> None:
    assert failures(suite_of(Right)) == set()


@pytest.mark.parametrize(
    ("record", "test"),
    [
        (ComparesArraysByOperator, "the_operator_never_raises"),
        (IsNoRecord, "is_a_frozen_record"),
        (ForgetsAField, "every_field_counts_in_a_comparison"),
        (EqualsAnything, "every_field_counts_in_a_comparison"),
        (EqualsAnything, "does_not_equal_anything_else"),
        (IgnoresTheType, "the_type_of_an_array_counts_in_a_comparison"),
        (ComparesIdentity, "equals_a_record_of_equal_values"),
        (AcceptsAnything, "invalid_values_are_refused_by_name"),
        (RaisesAnotherError, "invalid_values_are_refused_by_name"),
        (DoesNotNameTheField, "invalid_values_are_refused_by_name"),
        (LosesAFieldInPickle, "pickles_to_an_equal_record"),
        (CannotBePickled, "pickles_to_an_equal_record"),
    ],
)
def test_a_wrong_record_fails(record: type[Any], test: str) -> None:
    assert test in failures(suite_of(record))


def test_a_field_that_the_suite_forgets_fails() -> None:
    suite = suite_of(Right)
    suite.changes = lambda: {"name": "b"}  # type: ignore[method-assign]
    suite.invalid = lambda: {"name": [""]}  # type: ignore[method-assign]
    found = failures(suite)
    assert found == {"every_field_counts_in_a_comparison", "invalid_values_are_refused_by_name"}
    suite.invalid = lambda: {"name": [""], "values": []}  # type: ignore[method-assign]
    assert "invalid_values_are_refused_by_name" in failures(suite)


NAN = np.array([1.0, np.nan])


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (1, 1.0, True),
        (1, True, False),
        (math.nan, float("nan"), True),
        (np.float32(0.5), 0.5, True),
        ("a", "a", True),
        ("1", 1, False),
        (None, None, True),
        (None, 0, False),
        (NAN, NAN.copy(), True),
        (NAN, np.array([1.0, 2.0]), False),
        (NAN, NAN.astype(np.float32), False),
        (NAN, [1.0, math.nan], False),
        (np.zeros((1, 2)), np.zeros((2, 1)), False),
        (np.array(["a"]), np.array(["a"]), True),
        ((1, NAN), (1, NAN.copy()), True),
        ((1, 2), [1, 2], False),
        ((1, 2), (1,), False),
        ({"a": NAN}, {"a": NAN.copy()}, True),
        ({"a": NAN}, {"b": NAN}, False),
        (torch.tensor([1.0, math.nan]), torch.tensor([1.0, math.nan]), True),
        (torch.tensor([1.0]), torch.tensor([2.0]), False),
        (torch.tensor([1]), torch.tensor([1.0]), False),
        (torch.zeros(1, 2), torch.zeros(2, 1), False),
        (torch.zeros(2), np.zeros(2, np.float32), False),
        (shapely.box(0, 0, 1, 1), shapely.box(0, 0, 1, 1), True),
        (shapely.box(0, 0, 1, 1), shapely.box(0, 0, 1, 2), False),
        (Right("a", NAN), Right("a", NAN.copy()), True),
        (Right("a", NAN), EqualsAnything("a", NAN), False),
    ],
)
def test_equal_values(one: object, other: object, equal: bool) -> None:
    assert equal_values(one, other) is equal
    assert equal_values(other, one) is equal


def test_an_error_says_where_what_was_expected_and_what_was_found() -> None:
    with pytest.raises(SlideError, match=r"^slide 'a': mpp must be positive, got -1: give --mpp$"):
        require(False, "slide 'a'", "mpp", "positive", -1, SlideError, "give --mpp")
    assert described(torch.zeros(2, 3)) == "(2, 3) float32"
    assert described(np.float64(2.5)) == repr(np.float64(2.5))
