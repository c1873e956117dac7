"""Which images of a file are levels of one pyramid, and which part of a level shows the slide."""

import math
from collections.abc import Sequence

Size = tuple[int, int]
VENDOR_TOLERANCE = 0.02
"""Scanners that place tiles by the stage state level sizes that are rounded to more than a pixel."""
MOST_HALVINGS = 24


def scale_range(full_px: Size, size_px: Size, rounding_px: float = 1.0) -> tuple[float, float]:
    """Return the smallest and largest downsample that both sides of a level allow, given that its sizes are
    rounded; the smallest is above the largest where the sides contradict each other.

    >>> low, high = scale_range((700, 500), (350, 250))
    >>> low < 2 < high
    True
    """
    lows = [full / (side + rounding_px) for full, side in zip(full_px, size_px, strict=True)]
    highs = [
        full / (side - rounding_px) if side > rounding_px else math.inf
        for full, side in zip(full_px, size_px, strict=True)
    ]
    return max(lows), min(highs)


def true_sizes(
    sizes_px: Sequence[Size], tiles_px: Sequence[Size | None], tolerance: float = 0.0
) -> list[Size | None]:
    """Return for each level the (width, height) of the part that shows the slide; None if it is no level.

    sizes_px: as the file states them, level 0 first. tiles_px: the tiles of each. A level fits if both of its
    sides state one downsample within a pixel of rounding, or within the relative `tolerance`. Some writers
    enlarge levels to whole tiles: there the slide ends before the right and lower edge, where a power of two
    says.

    >>> true_sizes([(700, 500), (384, 256), (300, 100)], [(128, 128), (128, 128), (128, 128)])
    [(700, 500), (350, 250), None]
    """
    full, found = sizes_px[0], [sizes_px[0]]
    downsamples = [1.0]
    result: list[Size | None] = [full]
    for size, tile in zip(sizes_px[1:], tiles_px[1:], strict=True):
        true = _true_size(full, size, tile, downsamples, tolerance)
        result.append(true)
        if true is not None and true != found[-1]:
            found.append(true)
            downsamples.append(max(full[0] / true[0], full[1] / true[1]))
    return result


def _true_size(
    full: Size, size: Size, tile: Size | None, before: Sequence[float], tolerance: float
) -> Size | None:
    if min(size) < 1 or size[0] > full[0] or size[1] > full[1]:
        return None
    low, high = scale_range(full, size)
    agree = low <= high
    whole = agree and high >= math.ceil(low)
    if not whole and tile and min(tile) > 0 and size[0] % tile[0] == 0 and size[1] % tile[1] == 0:
        padded = _padded_downsample(full, size, tile, before)
        if padded is not None:
            return math.ceil(full[0] / padded), math.ceil(full[1] / padded)
    ratios = [side / small for side, small in zip(full, size, strict=True)]
    return size if agree or abs(ratios[0] / ratios[1] - 1) <= tolerance else None


def _padded_downsample(full: Size, size: Size, tile: Size, before: Sequence[float]) -> float | None:
    """Return the power of two after which the slide fills `size` but for a part of the last tiles.

    Where several do (a level of one tile), the one that continues the levels `before`; else None.
    """
    low = max(full[0] / size[0], full[1] / size[1])
    high = min(f / (s - t) if s > t else math.inf for f, s, t in zip(full, size, tile, strict=True))
    powers = [2.0**k for k in range(1, MOST_HALVINGS) if low <= 2.0**k < high]
    if len(powers) > 1 and len(before) > 1:
        powers = [power for power in powers if abs(power / (before[-1] ** 2 / before[-2]) - 1) < 0.01]
    return powers[0] if len(powers) == 1 else None
