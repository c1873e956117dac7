"""Encoders of the DINOv2 and DINOv3 families whose checkpoints have the names of transformers or of Meta."""

from wsi_mil.encoders.published.plain import SWIGLU
from wsi_mil.encoders.published.record import HALF, Published, Triple

HIBOU_MEAN: Triple = (0.7068, 0.5755, 0.722)
HIBOU_STD: Triple = (0.195, 0.2316, 0.1816)
GENBIO_MEAN: Triple = (0.697, 0.575, 0.728)
GENBIO_STD: Triple = (0.188, 0.240, 0.187)
OWKIN_LICENCE = "Owkin, non-commercial"
AT_224 = {"img_size": 224, "init_values": 1e-5}

DINOV2: dict[str, Published] = {
    "phikon": Published(
        "vit_base_patch16_224", 768, OWKIN_LICENCE, "owkin/phikon", {"norm_eps": 1e-12}, layout="vit"
    ),
    "phikon-v2": Published(
        "vit_large_patch16_224",
        1024,
        OWKIN_LICENCE,
        "owkin/phikon-v2",
        {"init_values": 1.0},
        layout="vit",
        interpolation="bicubic",
        file="model.safetensors",
    ),
    **{
        name: Published(
            architecture,
            dim,
            "Apache 2.0, access on request",
            hub,
            {**AT_224, "mlp_ratio": mlp_ratio, **SWIGLU},
            mean=HIBOU_MEAN,
            std=HIBOU_STD,
            interpolation="bicubic",
            layout="vit",
            file="model.safetensors",
        )
        for name, architecture, dim, hub, mlp_ratio in (
            # two thirds of 4 x 768 and of 4 x 1024, made a multiple of 8, twice: 2 x 2048 and 2 x 2736
            ("hibou-b", "vit_base_patch14_reg4_dinov2", 768, "histai/hibou-b", 4096 / 768),
            ("hibou-l", "vit_large_patch14_reg4_dinov2", 1024, "histai/hibou-L", 5472 / 1024),
        )
    },
    "midnight-12k": Published(
        "vit_giant_patch14_dinov2",
        3072,
        "MIT",
        "kaiko-ai/midnight",
        AT_224,
        "class+mean",
        mpps=(0.25, 0.5, 1.0, 2.0),
        mean=HALF,
        std=HALF,
        layout="vit",
        grid="transformers",
        file="model.safetensors",
        precision="fp16",
    ),
    "openmidnight": Published(
        "vit_giant_patch14_reg4_dinov2",
        1536,
        "Apache 2.0, access on request",
        "SophontAI/OpenMidnight",
        AT_224,
        mpps=(),  # patches of every level of the slides
        layout="vit",
        file="teacher_checkpoint_load.pt",
        precision="fp16",
    ),
    "gpfm": Published(
        "vit_large_patch14_dinov2",
        1024,
        "CC BY-NC-ND 4.0",
        "majiabo/GPFM",
        AT_224,
        interpolation="bicubic",
        layout="vit",
        file="GPFM.pth",
        precision="fp16",
    ),
    "genbio-pathfm": Published(
        "vit_large_patch16_dinov3",
        4608,
        "GenBio AI Community License, non-commercial",
        "genbio-ai/genbio-pathfm",
        {
            "img_size": 224,
            "in_chans": 1,
            "depth": 40,
            "num_heads": 24,
            "embed_dim": 1536,
            "mlp_ratio": 4096 / 1536,
            "swiglu_mlp": True,
            "swiglu_align_to": 64,
            "norm_eps": 1e-6,
        },
        "class of each colour",
        mean=GENBIO_MEAN,
        std=GENBIO_STD,
        layout="dinov3",
        file="model.pth",
        precision="bf16",
    ),
    **{
        f"dinov3-{short}": Published(
            architecture,
            dim,
            "DINOv3 License",
            f"timm/{architecture}.lvd1689m",
            input_px=256,
            resize_px=256,
            mpps=(),
            layout="dinov3",
            file="model.safetensors",
        )
        for short, architecture, dim in (
            ("vits16", "vit_small_patch16_dinov3", 384),
            ("vits16plus", "vit_small_plus_patch16_dinov3", 384),
            ("vitb16", "vit_base_patch16_dinov3", 768),
            ("vitl16", "vit_large_patch16_dinov3", 1024),
            ("vith16plus", "vit_huge_plus_patch16_dinov3", 1280),
        )
    },
}
