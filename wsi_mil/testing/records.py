"""What every record must do. Subclass, give `make`, `changes` and `invalid`, and pytest runs the suite."""

import pickle
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import pytest
import torch

from wsi_mil.contracts.record import Record
from wsi_mil.errors import WsiMilError

R = TypeVar("R", bound=Record)


class RecordSuite(ABC, Generic[R]):
    """The tests of one class of records.

    unchecked: the fields of which any value of their type is valid, such as free text. Every other field
    must have a value in `invalid`.

    >>> class TestBounds(RecordSuite[Bounds]):
    ...     def make(self):
    ...         return Bounds(10, 20, 300, 200)
    ...     def changes(self):
    ...         return {"x0_px": 11, "y0_px": 21, "width_px": 301, "height_px": 201}
    ...     def invalid(self):
    ...         return {"x0_px": [-1], "y0_px": [-1], "width_px": [0], "height_px": [0]}
    """

    unchecked: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def make(self) -> R:
        """Return a valid record, each time made from new values."""

    @abstractmethod
    def changes(self) -> Mapping[str, Any]:
        """Return, for each field, another valid value: a record with it is valid, and not equal to
        `make()`."""

    @abstractmethod
    def invalid(self) -> Mapping[str, Sequence[Any]]:
        """Return, for each field that is checked, values that are refused with an error that names the
        field."""

    def pairs(self) -> Mapping[str, tuple[R, R]]:
        """Return two records that differ in one field only, for fields that cannot be changed alone in
        `make()`."""
        return {}

    def test_is_a_frozen_record(self) -> None:
        record = self.make()
        assert isinstance(record, Record)
        for field in fields(record):
            with pytest.raises(FrozenInstanceError):
                setattr(record, field.name, getattr(record, field.name))

    def test_equals_a_record_of_equal_values(self) -> None:
        one, other = self.make(), self.make()
        assert one is not other, "make() must return a new record each time"
        assert one.equals(other) is True
        assert other.equals(one) is True

    def test_does_not_equal_anything_else(self) -> None:
        record = self.make()
        values = {field.name: getattr(record, field.name) for field in fields(record)}
        for other in (None, 0, "text", values, tuple(values.values()), _Other()):
            assert record.equals(other) is False

    def test_the_operator_never_raises(self) -> None:
        one, other = self.make(), self.make()
        assert isinstance(one == other, bool)
        assert one == one
        assert one in (other, one)

    def test_every_field_counts_in_a_comparison(self) -> None:
        record, changes, pairs = self.make(), self.changes(), self.pairs()
        names = {field.name for field in fields(record)}
        assert changes.keys() | pairs.keys() == names, "give another valid value for each field"
        found = {name: (record, replace(record, **{name: value})) for name, value in changes.items()}
        for name, (one, other) in {**found, **pairs}.items():
            assert one.equals(other) is False, f"records that differ in {name} are called equal"
            assert other.equals(one) is False, f"records that differ in {name} are called equal"
            back = replace(other, **{name: getattr(one, name)})
            assert one.equals(back) is True, f"the pair of {name} differs in another field, too"

    def test_the_type_of_an_array_counts_in_a_comparison(self) -> None:
        record = self.make()
        for name, value in _arrays(record).items():
            for other in _other_types(value):
                try:
                    changed = replace(record, **{name: other})
                except WsiMilError:
                    continue
                assert record.equals(changed) is False, f"{name} of another type is called equal"

    def test_pickles_to_an_equal_record(self) -> None:
        record = self.make()
        again = pickle.loads(pickle.dumps(record))
        assert type(again) is type(record)
        assert record.equals(again) is True

    def test_invalid_values_are_refused_by_name(self) -> None:
        record, invalid = self.make(), self.invalid()
        names = {field.name for field in fields(record)}
        assert invalid.keys() | self.unchecked == names, (
            "give an invalid value for each field, or list it in unchecked"
        )
        assert not invalid.keys() & self.unchecked, "a field is both checked and unchecked"
        for name, values in invalid.items():
            assert values, f"no invalid value of {name}"
            for value in values:
                with pytest.raises(WsiMilError, match=name):
                    replace(record, **{name: value})


class _Other(Record):
    """A record of no known class."""


def _arrays(record: Record) -> dict[str, np.ndarray | torch.Tensor]:
    found = {field.name: getattr(record, field.name) for field in fields(record)}
    return {name: value for name, value in found.items() if isinstance(value, np.ndarray | torch.Tensor)}


def _other_types(value: np.ndarray | torch.Tensor) -> list[np.ndarray | torch.Tensor]:
    """Return the same values in other types of number."""
    if isinstance(value, torch.Tensor):
        types = (torch.float16, torch.float32, torch.float64, torch.int32, torch.int64)
        return [value.to(kind) for kind in types if kind != value.dtype]
    kinds = (np.float16, np.float32, np.float64, np.int32, np.int64, np.uint8)
    with np.errstate(invalid="ignore"):
        return [value.astype(kind) for kind in kinds if kind != value.dtype]
