"""timm:<model>."""

import torch
from torch import nn

from wsi_mil.encoders.networks import NetworkEncoder, with_weights
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.errors import ConfigError, nearest


def build_timm(spec: EncoderSpec, device: torch.device) -> NetworkEncoder:
    """Return timm:<model>, pooled as timm pools it, with mean, std and size of its own data config."""
    import timm

    name = spec.name.partition(":")[2]
    if not timm.is_model(name.partition(".")[0]):
        raise ConfigError(
            f"timm has no model {name!r}. Nearest: {nearest(name, timm.list_models())}. List: `wsi-mil ls encoders`"
        )
    options: dict[str, object] = {"num_classes": 0}
    if spec.input_px is not None and "vit" in name:
        options |= {"img_size": spec.input_px, "dynamic_img_size": True}

    def create(pretrained: bool) -> nn.Module:
        model: nn.Module = timm.create_model(name, pretrained=pretrained, **options)
        return model

    trunk = with_weights(spec, create)
    config = timm.data.resolve_model_data_config(trunk)
    return NetworkEncoder(
        spec,
        trunk,
        device,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        input_px=spec.input_px or int(config["input_size"][-1]),
        interpolation="bicubic" if config["interpolation"] == "bicubic" else "bilinear",
    )


BUILD = build_timm
