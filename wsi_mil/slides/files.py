"""What all readers of slide files do: open by path, take scale and bounds from properties, pickle by path."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from wsi_mil.contracts.slide import Bounds, SlideInfo
from wsi_mil.errors import SlideError
from wsi_mil.slides.base import SlideReader
from wsi_mil.slides.mpp import find_scale

MppOverride = float | tuple[float, float] | None


class FileReader(SlideReader, ABC):
    """Base of the readers whose library has the interface of OpenSlide.

    `name`: the reader's name, as in `slides.reader`. `library`: the library that opens the file. Raises
    SlideError if the file cannot be opened, and ScaleError if nothing states its scale.
    """

    name: ClassVar[str]
    library: ClassVar[str]

    def __init__(self, path: str, *, slide_id: str, mpp: MppOverride = None) -> None:
        super().__init__()
        self._arguments = (path, slide_id, mpp)
        self._path = path
        try:
            handle = self._open_handle()
        except SlideError:
            raise
        except Exception as error:
            raise SlideError(
                f"slide {slide_id!r} cannot be opened by {self.library} ({type(error).__name__}: {error}): "
                f"{path}"
            ) from error
        self._local.handle = handle
        self._handles.append(handle)
        properties = {key: value for key, value in dict(handle.properties).items() if value is not None}
        try:
            scale = find_scale(properties, slide_id, mpp)
        except SlideError:
            self.close()
            raise
        sizes = tuple((int(width), int(height)) for width, height in handle.level_dimensions)
        self.info = SlideInfo(
            slide_id=slide_id,
            path=path,
            level_sizes_px=sizes,
            level_downsamples=tuple(float(d) for d in handle.level_downsamples),
            mpp_x=scale.mpp_x,
            mpp_y=scale.mpp_y,
            mpp_source=scale.source,
            bounds=find_bounds(properties),
            vendor=str(properties.get(f"{self.library}.vendor", "unknown")),
            reader=self.name,
            reader_version=self._version(),
            notes=scale.notes,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        path, slide_id, mpp = self._arguments
        return _reopen, (type(self), path, slide_id, mpp)

    @abstractmethod
    def _version(self) -> str:
        """Return the versions of the libraries that read the pixels."""


def _reopen(kind: type[FileReader], path: str, slide_id: str, mpp: MppOverride) -> FileReader:
    return kind(path, slide_id=slide_id, mpp=mpp)


def find_bounds(properties: Mapping[str, object]) -> Bounds | None:
    """Return the four `openslide.bounds-*`; None unless all four are there as whole numbers.

    QuPath decides in the same way (rules Q34 and Q35 in docs/qupath).
    """
    try:
        x0, y0, width, height = (
            int(str(properties[f"openslide.bounds-{k}"])) for k in ("x", "y", "width", "height")
        )
    except (KeyError, ValueError):
        return None
    return Bounds(x0, y0, width, height)
