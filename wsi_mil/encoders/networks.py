"""Networks of timm and torchvision as encoders: head removed, features pooled, their own normalisation."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsi_mil.encoders.base import Encoder, to_device
from wsi_mil.encoders.engines import make_engine
from wsi_mil.encoders.published import IMAGENET_MEAN, IMAGENET_STD
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.encoders.weights import SUFFIXES, load_trunk, read_checkpoint, weights_digest
from wsi_mil.errors import ConfigError, EncoderError, nearest


class NetworkEncoder(Encoder):
    """A headless network that maps (B, 3, S, S) to (B, dim), with its mean, std and input size.

    Tiles stay uint8 until they are on the device and of the network's size: resizing rounds to whole grey levels, as the image
    libraries do with which the published networks were trained. `spec.backend` says what runs the network.
    """

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
        resize_px: int | None = None,
    ) -> None:
        if spec.precision == "fp16" and device.type == "cpu":
            raise ConfigError(
                "encoder.precision=fp16 is a hundred times slower than bf16 on a CPU: use bf16 or fp32"
            )
        self.device = device
        self._input_px = input_px
        self._resize_px = resize_px or input_px
        self._interpolation = interpolation
        # pixels lie as rows of (x, channel): normalising whole rows is one vectorised pass, in any other order it is five times slower
        scale, shift = (
            torch.tensor(values).repeat(input_px) for values in (_over(255, std), _shifts(mean, std))
        )
        self._scale, self._shift = scale.to(device), shift.to(device)
        self._engine = make_engine(spec, trunk.eval(), device, input_px)
        self.identity = {
            "name": spec.name,
            "weights": weights_digest(trunk),
            "input_px": input_px,
            "mean": list(mean),
            "std": list(std),
            "interpolation": interpolation,
            "resized": "uint8" if self._resize_px == input_px else f"uint8, {resize_px} px, the middle taken",
            "precision": spec.precision,
            **({"backend": spec.backend} if spec.backend != "torch" else {}),
        }
        self.dim = int(self.encode(torch.zeros(1, 32, 32, 3, dtype=torch.uint8)).shape[1])

    def encode(self, pixels: Tensor) -> Tensor:
        return self.forward(self.prepare(pixels))

    @torch.inference_mode()
    def prepare(self, pixels: Tensor) -> Tensor:
        """Return the network's input (B, 3, S, S) float32, channels last, on the device, of (B, T, T, 3) uint8 tiles."""
        images = to_device(pixels, self.device).permute(0, 3, 1, 2)  # -> (B, 3, T, T)
        size = (self._resize_px, self._resize_px)
        if images.shape[2:] != size:
            if self.device.type != "cpu":  # only the CPU resizes whole numbers
                images = images.float()
            images = F.interpolate(images, size, mode=self._interpolation, antialias=True)
            if self.device.type != "cpu":
                images = images.clamp_(0, 255).round_()
        side, margin = self._input_px, (self._resize_px - self._input_px) // 2
        images = images[:, :, margin : margin + side, margin : margin + side]
        rows = images.permute(0, 2, 3, 1).reshape(-1, 3 * side).float()  # -> (B S, S 3)
        rows.mul_(self._scale).add_(self._shift)
        return rows.view(-1, side, side, 3).permute(0, 3, 1, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, dim) float32 features of prepared images."""
        return self._engine(images)


def _over(count: int, std: tuple[float, ...]) -> list[float]:
    return [1 / (count * value) for value in std]


def _shifts(mean: tuple[float, ...], std: tuple[float, ...]) -> list[float]:
    return [-m / s for m, s in zip(mean, std, strict=True)]


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
    return NetworkEncoder(
        spec, trunk, device, mean=IMAGENET_MEAN, std=IMAGENET_STD, input_px=spec.input_px or 224
    )


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
