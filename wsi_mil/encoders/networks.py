"""A network without its classification head as an encoder, and where its weights come from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsi_mil.encoders.base import Encoder, check_tiles, to_device
from wsi_mil.encoders.engines import make_engine
from wsi_mil.encoders.spec import Computation, EncoderModel
from wsi_mil.encoders.weights import SUFFIXES, load_trunk, read_checkpoint, weights_digest
from wsi_mil.errors import ConfigError, EncoderError

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class InputTransform:
    """How tiles become the input of a network: (x / 255 - mean) / std per channel at `input_px` px.

    `interpolation`: bilinear or bicubic. `resize_px`: tiles are resized to this side and the central
    `input_px` are taken; None for `input_px`, so that the whole tile is seen.
    """

    input_px: int
    mean: Triple
    std: Triple
    interpolation: str = "bilinear"
    resize_px: int | None = None

    def __post_init__(self) -> None:
        if self.side_px < self.input_px:
            raise EncoderError(
                f"an input of {self.input_px} px cannot be cut from tiles resized to {self.resize_px} px"
            )

    @property
    def side_px(self) -> int:
        """The side to which tiles are resized."""
        return self.resize_px or self.input_px


@final
class NetworkEncoder(Encoder):
    """A network (B, 3, S, S) -> (B, dim) as an encoder: tiles are resized, normalised and run through it.

    Tiles stay uint8 until they are on the device and of the network's size. Resizing rounds to whole grey
    levels, as the image libraries do with which the published networks were trained.
    """

    def __init__(
        self, model: EncoderModel, computation: Computation, trunk: nn.Module, transform: InputTransform
    ) -> None:
        self.device = torch.device(computation.device)
        if computation.precision == "fp16" and self.device.type == "cpu":
            raise ConfigError(
                "encoder.precision=fp16 is a hundred times slower than bf16 on a CPU: use bf16 or fp32; "
                "features that were begun with fp16 on a GPU continue on a GPU"
            )
        self._transform = transform
        # Pixels lie in memory as rows of (x, channel). Normalising whole rows is one vectorised operation; in
        # any other order it takes five times as long.
        scale = [1 / (255 * value) for value in transform.std]
        shift = [-m / s for m, s in zip(transform.mean, transform.std, strict=True)]
        self._scale, self._shift = (
            torch.tensor(values).repeat(transform.input_px).to(self.device) for values in (scale, shift)
        )
        self._engine = make_engine(computation, trunk.eval(), transform.input_px)
        whole = transform.side_px == transform.input_px
        self.identity = {
            "name": model.name,
            "weights": weights_digest(trunk),
            "input_px": transform.input_px,
            "mean": list(transform.mean),
            "std": list(transform.std),
            "interpolation": transform.interpolation,
            "resized": "uint8" if whole else f"uint8, {transform.resize_px} px, the middle taken",
            "precision": computation.precision,
            **({"backend": computation.backend} if computation.backend != "torch" else {}),
            **({"layers": [*model.layers], "layer_pooling": model.layer_pooling} if model.layers else {}),
        }
        self.dim = int(self.encode(torch.zeros(1, 32, 32, 3, dtype=torch.uint8)).shape[1])

    def encode(self, pixels: Tensor) -> Tensor:
        """Return (B, dim) float32 features of (B, S, S, 3) uint8 tiles."""
        check_tiles(pixels)
        return self.forward(self.prepare(pixels))

    @torch.inference_mode()
    def prepare(self, pixels: Tensor) -> Tensor:
        """Return the network's input of (B, T, T, 3) uint8 tiles: (B, 3, S, S) float32 on the device.

        Its memory is laid out channels last.
        """
        transform = self._transform
        images = to_device(pixels, self.device).permute(0, 3, 1, 2)  # -> (B, 3, T, T)
        size = (transform.side_px, transform.side_px)
        if images.shape[2:] != size:
            if self.device.type != "cpu":  # only the CPU can resize uint8
                images = images.float()
            images = F.interpolate(images, size, mode=transform.interpolation, antialias=True)
            if self.device.type != "cpu":
                images = images.clamp_(0, 255).round_()
        side, margin = transform.input_px, (transform.side_px - transform.input_px) // 2
        images = images[:, :, margin : margin + side, margin : margin + side]
        rows = images.permute(0, 2, 3, 1).reshape(-1, 3 * side).float()  # -> (B S, S 3)
        rows.mul_(self._scale).add_(self._shift)
        return rows.view(-1, side, side, 3).permute(0, 3, 1, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, dim) float32 features of prepared images (B, 3, S, S)."""
        return self._engine(images)


def with_weights(model: EncoderModel, create: Callable[[bool], nn.Module]) -> nn.Module:
    """Return the network that `create(pretrained)` makes, with the weights that `model.weights` asks for.

    Raises EncoderError if the weights cannot be fetched, cannot be read or do not fit.
    """
    if model.weights == "pretrained":
        try:
            return create(True)
        except ConfigError:
            raise
        except Exception as error:
            raise EncoderError(
                f"the pretrained weights of {model.name} could not be fetched ({type(error).__name__}). "
                "Offline? Put a checkpoint on disk and give encoder.weights=PATH, or encoder.weights=random"
            ) from error
    if model.weights == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(model.seed)
            return create(False)
    path = Path(model.weights)
    if path.suffix not in SUFFIXES and not path.exists():
        raise EncoderError(
            f"encoder.weights={model.weights!r} is neither 'pretrained' nor 'random' nor the path of a "
            f"checkpoint ({', '.join(SUFFIXES)})"
        )
    trunk = create(False)
    load_trunk(trunk, read_checkpoint(path), model.name, path.name)
    return trunk
