"""What is known of a slide once it has been opened."""

from dataclasses import dataclass

from wsi_mil.contracts.record import Record, above_zero, require, require_name
from wsi_mil.errors import SlideError, StoreError
from wsi_mil.io.remote import Location


@dataclass(frozen=True)
class Bounds(Record):
    """The part of a slide that holds pixels (`openslide.bounds-*`), in level-0 pixels."""

    x0_px: int
    y0_px: int
    width_px: int
    height_px: int

    def __post_init__(self) -> None:
        for field, least in (("x0_px", 0), ("y0_px", 0), ("width_px", 1), ("height_px", 1)):
            value = getattr(self, field)
            require(value >= least, "openslide.bounds", field, f"{least} or more", value, SlideError)


@dataclass(frozen=True)
class SlideInfo(Record):
    """Geometry and scale of one slide.

    level_sizes_px: (width, height) of each level; level 0 is the finest.
    level_downsamples: how many level-0 pixels a pixel of each level covers along a side.
    mpp_x, mpp_y: µm per level-0 pixel. mpp_source: the property, tag or override that they came from.
    path: the file, "" where features were imported without the slide. reader: the name of what opened it.
    """

    slide_id: str
    path: str
    level_sizes_px: tuple[tuple[int, int], ...]
    level_downsamples: tuple[float, ...]
    mpp_x: float
    mpp_y: float
    mpp_source: str
    bounds: Bounds | None
    vendor: str
    reader: str
    reader_version: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        where = f"slide {self.slide_id!r}"
        require_name(self.slide_id, where, "slide_id", SlideError)
        sizes, downsamples = self.level_sizes_px, self.level_downsamples
        valid = len(sizes) > 0 and min(min(size) for size in sizes) >= 1
        expected = "one or more (width, height) of at least 1 pixel"
        broken = "the file's pyramid is broken, export the slide again"
        require(valid, where, "level_sizes_px", expected, sizes, SlideError, broken)
        valid = len(downsamples) == len(sizes) and above_zero(*downsamples)
        expected = f"positive, one for each of {len(sizes)} levels"
        require(valid, where, "level_downsamples", expected, downsamples, SlideError, broken)
        for field in ("mpp_x", "mpp_y"):
            value = getattr(self, field)
            require(above_zero(value), where, field, "positive (µm/px)", value, SlideError)

    @property
    def width_px(self) -> int:
        """Width of level 0."""
        return self.level_sizes_px[0][0]

    @property
    def height_px(self) -> int:
        """Height of level 0."""
        return self.level_sizes_px[0][1]

    @property
    def mpp(self) -> float:
        """Geometric mean of mpp_x and mpp_y: the side in µm of a square pixel of the same area."""
        return float((self.mpp_x * self.mpp_y) ** 0.5)


@dataclass(frozen=True)
class SlideSource(Record):
    """Where a slide of the run is.

    path: its file; None where features were imported without the slide.
    mpp: µm per level-0 pixel, or (x, y), in place of what the file says; None: what the file says.
    """

    slide_id: str
    path: Location | None
    mpp: float | tuple[float, float] | None

    def __post_init__(self) -> None:
        where = f"source of slide {self.slide_id!r}"
        require_name(self.slide_id, where, "slide_id", SlideError)
        require(self.path != "", where, "path", "a path, a URL or None", self.path, SlideError)
        mpp = self.mpp if isinstance(self.mpp, tuple) else (self.mpp,)
        valid = all(value is None or above_zero(value) for value in mpp)
        require(valid, where, "mpp", "positive (µm/px)", self.mpp, SlideError)

    @property
    def file(self) -> Location:
        """The slide's file. Raises StoreError if features were imported without it."""
        if self.path is None:
            raise StoreError(f"slide {self.slide_id!r} has no file, only features: give slides.folder=PATH")
        return self.path
