"""Image encoders of models of images and text. Their text encoders are not built."""

from dataclasses import replace

from wsi_mil.encoders.published.plain import DYNAMIC
from wsi_mil.encoders.published.record import HALF, NC_ND, OPENAI_MEAN, OPENAI_STD, Published

MUSK = Published(
    "beit3_large_patch16_224",
    1024,
    NC_ND,
    "xiangjx/musk",
    {"img_size": 384, "global_pool": "token"},
    input_px=384,
    resize_px=384,
    mpps=(0.25, 0.5, 1.0),
    mean=HALF,
    std=HALF,
    interpolation="bicubic",
    layout="beit3",
    file="model.safetensors",
    precision="fp16",
)
LANGUAGE: dict[str, Published] = {
    "conch": Published(
        "vit_base_patch16_224",
        512,
        NC_ND,
        "MahmoodLab/conch",
        {"img_size": 448},
        "attention",
        input_px=448,
        resize_px=448,
        mean=OPENAI_MEAN,
        std=OPENAI_STD,
        interpolation="bicubic",
        layout="conch",
    ),
    "conch-v1.5": Published(
        "vit_large_patch16_224",
        768,
        NC_ND,
        "MahmoodLab/conchv1_5",
        {"img_size": 448, "init_values": 1.0},
        "attention (v1.5)",
        input_px=448,
        resize_px=448,
        layout="conch",
        grid="ibot",
        file="pytorch_model_vision.bin",
        precision="fp16",
    ),
    "musk": MUSK,
    "musk-multiscale": replace(MUSK, dim=2048, pooling="class at two scales"),
    "keep": Published(
        "vit_large_patch16_224",
        768,
        "MIT",
        "Astaxanthin/KEEP",
        DYNAMIC,
        "mlp",
        interpolation="bicubic",
        layout="keep",
        file="model.safetensors",
        precision="fp16",
    ),
    "plip": Published(
        "vit_base_patch32_clip_quickgelu_224",
        512,
        "non-commercial, no licence file",
        "vinid/plip",
        pooling="projected",
        mpps=(),
        mean=OPENAI_MEAN,
        std=OPENAI_STD,
        interpolation="bicubic",
        layout="clip",
    ),
}
