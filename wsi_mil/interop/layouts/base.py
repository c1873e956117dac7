"""What a layout of another tool has to do, and the records that pass between a layout and the rest."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

import wsi_mil
from wsi_mil.contracts.features import FeatureTable
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.errors import ConfigError, DataError
from wsi_mil.interop.foreign import ForeignBag
from wsi_mil.slides.ids import slide_id_text

NOMINAL_MAGNIFICATIONS = (1.25, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0)
NOMINAL_TOLERANCE = 0.05


@dataclass(frozen=True)
class SlideFiles:
    """The files that hold one slide's features; `coordinates` for tools that write a file of their own."""

    slide_id: str
    features: Path
    coordinates: Path | None = None


@dataclass(frozen=True)
class ExportedSlide:
    """One slide to export.

    table and features have the same N rows. label: index of the class. truth (N,): whether a tile lies in a
    lesion, None if that is not known. columns: further values per tile, (N,) each, for layouts that have a
    place for them.
    """

    info: SlideInfo
    table: TileTable
    features: FeatureTable
    label: int | None = None
    truth: NDArray[np.bool_] | None = None
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = len(self.table)
        for name, values in {"truth": self.truth, **self.columns}.items():
            if values is not None and values.shape != (rows,):
                raise DataError(
                    f"slide {self.info.slide_id!r}: {name} has shape {values.shape}, expected ({rows},): one "
                    "value per tile"
                )

    def readable_rows(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return features (n, D) float32 and top-left corners (n, 2) in level-0 px of the readable tiles.

        Tiles that could not be read are left out: other tools know no such tiles.
        """
        kept = self.features.readable
        return self.features.features[kept].astype(np.float32), self.table.coords[kept].astype(np.int64)


class ImportLayout(ABC):
    """A layout whose files can be read. A layout may be an ExportLayout, too."""

    packages: ClassVar[Sequence[str]] = ()
    """Packages that the layout imports and that may be missing."""
    expected: ClassVar[str]
    """The files that the folder must hold, for the message when there are none."""

    @abstractmethod
    def find(self, folder: Path) -> list[SlideFiles]:
        """Return the files of every slide below an existing folder; an empty list if there are none."""

    @abstractmethod
    def read(self, files: SlideFiles) -> ForeignBag:
        """Return one slide's features and coordinates. Raises DataError with the path of a damaged file."""


class ExportLayout(ABC):
    """A layout that can be written. A layout may be an ImportLayout, too."""

    packages: ClassVar[Sequence[str]] = ()
    """Packages that the layout imports and that may be missing."""

    @abstractmethod
    def write(self, slide: ExportedSlide, folder: Path) -> list[Path]:
        """Write one slide below `folder`; return the files."""


def require_packages(name: str, layout: ImportLayout | ExportLayout) -> None:
    """Raise ConfigError, with the command to install them, if packages of the layout are missing."""
    missing = [package for package in layout.packages if find_spec(package) is None]
    if missing:
        raise ConfigError(f"layout {name!r} needs {', '.join(missing)}: run pip install 'wsi-mil[interop]'")


def find_files(layout: ImportLayout, folder: Path) -> dict[str, SlideFiles]:
    """Return slide id -> files for every slide below `folder`, sorted. Raises DataError if there is none."""
    found = layout.find(folder) if folder.is_dir() else []
    if not found:
        raise DataError(f"no features in {folder}: expected {layout.expected}")
    return {files.slide_id: files for files in sorted(found, key=lambda files: files.slide_id)}


def slide_id_of(path: Path, folder: Path) -> str:
    """Return the id of the slide that a file belongs to: its path below `folder`, without the ending, in NFC.

    >>> slide_id_of(Path("out/centre_1/slide_7.h5"), Path("out"))
    'centre_1/slide_7'
    """
    return slide_id_text(path.relative_to(folder).with_suffix("").as_posix())


def flat_name(slide_id: str) -> str:
    """Return the name of a bag for tools that know no folders.

    >>> flat_name("centre_1/slide_7")
    'centre_1__slide_7'
    """
    return slide_id.replace("/", "__")


def tile_attributes(slide: ExportedSlide) -> dict[str, Any]:
    """Return the attributes that TRIDENT's readers look for beside coordinates, and our own exact values.

    TRIDENT's attributes are whole numbers, ours (`tile_*`, `level0_mpp`) are exact. A magnification is
    nominal, 10 / mpp: it is left out unless it is within 5 % of one that is in use.
    """
    spec, plan, info = slide.table.spec, slide.table.plan, slide.info
    values = {
        "patch_size": spec.size_px,
        "patch_size_level0": round(plan.tile_width0_px),
        "overlap": spec.size_px - spec.step_px,
        "name": info.slide_id,
        "level0_width": info.width_px,
        "level0_height": info.height_px,
        "tile_px": spec.size_px,
        "tile_overlap_px": spec.size_px - spec.step_px,
        "tile_width0_px": plan.tile_width0_px,
        "tile_height0_px": plan.tile_height0_px,
        "tile_mpp": spec.mpp,
        "level0_mpp": info.mpp,
        "producer": f"wsi_mil {wsi_mil.__version__}",
    }
    for name, mpp in (("level0_magnification", info.mpp), ("target_magnification", spec.mpp)):
        closest = min(NOMINAL_MAGNIFICATIONS, key=lambda nominal: abs(10 / mpp / nominal - 1))
        if abs(10 / mpp / closest - 1) <= NOMINAL_TOLERANCE:
            values[name] = int(closest) if closest == int(closest) else closest
    return values
