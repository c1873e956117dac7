"""One encoder per process, shared by all slides that the process works on."""

from functools import lru_cache

from wsi_mil.encoders.base import Encoder
from wsi_mil.encoders.catalog import build_encoder
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.encoders.views import View
from wsi_mil.errors import EncoderError


@lru_cache(maxsize=2)
def shared_encoder(spec: EncoderSpec, device: str) -> Encoder:
    """Return the encoder of `spec`, built at the first call; views share the network of the plain encoder.

    Raises EncoderError for auto: the processes of a run must not choose, each for itself.
    """
    if not spec.is_settled:
        raise EncoderError(f"encoder {spec.name}: a run chooses precision and backend before it extracts")
    plain = spec.model_copy(update={"stain": "none", "view": 0, "views": 0})
    return (
        build_encoder(spec, device) if spec == plain else shared_encoder(plain, device).seen_as(View.of(spec))
    )
