"""`timm:<model>`: the networks of timm."""

import re

from torch import nn

from wsi_mil.encoders.layers import with_layers
from wsi_mil.encoders.networks import InputTransform, NetworkEncoder, with_weights
from wsi_mil.encoders.spec import Computation, EncoderModel
from wsi_mil.errors import ConfigError, nearest

OWN_NAME = re.compile(r"[\w.-]+")


def build_timm(model: EncoderModel, computation: Computation) -> NetworkEncoder:
    """Return timm:<model>, pooled as timm pools it, with mean, std and size of its own data configuration."""
    import timm

    name = model.name.partition(":")[2]
    # a name with ":" or "/" would be a repository on a hub, or a folder, of whatever content
    if not OWN_NAME.fullmatch(name) or not timm.is_model(name.partition(".")[0]):
        raise ConfigError(
            f"timm has no model {name!r}. Nearest: {nearest(name, timm.list_models())}. "
            "List: `wsi-mil ls encoders`"
        )
    options: dict[str, object] = {"num_classes": 0}
    if model.input_px is not None and "vit" in name:
        options |= {"img_size": model.input_px, "dynamic_img_size": True}

    def create(pretrained: bool) -> nn.Module:
        network: nn.Module = timm.create_model(name, pretrained=pretrained, **options)
        return network

    trunk = with_weights(model, create)
    config = timm.data.resolve_model_data_config(trunk)
    transform = InputTransform(
        model.input_px or int(config["input_size"][-1]),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation="bicubic" if config["interpolation"] == "bicubic" else "bilinear",
    )
    trunk = with_layers(trunk, model, transform.input_px, int(getattr(trunk, "num_prefix_tokens", 0)))
    return NetworkEncoder(model, computation, trunk, transform)


BUILD = build_timm
