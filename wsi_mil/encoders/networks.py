"""Networks of timm and torchvision as encoders: head removed, features pooled, their own normalisation."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsi_mil.encoders.base import Encoder
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.encoders.weights import SUFFIXES, load_trunk, read_checkpoint, weights_digest
from wsi_mil.errors import ConfigError, EncoderError, nearest

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class NetworkEncoder(Encoder):
    """A headless network that maps (B, 3, S, S) to (B, dim), with its mean, std and input size."""

    def __init__(
        self,
        spec: EncoderSpec,
        trunk: nn.Module,
        device: torch.device,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        input_px: int,
        interpolation: str = "bilinear",
    ) -> None:
        if spec.precision == "fp16" and device.type == "cpu":
            raise ConfigError("encoder.precision=fp16 is a hundred times slower than bf16 on a CPU: use bf16 or fp32")
        self.device = device
        self._dtype = PRECISIONS[spec.precision]
        self._trunk = trunk.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._mean = torch.tensor(mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=device).view(1, 3, 1, 1)
        self._input_px = input_px
        self._interpolation = interpolation
        self.identity = {
            "name": spec.name,
            "weights": weights_digest(trunk),
            "input_px": input_px,
            "mean": list(mean),
            "std": list(std),
            "interpolation": interpolation,
            "precision": spec.precision,
        }
        self.dim = int(self.encode(torch.zeros(1, 32, 32, 3, dtype=torch.uint8)).shape[1])

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        images = pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float() / 255  # -> (B, 3, S, S)
        if images.shape[2:] != (self._input_px, self._input_px):
            size = (self._input_px, self._input_px)
            images = F.interpolate(images, size, mode=self._interpolation, antialias=True).clamp(0, 1)
        images = ((images - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32):
            features: Tensor = self._trunk(images)
        return features.float().flatten(1)


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

    trunk = _with_weights(spec, create)
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

    trunk = _with_weights(spec, create)
    return NetworkEncoder(spec, trunk, device, mean=IMAGENET_MEAN, std=IMAGENET_STD, input_px=spec.input_px or 224)


def _with_weights(spec: EncoderSpec, create: Callable[[bool], nn.Module]) -> nn.Module:
    if spec.weights == "pretrained":
        try:
            return create(True)
        except ConfigError:
            raise
        except Exception as error:
            raise EncoderError(
                f"the pretrained weights of {spec.name} could not be fetched ({type(error).__name__}). Offline? Put a "
                "checkpoint on disk and give encoder.weights=PATH, or say encoder.weights=random"
            ) from error
    if spec.weights == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(spec.seed)
            return create(False)
    path = Path(spec.weights)
    if path.suffix not in SUFFIXES and not path.exists():
        raise EncoderError(
            f"encoder.weights={spec.weights!r} is neither 'pretrained' nor 'random' nor the path of a checkpoint "
            f"({', '.join(SUFFIXES)})"
        )
    trunk = create(False)
    load_trunk(trunk, read_checkpoint(path), spec.name, path.name)
    return trunk
