"""The names of encoders and of families of encoders. Listing them imports no encoder."""

from wsi_mil.encoders.aliases import canonical_name
from wsi_mil.encoders.published import PUBLISHED
from wsi_mil.errors import ConfigError
from wsi_mil.registry import FolderRegistry, OpenRegistry


class _Encoders(FolderRegistry):
    """The modules of encoders/models and the published encoders, which one builder makes."""

    @property
    def own(self) -> dict[str, str]:
        return {**dict.fromkeys(PUBLISHED, "wsi_mil.encoders.pathology:build_published"), **super().own}

    def __getitem__(self, name: str) -> str:
        if name not in self and (canonical := canonical_name(name)) != name:
            raise ConfigError(
                f"encoder {name!r} is another name of {canonical}: write encoder.name={canonical}"
            )
        return OpenRegistry.__getitem__(self, name)  # for an unknown name, its error gives the nearest ones


ENCODERS = _Encoders("encoder", "wsi_mil.encoders.models", "BUILD", "wsi_mil.encoders")
FAMILIES = FolderRegistry("encoder family", "wsi_mil.encoders.families", "BUILD", "wsi_mil.encoder_families")


def is_family(name: str) -> bool:
    """Return whether an encoder's name is `family:model`, rather than `package.module:Name` or one word.

    >>> is_family("timm:resnet18"), is_family("my_lab.encoders:Mine"), is_family("texture")
    (True, False, False)
    """
    family, colon, _ = name.partition(":")
    return bool(colon) and family in FAMILIES


def check_encoder(name: str) -> None:
    """Raise ConfigError, with the nearest names, for a name of no encoder.

    Names are those of encoders, `family:model` and `package.module:Name`; the last is not imported here.
    """
    if not is_family(name):
        _ = ENCODERS[name]
