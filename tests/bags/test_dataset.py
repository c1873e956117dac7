"""Bags read from a store, in parts and standardised, and bags made from a table of features."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.test_two_pass import write_features
from wsi_mil.bags import StoredBag, read_bag
from wsi_mil.bags.dataset import CACHED_ROWS
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
