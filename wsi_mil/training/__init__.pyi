from .loop import FitResult as FitResult
from .loop import fit as fit
from .spec import TrainSpec as TrainSpec
from .standardize import Standardizer as Standardizer
