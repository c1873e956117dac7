"""`torchvision:<model>`: the networks of torchvision."""

from typing import final

from torch import Tensor, nn

from wsi_mil.encoders.layers import with_layers
from wsi_mil.encoders.networks import InputTransform, NetworkEncoder, with_weights
from wsi_mil.encoders.published import IMAGENET_MEAN, IMAGENET_STD
from wsi_mil.encoders.spec import Computation, EncoderModel
from wsi_mil.errors import ConfigError, nearest


@final
class _PooledMaps(nn.Module):
    """The feature maps of a CNN, averaged over positions."""

    def __init__(self, features: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.last = last

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, C) features of prepared images (B, 3, S, S)."""
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


def build_torchvision(model: EncoderModel, computation: Computation) -> NetworkEncoder:
    """Return torchvision:<model> without its head; the feature maps of a CNN are averaged over positions."""
    from torchvision import models

    name = model.name.partition(":")[2]
    names = models.list_models(module=models)
    if name not in names:
        raise ConfigError(
            f"torchvision has no model {name!r}. Nearest: {nearest(name, names)}. List: `wsi-mil ls encoders`"
        )

    def create(pretrained: bool) -> nn.Module:
        network = models.get_model(name, weights="DEFAULT" if pretrained else None)
        if name.startswith(MAP_FAMILIES):
            features = network.features if hasattr(network, "features") else network.layers
            # DenseNet applies its last ReLU in forward(), after the features.
            return _PooledMaps(features, nn.ReLU() if name.startswith("densenet") else nn.Identity())
        head = next((attribute for prefix, attribute in HEADS.items() if name.startswith(prefix)), None)
        if head is None:
            raise ConfigError(
                f"torchvision:{name} is not prepared as an encoder; use timm:{name} or one of {sorted(HEADS)}"
            )
        setattr(network, head, nn.Identity())
        return network  # type: ignore[no-any-return]

    transform = InputTransform(model.input_px or 224, IMAGENET_MEAN, IMAGENET_STD)
    trunk, prefix = with_weights(model, create), 1 if name.startswith("vit") else 0
    trunk = with_layers(trunk, model, transform.input_px, prefix)
    return NetworkEncoder(model, computation, trunk, transform)


BUILD = build_torchvision
