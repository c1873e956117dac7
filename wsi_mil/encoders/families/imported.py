"""The encoder of features that another tool made: a name and nothing that could run."""

from typing import NoReturn

import torch

from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.errors import EncoderError


def refuse(spec: EncoderSpec, device: torch.device) -> NoReturn:
    """Raise EncoderError: such features can be imported, not extracted."""
    raise EncoderError(
        f"features {spec.name!r} were imported: this run can train, score and evaluate on them, but cannot extract more. "
        "Extract new slides with the tool that made them and import those"
    )


BUILD = refuse
