"""Which sizes are levels of a pyramid, against pyramids whose scale is known."""

import math

import numpy as np
import pytest

from wsi_mil.slides.levels import true_sizes


@pytest.mark.parametrize("rounding", [math.floor, math.ceil, round])
@pytest.mark.parametrize("tile", [None, (64, 64), (240, 128)])
def test_rounded_sizes_are_levels(rounding: object, tile: tuple[int, int] | None) -> None:
    """Also where each level is rounded from the one before it, or downsamples are no powers of two."""
    rng = np.random.default_rng(2)
    for _ in range(300):
        full = tuple(int(side) for side in rng.integers(300, 200_000, 2))
        chained, sizes = full, [full]
        for downsample in (2, 4, 8, 16, 32):
            chained = tuple(max(int(rounding(side / 2)), 1) for side in chained)  # type: ignore[operator]
            sizes.append(chained if full[0] % 2 else tuple(int(side / downsample) for side in full))
        assert true_sizes(sizes, [tile] * 6) == sizes
        odd = (full, tuple(int(side / 2.5) for side in full), tuple(int(side / 6) for side in full))
        assert true_sizes(odd, [None] * 3) == list(odd)


def test_levels_filled_up_to_whole_tiles_have_their_true_size() -> None:
    rng = np.random.default_rng(4)
    for _ in range(300):
        full = tuple(int(side) for side in rng.integers(5_000, 200_000, 2))
        true = [(math.ceil(full[0] / 2**k), math.ceil(full[1] / 2**k)) for k in range(5)]
        filled = [full, *((-(-w // 256) * 256, -(-h // 256) * 256) for w, h in true[1:])]
        assert true_sizes(filled, [(256, 256)] * 5) == true


def test_a_square_slide_that_was_filled_up_is_not_taken_at_a_wrong_scale() -> None:
    """1000 / 512 on both sides: the sides agree, and the scale is 2 all the same."""
    assert true_sizes([(1000, 1000), (512, 512)], [(256, 256)] * 2) == [(1000, 1000), (500, 500)]


@pytest.mark.parametrize("size", [(350, 260), (340, 250), (1280, 431), (0, 250), (701, 500), (387, 463)])
def test_other_shapes_are_no_levels(size: tuple[int, int]) -> None:
    assert true_sizes([(700, 500), size], [None, None]) == [(700, 500), None]
