"""The settings of feature extraction, and the three records that the code takes from them."""

import re
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from wsi_mil.contracts.spec import Spec
from wsi_mil.encoders.aliases import canonical_name
from wsi_mil.errors import ConfigError
from wsi_mil.io.files import digest_json

Precision = Literal["fp32", "bf16", "fp16"]
Backend = Literal["torch", "openvino"]
AUTO: Literal["auto"] = "auto"
PLAIN: dict[str, str] = {"precision": "fp32", "backend": "torch"}
"""What auto means where no run chooses: values that are the same on every machine."""
Stain = Literal["none", "macenko", "reinhard"]
LayerPooling = Literal["mean", "mean+std", "class", "class+mean"]
"""Of the positions of a layer: their mean, with the standard deviation; of tokens also the class token."""
LayerName = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if type(value) is int else value),
    Field(pattern=r"^(-?\d+|[A-Za-z_][\w.]*)$"),
]
"""A name, or a number, which YAML gives as an integer."""
Side = Annotated[int, Field(ge=16)]
BatchSize = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
ViewCount = Annotated[int, Field(ge=0, le=16)]
WITH_LAYERS = ("timm:", "torchvision:")
LATER = ("layers", "layer_pooling", "layer_projection")


def runs_a_network(name: str) -> bool:
    """Return whether precision and backend can matter to the encoder `name`.

    False for the texture encoder, for imported features, and for the code of others (package.module:Name).

    >>> runs_a_network("timm:resnet18"), runs_a_network("uni"), runs_a_network("texture")
    (True, True, False)
    """
    return name.startswith(WITH_LAYERS) or (":" not in name and name != "texture")


class EncoderModel(Spec):
    """What makes the features: another value here means other features.

    `name`: an encoder, `family:model` or `package.module:Name`. `weights`: pretrained, random, or the path of
    a checkpoint. `revision`: commit, tag or branch of the repository on the hub; None for its main branch.
    `seed`: of random weights. `input_px`: tiles are resized to this side; None for the encoder's own input
    size. `stain`: the stains that every slide is given before it is encoded. `layers`: the layers of the
    network whose outputs are the features, pooled by `layer_pooling` and projected to `layer_projection`
    values (0: not projected); empty for the network's own features.
    """

    name: str = "texture"
    weights: str = "pretrained"
    revision: str | None = None
    seed: int = 0
    input_px: Side | None = None
    stain: Stain = "none"
    layers: tuple[LayerName, ...] = ()
    layer_pooling: LayerPooling = "mean"
    layer_projection: int = Field(default=0, ge=0)


class Computation(Spec):
    """How the features are computed. An encoder whose values depend on one of these says so in its identity.

    `device`: a torch device such as cpu or cuda:0. `compile`: torch compiles the network first. `batch_size`:
    tiles that are encoded together.
    """

    device: str = "cpu"
    precision: Precision = "fp32"
    backend: Backend = "torch"
    compile: bool = False
    batch_size: BatchSize = 64


class Augmentation(Spec):
    """Which view of a slide these features show.

    `view`: 0 for the tiles as they are, n for the n-th augmented view. `stain_strength`: how far the stains
    of a view are changed. `seed`: of these changes.
    """

    view: ViewCount = 0
    stain_strength: Fraction = 0.0
    seed: int = 0


class EncoderSpec(Spec):
    """The block `encoder` of a configuration: flat keys, as users write them.

    `name`: texture, timm:<model>, torchvision:<model> or a published encoder. `weights`: pretrained, random
    (then `seed` counts), or the path of a .safetensors, .pth or .npz checkpoint. `input_px`: tiles are
    resized to this side. `compile`: torch compiles the network first. `layers`: for timm and torchvision
    networks, the layers that give the features, by name (`features.7`) or number of a stage or block (-1: the
    last).

    `precision`: fp32, bf16, fp16 or auto. `backend`: torch, openvino (on CPUs; needs the extra `openvino`) or
    auto. A run replaces auto by values before it computes features (`wsi_mil.encoders.choice`), and stores
    these values. Elsewhere auto means fp32 and torch, and for encoders that run no network it becomes
    these at once.

    The digest of this record is part of stored models, so a key is never renamed. The code takes its values
    from `model` (what makes the features), `computation` (how) and `augmentation` (which view).

    >>> EncoderSpec(name="timm:resnet18", batch_size=8).computation("cpu").batch_size
    8
    >>> EncoderSpec(name="timm:resnet18").precision, EncoderSpec(name="texture").precision
    ('auto', 'fp32')
    """

    name: Annotated[str, AfterValidator(canonical_name)] = "texture"
    weights: str = "pretrained"
    input_px: Side | None = None
    precision: Literal["auto"] | Precision = AUTO
    backend: Literal["auto"] | Backend = AUTO
    compile: bool = False
    batch_size: BatchSize = 64
    max_unreadable: Fraction = Field(
        default=0.05, description="a slide fails if more than this fraction of its tiles cannot be read"
    )
    any_mpp: bool = Field(
        default=False, description="accept tiles of another scale than a published encoder was trained on"
    )
    revision: str | None = Field(
        default=None, description="commit, tag or branch of the hub's repository; None: its main branch"
    )
    stain: Stain = Field(
        default="none",
        description="give every slide the stains of a reference slide, measured on a sample of its tiles",
    )
    views: ViewCount = Field(
        default=0,
        description="augmented views (rotations, flips, other stains) stored beside the plain features",
    )
    view_stain_strength: Fraction = Field(
        default=0.3, description="how far the stains of views are changed: 1 is up to 25 degrees and 60 %"
    )
    view: ViewCount = Field(
        default=0,
        description="set by the program: which of the views these features are, 0 for the plain ones",
    )
    seed: int = 0
    alias: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*$", description="the name on disk"
    )
    layers: tuple[LayerName, ...] = Field(
        default=(),
        description="layers of a timm or torchvision network that give the features, by name or number",
    )
    layer_pooling: LayerPooling = Field(default="mean", description="how positions of a layer are pooled")
    layer_projection: int = Field(
        default=0, ge=0, description="project the joined layers to so many values at random; 0: do not"
    )

    @model_validator(mode="before")
    @classmethod
    def _nothing_to_choose(cls, values: object) -> object:
        """Replace auto where no network runs, so that such settings keep their digests."""
        if not isinstance(values, dict) or runs_a_network(str(values.get("name", "texture"))):
            return values
        return values | {key: plain for key, plain in PLAIN.items() if values.get(key, AUTO) == AUTO}

    @model_validator(mode="after")
    def _layers_of_a_network(self) -> "EncoderSpec":
        if not self.layers:
            for key in ("layer_pooling", "layer_projection"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(f"{key} is for layers: give encoder.layers, too")
        elif not self.name.startswith(WITH_LAYERS):
            raise ValueError(f"layers are those of {' and '.join(WITH_LAYERS)} networks, not of {self.name}")
        if len(set(self.layers)) < len(self.layers):
            raise ValueError("layers names one twice")
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leave out keys that came later, unless they are set: digests of older settings stay as they are."""
        values: dict[str, object] = handler(self)
        return {key: value for key, value in values.items() if key not in LATER or self.layers}

    @property
    def runs_a_network(self) -> bool:
        """Whether precision and backend can matter to this encoder."""
        return runs_a_network(self.name)

    @property
    def computed(self) -> dict[str, str]:
        """Precision and backend by key: the two values that can be auto."""
        return {"precision": self.precision, "backend": self.backend}

    @property
    def is_settled(self) -> bool:
        """Whether precision and backend are values, not auto."""
        return AUTO not in self.computed.values()

    @property
    def settled(self) -> "EncoderSpec":
        """These settings with fp32 and torch in place of auto."""
        stated = {key: value for key, value in self.computed.items() if value != AUTO}
        return self.model_copy(update=PLAIN | stated)

    def digest(self) -> str:
        """Return 16 hexadecimal digits that change whenever a setting does.

        Raises ConfigError for auto: what it becomes depends on the machine, so it must not be stored.
        """
        if not self.is_settled:
            raise ConfigError(
                f"encoder {self.name}: precision and backend are auto, and what is stored needs values: "
                "run `wsi-mil extract` first, or give both"
            )
        return super().digest()

    @property
    def model(self) -> EncoderModel:
        """What makes the features."""
        return EncoderModel(
            name=self.name,
            weights=self.weights,
            revision=self.revision,
            seed=self.seed,
            input_px=self.input_px,
            stain=self.stain,
            layers=self.layers,
            layer_pooling=self.layer_pooling,
            layer_projection=self.layer_projection,
        )

    def computation(self, device: str) -> Computation:
        """Return how the features are computed on `device`, which the block `execution` names; auto means
        fp32 and torch."""
        return Computation(
            device=device,
            precision="fp32" if self.precision == "auto" else self.precision,
            backend="torch" if self.backend == "auto" else self.backend,
            compile=self.compile,
            batch_size=self.batch_size,
        )

    @property
    def augmentation(self) -> Augmentation:
        """Which view these features are; strength and seed matter for augmented views only."""
        if not self.view:
            return Augmentation()
        return Augmentation(view=self.view, stain_strength=self.view_stain_strength, seed=self.seed)

    @property
    def key(self) -> str:
        """The name under which features lie in a store: the alias, or the name in characters that every disk
        takes.

        >>> EncoderSpec(name="timm:resnet18").key
        'timm.resnet18'
        """
        stain = f".{self.stain}" if self.stain != "none" else ""
        if self.layers:
            stain = f".layers-{digest_json([getattr(self, key) for key in LATER])[:6]}" + stain
        view = f".view{self.view}" if self.view else ""
        return (self.alias or re.sub(r"[^A-Za-z0-9_-]+", ".", self.name) + stain) + view

    @property
    def augmented(self) -> tuple["EncoderSpec", ...]:
        """The specifications of the augmented views that are stored beside the plain features."""
        return tuple(self.model_copy(update={"view": number + 1, "views": 0}) for number in range(self.views))
