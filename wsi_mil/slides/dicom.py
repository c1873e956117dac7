"""Which files of DICOM belong to one slide: a series has one for each level, and for label and overview."""

import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.contracts.record import Record
from wsi_mil.logs import logger

SUFFIX = ".dcm"
TAGS = ["SeriesInstanceUID", "SOPInstanceUID", "ImageType", "TotalPixelMatrixColumns", "TotalPixelMatrixRows"]


@dataclass(frozen=True)
class DicomImage(Record):
    """One file: its series, its own number, its width times height, and whether it shows the tissue."""

    path: Path
    series: str
    instance: str
    area_px: int
    is_volume: bool


def one_file_per_series(paths: Sequence[Path]) -> list[Path]:
    """Return the paths, but of each DICOM series only the file of its finest level.

    OpenSlide finds the other levels beside it. A series that lies in several folders, or whose images are
    stored twice, is reported. A file that is no readable DICOM is kept: opening it says what is wrong.
    """
    series: defaultdict[str, list[DicomImage]] = defaultdict(list)
    kept = []
    for path in paths:
        image = _read(path) if path.suffix.lower() == SUFFIX else None
        if image is None:
            kept.append(path)
        else:
            series[image.series].append(image)
    for number, images in series.items():
        images.sort(key=lambda image: (not image.is_volume, -image.area_px, str(image.path)))
        kept.append(images[0].path)
        _report(number, images)
    return kept


def _report(number: str, images: Sequence[DicomImage]) -> None:
    folders = sorted({str(image.path.parent) for image in images})
    twice = len(images) - len({image.instance for image in images})
    if len(folders) > 1 or twice:
        where = f"in {len(folders)} folders ({', '.join(folders[:3])})" if len(folders) > 1 else "twice"
        logger().warning(
            "DICOM series %s is stored %s: one slide, read from %s", number, where, images[0].path
        )


def _read(path: Path) -> DicomImage | None:
    """Return what groups a file with others; None if it is no readable DICOM or names no series."""
    import pydicom

    try:
        with warnings.catch_warnings():  # of values against the standard; what matters, OpenSlide refuses
            warnings.simplefilter("ignore")
            data = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
            return DicomImage(
                path,
                str(data.SeriesInstanceUID),
                str(data.SOPInstanceUID),
                int(data.get("TotalPixelMatrixColumns") or 0) * int(data.get("TotalPixelMatrixRows") or 0),
                "VOLUME" in [str(word) for word in data.get("ImageType") or ()],
            )
    except Exception:  # pydicom raises what struct, codecs and numbers raise; OpenSlide says it better
        logger().debug("%s", path, exc_info=True)
        return None
