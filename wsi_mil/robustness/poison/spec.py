"""What a poison is: a signal that has nothing to do with tumour, how strong, how much of a slide, and where."""

from typing import Literal

from pydantic import Field

from wsi_mil.contracts.spec import Spec

PoisonKind = Literal["noise", "pen", "cast", "stain", "blur", "jpeg", "chip"]
Placement = Literal["off_tumour", "anywhere"]

WHOLE_SLIDE_KINDS = ("cast", "stain")
LOCAL_COVERAGE = 0.15


class PoisonSpec(Spec):
    """`noise`: grains of green; `pen`: strokes of ink; `cast`: a colour over everything; `stain`: other haematoxylin and
    eosin; `blur`: out of focus; `jpeg`: saved twice, the first time badly and on another grid; `chip`: foreign tissue.

    Local kinds lie on patches of `patch_share` of the area of chosen tiles (pen: on strokes); `coverage` is the share of
    the slide's tiles that end up touched. Coverage 1 is the whole slide, glass included: the default of cast and stain.
    `off_tumour`: no pixel of an outlined lesion is changed.

    >>> PoisonSpec(kind="cast").share, PoisonSpec().share
    (1.0, 0.15)
    """

    kind: PoisonKind = "noise"
    strength: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="noise, pen, chip: opacity; cast, stain: share of the full shift; blur: of 4 µm; jpeg: of the loss from quality 95 to 5",
    )
    coverage: float | None = Field(
        default=None, gt=0, le=1, description="share of tiles touched; none: 0.15, cast and stain 1"
    )
    placement: Placement = "off_tumour"
    patch_share: float = Field(default=0.5, gt=0, le=1, description="of a chosen tile's area")
    colour: tuple[int, int, int] = Field(
        default=(40, 190, 60), description="red, green, blue of noise, pen and cast"
    )
    grain_um: float = Field(default=1.0, gt=0, description="size of a grain of noise")
    width_um: float = Field(default=60.0, gt=0, description="width of a pen stroke")
    stain_gains: tuple[float, float] | None = Field(
        default=None,
        description="stain: haematoxylin and eosin times these, in place of another laboratory's drawn vectors and gains",
    )
    seed: int = Field(default=0, ge=0, description="of places and noise; the colour of a stain, too")

    @property
    def share(self) -> float:
        """The share of tiles to be touched."""
        if self.coverage is not None:
            return self.coverage
        return 1.0 if self.kind in WHOLE_SLIDE_KINDS else LOCAL_COVERAGE

    @property
    def whole_slide(self) -> bool:
        return self.share == 1.0

    @property
    def title(self) -> str:
        """A short name for folders and tables, such as noise_c15_s100."""
        return f"{self.kind}_c{round(100 * self.share)}_s{round(100 * self.strength)}"
