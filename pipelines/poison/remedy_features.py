"""What the remedies need of a slide besides its features, clean and poisoned: other features, and tissue."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_mil.contracts.slide import SlideSource
from wsi_mil.contracts.tiles import TileSpec, TileTable
from wsi_mil.encoders.shared import shared_encoder
from wsi_mil.experiments.poison_inputs import PoisonTraining, slide_truth
from wsi_mil.features import encode_tiles
from wsi_mil.features.tiled import open_tiled
from wsi_mil.io.bounded import read_npz
from wsi_mil.io.files import write_aside
from wsi_mil.robustness.poison.slide import poison_slide
from wsi_mil.run.folder import RunFolder
from wsi_mil.slides import SlideReader
from wsi_mil.tiles import tile_slide
from wsi_mil.tissue import TissueSpec, find_tissue

VARIANTS = ("stain", "view1", "view2")


@dataclass(frozen=True)
class VariantJob:
    """A slide, clean or poisoned, and what to compute of it: one of VARIANTS, or "tissue".

    training: any training of the experiment; it holds poison, encoder and outlines. folder: of the results.
    """

    training: PoisonTraining
    source: SlideSource
    reader: str
    tissue: TissueSpec
    what: str
    poisoned: bool
    folder: Path

    @property
    def path(self) -> Path:
        """The file of the result; its name holds all that the result depends on."""
        return variant_path(self.folder, self.training, self.what, self.source.slide_id, self.poisoned)


def variant_path(folder: Path, training: PoisonTraining, what: str, slide_id: str, poisoned: bool) -> Path:
    """Return the file of a variant of a slide."""
    part = training.poison.digest() if poisoned else "clean"
    return folder / f"{what}_{training.encoder.key}" / f"{slide_id}_{part}.npz"


def make_variant(job: VariantJob) -> None:
    """Write the features (N, D) or the fractions of tissue (N,) of one slide, unless the file exists."""
    if job.path.exists():
        return
    store = RunFolder(job.training.run).store(job.source.slide_id)
    table = store.read_tiles()
    truth = slide_truth(job.training, job.source.slide_id)
    lesions = shapely.union_all([lesion.geometry for lesion in truth.lesions]) if truth.lesions else None
    with open_tiled(job.source, job.reader, store) as slide:
        seen: SlideReader = (
            poison_slide(slide, table, job.training.poison, lesions) if job.poisoned else slide
        )
        values = (
            tissue_of_tiles(seen, table, job.tissue) if job.what == "tissue" else _features(job, seen, table)
        )
    job.path.parent.mkdir(parents=True, exist_ok=True)
    with write_aside(job.path) as aside, aside.open("wb") as handle:
        np.savez(handle, values=values)


def read_variant(path: Path) -> NDArray[np.float32]:
    """Return what `make_variant` wrote."""
    return np.asarray(read_npz(path)["values"], np.float32)


def _features(job: VariantJob, slide: SlideReader, table: TileTable) -> NDArray[np.float32]:
    """Return (N, D) features of normalised stains, or of a stain view. Unreadable tiles have zeros."""
    changes = {"stain": "macenko"} if job.what == "stain" else {"view": int(job.what.removeprefix("view"))}
    encoder = shared_encoder(job.training.encoder.model_copy(update=changes), job.training.device)
    found = encode_tiles(slide, table, encoder, batch_size=job.training.encoder.batch_size)
    return found.features.astype(np.float32)


def tissue_of_tiles(slide: SlideReader, table: TileTable, spec: TissueSpec) -> NDArray[np.float32]:
    """Return (N,) which fraction of each tile of `table` is tissue in the slide as it looks now.

    A tile that is no tissue at all has 0. Pen is no tissue if `spec.ink` says so.
    """
    every = TileSpec(**{**table.spec.model_dump(), "min_tissue_fraction": 0.0})
    found = tile_slide(slide.info, find_tissue(slide, spec), every)
    known = dict(zip(map(tuple, found.coords.tolist()), found.tissue.tolist(), strict=True))
    return np.array([known.get(tuple(place), 0.0) for place in table.coords.tolist()], np.float32)
