"""The scale of the tiles must be one that a published encoder was trained on."""

from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.encoders.published.names import PUBLISHED
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.errors import ConfigError

TOLERANCE = 0.15
"""Accepted relative difference in scale: the common 256 px tiles resized to 224 px are 14 % coarser."""


def refuse_other_scale(encoder: EncoderSpec, tiles: TileSpec) -> None:
    """Raise ConfigError if a published encoder was trained on another scale than that of the tiles.

    The error names settings that fit.
    """
    known = PUBLISHED.get(encoder.name)
    if known is None or not known.mpps or encoder.any_mpp:
        return
    seen = tiles.mpp * tiles.size_px / (encoder.input_px or known.resize_px)
    if any(abs(seen / mpp - 1) <= TOLERANCE and tiles.mpp / mpp - 1 <= TOLERANCE for mpp in known.mpps):
        return
    enlarged = " by enlarging" if seen < tiles.mpp else ""
    scales = " or ".join(f"{mpp:g}" for mpp in known.mpps)
    nearest = min(known.mpps, key=lambda mpp: abs(seen / mpp - 1))
    raise ConfigError(
        f"encoder {encoder.name} was trained on {scales} µm/px, tiles of {tiles.size_px} px at "
        f"{tiles.mpp:g} µm/px show it {seen:.3g}{enlarged}: set tiles.mpp={nearest:g} "
        f"tiles.size_px={known.resize_px}, or encoder.any_mpp=true"
    )
