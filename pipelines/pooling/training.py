"""Training and measuring ResNet-18 with one pooling, by the schedule of Shi et al."""

import math
import statistics
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.pooling.images import Pictures
from pipelines.pooling.models import GRID, LOSS_ATTENTION, Pooled
from wsi_mil.attention2d.measures import localise
from wsi_mil.attention2d.supervision import box_masks
from wsi_mil.errors import DataError

BATCH, LR = 100, 3e-3


@dataclass(frozen=True)
class Measures:
    """Accuracy, and the fraction of images whose top position lies on the object; None without boxes.

    A position lies on the object if at least half of its patch is in the box.
    """

    accuracy: float
    top_position: float | None

    def as_json(self) -> dict[str, float]:
        """Return the measures as they are in image_pooling.json."""
        top = {} if self.top_position is None else {"top position": self.top_position}
        return {"accuracy": self.accuracy, **top}


def pace(epoch: int, epochs: int) -> tuple[float, float, float]:
    """Return the factor of the learning rate, beta1 and beta2 of Adam in an epoch.

    The paper's ramps: up over the first 80 of 200 epochs, down over the last 50; here the same fractions of
    `epochs`.
    """
    up, down = max(0.4 * epochs, 1), max(0.25 * epochs, 1)
    rate = math.exp(-5 * (1 - min((epoch + 1) / up, 1)) ** 2)
    late = max(epoch - (epochs - down), 0) / down
    return rate * math.exp(-12.5 * late**2), 0.9 - 0.4 * min(late, 1), 0.99 if epoch < up else 0.999


def prepared(pixels: Tensor, device: str) -> Tensor:
    """Return uint8 pixels as float32 from -2 to 2."""
    return (pixels.to(device).float() / 255 - 0.5) / 0.25


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return the images, mirrored at random, padded by an eighth of the side, and cropped at random."""
    side = images.shape[-1]
    pad = side // 8
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    images = torch.where(mirrored[:, None, None, None].to(images.device), images.flip(3), images)
    wide = F.pad(images, (pad,) * 4)
    corners = torch.randint(2 * pad + 1, (len(images), 2), generator=generator).tolist()
    return torch.stack([wide[i, :, y : y + side, x : x + side] for i, (y, x) in enumerate(corners)])


def train(pooling: str, images: Pictures, epochs: int, seed: int, device: str, cal_views: bool) -> Pooled:
    """Return the network after `epochs`. Raises DataError if the loss becomes NaN or infinite."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    classes = int(images.labels.max()) + 1
    model = (
        Pooled(pooling, classes, images.pixels.shape[-1], len(images), epochs, seed, cal_views)
        .to(device)
        .train()
    )
    for epoch in range(epochs):
        rate, *betas = pace(epoch, epochs)
        # a new optimiser in every epoch, as in the published code: its moments start at 0 again
        optimiser = torch.optim.Adam(model.parameters(), lr=rate * LR, betas=(betas[0], betas[1]))
        for rows in torch.randperm(len(images), generator=generator).split(BATCH):
            batch = augmented(prepared(images.pixels[rows], device), generator)
            loss = model.loss(batch, images.labels[rows].to(device), rows.to(device))
            if not torch.isfinite(loss):
                raise DataError(
                    f"{pooling}, seed {seed}: the loss is {float(loss.detach())} in epoch {epoch + 1}"
                )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        if pooling in LOSS_ATTENTION:
            model.head.end_epoch()
    return model.eval()


@torch.no_grad()
def measure(model: Pooled, images: Pictures, device: str) -> Measures:
    """Return accuracy and, if the images have boxes, how often the top position lies on the object."""
    logits, maps = zip(*(model(prepared(part, device)) for part in images.pixels.split(BATCH)), strict=True)
    accuracy = float((torch.cat(logits).argmax(1).cpu() == images.labels).float().mean())
    return Measures(accuracy, top_position(torch.cat(maps).cpu(), images) if images.boxes.any() else None)


def top_position(maps: Tensor, images: Pictures) -> float:
    """Return the fraction of images in whose box the largest value of `maps` (N, h, w) lies."""
    size = (images.pixels.shape[2], images.pixels.shape[3])
    whole = F.interpolate(maps[:, None], size, mode="nearest")[:, 0]
    truth = box_masks(images.boxes, size)[:, 0] > 0.5
    return float(localise(whole, truth, GRID).top_position.float().mean())


def blind_position(images: Pictures) -> float:
    """Return the expected `top_position` of a position drawn at random."""
    positions = torch.eye(GRID[0] * GRID[1]).view(-1, 1, *GRID).expand(-1, len(images), -1, -1)
    return statistics.fmean(top_position(maps, images) for maps in positions)
