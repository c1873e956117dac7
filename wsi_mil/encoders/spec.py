"""What was asked of an encoder."""

import re
from typing import Literal

from pydantic import Field

from wsi_mil.contracts.spec import Spec


class EncoderSpec(Spec):
    """`name`: texture, timm:<model> or torchvision:<model>. `weights`: pretrained, random (then `seed` counts), or
    the path of a .safetensors, .pth or .npz checkpoint. `input_px`: tiles are resized to this side. `backend`: openvino
    runs networks on CPUs faster than torch (needs the extra `openvino`). `compile`: let torch compile the network first."""

    name: str = "texture"
    weights: str = "pretrained"
    input_px: int | None = Field(default=None, ge=16)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    backend: Literal["torch", "openvino"] = "torch"
    compile: bool = False
    batch_size: int = Field(default=64, ge=1)
    max_unreadable: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="a slide fails if its file does not give more than this share of its tiles",
    )
    any_mpp: bool = Field(
        default=False, description="take tiles of another scale than a published encoder was made for"
    )
    revision: str | None = Field(
        default=None, description="commit, tag or branch of the hub's repository; None: its main branch"
    )
    stain: Literal["none", "macenko", "reinhard"] = Field(
        default="none",
        description="give every slide the stains of a reference slide first; found in a sample of its tiles",
    )
    views: int = Field(
        default=0,
        ge=0,
        le=16,
        description="augmented views (turns, flips, other stains) stored beside the plain features",
    )
    view_stain_strength: float = Field(
        default=0.3, ge=0, le=1, description="how far the stains of views go: 1 is up to 25 degrees and 60 %"
    )
    view: int = Field(
        default=0, ge=0, le=16, description="set by `views`: which one these features are, 0 the plain ones"
    )
    seed: int = 0
    alias: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.-]+$", description="the name on disk")

    @property
    def key(self) -> str:
        """The name under which features lie in a store: the alias, or the name in letters that every disk takes.

        >>> EncoderSpec(name="timm:resnet18").key
        'timm.resnet18'
        """
        stain = f".{self.stain}" if self.stain != "none" else ""
        view = f".view{self.view}" if self.view else ""
        return (self.alias or re.sub(r"[^A-Za-z0-9_-]+", ".", self.name) + stain) + view

    @property
    def augmented(self) -> tuple["EncoderSpec", ...]:
        """The specifications of the views that are stored beside the plain features."""
        return tuple(self.model_copy(update={"view": number + 1, "views": 0}) for number in range(self.views))
