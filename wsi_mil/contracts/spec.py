"""The settings of a stage: an immutable record with a digest, which is stored with what the stage writes."""

from pydantic import BaseModel, ConfigDict

from wsi_mil.io.files import digest_json


class Spec(BaseModel):
    """Base of the settings of each stage: unknown keys and wrong values are refused, nothing can be changed
    later."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def digest(self) -> str:
        """Return 16 hexadecimal digits that change whenever a setting does."""
        return digest_json(self.model_dump(mode="json"))
