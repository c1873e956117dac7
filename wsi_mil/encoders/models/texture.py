"""`texture`: statistics of the amounts of stain and of their texture. It has no weights and needs no
training.

Optical density is split into haematoxylin and eosin (Ruifrok and Johnston 2001). For each of the two, and for
the mean density, it measures contrast, spots, edges, their coherence (structure tensor) and skewness at four
scales, and at the finest scale also the mean and autocorrelations. A soft histogram of each stain follows.
All are continuous in the pixels, so CPU and GPU agree.
"""

from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from wsi_mil.encoders.base import Encoder, check_tiles
from wsi_mil.encoders.spec import Computation, EncoderModel
from wsi_mil.errors import EncoderError

VERSION = 1
SCALES = 4
BINS = 10
LAGS = (1, 2, 4)
MIN_PX = 1 << SCALES  # one pixel is left after the last scale
STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
EPS = 1e-6


@final
class TextureEncoder(Encoder):
    """106 numbers per tile, deterministic, about 10 Mpx/s on one core."""

    dim = 106

    def __init__(self, model: EncoderModel, computation: Computation) -> None:
        self.device = torch.device(computation.device)
        self.input_px = model.input_px
        self.identity = {"name": "texture", "version": VERSION, "input_px": model.input_px}
        stains = torch.tensor(STAINS, dtype=torch.float64)
        stains = stains / stains.norm(dim=1, keepdim=True)
        self._unmix = torch.linalg.inv(stains).float().to(self.device)  # rows: RGB density -> columns: stains

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """Return (B, 106) float32 features of tiles (B, S, S, 3) uint8 of at least 16 px."""
        check_tiles(pixels)
        if min(pixels.shape[1:3]) < MIN_PX:
            raise EncoderError(
                f"texture needs tiles of at least {MIN_PX} px, got {tuple(pixels.shape[1:3])}: use a larger "
                f"tiles.size_px, or encoder.input_px={MIN_PX}"
            )
        rgb = pixels.to(self.device).float()  # (B, H, W, 3)
        if self.input_px is not None:
            size = (self.input_px, self.input_px)
            rgb = F.interpolate(rgb.permute(0, 3, 1, 2), size, mode="bilinear", antialias=True).permute(
                0, 2, 3, 1
            )
        density = -torch.log10((rgb + 1.0) / 256.0)
        stains = density @ self._unmix  # (B, H, W, 3)
        channels = torch.stack([stains[..., 0], stains[..., 1], density.mean(-1)], 1)  # -> (B, 3, H, W)
        return torch.cat([texture_statistics(channels), *_soft_histograms(channels[:, :2])], 1)


def texture_statistics(channels: Tensor) -> Tensor:
    """Return (B, F) statistics of (B, C, H, W) channels at all scales; each scale has half the resolution."""
    found = []
    level = channels
    for scale in range(SCALES):
        mean = level.mean((2, 3))
        centred = level - mean[..., None, None]
        std = (centred.square().mean((2, 3)) + EPS).sqrt()
        smooth = F.avg_pool2d(F.pad(level, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        spot = level - smooth
        dx, dy = level[..., :-1, 1:] - level[..., :-1, :-1], level[..., 1:, :-1] - level[..., :-1, :-1]
        xx, yy, xy = dx.square().mean((2, 3)), dy.square().mean((2, 3)), (dx * dy).mean((2, 3))
        coherence = ((xx - yy).square() + 4 * xy.square() + EPS**2).sqrt() / (xx + yy + EPS)
        spread = (spot.square().mean((2, 3)) + EPS).sqrt()
        found += [std, spot.clamp(min=0).mean((2, 3)), spread, (xx + yy + EPS).sqrt(), coherence]
        found.append(_skew(centred, std))
        if scale == 0:
            found.append(mean)
            found += [_autocorrelation(centred, std, lag) for lag in LAGS]
        level = F.avg_pool2d(level, 2)
    h, e = channels[:, 0], channels[:, 1]
    both = ((h - h.mean((1, 2), keepdim=True)) * (e - e.mean((1, 2), keepdim=True))).mean((1, 2))
    return torch.cat([*found, both[:, None] * 10, (h - e).clamp(min=0).mean((1, 2))[:, None]], 1)


def _skew(centred: Tensor, std: Tensor) -> Tensor:
    """Return (B, C) skewness, limited to (-1, 1)."""
    return torch.tanh((centred**3).mean((2, 3)) / (std**3 + 1e-4))


def _autocorrelation(centred: Tensor, std: Tensor, lag: int) -> Tensor:
    """Return (B, C): the mean of the horizontal and vertical correlation at a distance of `lag` pixels."""
    across = (centred[..., lag:] * centred[..., :-lag]).mean((2, 3))
    down = (centred[..., lag:, :] * centred[..., :-lag, :]).mean((2, 3))
    return (across + down) / (2 * (std.square() + 1e-4))


def _soft_histograms(channels: Tensor, low: float = -0.1, high: float = 1.3) -> list[Tensor]:
    """Return for each channel (B, BINS) the fraction of pixels near each density, by triangular weights."""
    step = (high - low) / (BINS - 1)
    position = ((channels - low) / step).clamp(0, BINS - 1)
    return [
        torch.stack([(1 - (position[:, c] - b).abs()).clamp(min=0).mean((1, 2)) for b in range(BINS)], 1)
        for c in range(channels.shape[1])
    ]


BUILD = TextureEncoder
