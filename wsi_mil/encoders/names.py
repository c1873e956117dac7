"""Names of encoders and of families of encoders, with where each is built."""

from wsi_mil.encoders.published import PUBLISHED
from wsi_mil.registry import Registry

ENCODERS = Registry(
    "encoder",
    {
        **dict.fromkeys(PUBLISHED, "wsi_mil.encoders.pathology:build_published"),
        "ctranspath": "wsi_mil.encoders.ctranspath:build_ctranspath",
        "texture": "wsi_mil.encoders.texture:TextureEncoder",
    },
)
FAMILIES = Registry(
    "encoder",
    {
        "imported": "wsi_mil.encoders.imported:refuse",
        "timm": "wsi_mil.encoders.networks:build_timm",
        "torchvision": "wsi_mil.encoders.networks:build_torchvision",
    },
)
