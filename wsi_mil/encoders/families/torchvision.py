"""torchvision:<model>."""

import torch
from torch import Tensor, nn

from wsi_mil.encoders.networks import NetworkEncoder, with_weights
from wsi_mil.encoders.published import IMAGENET_MEAN, IMAGENET_STD
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.errors import ConfigError, nearest


class _PooledMaps(nn.Module):
    """The feature maps of a CNN, averaged over positions."""

    def __init__(self, features: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.last = last

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.last(self.features(images))
        return maps.mean((2, 3))  # (B, C, h, w) -> (B, C)


MAP_FAMILIES = ("squeezenet", "alexnet", "vgg", "densenet", "mobilenet", "efficientnet", "mnasnet")
HEADS = {
    "resnet": "fc",
    "resnext": "fc",
    "wide_resnet": "fc",
    "regnet": "fc",
    "shufflenet": "fc",
    "vit": "heads",
    "swin": "head",
}


def build_torchvision(spec: EncoderSpec, device: torch.device) -> NetworkEncoder:
    """Return torchvision:<model> without its head; CNNs with `features` are averaged over positions."""
    from torchvision import models

    name = spec.name.partition(":")[2]
    names = models.list_models(module=models)
    if name not in names:
        raise ConfigError(
            f"torchvision has no model {name!r}. Nearest: {nearest(name, names)}. List: `wsi-mil ls encoders`"
        )

    def create(pretrained: bool) -> nn.Module:
        model = models.get_model(name, weights="DEFAULT" if pretrained else None)
        if name.startswith(MAP_FAMILIES):
            features = model.features if hasattr(model, "features") else model.layers
            # DenseNet keeps its last ReLU in forward(), after the features
            return _PooledMaps(features, nn.ReLU() if name.startswith("densenet") else nn.Identity())
        head = next((attribute for prefix, attribute in HEADS.items() if name.startswith(prefix)), None)
        if head is None:
            raise ConfigError(
                f"torchvision:{name} is not prepared as an encoder; use timm:{name} or one of {sorted(HEADS)}"
            )
        setattr(model, head, nn.Identity())
        return model  # type: ignore[no-any-return]

    trunk = with_weights(spec, create)
    return NetworkEncoder(
        spec, trunk, device, mean=IMAGENET_MEAN, std=IMAGENET_STD, input_px=spec.input_px or 224
    )


BUILD = build_torchvision
