"""Open a slide with a named reader, or with the first of several that can read it."""

from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from wsi_mil.errors import ConfigError, ScaleError, SlideError
from wsi_mil.execution.activity import OPENING, activity
from wsi_mil.io.remote import Location, is_url, open_url
from wsi_mil.logs import logger
from wsi_mil.registry import FolderRegistry
from wsi_mil.slides.base import SlideReader
from wsi_mil.slides.files import MppOverride
from wsi_mil.slides.ids import slide_id_text
from wsi_mil.slides.inspection import PixelError
from wsi_mil.slides.state import slide_state
from wsi_mil.slides.usable import check_levels, lacks_levels

READERS = FolderRegistry("reader", "wsi_mil.slides.readers", "READER", "wsi_mil.readers")
REMOVED = {"jpeg_tiles_dct": "jpeg_tiles"}
CHOSEN_BY_AUTO = ("jpeg_tiles", "openslide", "tiff")


def open_slide(
    path: str | Path, *, slide_id: str | None = None, reader: str = "auto", mpp: MppOverride = None
) -> SlideReader:
    """Return an open slide; `mpp` (µm/px, or a pair for x and y) overrides the scale that the file states.

    `reader`: its name, or auto. `auto` tries raw JPEG tiles, then OpenSlide, then tifffile; `info.reader` is
    the one that opened the slide. No other reader is tried for one that is named. Only tiffslide reads URLs.
    Raises SlideError with the error of each reader that was tried, and ConfigError for a reader that does not
    exist.
    """
    if isinstance(path, str) and is_url(path):
        own = slide_id_text(PurePosixPath(path).stem)
        with activity(own if slide_id is None else slide_id, OPENING):
            return _open_url(path, own if slide_id is None else slide_id, reader, mpp)
    path = Path(path)
    slide_id = slide_id if slide_id is not None else slide_id_text(path.stem)
    with activity(slide_id, OPENING):
        state = slide_state(path, slide_id)
        try:
            if reader != "auto":
                slide = _open(reader, path, slide_id, mpp)
            else:
                slide = _first_that_opens(path, slide_id, mpp)
        except SlideError:
            state.check()  # a file that was changed meanwhile is the better reason
            raise
        slide.state = state
        return slide


def _open_url(path: str, slide_id: str, reader: str, mpp: MppOverride) -> SlideReader:
    if reader not in ("auto", "tiffslide"):
        raise SlideError(
            f"{path}: slides.reader={reader} reads local files; behind URLs only tiffslide does: "
            "leave the key out"
        )
    open_url(path)  # raises an error that names the package which is missing for this kind of URL
    state = slide_state(path, slide_id)
    slide = _open("tiffslide", path, slide_id, mpp)
    slide.state = state
    return slide


def _first_that_opens(path: Path, slide_id: str, mpp: MppOverride) -> SlideReader:
    """Return the slide as the first reader shows it that uses all levels of the file; else as the first."""
    problems: list[SlideError] = []
    incomplete: SlideReader | None = None
    for name in CHOSEN_BY_AUTO:
        try:
            slide = _open(name, path, slide_id, mpp)
        except PixelError:
            raise
        except SlideError as error:
            problems.append(error)
            continue
        if incomplete is not None and not lacks_levels(slide):
            incomplete.close()
            return slide
        if incomplete is None and not lacks_levels(slide):
            if problems:
                logger().debug("slide %s is read by %s, because %s", slide_id, name, problems[0])
            return slide
        if incomplete is None:
            incomplete = slide
        else:
            slide.close()
    if incomplete is not None:
        return incomplete
    for problem in problems:
        if isinstance(problem, ScaleError):  # the file can be opened; the user has to give its scale
            raise problem
    raise SlideError(f"slide {slide_id!r} cannot be opened: " + "; ".join(dict.fromkeys(map(str, problems))))


def check_reader(name: str) -> None:
    """Raise ConfigError unless `name` is ours, that of an installed package, or `package.module:Name`."""
    if name in REMOVED:
        raise ConfigError(
            f"slides.reader={name!r} was removed (it saved a tenth of the reading time): use "
            f"{REMOVED[name]!r} or 'auto'"
        )
    _ = READERS[name]


@cache
def _reader(name: str) -> Any:
    """Return the class of a reader. The registry lists its folder at every call: slow."""
    check_reader(name)
    return READERS.load(name)


def _open(name: str, path: Location, slide_id: str, mpp: MppOverride) -> SlideReader:
    slide = _reader(name)(str(path), slide_id=slide_id, mpp=mpp)
    if not isinstance(slide, SlideReader):
        raise ConfigError(
            f"reader {name!r} made a {type(slide).__name__}: it must derive from wsi_mil.slides.SlideReader"
        )
    check_levels(slide.info)
    return slide
