"""Lengths and areas: µm, mm, level-0 pixels, and the scale mpp (µm per pixel) between them."""

UM2_PER_MM2 = 1_000_000.0
UM_PER_UNIT = {"inch": 25_400.0, "centimeter": 10_000.0, "millimeter": 1_000.0, "micrometer": 1.0}


def um_to_px(length_um: float, mpp: float) -> float:
    """Return a length in pixels of `mpp` µm each.

    >>> um_to_px(64.0, 0.5)
    128.0
    """
    return length_um / mpp


def px2_to_mm2(area_px2: float, mpp_x: float, mpp_y: float) -> float:
    """Return an area in mm² from an area in pixels of `mpp_x` by `mpp_y` µm.

    >>> px2_to_mm2(4_000_000, 0.5, 0.5)
    1.0
    """
    return area_px2 * mpp_x * mpp_y / UM2_PER_MM2
