"""A network without its head as an encoder: tiles are resized and normalised, then run; and where weights come from."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsi_mil.encoders.base import Encoder, to_device
from wsi_mil.encoders.engines import make_engine
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.encoders.weights import SUFFIXES, load_trunk, read_checkpoint, weights_digest
from wsi_mil.errors import ConfigError, EncoderError


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


def with_weights(spec: EncoderSpec, create: Callable[[bool], nn.Module]) -> nn.Module:
    """Return the network that `create(pretrained)` makes, with the weights that `spec.weights` asks for.

    Raises EncoderError if the weights cannot be had or do not fit.
    """
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
