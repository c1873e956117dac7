"""provenance.json: what made a run (versions, machine, configuration), and the format of its folder."""

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import wsi_mil
from wsi_mil.config.schema import RunConfig
from wsi_mil.errors import StoreError
from wsi_mil.io.files import refuse_to_replace
from wsi_mil.io.json import read_json, write_json
from wsi_mil.trust import trusted_names

FILE, KIND, FORMAT = "provenance.json", "wsi_mil run", 1
REPLACED = ("import.json", "outcomes.csv", "predictions.csv", "report.html")
"""Files that commands write into a run folder after provenance.json. config.yaml may come before it: a run is
repeated from that file alone."""
PACKAGES = [
    "torch",
    "torchvision",
    "timm",
    "openvino",
    "numpy",
    "zarr",
    "openslide-python",
    "openslide-bin",
    "tiffslide",
    "tifffile",
    "opencv-python-headless",
    "shapely",
    "scikit-learn",
    "scikit-image",
    "scipy",
]


@dataclass(frozen=True)
class Provenance:
    """What made a run. packages: name -> version, or "not installed". trusted: the code of others that was
    trusted; a record, which gives no trust. encoder: precision and backend of the network, auto before the
    run has chosen; empty without a network."""

    producer: str
    python: str
    platform: str
    packages: dict[str, str]
    config_digest: str
    trusted: tuple[str, ...] = ()
    encoder: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """Return the content of provenance.json."""
        values = {**asdict(self), "trusted": list(self.trusted), "encoder": dict(self.encoder)}
        return {"kind": KIND, "format_version": FORMAT, **values}


def provenance(config: RunConfig) -> Provenance:
    """Return this version of the program, this machine, the installed packages, and the digest of a
    configuration."""
    return Provenance(
        producer=f"wsi_mil {wsi_mil.__version__}",
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        packages=package_versions(),
        config_digest=config.digest(),
        trusted=tuple(sorted(trusted_names())),
        encoder=config.encoder.computed if config.encoder.runs_a_network else {},
    )


def write_provenance(folder: Path, config: RunConfig) -> None:
    """Write provenance.json into a run folder; a file with equal content is kept.

    Raises StoreError for a folder without it that holds files which a run would replace.
    """
    if not (folder / FILE).exists():
        refuse_to_replace(folder, REPLACED)
    path, found = folder / FILE, provenance(config).as_json()
    if not path.exists() or _read(path) != found:
        write_json(path, found)


def refuse_other_format(folder: Path) -> None:
    """Raise StoreError if a run folder was made by a version with another format, or by another program."""
    if not (folder / FILE).exists():
        return
    found = _read(folder / FILE)
    if found.get("kind") != KIND or found.get("format_version") != FORMAT:
        raise StoreError(
            f"{folder} was made by {found.get('producer', 'another program')} (format "
            f"{found.get('format_version')}), this version reads format {FORMAT}: "
            "choose another run folder, or use the version that made it"
        )


@cache
def package_versions() -> dict[str, str]:
    """Return the versions of the packages that results depend on, "not installed" for those that are not."""
    return {name: _version(name) for name in PACKAGES}


def _read(path: Path) -> dict[str, object]:
    return read_json(path, "remove it: the next run writes it again")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
