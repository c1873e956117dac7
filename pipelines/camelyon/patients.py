"""Camelyon17: from scores of slides and tiles to classes of lymph nodes, pN-stages of patients, and kappa.

The challenge and its rules: Bandi et al., IEEE Transactions on Medical Imaging 2019.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from shapely import Polygon

from pipelines.camelyon.pn_stage import node_class, pn_stage, quadratic_kappa
from wsi_mil.evaluation import bootstrap_interval
from wsi_mil.evaluation.froc_polygons import major_axis
from wsi_mil.heatmaps import score_raster
from wsi_mil.io.json import without_nan
from wsi_mil.raster import polygonize
from wsi_mil.run.current import check_scores
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring import read_slide_scores, read_tile_scores


@dataclass(frozen=True)
class PatientStage:
    """A patient: the predicted class of every node, and the predicted and the true stage."""

    patient: str
    nodes: tuple[str, ...]
    predicted: str
    truth: str


def patient_stages(run: RunFolder, name: str, truth: Mapping[str, str]) -> list[PatientStage]:
    """Return the test patients of model `name` whose true stage is known, sorted.

    truth: patient -> stage. A slide that the model calls normal is a negative node. One that it
    calls tumour gets the class of its longest region of tiles at or above the threshold.
    """
    nodes: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in read_slide_scores(run.slide_scores(name))[0]:
        if row.part == "test" and row.patient in truth:
            length_um = longest_region_um(run, name, row.slide_id, row.threshold) if row.predicted else 0.0
            nodes[row.patient].append((row.slide_id, node_class(row.predicted, length_um)))
    result = []
    for patient, found in sorted(nodes.items()):
        classes = tuple(kind for _, kind in sorted(found))
        result.append(PatientStage(patient, classes, pn_stage(classes), truth[patient]))
    return result


def longest_region_um(run: RunFolder, name: str, slide_id: str, threshold: float) -> float:
    """Return the major axis in µm of the longest connected region of tiles at or above the threshold."""
    store = run.store(slide_id)
    table, info = store.read_tiles(), store.read_info()
    scores = read_tile_scores(run.tile_scores(name, slide_id))
    check_scores(scores, table)
    raster = score_raster(table, scores.tile_scores01())
    above = np.nan_to_num(raster.values, nan=-1.0) >= scores.tile_threshold(threshold)
    regions = polygonize(above, raster.scale_x_px * info.mpp_x, raster.scale_y_px * info.mpp_y).geoms
    return max((major_axis(Polygon(region.exterior)) for region in regions), default=0.0)


@dataclass(frozen=True)
class StageAgreement:
    """Quadratic weighted kappa of predicted and true stages, with its 95 % bootstrap interval over patients.

    draws: the number of draws on which kappa was defined.
    """

    kappa: float
    low: float
    high: float
    draws: int
    stages: tuple[PatientStage, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the content of stages.json; NaN is null."""
        kappa = {"value": self.kappa, "low": self.low, "high": self.high, "draws": self.draws}
        stages = [asdict(patient) for patient in self.stages]
        found = {"kind": "pN-stages", "patients": len(stages), "kappa": kappa, "stages": stages}
        return dict(without_nan(found))


def stage_agreement(
    patients: Sequence[PatientStage], rng: np.random.Generator, draws: int = 1000
) -> StageAgreement:
    """Return how well the predicted stages agree with the true ones."""
    truth, predicted = [p.truth for p in patients], [p.predicted for p in patients]
    interval = bootstrap_interval(
        lambda rows: quadratic_kappa([truth[i] for i in rows], [predicted[i] for i in rows]),
        [p.patient for p in patients],
        rng,
        draws,
    )
    kappa = quadratic_kappa(truth, predicted)
    return StageAgreement(kappa, interval.low, interval.high, interval.draws, tuple(patients))
