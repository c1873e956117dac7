"""`imported:<name>`: features that another tool made. They have a name, but there is no network to run."""

from typing import NoReturn

from wsi_mil.encoders.spec import Computation, EncoderModel
from wsi_mil.errors import EncoderError


def refuse(model: EncoderModel, computation: Computation) -> NoReturn:
    """Raise EncoderError: such features can be imported, not extracted."""
    raise EncoderError(
        f"features {model.name!r} were imported: this run can train, score and evaluate on them, but cannot "
        "extract more. Extract new slides with the tool that made them and import those"
    )


BUILD = refuse
