"""Slides that the tests of readers share."""

from pathlib import Path

import numpy as np
import pytest

from tests.slides.test_readers import LEVELS, write


@pytest.fixture(scope="session")
def lossless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("tiff") / "slide.tiff", LEVELS)


@pytest.fixture(scope="session")
def transparent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same image with an opacity: 0 (over black) in the first 64 x 64 px, 128 in the 64 x 64 px below."""
    image = np.dstack([LEVELS[0], np.full(LEVELS[0].shape[:2], 255, np.uint8)])
    image[:64, :64] = 0
    image[64:128, :64, 3] = 128
    return write(tmp_path_factory.mktemp("rgba") / "slide.tiff", [image], extrasamples=["UNASSALPHA"])
