"""Localisation by hand-made maps whose answers are plain."""

import pytest
import torch

from wsi_mil.attention2d.measures import localise
from wsi_mil.errors import DataError


def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """An object of 4 x 4 in 8 x 8, and maps: right, half over the edge, wrong."""
    truth = torch.zeros(3, 8, 8, dtype=torch.bool)
    truth[:, 2:6, 2:6] = True
    maps = torch.zeros(3, 8, 8)
    maps[0, 2:6, 2:6] = 1
    maps[1, 2:6, 0:4] = 1
    maps[1, 3, 1] = 1.5  # outside the object, and the largest
    maps[2, 6:8, 6:8] = 1
    return maps, truth


def test_three_maps() -> None:
    maps, truth = scene()
    found = localise(maps, truth, (4, 4))
    assert found.pointing.tolist() == [True, False, False]
    assert found.top_position.tolist() == [True, False, False]
    torch.testing.assert_close(found.iou, torch.tensor([1.0, 8 / 24, 0.0]))


@pytest.mark.parametrize(("columns", "enough"), [(1, False), (2, True), (3, True)])
def test_half_of_the_patch_must_lie_in_the_box(columns: int, enough: bool) -> None:
    """The box, not the object: its corner counts as well."""
    truth = torch.zeros(1, 8, 8, dtype=torch.bool)
    truth[0, 0, 0] = truth[0, 3, columns - 1] = True
    maps = torch.zeros(1, 8, 8)
    maps[0, 0:4, 0:4] = 1
    assert localise(maps, truth, (2, 2)).top_position.tolist() == [enough]


def test_a_flat_map_finds_nothing_and_an_image_without_an_object_is_refused() -> None:
    maps, truth = scene()
    assert localise(torch.zeros_like(maps), truth, (4, 4)).iou.tolist() == [0, 0, 0]
    with pytest.raises(DataError, match="an image without an object"):
        localise(maps, torch.zeros_like(truth), (4, 4))
