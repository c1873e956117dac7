"""The paths of a run folder. docs/contracts.md describes the files."""

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from wsi_mil.config.provenance import refuse_other_format
from wsi_mil.features import SlideStore
from wsi_mil.io.files import remove_made_files
from wsi_mil.io.json import read_json, write_json
from wsi_mil.io.seals import DamagedFileError
from wsi_mil.logs import logger
from wsi_mil.paths import below, child, require_text
from wsi_mil.run.outcomes import OutcomeTable
from wsi_mil.slides.ids import existing_file, slide_id_text

MODEL = "model name"
INDEX_FORMAT = 2
"""Of heatmaps/<name>/index.json. Format 1 had no digests of files and no number."""


class RunFolder:
    """The paths of one run. Raises StoreError if a version with another format made the folder, DataError for
    a path that is not UTF-8."""

    def __init__(self, path: Path) -> None:
        require_text(path, "run folder")
        self.path = path
        refuse_other_format(path)

    @cached_property
    def ledger(self) -> OutcomeTable:
        """The outcomes of the run, read on first use."""
        return OutcomeTable(self.path / "outcomes.csv")

    def store(self, slide_id: str) -> SlideStore:
        """Return the store of a slide: its tiles and features."""
        return SlideStore(existing_file(self.path / "slides", f"{slide_id}.zarr", self.path), slide_id)

    def stored_slides(self) -> list[str]:
        """Return the ids of the slides that have a store, sorted."""
        folder = self.path / "slides"
        found = (path for path in folder.rglob("*.zarr") if not path.name.startswith("."))
        names = (path.relative_to(folder).with_suffix("").as_posix() for path in found)
        return sorted(slide_id_text(name) for name in names)

    def tissue(self, slide_id: str) -> Path:
        """Return the path of the editable tissue outline, in whichever Unicode form its name is on disk."""
        return existing_file(self.path / "tissue", f"{slide_id}.geojson", self.path)

    def preview(self, slide_id: str) -> Path:
        """Return the path of the picture of tissue and tiles."""
        return self._of_slide(self.path / "previews", f"{slide_id}.jpg")

    def error_file(self, slide_id: str) -> Path:
        """Return the path of the tracebacks of a slide that failed."""
        return existing_file(self.path / "errors", f"{slide_id}.txt", self.path)

    def _of_slide(self, folder: Path, name: str) -> Path:
        return below(folder, name, "slide id", self.path)

    def _of_model(self, folder: str, name: str) -> Path:
        return child(below(self.path, folder), name, MODEL, self.path)

    def model(self, name: str, fold: int) -> Path:
        """Return the folder of the model that was trained on a fold."""
        return below(self._of_model("models", name), f"fold{fold}", MODEL, self.path)

    @property
    def split(self) -> Path:
        """The path of the split."""
        return below(self.path, "models/split.json")

    def slide_scores(self, name: str) -> Path:
        """Return the path of the table with one row per slide that model `name` scored."""
        return self._of_model("scores", name) / "slides.parquet"

    def tile_scores(self, name: str, slide_id: str) -> Path:
        """Return the path of the table with one row per tile of a slide."""
        return self._of_slide(self._of_model("scores", name) / "tiles", f"{slide_id}.parquet")

    def heatmap(self, name: str, slide_id: str, suffix: str) -> Path:
        """Return the path of a heatmap; `suffix`: png, ome.tif, geojson or geojson.gz."""
        return self._of_slide(self._of_model("heatmaps", name), f"{slide_id}.{suffix}")

    def class_heatmap(self, name: str, class_name: str, slide_id: str, suffix: str) -> Path:
        """Return the path of the heatmap of one class; `suffix`: png or ome.tif."""
        return self._of_slide(self._class_maps(name), f"{_folder_name(class_name)}/{slide_id}.{suffix}")

    def _class_maps(self, name: str) -> Path:
        return self._of_model("class_heatmaps", name)

    def remove_other_classes(self, name: str, classes: Sequence[str]) -> None:
        """Remove the heatmaps of classes that the model does not have any more."""
        kept = set(map(_folder_name, classes))
        for folder in self._class_maps(name).glob("*"):
            if folder.is_dir() and folder.name not in kept:
                remove_made_files(folder, (".png", ".ome.tif"))

    def refined(self, name: str, slide_id: str) -> Path:
        """Return the path of the pixel-level maps of a slide."""
        return self._of_slide(self._of_model("refined", name), f"{slide_id}.npz")

    def evaluation(self, name: str) -> Path:
        """Return the folder of a model's metrics, curves and tables."""
        return self._of_model("evaluation", name)

    def detections(self, name: str, slide_id: str) -> Path:
        """Return the path of the table of a slide's detections."""
        return self._of_slide(self.evaluation(name) / "detections", f"{slide_id}.csv")

    def model_comparison(self, first: str, second: str) -> Path:
        """Return the path of the comparison of two models."""
        return child(self.path / "evaluation", f"{first}_against_{second}.json", MODEL, self.path)

    def audit(self, name: str) -> Path:
        """Return the folder of the audit of a model."""
        return self._of_model("audit", name)

    @property
    def sites(self) -> Path:
        """The folder of the audit of sites."""
        return below(self.path, "sites")

    @property
    def comparison(self) -> Path:
        """The path of the table of all trainings."""
        return below(self.path, "evaluation/comparison.csv")

    @property
    def curves(self) -> Path:
        """The path of the picture with the curves of all models."""
        return below(self.path, "evaluation/curves.png")

    @property
    def report(self) -> Path:
        """The path of the report."""
        return below(self.path, "report.html")

    def read_index(self, name: str) -> dict[str, str]:
        """Return heatmaps/<name>/index.json: slide id -> digest of what its heatmap was made from."""
        found = self._index(name)
        return dict(found["slides"] if found.get("format_version") == INDEX_FORMAT else found)

    def heatmap_digests(self, name: str) -> dict[str, str]:
        """Return the digests of the heatmaps' files as index.json holds them, by path in the run folder."""
        found = self._index(name)
        return dict(found["files"]) if found.get("format_version") == INDEX_FORMAT else {}

    def heatmap_index(self, name: str) -> Path:
        """Return the path of the digests of a model's heatmaps and of what they were drawn from."""
        return self._of_model("heatmaps", name) / "index.json"

    def _index(self, name: str) -> dict[str, Any]:
        try:
            return read_json(self.heatmap_index(name))
        except FileNotFoundError:
            return {}
        except DamagedFileError as error:
            logger().warning("the heatmaps of model %s are drawn again: %s", name, error)
            return {}

    def write_index(self, name: str, index: dict[str, str], files: dict[str, str]) -> None:
        """Write heatmaps/<name>/index.json."""
        found = {"format_version": INDEX_FORMAT, "slides": index, "files": files}
        write_json(self.heatmap_index(name), found)


def heatmap_name(name: str, slide_id: str, suffix: str) -> str:
    """Return the path of `RunFolder.heatmap` relative to the run folder."""
    return f"heatmaps/{name}/{slide_id}.{suffix}"


def class_heatmap_name(name: str, class_name: str, slide_id: str, suffix: str) -> str:
    """Return the path of `RunFolder.class_heatmap` relative to the run folder."""
    return f"class_heatmaps/{name}/{_folder_name(class_name)}/{slide_id}.{suffix}"


def _folder_name(class_name: str) -> str:
    """Return a class name as the name of a folder: other characters are written as % and their code."""
    return re.sub(r"^\.|[^\w.\- ]", lambda char: f"%{ord(char[0]):02X}", class_name)
