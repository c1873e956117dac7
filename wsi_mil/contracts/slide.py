"""What is known of a slide once it is open."""

from dataclasses import dataclass

from wsi_mil.errors import SlideError, StoreError
from wsi_mil.io.remote import Location


@dataclass(frozen=True)
class Bounds:
    """The part of the canvas that holds pixels (`openslide.bounds-*`), level-0 px."""

    x0_px: int
    y0_px: int
    width_px: int
    height_px: int


@dataclass(frozen=True)
class SlideInfo:
    """Geometry and scale of one slide. Sizes are (width, height); level 0 is the finest.

    `mpp_x`, `mpp_y`: µm per level-0 pixel. `mpp_source`: the property, tag or override that they came from.
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
        if not self.level_sizes_px or len(self.level_sizes_px) != len(self.level_downsamples):
            raise SlideError(
                f"slide {self.slide_id!r}: {len(self.level_sizes_px)} level sizes for "
                f"{len(self.level_downsamples)} downsamples; the file's pyramid is broken: export the slide again"
            )
        if not (self.mpp_x > 0 and self.mpp_y > 0):
            raise SlideError(
                f"slide {self.slide_id!r}: mpp must be positive, got {self.mpp_x}, {self.mpp_y} µm/px"
            )
        if min(min(size) for size in self.level_sizes_px) < 1:
            raise SlideError(
                f"slide {self.slide_id!r}: a level has no pixels, sizes are {self.level_sizes_px}"
            )

    @property
    def width_px(self) -> int:
        return self.level_sizes_px[0][0]

    @property
    def height_px(self) -> int:
        return self.level_sizes_px[0][1]

    @property
    def mpp(self) -> float:
        """Geometric mean of mpp_x and mpp_y: the side of a square pixel of the same area."""
        return float((self.mpp_x * self.mpp_y) ** 0.5)


@dataclass(frozen=True)
class SlideSource:
    """A slide of the run: its id, its file (None: features were imported and the slide is not at hand), and the mpp that
    overrides the file's (None: the file's own)."""

    slide_id: str
    path: Location | None
    mpp: float | tuple[float, float] | None

    @property
    def file(self) -> Location:
        """The slide's file. Raises StoreError if it is not at hand."""
        if self.path is None:
            raise StoreError(f"the file of slide {self.slide_id!r} is not at hand: give slides.folder=PATH")
        return self.path
