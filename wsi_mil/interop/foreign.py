"""Features that another tool made: a slide's bag, what the user states about it, and its tile table."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tiles import TileSpec, TileTable
from wsi_mil.errors import ConfigError, DataError
from wsi_mil.tiles import plan_reading

SCALE_TOLERANCE = 0.05  # as in tiles.geometry: scanners sold as one magnification differ by this much


@dataclass(frozen=True)
class ForeignBag:
    """One slide's features as another tool wrote them; a field is None if the files do not state it.

    features (N, D) float32. coords (N, 2): top-left corners (x, y) in level-0 px, in the tool's own order.
    patch_px: side of a tile in the encoder's pixels; patch0_px: the same side in level-0 px. overlap_px: of
    neighbouring tiles, in the encoder's pixels. tile_mpp: µm per tile pixel. source: names the files in
    messages.
    """

    slide_id: str
    source: str
    features: NDArray[np.float32]
    coords: NDArray[np.int64]
    patch_px: int | None = None
    patch0_px: float | None = None
    overlap_px: int | None = None
    slide_size_px: tuple[int, int] | None = None
    tile_mpp: float | None = None
    encoder: str | None = None

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or self.coords.shape != (len(self.features), 2):
            raise DataError(
                f"{self.source}: features have shape {self.features.shape} and coords {self.coords.shape}, "
                "expected (N, D) and (N, 2)"
            )


@dataclass(frozen=True)
class TileGeometry:
    """How one slide's tiles were cut: sides in the encoder's and in level-0 pixels, scale, overlap."""

    patch_px: int
    patch0_px: float
    tile_mpp: float
    overlap_px: int

    @property
    def spec(self) -> TileSpec:
        """The tiles as a specification; every tile was kept, whatever its tissue."""
        return TileSpec(
            mpp=self.tile_mpp,
            size_px=self.patch_px,
            stride_px=self.patch_px - self.overlap_px,
            min_tissue_fraction=0.0,
        )


@dataclass(frozen=True)
class StatedTiles:
    """What the user states about the tiles: it completes what the files state, and must not contradict it."""

    tile_px: int | None = None
    tile0_px: float | None = None
    tile_mpp: float | None = None
    overlap_px: int | None = None

    def geometry(self, bag: ForeignBag) -> TileGeometry:
        """Return how the tiles of `bag` were cut.

        Raises ConfigError, with the option, for a value that neither the files nor the user state, and
        DataError where they disagree or where the overlap does not fit the tiles.
        """
        source = bag.source
        px = "side of a tile in the encoder's pixels"
        overlap = "overlap of neighbouring tiles, 0 for none"
        found = TileGeometry(
            round(_agreed(source, px, "--tile-px", bag.patch_px, self.tile_px)),
            _agreed(
                source, "side of a tile in level-0 pixels", "--tile-level0-px", bag.patch0_px, self.tile0_px
            ),
            _agreed(source, "µm per tile pixel", "--tile-mpp", bag.tile_mpp, self.tile_mpp, SCALE_TOLERANCE),
            round(_agreed(source, overlap, "--overlap-px", bag.overlap_px, self.overlap_px)),
        )
        if not 0 <= found.overlap_px < found.patch_px:
            raise DataError(
                f"{source}: an overlap of {found.overlap_px} px does not fit tiles of {found.patch_px} px"
            )
        return found


def _agreed(
    source: str,
    meaning: str,
    option: str,
    of_file: float | None,
    of_user: float | None,
    tolerance: float = 0.0,
) -> float:
    """Return the user's value, or else that of the file. `tolerance`: of their difference, relative."""
    if of_user is None:
        if of_file is None:
            hint = " (0.5 for what is sold as 20x)" if option == "--tile-mpp" else ""
            raise ConfigError(f"{source} does not state the {meaning}: give {option}{hint}")
        return of_file
    if of_file is not None and abs(of_file - of_user) > tolerance * of_user:
        raise DataError(f"{source} states {of_file:g} for the {meaning}, {option} states {of_user:g}")
    return of_user


@dataclass(frozen=True)
class ImportedTiles:
    """The tiles of one slide in our order.

    rows (n,): the row of the bag that each row of `table` comes from. repeated, overhanging: numbers of tiles
    that were left out because another one has the same corner, or because they reach over the edge of the
    slide.
    """

    table: TileTable
    info: SlideInfo
    rows: NDArray[np.intp]
    repeated: int
    overhanging: int


def tile_table(bag: ForeignBag, geometry: TileGeometry, info: SlideInfo | None) -> ImportedTiles:
    """Return the tiles of a bag, sorted by (y, x).

    `info` is None if the slide itself is not available: then the files must state its size, and the scale of
    the slide follows from the tiles. Raises DataError if the scale or the spacing of the tiles contradicts
    `geometry`, or if no tile lies on the slide.
    """
    patch0_px, spec = geometry.patch0_px, geometry.spec
    _check_spacing(bag, patch0_px * spec.step_px / spec.size_px)
    info = info or _info_without_slide(bag, spec.mpp * spec.size_px / patch0_px)
    _check_scale(bag, geometry, info)
    order = np.lexsort((bag.coords[:, 0], bag.coords[:, 1]))
    corners = bag.coords[order]
    repeated = np.zeros(len(order), bool)
    repeated[1:] = (corners[1:] == corners[:-1]).all(1)
    slide_px = np.array([info.width_px, info.height_px])
    inside = (corners >= 0).all(1) & (corners + patch0_px <= slide_px + 1).all(1)
    if len(order) and not inside.any():
        raise DataError(
            f"{bag.source}: coords reach {corners.max(0).tolist()} px on a slide of {info.width_px} x "
            f"{info.height_px} px: not this slide, or coordinates of another level"
        )
    rows = order[inside & ~repeated]
    plan = replace(plan_reading(info, spec), tile_width0_px=patch0_px, tile_height0_px=patch0_px)
    table = TileTable(
        slide_id=bag.slide_id,
        spec=spec,
        plan=plan,
        coords=bag.coords[rows].astype(np.int32),
        tissue=np.ones(len(rows), np.float32),
        slide_size_px=(info.width_px, info.height_px),
        mpp_xy=(info.mpp_x, info.mpp_y),
        tissue_source="imported",
    )
    return ImportedTiles(table, info, rows, int((repeated & inside).sum()), int((~inside).sum()))


def _check_scale(bag: ForeignBag, geometry: TileGeometry, info: SlideInfo) -> None:
    """Raise DataError if the tiles have another scale on this slide than was stated."""
    found_mpp = geometry.patch0_px * info.mpp / geometry.patch_px
    if abs(found_mpp / geometry.tile_mpp - 1) > SCALE_TOLERANCE:
        raise DataError(
            f"{bag.source}: tiles of {geometry.patch0_px:g} level-0 px at {info.mpp:.4g} µm/px (slide "
            f"{info.slide_id!r}) shown with {geometry.patch_px} px are {found_mpp:.4g} µm/px, not "
            f"{geometry.tile_mpp:g}: the slide's scale or the tile size is wrong"
        )


def _check_spacing(bag: ForeignBag, step0_px: float) -> None:
    """Raise DataError if neighbours in a row of tiles are not `step0_px` apart. A lone tile has none."""
    x0, y0 = bag.coords[np.lexsort((bag.coords[:, 0], bag.coords[:, 1]))].T
    gaps = np.diff(x0)[(np.diff(y0) == 0) & (np.diff(x0) > 0)]
    if len(gaps):
        values, counts = np.unique(gaps, return_counts=True)
        usual = int(values[counts.argmax()])
        if abs(usual - step0_px) > 1:
            raise DataError(
                f"{bag.source}: neighbouring tiles are {usual} level-0 px apart, tile size and overlap state "
                f"{step0_px:g}: give --tile-level0-px and --overlap-px as they were when the features were "
                "made"
            )


def _info_without_slide(bag: ForeignBag, mpp: float) -> SlideInfo:
    if bag.slide_size_px is None:
        raise ConfigError(
            f"{bag.source} does not state the slide's size: give --slides FOLDER with the slides"
        )
    return SlideInfo(
        slide_id=bag.slide_id,
        path="",
        level_sizes_px=(bag.slide_size_px,),
        level_downsamples=(1.0,),
        mpp_x=mpp,
        mpp_y=mpp,
        mpp_source="imported: tile size and tile mpp",
        bounds=None,
        vendor="",
        reader="none",
        reader_version="",
    )
