"""Encoders whose checkpoints are networks of timm as they are, and convolutional ones."""

from wsi_mil.encoders.published.record import HALF, NC_ND, Published, Triple

OPTIMUS_MEAN: Triple = (0.707223, 0.578729, 0.703617)
OPTIMUS_STD: Triple = (0.211883, 0.230117, 0.177517)
LUNIT_MEAN: Triple = (0.70322989, 0.53606487, 0.66096631)
LUNIT_STD: Triple = (0.21716536, 0.26081574, 0.20723464)
LUNIT_LICENCE = "Lunit, non-commercial"
DYNAMIC = {"init_values": 1e-5, "dynamic_img_size": True}
SWIGLU = {"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"}
VIRCHOW = {"img_size": 224, "init_values": 1e-5, "mlp_ratio": 5.3375, **SWIGLU}
OPTIMUS = {"img_size": 224, "init_values": 1e-5, "dynamic_img_size": False}

PLAIN: dict[str, Published] = {
    "uni": Published("vit_large_patch16_224", 1024, NC_ND, "MahmoodLab/UNI", DYNAMIC, precision="fp16"),
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
        precision="bf16",
    ),
    "virchow": Published(
        "vit_huge_patch14_224",
        2560,
        "Apache 2.0, access on request",
        "paige-ai/Virchow",
        VIRCHOW,
        "class+mean",
        interpolation="bicubic",
        precision="fp16",
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
        precision="fp16",
    ),
    "h-optimus-0": Published(
        "vit_giant_patch14_reg4_dinov2",
        1536,
        "Apache 2.0, access on request",
        "bioptimus/H-optimus-0",
        OPTIMUS,
        mean=OPTIMUS_MEAN,
        std=OPTIMUS_STD,
        precision="fp16",
    ),
    "h-optimus-1": Published(
        "vit_giant_patch14_reg4_dinov2",
        1536,
        NC_ND,
        "bioptimus/H-optimus-1",
        OPTIMUS,
        mean=OPTIMUS_MEAN,
        std=OPTIMUS_STD,
        precision="fp16",
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
        precision="fp16",
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
        precision="fp16",
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
            f"1aurent/{architecture}.kaiko_ai_towards_large_pathology_fms",
            {"dynamic_img_size": True, **more},
            mpps=(0.25, 0.5, 1.0, 2.0),
            mean=HALF,
            std=HALF,
            grid="timm" if more else "same",
            file="model.safetensors",
        )
        for short, architecture, dim, more in (
            ("vits16", "vit_small_patch16_224", 384, {}),
            ("vits8", "vit_small_patch8_224", 384, {}),
            ("vitb16", "vit_base_patch16_224", 768, {}),
            ("vitb8", "vit_base_patch8_224", 768, {}),
            ("vitl14", "vit_large_patch14_reg4_dinov2", 1024, {"img_size": 224, "init_values": 1e-5}),
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
    "retccl": Published(
        "resnet50",
        2048,
        "GPL 3.0, file of its authors",
        pooling="pooled",
        input_px=256,
        resize_px=256,
        mpps=(1.0,),
        file="best_ckpt.pth",
    ),
}
