from .base import Encoder as Encoder
from .catalog import build_encoder as build_encoder
from .catalog import list_encoders as list_encoders
from .spec import EncoderSpec as EncoderSpec
