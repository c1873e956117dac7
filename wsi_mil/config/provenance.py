"""What made a run: versions, machine, configuration. Written once, and again only when it changes."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import wsi_mil
from wsi_mil.config.schema import RunConfig

FORMAT = 1
PACKAGES = [
    "torch",
    "torchvision",
    "timm",
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


def provenance(config: RunConfig) -> dict[str, Any]:
    """Return kind, format version, producer, Python, platform, package versions and the digest of the configuration."""
    return {
        "kind": "wsi_mil run",
        "format_version": FORMAT,
        "producer": f"wsi_mil {wsi_mil.__version__}",
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in PACKAGES},
        "config_digest": config.digest(),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
