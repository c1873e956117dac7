from .base import Encoder as Encoder
from .base import check_tiles as check_tiles
from .catalog import build_encoder as build_encoder
from .catalog import list_encoders as list_encoders
from .spec import Computation as Computation
from .spec import EncoderModel as EncoderModel
from .spec import EncoderSpec as EncoderSpec
