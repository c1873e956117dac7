"""The interface of slide readers, whichever library reads the file."""

import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.arrays import RGB
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.errors import SlideError
from wsi_mil.execution.guard import cause_of
from wsi_mil.logs import logger
from wsi_mil.slides.state import SlideState

GLASS = 255  # beyond the edge of a slide and behind transparent pixels, every reader shows white


def on_background(rgba: NDArray[np.uint8], colour: tuple[int, int, int]) -> RGB:
    """Return (H, W, 3) of pixels (H, W, 4) uint8 with straight alpha, laid over a background of one colour.

    >>> on_background(np.array([[[9, 9, 9, 255], [9, 9, 9, 0]]], np.uint8), (255, 254, 253)).tolist()
    [[[9, 9, 9], [255, 254, 253]]]
    """
    alpha = rgba[:, :, 3:]
    if alpha.min() == 255:
        return np.ascontiguousarray(rgba[:, :, :3])
    weight = alpha.astype(np.float32) / 255
    background = np.array(colour, np.float32)
    return np.rint(rgba[:, :, :3] * weight + background * (1 - weight)).astype(np.uint8)


class SlideReader(ABC):
    """An open slide. Use as a context manager; safe to share between threads and to pickle.

    Each thread gets its own handle of the library: tiffslide's handles are not safe to share, and threads
    that share one of OpenSlide's wait for its cache. A pickled reader holds how to open the slide, and
    unpickling opens it again.

    A new reader defines `_open_handle`, `_read` and `__reduce__`, and sets `info`.
    """

    info: SlideInfo
    state: SlideState | None = None
    """What the slide is read from, as `open_slide` found it; None for a reader that was made otherwise."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._handles: list[Any] = []
        self._lock = threading.Lock()
        self._closed = False

    @abstractmethod
    def _open_handle(self) -> Any:
        """Return a new handle of the library, used by one thread only."""

    @abstractmethod
    def _read(self, handle: Any, level: int, x_px: int, y_px: int, width_px: int, height_px: int) -> RGB:
        """Return the pixels of a rectangle inside `level`; all four numbers are pixels of that level.

        (height_px, width_px, 3) uint8, or 4 channels, whose last is opacity (255: opaque).
        """

    def _library_level(self, level: int) -> int:
        """Return the number that the library gives to a level of `info`, which may leave some out."""
        return level

    def _handle(self) -> Any:
        if self._closed:
            raise SlideError(f"slide {self.info.slide_id!r} is closed: open it again before reading")
        handle = getattr(self._local, "handle", None)
        if handle is None:
            try:
                handle = self._local.handle = self._open_handle()
            except SlideError:
                raise
            except Exception as error:
                raise SlideError(
                    f"slide {self.info.slide_id!r} cannot be opened again "
                    f"({type(error).__name__}: {error}): was it moved, or is the limit of open files reached?"
                ) from error
            with self._lock:
                self._handles.append(handle)
        return handle

    def read_region(self, x0_px: int, y0_px: int, level: int, width_px: int, height_px: int) -> RGB:
        """Return pixels (height_px, width_px, 3) uint8 of `level`, whose top-left corner is at level-0
        (x0_px, y0_px).

        Width and height are pixels of `level`. Beyond the edge of the slide the result is white, like glass.
        Raises SlideError, naming slide and place, if the slide is closed, the level does not exist, or the
        file cannot be read there.

        >>> from wsi_mil.slides import ArrayReader
        >>> reader = ArrayReader(np.zeros((4, 6, 3), np.uint8), mpp=0.5)
        >>> reader.read_region(4, 1, 0, 3, 2)[:, :, 0].tolist()
        [[0, 0, 255], [0, 0, 255]]
        """
        info = self.info
        if not 0 <= level < len(info.level_sizes_px):
            raise SlideError(
                f"slide {info.slide_id!r} has levels 0 to {len(info.level_sizes_px) - 1}, not {level}"
            )
        if width_px < 1 or height_px < 1:
            raise SlideError(
                f"slide {info.slide_id!r}: a region of {width_px} x {height_px} px has no pixels"
            )
        handle = self._handle()
        level_width, level_height = info.level_sizes_px[level]
        x_px = round(x0_px * level_width / info.width_px)
        y_px = round(y0_px * level_height / info.height_px)
        left, top = max(x_px, 0), max(y_px, 0)
        right, lower = min(x_px + width_px, level_width), min(y_px + height_px, level_height)
        inside = right > left and lower > top
        if inside and (right - left, lower - top) == (width_px, height_px):
            return self._checked_read(handle, level, left, top, width_px, height_px)
        region = np.full((height_px, width_px, 3), GLASS, np.uint8)
        if inside:
            pixels = self._checked_read(handle, level, left, top, right - left, lower - top)
            region[top - y_px : lower - y_px, left - x_px : right - x_px] = pixels
        return region

    def _checked_read(
        self, handle: Any, level: int, x_px: int, y_px: int, width_px: int, height_px: int
    ) -> RGB:
        place = f"level {level}, x {x_px}, y {y_px}, {width_px} x {height_px} px"
        try:
            pixels = self._read(handle, self._library_level(level), x_px, y_px, width_px, height_px)
        except Exception as error:
            # After an error OpenSlide refuses every further read of that handle: later reads need a new one.
            self._drop(handle)
            raise SlideError(
                f"slide {self.info.slide_id!r}: no pixels at {place} ({type(error).__name__}: {error})"
            ) from error
        if pixels.dtype != np.uint8 or pixels.shape not in (
            (height_px, width_px, 3),
            (height_px, width_px, 4),
        ):
            raise SlideError(
                f"slide {self.info.slide_id!r}: reader {self.info.reader!r} gave {pixels.shape} "
                f"{pixels.dtype} at {place}, expected ({height_px}, {width_px}, 3) uint8: report it to the "
                "author of the reader"
            )
        return pixels if pixels.shape[2] == 3 else on_background(pixels, (GLASS, GLASS, GLASS))

    def _drop(self, handle: Any) -> None:
        """Close a handle that failed, so that failures do not use up the open files of the process."""
        self._local.handle = None
        with self._lock:
            self._handles = [other for other in self._handles if other is not handle]
        _close(handle)

    def close(self) -> None:
        """Close every thread's handle; later reads raise SlideError."""
        self._closed = True
        with self._lock:
            for handle in self._handles:
                _close(handle)
            self._handles.clear()

    @property
    def source_digest(self) -> str:
        """Return the digest of the files that `open_slide` opened; "" for a reader that was made
        otherwise."""
        return self.state.digest if self.state is not None else ""

    def check_unchanged(self) -> None:
        """Raise SlideError if the slide's files are no longer those that `open_slide` opened.

        To be called after the last pixel is read and before anything that was made of it is written; the end
        of a `with` block does it, too. A file that is replaced while it is read gives pixels of two slides.
        """
        if self.state is not None:
            self.state.check()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is None or (isinstance(error, Exception) and cause_of(error) == "slide"):
            self.check_unchanged()  # it is the better reason for an error within the block


def _close(handle: Any) -> None:
    """Close a handle; nothing is lost if the library cannot close it."""
    close = getattr(handle, "close", None)
    if close is not None:
        try:
            close()
        except Exception:
            logger().debug("a handle cannot be closed", exc_info=True)
