"""On real slides `auto` finds what absorbs much light, apart from pen, and leaves bare glass out."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from wsi_mil.contracts.arrays import RGB, Mask
from wsi_mil.slides import ArrayReader, open_slide
from wsi_mil.slides.scaled import read_scaled
from wsi_mil.tissue import TissueSpec, find_tissue

STAINED, NONE = 0.1, 0.02
"""Optical densities (base 10) of stained tissue, and of glass."""


def density(image: RGB) -> np.ndarray:
    """Return the mean optical density (H, W) of the colours, against the 99th percentile as white.

    The mean over 3 x 3 pixels, so that single bright or dark pixels do not count.
    """
    white = np.percentile(image.reshape(-1, 3), 99, axis=0)
    return cv2.blur(-np.log10(np.clip(image / white, 0.01, 1.0)), (3, 3)).mean(2)


def at(image: RGB, mask: Mask) -> RGB:
    """Return the image in the size of the mask."""
    return cv2.resize(image, mask.shape[::-1], interpolation=cv2.INTER_AREA)


def test_a_slide_keeps_its_stained_tissue(real_slide: Path) -> None:
    reader = open_slide(real_slide)
    found = find_tissue(reader, TissueSpec()).mask
    depth = density(at(read_scaled(reader, TissueSpec().mpp), found))
    assert (depth > STAINED).mean() > 0.1
    assert found[depth > STAINED].mean() > 0.98
    assert (depth < NONE).mean() > 0.1
    assert found[depth < NONE].mean() < 0.05


@pytest.mark.parametrize(("colour", "pen_taken"), [("green", 0.05), ("red", 0.4)])
def test_stained_tissue_beside_pen_is_kept(data_folder: Path, colour: str, pen_taken: float) -> None:
    """Pale strokes of red pen, a third of that mark, are still taken for tissue."""
    folder = data_folder / "histoqc_pen"
    image = cv2.imread(str(folder / f"pen_pen_{colour}.png"))[..., ::-1].copy()
    pen = cv2.imread(str(folder / f"pen_pen_{colour}_mask.png"), cv2.IMREAD_GRAYSCALE) > 0
    found = find_tissue(ArrayReader(image, mpp=8.0), TissueSpec()).mask
    depth, beside = density(at(image, found)), cv2.dilate(pen.astype(np.uint8), np.ones((9, 9))) == 0
    tissue = (depth > STAINED) & at(beside.astype(np.uint8), found).astype(bool)
    assert tissue.mean() > 0.1
    assert found[tissue].mean() > 0.98
    assert found[at(pen.astype(np.uint8), found).astype(bool)].mean() < pen_taken
    assert found[depth < NONE].mean() < 0.15
