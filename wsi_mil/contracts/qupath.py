"""How files are written for QuPath: for which version, and with which origin of coordinates."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import field_validator

from wsi_mil.contracts.record import Record, require
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.spec import Spec
from wsi_mil.errors import ConfigError

BoundsMode = Literal["auto", "on", "off"]
QuPathVersion = Literal["0.3", "0.4"]


class QuPathSpec(Spec):
    """Settings of the files for QuPath.

    version: "0.4" is read by QuPath 0.4 and later, "0.3" by QuPath 0.3.x.
    bounds: whether QuPath crops slides to their `openslide.bounds-*`. "auto": where a slide has all four, as
    QuPath
    does. "on": always; a slide without them is an error. "off": never, for slides opened with `--no-crop`.
    A file that is read and does not say its own origin is taken to have this one.
    """

    version: QuPathVersion = "0.4"
    bounds: BoundsMode = "auto"

    @field_validator("version", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, float) else value  # YAML reads 0.3 as a number

    @field_validator("bounds", mode="before")
    @classmethod
    def _as_word(cls, value: object) -> object:
        if isinstance(value, bool):  # YAML reads on as true
            return "on" if value else "off"
        return value


@dataclass(frozen=True)
class QuPathFrame(Record):
    """The image as QuPath shows it: QuPath's (x, y) is level-0 (x, y) - offset (rules Q34 to Q39).

    offset_px: (x, y) and size_px: (width, height), both in level-0 pixels.
    """

    mode: BoundsMode
    offset_px: tuple[int, int]
    size_px: tuple[int, int]

    def __post_init__(self) -> None:
        where, modes = "QuPath frame", get_args(BoundsMode)
        require(self.mode in modes, where, "mode", f"one of {modes}", self.mode)
        require(min(self.offset_px) >= 0, where, "offset_px", "0 or more", self.offset_px)
        require(min(self.size_px) >= 1, where, "size_px", "1 or more", self.size_px)

    def header(self) -> dict[str, Any]:
        """Return the frame as the header of a file states it."""
        return {
            "bounds_mode": self.mode,
            "bounds_offset_px": list(self.offset_px),
            "frame_size_px": list(self.size_px),
        }


def qupath_frame(info: SlideInfo, mode: BoundsMode = "auto") -> QuPathFrame:
    """Return the frame of a slide. Raises ConfigError if `mode` is "on" and the slide has no bounds."""
    bounds = info.bounds
    if bounds is None and mode == "on":
        raise ConfigError(
            f"slide {info.slide_id!r} has no openslide.bounds-*, which qupath.bounds=on requires: "
            "use auto or off"
        )
    if bounds is None or mode == "off":
        return QuPathFrame(mode, (0, 0), (info.width_px, info.height_px))
    return QuPathFrame(mode, (bounds.x0_px, bounds.y0_px), (bounds.width_px, bounds.height_px))
