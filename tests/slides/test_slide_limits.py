"""Limits of slides that are no TIFF: DICOM tags before the library, sizes that any reader states."""

from pathlib import Path

import pydicom
import pytest

from tests.slides.dicom_files import write_dicom
from tests.slides.test_readers import LEVELS
from wsi_mil import limits
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.errors import SlideError
from wsi_mil.limits import Limit
from wsi_mil.slides import open_slide
from wsi_mil.slides.usable import check_levels


@pytest.mark.parametrize(
    ("tags", "limit"),
    [
        ({"TotalPixelMatrixColumns": 2_000_001}, limits.SIDE_PX),
        ({"TotalPixelMatrixColumns": 1_900_000, "TotalPixelMatrixRows": 1_900_000}, limits.IMAGE_PX),
        ({"Rows": 60_000, "Columns": 60_000}, limits.TILE_PX),
        ({"Rows": 16_000, "Columns": 16_000, "BitsAllocated": 64}, limits.TILE_BYTES),
        ({"NumberOfFrames": (1 << 24) + 1}, limits.FRAMES),
    ],
)
def test_dicom_above_a_limit_is_refused_before_it_is_opened(
    tags: dict[str, int], limit: Limit, tmp_path: Path
) -> None:
    path = write_dicom(tmp_path / "slide.dcm", LEVELS[0])
    open_slide(path).close()
    data = pydicom.dcmread(path)
    for name, value in tags.items():
        setattr(data, name, value)
    data.save_as(path)
    with pytest.raises(SlideError, match="slide 'slide'") as raised:
        open_slide(path)
    assert f"{limit.what}, at most {limit.most:,}" in str(raised.value)


def info(width: int, height: int, levels: int = 1, mpp: float = 0.1) -> SlideInfo:
    return SlideInfo(
        slide_id="a",
        path="a.mrxs",
        level_sizes_px=((width, height),) * levels,
        level_downsamples=(1.0,) * levels,
        mpp_x=mpp,
        mpp_y=mpp,
        mpp_source="test",
        bounds=None,
        vendor="test",
        reader="test",
        reader_version="1",
        notes=(),
    )


@pytest.mark.parametrize(
    ("below", "above", "limit"),
    [
        (info(2_000_000, 9), info(2_000_001, 9), limits.SIDE_PX),
        (info(1_000_000, 1_000_000), info(1_000_001, 1_000_000), limits.IMAGE_PX),
        (info(1_000_000, 750_000, mpp=0.2), info(1_000_000, 751_000, mpp=0.2), limits.SLIDE_MM2),
        (info(9, 9, levels=64), info(9, 9, levels=65), limits.LEVELS),
    ],
)
def test_a_size_that_a_reader_states_is_refused_above_its_limit(
    below: SlideInfo, above: SlideInfo, limit: Limit
) -> None:
    check_levels(below)
    with pytest.raises(SlideError, match=r"slide 'a' \(a\.mrxs\)") as raised:
        check_levels(above)
    assert limit.what in str(raised.value)
