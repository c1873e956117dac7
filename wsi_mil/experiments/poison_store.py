"""Where the poison experiment of a run keeps its files."""

from pathlib import Path

from wsi_mil.features import SlideStore, StoredFeatures
from wsi_mil.io.seals import DamagedFileError
from wsi_mil.logs import logger
from wsi_mil.paths import below, child
from wsi_mil.robustness.poison.spec import PoisonSpec
from wsi_mil.run.folder import RunFolder

POISON_AGAIN = "run `wsi-mil poison` again"


def poison_folder(run: RunFolder, spec: PoisonSpec) -> Path:
    """Return the folder of one poison of a run."""
    return child(run.path / "poison", f"{spec.title}-{spec.digest()[:6]}", "poison", run.path)


def poisoned_store(run: RunFolder, spec: PoisonSpec, slide_id: str) -> SlideStore:
    """Return the store of a poisoned slide; it has the layout and the tile table of the slide's own store."""
    path = of_poison(run, spec, f"slides/{slide_id}.zarr")
    return SlideStore(path, slide_id, tile_again=POISON_AGAIN, extract_again=POISON_AGAIN)


def poisoned_features(run: RunFolder, spec: PoisonSpec, slide_id: str, key: str) -> StoredFeatures | None:
    """Return the description of the features of a poisoned slide; None if there are none, or damaged ones,
    which are made again. This is logged."""
    try:
        return poisoned_store(run, spec, slide_id).stored_features(key)
    except DamagedFileError as error:
        logger().warning("poison: features of slide %s are made again: %s", slide_id, error)
        return None


def of_poison(run: RunFolder, spec: PoisonSpec, name: str) -> Path:
    """Return the path of a file of the experiment. name: relative to the folder of the poison."""
    return below(poison_folder(run, spec), name, "slide id or model name", run.path)
