"""The refiner's network: a classifier of tiles that also gives a tumour logit per position in a tile."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from wsi_mil.attention2d.backbones import build_backbone
from wsi_mil.attention2d.gain import GAIN
from wsi_mil.attention2d.loss_attention import LossAttentionPool2d
from wsi_mil.errors import DataError, ModelError
from wsi_mil.logs import logger, progress
from wsi_mil.refine.spec import RefineSpec

CLASSIFICATION_ONLY = 0.5
"""The fraction of epochs before GAIN's mining loss is used: before that, its map shows nothing useful."""
COLOUR_JITTER = 0.1
NORMAL, TUMOUR = 0, 1


@dataclass(frozen=True)
class TrainingTiles:
    """The tiles to learn from.

    pixels (N, S, S, 3) uint8. labels (N,): 0 for normal, 1 for tumour. masks (N, S, S) bool: which pixels are
    tumour. has_mask (N,) bool: for which tiles the mask is known. Raises DataError if a class has no tile.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    masks: NDArray[np.bool_]
    has_mask: NDArray[np.bool_]

    def __post_init__(self) -> None:
        for label, name in ((NORMAL, "normal"), (TUMOUR, "tumour")):
            if not (self.labels == label).any():
                raise DataError(f"no tile is surely {name}: nothing to learn from")


class TileNetwork(nn.Module):
    """From tiles (B, S, S, 3) uint8 to two logits per tile (B, 2) and a tumour logit per position.

    The classes, normal and tumour, have independent sigmoid outputs. With global average pooling (methods
    `plain` and `gain`) a tile's logit is the mean of the logits of its positions, so that the positions show
    where in the tile the tumour is. This is class activation mapping (Zhou et al., CVPR 2016), but maps are
    not scaled to their own maximum.
    """

    def __init__(self, spec: RefineSpec, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.method = spec.method
        self.backbone = build_backbone(spec.backbone, pretrained=spec.pretrained)
        channels = self.backbone.channels
        self.head = (
            LossAttentionPool2d(channels, 2)
            if spec.method == "loss_attention"
            else nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 2))
        )
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def prepare(self, pixels: Tensor) -> Tensor:
        """Return tiles as (B, 3, S, S) float32, standardised by mean and deviation of the training tiles."""
        return ((pixels.float() / 255 - self.mean) / self.std).permute(0, 3, 1, 2).contiguous()

    def local_logits(self, images: Tensor) -> Tensor:
        """Return the tumour logit (B, h, w) at each position of prepared images (B, 3, S, S)."""
        return self._at_positions(self.backbone(images))

    def _at_positions(self, features: Tensor) -> Tensor:
        maps = features.permute(0, 2, 3, 1)
        if isinstance(self.head, LossAttentionPool2d):
            logits: Tensor = self.head.fc(maps)
            return logits[..., TUMOUR] - logits[..., NORMAL]
        found: Tensor = self.head[-1](maps)
        return found[..., TUMOUR]

    def losses(
        self, images: Tensor, labels: Tensor, masks: Tensor, has_mask: Tensor, mining: bool
    ) -> dict[str, Tensor]:
        """Return the terms of the loss of prepared images (B, 3, S, S), by name.

        labels (B,). masks (B, 1, S, S): used only where `has_mask` (B,). mining: whether GAIN's terms are
        added. classification and GAIN's terms: tiles against their labels. positions (not with
        loss-attention): the positions of tiles without mask against the label of their tile. outlines: the
        positions of tiles with mask against the fraction of each that is tumour.
        """
        features, terms = self._of_tiles(images, labels, masks, has_mask, mining)
        local = self._at_positions(features)
        if self.method != "loss_attention" and not bool(has_mask.all()):
            unknown = local[~has_mask]
            wanted = labels[~has_mask, None, None].to(local.dtype).expand_as(unknown)
            terms["positions"] = F.binary_cross_entropy_with_logits(unknown, wanted)
        if bool(has_mask.any()):
            share = F.adaptive_avg_pool2d(masks[has_mask].float(), (local.shape[1], local.shape[2]))[:, 0]
            terms["outlines"] = F.binary_cross_entropy_with_logits(local[has_mask], share.to(local.dtype))
        return terms

    def _of_tiles(
        self, images: Tensor, labels: Tensor, masks: Tensor, has_mask: Tensor, mining: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return feature maps (B, C, h, w) and the terms of whole tiles."""
        both = F.one_hot(labels, 2)
        if self.method == "gain" and mining:
            model = GAIN(self.backbone, self.head, per_class=True)
            output = model(images, both * torch.tensor([0, 1], device=both.device))
            return output.features, model.losses(output, both, masks, has_mask)
        features = self.backbone(images)
        pooled = self.head(features)
        if isinstance(self.head, LossAttentionPool2d):
            return features, self.head.losses(pooled, labels)
        return features, {"classification": F.binary_cross_entropy_with_logits(pooled, both.float())}


def fit_tiles(tiles: TrainingTiles, spec: RefineSpec, device: torch.device) -> TileNetwork:
    """Train a network and return it in evaluation mode. Equal seeds give equal networks on one machine.

    Half of each batch is normal, half is tumour. Tiles are turned, mirrored and slightly changed in colour.
    Raises ModelError if the loss is not finite.
    """
    generator = torch.Generator().manual_seed(spec.seed)
    scaled = tiles.pixels.reshape(-1, 3)[:: max(tiles.pixels.size // 3_000_000, 1)] / 255
    mean, std = (torch.from_numpy(value).float() for value in (scaled.mean(0), scaled.std(0) + 1e-6))
    # weights are drawn from torch's global generator, whose state must stay as the caller left it
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        network = TileNetwork(spec, mean, std).to(device).train()
    rows = [torch.from_numpy(np.flatnonzero(tiles.labels == label)) for label in (NORMAL, TUMOUR)]
    half = spec.batch // 2
    steps = max(max(len(part) for part in rows) // half, 1)
    optimiser = torch.optim.AdamW(network.parameters(), lr=spec.lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, spec.epochs * steps)
    for epoch in progress(range(spec.epochs), total=spec.epochs, label="refine: training", unit="epoch"):
        orders = [_repeated(part, steps * half, generator) for part in rows]
        total = 0.0
        for step in range(steps):
            chosen = torch.cat([order[step * half : (step + 1) * half] for order in orders]).numpy()
            images, masks = _augmented(network, tiles, chosen, generator, device)
            labels = torch.from_numpy(tiles.labels[chosen]).to(device)
            known = torch.from_numpy(tiles.has_mask[chosen]).to(device)
            terms = network.losses(
                images, labels, masks, known, mining=epoch >= CLASSIFICATION_ONLY * spec.epochs
            )
            loss = torch.stack(list(terms.values())).sum()
            if not torch.isfinite(loss):
                raise ModelError(
                    f"refine: the loss is {float(loss.detach())} in epoch {epoch + 1}: "
                    "take a smaller refine.lr"
                )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
        logger().info("  epoch %d of %d: loss %.3f", epoch + 1, spec.epochs, total / steps)
    return network.eval()


def _repeated(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return `count` rows in random order; no row occurs more than once more often than another."""
    rounds = -(-count // len(rows))
    return torch.cat([rows[torch.randperm(len(rows), generator=generator)] for _ in range(rounds)])[:count]


def _augmented(
    network: TileNetwork,
    tiles: TrainingTiles,
    chosen: NDArray[np.int64],
    generator: torch.Generator,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    images = network.prepare(torch.from_numpy(tiles.pixels[chosen]).to(device))
    masks = torch.from_numpy(tiles.masks[chosen])[:, None].to(device)
    turns, mirrored = (int(torch.randint(n, (), generator=generator)) for n in (4, 2))
    images, masks = (torch.rot90(part, turns, (2, 3)) for part in (images, masks))
    images, masks = (part.flip(3) if mirrored else part for part in (images, masks))
    factor, shift = (
        COLOUR_JITTER * torch.randn(len(chosen), 3, 1, 1, generator=generator).to(device) for _ in range(2)
    )
    return images * (1 + factor) + shift, masks


@torch.inference_mode()
def tumour_maps(
    network: TileNetwork, pixels: NDArray[np.uint8], side_px: int, margin_px: int
) -> NDArray[np.float32]:
    """Return tumour probabilities (B, side_px, side_px) of the tiles in windows (B, W, W, 3) uint8.

    A window shows its tile and a margin of `margin_px` map pixels on every side. Logits are interpolated
    rather than probabilities, which keeps borders sharp.
    """
    whole = side_px + 2 * margin_px
    logits = network.local_logits(network.prepare(torch.from_numpy(pixels).to(network.mean.device)))
    large = F.interpolate(logits[:, None].float(), (whole, whole), mode="bilinear", align_corners=False)[:, 0]
    inside = slice(margin_px, margin_px + side_px)
    return large[:, inside, inside].sigmoid().cpu().numpy()
