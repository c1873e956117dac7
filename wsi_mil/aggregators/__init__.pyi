from .base import Aggregator as Aggregator
from .catalog import build_aggregator as build_aggregator
from .catalog import outputs_for as outputs_for
from .names import AGGREGATORS as AGGREGATORS
