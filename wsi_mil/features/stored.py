"""The description of stored features: how they were made, how many there are, and their digests."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsi_mil.errors import StoreError
from wsi_mil.io.files import fingerprint
from wsi_mil.stains import ColourMap


@dataclass(frozen=True)
class PoisonRecord:
    """The poison in the tiles that were encoded: its settings, the digest of its inputs, and counts of tiles.

    A poison is an artificial mark that is painted into tiles to test a model (wsi_mil/robustness/poison).
    """

    spec: Mapping[str, Any]
    made_from: str
    counts: Mapping[str, int]


@dataclass(frozen=True)
class FeatureOrigin:
    """How features were made; this is stored with them.

    `encoder`: the encoder's identity (name, weights digest ...). `encoder_digest`: its digest.
    `spec`: the settings under which the features were computed; empty for imported features.
    `colours`: the colour changes of this slide, in the order in which they were applied.
    `poison`: what was painted into the tiles before, None for the slide as it is.
    """

    encoder: Mapping[str, Any]
    encoder_digest: str
    spec: Mapping[str, Any] = field(default_factory=dict)
    colours: tuple[ColourMap, ...] = ()
    poison: PoisonRecord | None = None

    def __post_init__(self) -> None:
        if "name" not in self.encoder:
            raise StoreError(f"features need the name of their encoder, got only {sorted(self.encoder)}")

    def attributes(self) -> dict[str, Any]:
        """Return the attributes that are written to the store; `from_attributes` reads them."""
        found: dict[str, Any] = {
            "encoder": dict(self.encoder),
            "encoder_digest": self.encoder_digest,
            "spec": dict(self.spec),
        }
        if self.colours:
            found["colours"] = [colour.as_lists() for colour in self.colours]
        if self.poison is not None:
            poison = self.poison
            found["poison"] = {
                "spec": dict(poison.spec),
                "made_from": poison.made_from,
                "counts": dict(poison.counts),
            }
        return found

    @classmethod
    def from_attributes(cls, values: Mapping[str, Any]) -> "FeatureOrigin":
        """Return the origin that `attributes` wrote. Raises KeyError for a missing field."""
        poison = values.get("poison")
        return cls(
            encoder=values["encoder"],
            encoder_digest=str(values["encoder_digest"]),
            spec=values.get("spec", {}),
            colours=tuple(ColourMap.from_lists(colour) for colour in values.get("colours", [])),
            poison=None if poison is None else PoisonRecord(**poison),
        )


@dataclass(frozen=True)
class Origins:
    """The tile table and the slide's file that are being stored, with which older features are compared.

    source: fingerprint of the file, None if it is not known. before: the one that is stored; None: unknown.
    path: of the file, or of that which names the others.
    """

    tiles_digest: str
    source: str | None
    before: str | None
    path: str

    def are_of(self, features: Mapping[str, Any]) -> bool:
        """Return whether features with these attributes were made from both, so that they are kept."""
        if features["tiles_digest"] != self.tiles_digest:
            return False
        stated = features.get("source")  # older versions did not state it
        if self.source is None:
            return True
        if stated is not None:
            return bool(stated == self.source)
        return self.before in (None, self.source, self._of_older_version())

    def _of_older_version(self) -> str | None:
        """Return the fingerprint that older versions stored: of one file, also for slides of several."""
        path = Path(self.path)
        return fingerprint(path) if self.path and path.exists() else None


@dataclass(frozen=True)
class StoredFeatures:
    """The description of complete features in a store, without the features themselves.

    There are `rows` tiles with `dim` values each, and `readable_rows` of the tiles could be read. `digest`:
    of the features and of which rows are readable. `tiles_digest`: of the tile table, whose rows are in the
    same order. `mpp`: µm per pixel of the tiles.
    """

    origin: FeatureOrigin
    tiles_digest: str
    mpp: float
    rows: int
    readable_rows: int
    dim: int
    digest: str

    def __post_init__(self) -> None:
        if not 0 <= self.readable_rows <= self.rows:
            raise StoreError(
                f"{self.readable_rows} of {self.rows} feature rows are readable, expected 0 to {self.rows}"
            )

    @property
    def unreadable_rows(self) -> int:
        return self.rows - self.readable_rows

    @property
    def encoder_digest(self) -> str:
        return self.origin.encoder_digest

    @classmethod
    def from_attributes(cls, values: Mapping[str, Any]) -> "StoredFeatures":
        """Return the description that a store's attributes hold. Raises KeyError for a missing field."""
        return cls(
            origin=FeatureOrigin.from_attributes(values),
            tiles_digest=str(values["tiles_digest"]),
            mpp=float(values["mpp"]),
            rows=int(values["rows"]),
            readable_rows=int(values["readable_rows"]),
            dim=int(values["dim"]),
            digest=str(values["digest"]),
        )
