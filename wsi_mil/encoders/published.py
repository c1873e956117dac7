"""Published pathology encoders: architecture, input, scales and licence of each.

The facts come from the authors' model cards and papers. This repository holds none of their weights: they are
fetched from the hub under the user's own account, or read from a local file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.errors import ConfigError
from wsi_mil.io.tables import text_table

Triple = tuple[float, float, float]
Pooling = Literal["class", "class+mean", "pooled"]
"""class: the class token. class+mean: the class token followed by the mean of the patch tokens. pooled: the
average that the network itself takes."""

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
HALF: Triple = (0.5, 0.5, 0.5)
OPTIMUS_MEAN: Triple = (0.707223, 0.578729, 0.703617)
OPTIMUS_STD: Triple = (0.211883, 0.230117, 0.177517)
LUNIT_MEAN: Triple = (0.70322989, 0.53606487, 0.66096631)
LUNIT_STD: Triple = (0.21716536, 0.26081574, 0.20723464)
TOLERANCE = 0.15
"""Accepted relative difference in scale: the common 256 px tiles resized to 224 px are 14 % coarser."""


@dataclass(frozen=True)
class Published:
    """One encoder.

    `architecture`, `options`: arguments of timm.create_model. `dim`: features per tile. `hub`, `file`:
    repository and name of the checkpoint. `mpps`: the scales in µm/px on which it was trained; empty if there
    is none in particular. `resize_px`: tiles are resized to this side and the central `input_px` are taken.
    `layout`: the library whose names the checkpoint uses.
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
    layout: Literal["timm", "vit", "dinov2"] = "timm"
    file: str = "pytorch_model.bin"


DYNAMIC = {"init_values": 1e-5, "dynamic_img_size": True}
SWIGLU = {"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"}
VIRCHOW = {"img_size": 224, "init_values": 1e-5, "mlp_ratio": 5.3375, **SWIGLU}
OPTIMUS = {"img_size": 224, "init_values": 1e-5, "dynamic_img_size": False}
NC_ND = "CC BY-NC-ND 4.0, access on request"
LUNIT_LICENCE = "Lunit, non-commercial"

PUBLISHED: dict[str, Published] = {
    "uni": Published("vit_large_patch16_224", 1024, NC_ND, "MahmoodLab/UNI", DYNAMIC),
    "uni2-h": Published(
        "vit_giant_patch14_224",
        1536,
        NC_ND,
        "MahmoodLab/UNI2-h",
        {
            "img_size": 224,
            "patch_size": 14,
            "depth": 24,
            "num_heads": 24,
            "embed_dim": 1536,
            "mlp_ratio": 2.66667 * 2,
            "no_embed_class": True,
            "reg_tokens": 8,
            **DYNAMIC,
            **SWIGLU,
        },
    ),
    "virchow": Published(
        "vit_huge_patch14_224",
        2560,
        "Apache 2.0, access on request",
        "paige-ai/Virchow",
        VIRCHOW,
        "class+mean",
        interpolation="bicubic",
    ),
    "virchow2": Published(
        "vit_huge_patch14_224",
        2560,
        NC_ND,
        "paige-ai/Virchow2",
        {**VIRCHOW, "reg_tokens": 4},
        "class+mean",
        mpps=(0.25, 0.5, 1.0, 2.0),
        interpolation="bicubic",
    ),
    "phikon": Published(
        "vit_base_patch16_224",
        768,
        "Owkin, non-commercial",
        "owkin/phikon",
        {"norm_eps": 1e-12},
        layout="vit",
    ),
    "phikon-v2": Published(
        "vit_large_patch16_224",
        1024,
        "Owkin, non-commercial",
        "owkin/phikon-v2",
        {"init_values": 1.0},
        layout="dinov2",
        interpolation="bicubic",
        file="model.safetensors",
    ),
    "h-optimus-0": Published(
        "vit_giant_patch14_reg4_dinov2",
        1536,
        "Apache 2.0",
        "bioptimus/H-optimus-0",
        OPTIMUS,
        mean=OPTIMUS_MEAN,
        std=OPTIMUS_STD,
    ),
    "h-optimus-1": Published(
        "vit_giant_patch14_reg4_dinov2",
        1536,
        NC_ND,
        "bioptimus/H-optimus-1",
        OPTIMUS,
        mean=OPTIMUS_MEAN,
        std=OPTIMUS_STD,
    ),
    "h0-mini": Published(
        "vit_base_patch14_reg4_dinov2",
        1536,
        NC_ND,
        "bioptimus/H0-mini",
        {"img_size": 224, "init_values": 1e-5, "mlp_ratio": 5.33334, **SWIGLU},
        "class+mean",
        mean=OPTIMUS_MEAN,
        std=OPTIMUS_STD,
        interpolation="bicubic",
    ),
    "gigapath": Published(
        "vit_giant_patch14_dinov2",
        1536,
        "Apache 2.0, research use, access on request",
        "prov-gigapath/prov-gigapath",
        {
            "img_size": 224,
            "patch_size": 16,
            "depth": 40,
            "num_heads": 24,
            "embed_dim": 1536,
            "mlp_ratio": 5.33334,
            **DYNAMIC,
        },
        resize_px=256,
        interpolation="bicubic",
    ),
    "lunit-vits16": Published(
        "vit_small_patch16_224",
        384,
        LUNIT_LICENCE,
        "1aurent/vit_small_patch16_224.lunit_dino",
        {"dynamic_img_size": True},
        mpps=(0.25, 0.5),
        mean=LUNIT_MEAN,
        std=LUNIT_STD,
        file="model.safetensors",
    ),
    "lunit-vits8": Published(
        "vit_small_patch8_224",
        384,
        LUNIT_LICENCE,
        "1aurent/vit_small_patch8_224.lunit_dino",
        {"dynamic_img_size": True},
        mpps=(0.25, 0.5),
        mean=LUNIT_MEAN,
        std=LUNIT_STD,
        file="model.safetensors",
    ),
    "lunit-resnet50-bt": Published(
        "resnet50",
        2048,
        LUNIT_LICENCE,
        "1aurent/resnet50.lunit_bt",
        pooling="pooled",
        mpps=(0.25, 0.5),
        mean=LUNIT_MEAN,
        std=LUNIT_STD,
        file="model.safetensors",
    ),
    **{
        f"kaiko-{short}": Published(
            architecture,
            dim,
            "Kaiko, non-commercial",
            f"1aurent/{card}.kaiko_ai_towards_large_pathology_fms",
            {"dynamic_img_size": True, **more},
            mpps=(0.25, 0.5, 1.0, 2.0),
            mean=HALF,
            std=HALF,
            file="model.safetensors",
        )
        for short, architecture, card, dim, more in (
            ("vits16", "vit_small_patch16_224", "vit_small_patch16_224", 384, {}),
            ("vits8", "vit_small_patch8_224", "vit_small_patch8_224", 384, {}),
            ("vitb16", "vit_base_patch16_224", "vit_base_patch16_224", 768, {}),
            ("vitb8", "vit_base_patch8_224", "vit_base_patch8_224", 768, {}),
            (
                "vitl14",
                "vit_large_patch14_reg4_dinov2",
                "vit_large_patch14_reg4_224",
                1024,
                {"img_size": 224, "init_values": 1e-5},
            ),
        )
    },
    "resnet50-clam": Published(
        "resnet50",
        1024,
        "BSD 3-Clause (torchvision weights)",
        "timm/resnet50.tv_in1k",
        {"features_only": True, "out_indices": (3,)},
        "pooled",
        mpps=(),
        file="model.safetensors",
    ),
    "ctranspath": Published(
        "swin_tiny_patch4_window7_224", 768, "GPL 3.0, file of its authors", pooling="pooled", mpps=(1.0,)
    ),
}


def refuse_other_scale(encoder: EncoderSpec, tiles: TileSpec) -> None:
    """Raise ConfigError if a published encoder was trained on another scale than that of the tiles.

    The error names settings that fit.
    """
    known = PUBLISHED.get(encoder.name)
    if known is None or not known.mpps or encoder.any_mpp:
        return
    seen = tiles.mpp * tiles.size_px / (encoder.input_px or known.resize_px)
    if any(abs(seen / mpp - 1) <= TOLERANCE and tiles.mpp / mpp - 1 <= TOLERANCE for mpp in known.mpps):
        return
    enlarged = " by enlarging" if seen < tiles.mpp else ""
    scales = " or ".join(f"{mpp:g}" for mpp in known.mpps)
    nearest = min(known.mpps, key=lambda mpp: abs(seen / mpp - 1))
    raise ConfigError(
        f"encoder {encoder.name} was trained on {scales} µm/px, tiles of {tiles.size_px} px at "
        f"{tiles.mpp:g} µm/px show it {seen:.3g}{enlarged}: set tiles.mpp={nearest:g} "
        f"tiles.size_px={known.resize_px}, or encoder.any_mpp=true"
    )


def catalog_table(names: list[str]) -> str:
    """Return a table with one line per published encoder: features, input, scales, pooling, licence, hub."""
    head = ("encoder", "features", "input px", "µm/px", "pooling", "licence", "hub")
    rows = [head]
    for name in names:
        record = PUBLISHED[name]
        scales = ", ".join(f"{mpp:g}" for mpp in record.mpps) or "any"
        sizes = (str(record.dim), str(record.input_px), scales)
        rows.append((name, *sizes, record.pooling, record.licence, record.hub or "-"))
    return text_table(rows)
