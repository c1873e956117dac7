"""One encoder per process."""

from functools import lru_cache

from wsi_mil.encoders.base import Encoder
from wsi_mil.encoders.catalog import build_encoder
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.encoders.views import View


@lru_cache(maxsize=2)
def shared_encoder(spec: EncoderSpec, device: str) -> Encoder:
    """Return one encoder per process, however many slides it serves; views share the network of the plain one."""
    plain = spec.model_copy(update={"stain": "none", "view": 0, "views": 0})
    return (
        build_encoder(spec, device) if spec == plain else shared_encoder(plain, device).seen_as(View.of(spec))
    )
