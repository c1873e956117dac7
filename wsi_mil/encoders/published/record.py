"""The record of one published encoder, and the colour statistics that several of them share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Triple = tuple[float, float, float]
Pooling = Literal[
    "class",
    "class+mean",
    "class of each colour",
    "class at two scales",
    "pooled",
    "attention",
    "attention (v1.5)",
    "projected",
    "mlp",
]
"""What of the network's output is the feature vector.

class: the class token. class+mean: the class token followed by the mean of the patch tokens. class of each
colour: the class tokens of the red, the green and the blue image. class at two scales: the class token,
followed by the mean of those of the four quarters at twice the size. pooled: the average that the network
itself takes. attention, attention (v1.5): attentional pooling of all tokens as in CONCH and in CONCH v1.5.
projected: a linear map of the class token. mlp: two layers on the class token, then unit length.
"""
Layout = Literal["timm", "vit", "dinov3", "conch", "keep", "clip", "beit3"]
"""Whose names the tensors of a checkpoint have; `wsi_mil.encoders.layouts` translates them. vit: ViT and
DINOv2 with the names of transformers or of DINOv2's own code."""
Grid = Literal["same", "timm", "transformers", "ibot"]
"""What happens to position embeddings of another grid than the network's. same: they are refused. timm,
transformers, ibot: they are resampled as the authors' code does, which is of that library."""

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
HALF: Triple = (0.5, 0.5, 0.5)
OPENAI_MEAN: Triple = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD: Triple = (0.26862954, 0.26130258, 0.27577711)
NC_ND = "CC BY-NC-ND 4.0, access on request"


@dataclass(frozen=True)
class Published:
    """One encoder; docs/encoders.md says where each fact comes from.

    `architecture`, `options`: arguments of timm.create_model. `dim`: features per tile. `hub`, `file`:
    repository and name of the checkpoint; without `hub`, it is a file of its authors. `mpps`: the scales in
    µm/px on which it was trained; empty if there is none in particular. `resize_px`: tiles are resized to
    this side and the central `input_px` are taken. `layout`, `grid`: how a checkpoint is read. `precision`:
    in which the authors or TRIDENT run it; it records a fact and changes nothing by itself.
    """

    architecture: str
    dim: int
    licence: str
    hub: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
    pooling: Pooling = "class"
    input_px: int = 224
    resize_px: int = 224
    mpps: tuple[float, ...] = (0.5,)
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    layout: Layout = "timm"
    grid: Grid = "same"
    file: str = "pytorch_model.bin"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
