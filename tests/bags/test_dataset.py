"""Bags read from a store, in parts and standardised, and bags made from a table of features."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.test_two_pass import write_features
from wsi_mil.bags import StoredBag, load_bag, read_bag
from wsi_mil.bags.dataset import CACHED_ROWS
from wsi_mil.contracts.features import FeatureTable
from wsi_mil.errors import DataError
from wsi_mil.features import MappedFeatures

ROWS, DIM = 3 * CACHED_ROWS + 40, 16


@pytest.fixture
def stored(tmp_path: Path) -> tuple[MappedFeatures, torch.Tensor]:
    """Features with five rows that could not be read, on disk and in memory."""
    values, readable = write_features(tmp_path / "s", ROWS, DIM, (0, 3, 4, 300, ROWS - 1))
    kept = torch.from_numpy(values[readable].astype(np.float32))
    return MappedFeatures(tmp_path / "s" / "features", readable), kept


@pytest.mark.parametrize(("start", "count"), [(0, ROWS - 5), (7, CACHED_ROWS + 3), (ROWS - 15, 10)])
def test_any_part_of_a_bag(stored: tuple[MappedFeatures, torch.Tensor], start: int, count: int) -> None:
    features, expected = stored
    out = torch.full((count, DIM), torch.nan)
    StoredBag("s", features, 1).read_into(out, start)
    torch.testing.assert_close(out, expected[start : start + count])


def test_scale_and_shift_are_applied_to_every_row(stored: tuple[MappedFeatures, torch.Tensor]) -> None:
    features, expected = stored
    scale, shift = torch.linspace(0.5, 2, DIM), torch.linspace(-3, 3, DIM)
    found = read_bag(StoredBag("s", features, 1, scale=scale, shift=shift)).features
    torch.testing.assert_close(found, expected * scale + shift)


def test_a_bag_in_memory_keeps_what_the_stored_one_says(stored: tuple[MappedFeatures, torch.Tensor]) -> None:
    features, expected = stored
    marks = torch.arange(len(expected)) % 2
    found = read_bag(StoredBag("s/7", features, 1, instance_labels=marks))
    assert (found.slide_id, found.label) == ("s/7", 1)
    assert found.instance_labels is marks
    torch.testing.assert_close(found.features, expected)
    assert found.features.dtype == torch.float32
    assert read_bag(found) is found, "a bag in memory is not copied"


def test_a_bag_of_a_table_has_its_readable_tiles_label_and_patient() -> None:
    values = np.arange(8, dtype=np.float16).reshape(4, 2)
    readable = np.array([True, False, True, True])
    coords = np.array([[0, 0], [5, 0], [0, 5], [5, 5]], np.int32)
    table = FeatureTable("s", "texture", "enc", "tiles", 0.5, values, coords, readable, "features")
    found = load_bag(table, 3, "p7")
    assert (found.slide_id, found.label, found.patient) == ("s", 3, "p7")
    assert found.features.tolist() == [[0, 1], [4, 5], [6, 7]]
    none = FeatureTable("s", "texture", "enc", "tiles", 0.5, values, coords, readable & False, "features")
    with pytest.raises(DataError, match="slide 's' has no readable tile"):
        load_bag(none, 3)
