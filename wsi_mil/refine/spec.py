"""Settings of refinement."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from wsi_mil.contracts.spec import Spec

RefineMethod = Literal["plain", "gain", "loss_attention"]
RefinePart = Literal["train", "val", "test", "unlabelled"]


class RefineSpec(Spec):
    """A small network learns from tiles that the slide model is sure of, and maps suspicious tiles.

    sure_above, suspicious_above: quantiles of the scores of tiles of normal training slides. Tumour in
    training are tiles of tumour slides above `sure_above`; normal are tiles of normal slides, half of them
    those with the highest scores. At most `tiles_per_class` tiles of each are used. Tiles above
    `suspicious_above`, and their neighbours, are refined. Where scores are attention, a tile must also have
    more weight than 1 / number of tiles, in a slide that is called, to be tumour or refined. polygons: a
    folder with outlines (QuPath, ASAP) of training slides, which then decide instead.
    """

    method: RefineMethod = "plain"
    backbone: str = Field(
        default="small", description="small, or timm:NAME[@STAGE] for the feature maps of a timm network"
    )
    pretrained: bool = Field(default=False, description="of a timm network: fetch its weights")
    mpp: float = Field(default=2.0, gt=0, description="µm per pixel that the network sees")
    map_mpp: float = Field(default=4.0, gt=0, description="µm per pixel of the maps")
    margin_um: float = Field(default=32.0, ge=0, description="what the network sees around a tile")
    sure_above: float = Field(default=0.999, gt=0, lt=1)
    suspicious_above: float = Field(default=0.99, gt=0, lt=1)
    tiles_per_class: int = Field(default=1000, ge=8)
    epochs: int = Field(default=6, ge=1)
    batch: int = Field(default=32, ge=2)
    lr: float = Field(default=2e-3, gt=0)
    polygons: Path | None = None
    parts: tuple[RefinePart, ...] = ("val", "test", "unlabelled")
    seed: int = 0
