"""What all readers of slide files do: open by path, take scale and bounds from properties, pickle by path."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from wsi_mil.contracts.slide import Bounds, SlideInfo
from wsi_mil.errors import SlideError
from wsi_mil.io.remote import is_url
from wsi_mil.slides.base import SlideReader
from wsi_mil.slides.dicom_frames import check_series
from wsi_mil.slides.inspection import Inspection, inspect
from wsi_mil.slides.mpp import find_scale
from wsi_mil.slides.usable import usable_levels

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
        # Before the library sees the file: some files end the process in which OpenSlide opens them.
        self.inspection = None if is_url(path) else inspect(path, slide_id)
        if self.inspection is not None:
            self._check_inspection(self.inspection, slide_id)
        elif not is_url(path):
            check_series(path, slide_id)
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
        try:
            self.info = self._describe(handle, slide_id, mpp)
        except SlideError:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise SlideError(
                f"slide {slide_id!r}: its properties cannot be read by {self.library} "
                f"({type(error).__name__}: {error}): {path}"
            ) from error

    def _describe(self, handle: Any, slide_id: str, mpp: MppOverride) -> SlideInfo:
        """Return what the library states, checked against the structure of the file."""
        if self.inspection is None:
            self.inspection = self._inspect_handle(handle, slide_id)
            if self.inspection is not None:
                self._check_inspection(self.inspection, slide_id)
        properties = {key: value for key, value in dict(handle.properties).items() if value is not None}
        size = handle.level_dimensions[0]
        scale = find_scale(properties, slide_id, mpp, (int(size[0]), int(size[1])))
        vendor = str(properties.get(f"{self.library}.vendor", "unknown"))
        levels = usable_levels(handle, properties, self.library, vendor, self.inspection, slide_id)
        self._library_levels = levels.numbers
        return SlideInfo(
            slide_id=slide_id,
            path=self._path,
            level_sizes_px=levels.sizes_px,
            level_downsamples=levels.downsamples,
            mpp_x=scale.mpp_x,
            mpp_y=scale.mpp_y,
            mpp_source=scale.source,
            bounds=find_bounds(properties),
            vendor=vendor,
            reader=self.name,
            reader_version=self._version(),
            notes=(*scale.notes, *levels.notes),
        )

    def _library_level(self, level: int) -> int:
        return self._library_levels[level]

    def _inspect_handle(self, handle: Any, slide_id: str) -> Inspection | None:
        """Return the inspection of a file that only the library can open (behind a URL)."""
        return None

    def _check_inspection(self, inspection: Inspection, slide_id: str) -> None:
        problem = self._why_not(inspection)
        if problem:
            raise SlideError(f"slide {slide_id!r}: {problem}. Use slides.reader=auto")

    def _why_not(self, inspection: Inspection) -> str:
        """Return why this reader would show the pixels of a file wrongly; "" if it shows them rightly."""
        if inspection.plain:
            return ""
        return f"reader {self.name!r} does not turn the pixels of this file into RGB"

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
