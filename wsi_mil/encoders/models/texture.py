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

from wsi_mil.encoders.base import Encoder, check_tiles, to_device
from wsi_mil.encoders.spec import Computation, EncoderModel
from wsi_mil.errors import EncoderError

VERSION = 1
SCALES = 4
BINS = 10
LAGS = (1, 2, 4)
MIN_PX = 1 << SCALES  # one pixel is left after the last scale
STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
EPS = 1e-6
CACHED_PX = 1 << 17
"""Pixels that a CPU takes together: the values between two operations then fit its cache."""


@final
class TextureEncoder(Encoder):
    """106 numbers per tile, deterministic."""

    dim = 106

    def __init__(self, model: EncoderModel, computation: Computation) -> None:
        self.device = torch.device(computation.device)
        self.input_px = model.input_px
        self.identity = {"name": "texture", "version": VERSION, "input_px": model.input_px}
        stains = torch.tensor(STAINS, dtype=torch.float64)
        stains = stains / stains.norm(dim=1, keepdim=True)
        unmix = torch.linalg.inv(stains).T[:2].tolist()  # of each stain, the weights of RGB densities
        self._weights = [*unmix, [1 / 3] * 3]

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """Return (B, 106) float32 features of tiles (B, S, S, 3) uint8 of at least 16 px."""
        check_tiles(pixels)
        if min(pixels.shape[1:3]) < MIN_PX:
            raise EncoderError(
                f"texture needs tiles of at least {MIN_PX} px, got {tuple(pixels.shape[1:3])}: use a larger "
                f"tiles.size_px, or encoder.input_px={MIN_PX}"
            )
        side_px = self.input_px or pixels.shape[1]
        rows = max(CACHED_PX // side_px**2, 1) if self.device.type == "cpu" else len(pixels)
        return torch.cat([self._statistics(part) for part in pixels.split(max(rows, 1))])

    def _statistics(self, pixels: Tensor) -> Tensor:
        rgb = to_device(pixels, self.device).permute(0, 3, 1, 2).float()  # (B, 3, H, W)
        if self.input_px is not None:
            size = (self.input_px, self.input_px)
            rgb = F.interpolate(rgb, size, mode="bilinear", antialias=True)
        density = rgb.add(1).contiguous().mul_(1 / 256).log10_().neg_()
        channels = torch.empty_like(density)  # haematoxylin, eosin, mean density
        for number, weights in enumerate(self._weights):
            torch.mul(density[:, 0], weights[0], out=channels[:, number])
            for colour in (1, 2):
                channels[:, number].add_(density[:, colour], alpha=weights[colour])
        return torch.cat([texture_statistics(channels), _soft_histograms(channels[:, :2])], 1)


def texture_statistics(channels: Tensor) -> Tensor:
    """Return (B, F) statistics of (B, C, H, W) channels at all scales; each scale has half the resolution."""
    found = []
    level = channels
    for scale in range(SCALES):
        mean = level.mean((2, 3))
        centred = level - mean[..., None, None]
        square = centred * centred
        std = (square.mean((2, 3)) + EPS).sqrt()
        spot = level - _mean_of_nine(level)
        spread = (_mean_square(spot) + EPS).sqrt()
        dx, dy = level[..., :-1, 1:] - level[..., :-1, :-1], level[..., 1:, :-1] - level[..., :-1, :-1]
        xx, yy, xy = _mean_square(dx), _mean_square(dy), (dx * dy).mean((2, 3))
        coherence = ((xx - yy).square() + 4 * xy.square() + EPS**2).sqrt() / (xx + yy + EPS)
        found += [std, spot.clamp_(min=0).mean((2, 3)), spread, (xx + yy + EPS).sqrt(), coherence]
        found.append(torch.tanh((square * centred).mean((2, 3)) / (std**3 + 1e-4)))  # skewness
        if scale == 0:
            found.append(mean)
            found += [_autocorrelation(centred, std, lag) for lag in LAGS]
            both = (centred[:, :1] * centred[:, 1:2]).mean((2, 3))
        level = _halved(level)
    more_first = (channels[:, :1] - channels[:, 1:2]).clamp_(min=0).mean((2, 3))
    return torch.cat([*found, both * 10, more_first], 1)


def _mean_square(plane: Tensor) -> Tensor:
    """Return (B, C); a norm needs no array of squares."""
    norm: Tensor = torch.linalg.vector_norm(plane, dim=(2, 3))
    return norm.square() / (plane.shape[2] * plane.shape[3])


def _mean_of_nine(level: Tensor) -> Tensor:
    """Return the mean of the 3 x 3 pixels around each pixel; beyond the edge lies the nearest pixel.

    Sums of slices: three times as fast as `avg_pool2d` on a CPU.
    """
    padded = F.pad(level, (1, 1, 1, 1), mode="replicate")
    rows = (padded[..., :-2, :] + padded[..., 1:-1, :]).add_(padded[..., 2:, :])
    return (rows[..., :-2] + rows[..., 1:-1]).add_(rows[..., 2:]).mul_(1 / 9)


def _halved(level: Tensor) -> Tensor:
    """Return the means of 2 x 2 pixels; an odd last row or column is left out."""
    height, width = level.shape[2] // 2 * 2, level.shape[3] // 2 * 2
    rows = level[..., 0:height:2, :width] + level[..., 1:height:2, :width]
    return (rows[..., 0::2] + rows[..., 1::2]).mul_(0.25)


def _autocorrelation(centred: Tensor, std: Tensor, lag: int) -> Tensor:
    """Return (B, C): the mean of the horizontal and vertical correlation at a distance of `lag` pixels."""
    across = (centred[..., lag:] * centred[..., :-lag]).mean((2, 3))
    down = (centred[..., lag:, :] * centred[..., :-lag, :]).mean((2, 3))
    return (across + down) / (2 * (std.square() + 1e-4))


def _soft_histograms(channels: Tensor, low: float = -0.1, high: float = 1.3) -> Tensor:
    """Return (B, C BINS): the fraction of a channel's pixels near each density, by triangular weights.

    The triangle around b is max(p - b + 1, 0) - 2 max(p - b, 0) + max(p - b - 1, 0), so the means of these
    ramps are enough: two operations a bin.
    """
    position = ((channels - low) * ((BINS - 1) / (high - low))).clamp_(0, BINS - 1)
    ramps = [position.mean((2, 3))]  # of max(p - b, 0), b from 0
    for _ in range(BINS):
        ramps.append(position.sub_(1).clamp_(min=0).mean((2, 3)))
    means = torch.stack([ramps[0] + 1, *ramps], 2)  # b from -1
    return (means[..., :-2] - 2 * means[..., 1:-1] + means[..., 2:]).flatten(1)


BUILD = TextureEncoder
