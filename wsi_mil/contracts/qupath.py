"""How files are written for QuPath: in which form, and in which frame."""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import field_validator

from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.spec import Spec
from wsi_mil.errors import ConfigError

BoundsMode = Literal["auto", "on", "off"]
QuPathVersion = Literal["0.3", "0.4"]


class QuPathSpec(Spec):
    """`version`: 0.4 is read by QuPath 0.4 and later, 0.3 by 0.3.x. `bounds`: whether QuPath crops slides to their
    `openslide.bounds-*`: `auto` where a slide has all four (what QuPath does), `on` demands them, `off` for slides that
    are opened with `--no-crop`. Files without a note of their own are read in the same frame."""

    version: QuPathVersion = "0.4"
    bounds: BoundsMode = "auto"

    @field_validator("version", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, float) else value  # YAML reads 0.3 as a number

    @field_validator("bounds", mode="before")
    @classmethod
    def _as_word(cls, value: object) -> object:
        return (
            {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value
        )  # YAML reads on as true


@dataclass(frozen=True)
class QuPathFrame:
    """The image as QuPath shows it: QuPath's (x, y) = level-0 (x, y) - offset (rules Q34 to Q39)."""

    mode: BoundsMode
    offset_px: tuple[int, int]
    size_px: tuple[int, int]

    def header(self) -> dict[str, Any]:
        """Return what a file says of its frame."""
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
            f"slide {info.slide_id!r} has no openslide.bounds-*, and qupath.bounds=on demands them: use auto or off"
        )
    if bounds is None or mode == "off":
        return QuPathFrame(mode, (0, 0), (info.width_px, info.height_px))
    return QuPathFrame(mode, (bounds.x0_px, bounds.y0_px), (bounds.width_px, bounds.height_px))
