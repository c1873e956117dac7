"""The settings of a poison: an artificial signal on slides that says nothing about tumour."""

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from wsi_mil.contracts.spec import Spec
from wsi_mil.errors import ConfigError
from wsi_mil.io.files import digest_json
from wsi_mil.robustness.poison.kinds import POISONS, load_poison

Placement = Literal["off_tumour", "anywhere"]
Direction = Literal["normal", "tumour"]
"""Which class carries the poison in training; in the test it is the other one."""

LOCAL_COVERAGE = 0.15


class PoisonSpec(Spec):
    """`noise`: grains of green; `pen`: strokes of ink; `cast`: a tint over the whole slide; `stain`:
    haematoxylin and eosin of another laboratory; `blur`: out of focus; `jpeg`: compressed once more; `chip`:
    foreign tissue.

    Local kinds lie on rectangles of `patch_share` of the area of chosen tiles (pen: on strokes). `coverage`
    is the fraction of the slide's tiles that are touched; 1 is the whole slide with its glass, the default of
    cast and stain. With placement `off_tumour` no pixel of an outlined lesion changes.

    >>> PoisonSpec(kind="cast").share, PoisonSpec().share
    (1.0, 0.15)
    """

    kind: str = Field(
        default="noise", description="a module of wsi_mil/robustness/poison/kinds, or package.module:Name"
    )
    strength: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="noise, chip: opacity; pen: fraction of light that the ink filters; cast, stain: "
        "fraction of the full shift; blur: of 4 µm; jpeg: of the loss from quality 95 to 5",
    )
    coverage: float | None = Field(
        default=None, gt=0, le=1, description="fraction of tiles touched; null: 0.15, for cast and stain 1"
    )
    placement: Placement = "off_tumour"
    patch_share: float = Field(default=0.5, gt=0, le=1, description="fraction of a chosen tile's area")
    colour: tuple[int, int, int] = Field(
        default=(40, 190, 60), description="red, green, blue of noise, pen and cast"
    )
    grain_um: float = Field(default=1.0, gt=0, description="size of a grain of noise")
    width_um: float = Field(default=60.0, gt=0, description="width of a pen stroke")
    stain_gains: tuple[float, float] | None = Field(
        default=None,
        description="stain: amounts of haematoxylin and eosin are multiplied by these; null: another "
        "laboratory's vectors and amounts are drawn",
    )
    seed: int = Field(default=0, ge=0, description="of places, of noise and of another laboratory's stain")
    directions: tuple[Direction, ...] = Field(
        default=("normal", "tumour"),
        min_length=1,
        description="classes that carry the poison in training, each an experiment of its own; the other "
        "class carries it in the test",
    )
    params: dict[str, float] = Field(
        default={}, description="parameters that only this kind has; the kinds of wsi_mil itself have none"
    )

    def __hash__(self) -> int:
        """Return a hash of all settings; `params` is a dict, which Python cannot hash by itself."""
        return hash(self.digest())

    @field_validator("directions")
    @classmethod
    def _each_once(cls, directions: tuple[Direction, ...]) -> tuple[Direction, ...]:
        if len(set(directions)) < len(directions):
            raise ValueError(f"directions: each class once, found {', '.join(directions)}")
        return directions

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        try:
            _ = POISONS[kind]
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return kind

    @model_validator(mode="after")
    def _parameters_belong_to_the_kind(self) -> "PoisonSpec":
        if self.params:
            known = load_poison(self.kind).parameters
            unknown = sorted(set(self.params) - set(known))
            if unknown:
                raise ValueError(
                    f"params: kind {self.kind!r} has no parameter {unknown[0]!r}. Known: "
                    f"{', '.join(known) or 'none'}"
                )
        return self

    @model_serializer(mode="wrap")
    def _without_empty_params(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave empty `params` out, so that digests and files of kinds without parameters stay as
        they were.
        """
        found: dict[str, Any] = serialize(self)
        if not self.params:
            found.pop("params", None)
        return found

    def painted(self) -> dict[str, Any]:
        """Return the settings that decide what the painted slides look like, as JSON: all but
        `directions`.
        """
        found = self.model_dump(mode="json")
        found.pop("directions", None)
        return found

    def digest(self) -> str:
        """Return 16 hexadecimal digits that change whenever the painted slides do.

        >>> PoisonSpec(directions=("tumour",)).digest() == PoisonSpec().digest()
        True
        """
        return digest_json(self.painted())

    @property
    def share(self) -> float:
        """The fraction of tiles to touch."""
        if self.coverage is not None:
            return self.coverage
        return 1.0 if load_poison(self.kind).whole_slide else LOCAL_COVERAGE

    @property
    def whole_slide(self) -> bool:
        """Whether every pixel is covered."""
        return self.share == 1.0

    @property
    def title(self) -> str:
        """A short name for folders and tables, such as noise_c15_s100."""
        kind = self.kind.rpartition(":")[2]
        return f"{kind}_c{round(100 * self.share)}_s{round(100 * self.strength)}"
