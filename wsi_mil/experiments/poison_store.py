"""Where the poison experiment of a run keeps its files."""

from pathlib import Path

from wsi_mil.features import SlideStore
from wsi_mil.paths import below, child
from wsi_mil.robustness.poison.spec import PoisonSpec
from wsi_mil.run.folder import RunFolder


def poison_folder(run: RunFolder, spec: PoisonSpec) -> Path:
    """Return the folder of one poison of a run."""
    return child(run.path / "poison", f"{spec.title}-{spec.digest()[:6]}", "poison", run.path)


def poisoned_store(run: RunFolder, spec: PoisonSpec, slide_id: str) -> SlideStore:
    """Return the store of a poisoned slide; it has the layout and the tile table of the slide's own store."""
    return SlideStore(below(poison_folder(run, spec) / "slides", f"{slide_id}.zarr", "slide id"), slide_id)
