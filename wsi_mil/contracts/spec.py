"""What a stage was asked to do: a frozen, strict record with a digest, which travels with what it produced."""

from pydantic import BaseModel, ConfigDict

from wsi_mil.io.files import digest_json


class Spec(BaseModel):
    """Base of every stage's settings: unknown keys are refused, values are checked, nothing changes later."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def digest(self) -> str:
        """Return 16 hexadecimal digits that change whenever a setting does."""
        return digest_json(self.model_dump(mode="json"))
