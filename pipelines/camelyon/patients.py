"""Camelyon17: from slide and tile scores to classes of lymph nodes, pN-stages of patients, and kappa."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from shapely import Polygon

from pipelines.camelyon.pn_stage import node_class, pn_stage, quadratic_kappa
from wsi_mil.contracts.metric import Interval
from wsi_mil.contracts.scores import ATTENTION_THRESHOLD
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
    """Predicted classes of a patient's lymph nodes, the stage that follows from them, and the true stage."""

    patient: str
    nodes: tuple[str, ...]
    predicted: str
    truth: str


@dataclass(frozen=True)
class StageAgreement:
    """Quadratic weighted kappa of predicted and true stages (NaN if undefined) and its interval."""

    patients: tuple[PatientStage, ...]
    kappa: float
    interval: Interval

    def as_json(self) -> dict[str, Any]:
        """Return the content of stages.json."""
        kappa = {
            "value": self.kappa,
            "low": self.interval.low,
            "high": self.interval.high,
            "draws": self.interval.draws,
        }
        stages = [asdict(patient) for patient in self.patients]
        found = {"kind": "pN-stages", "patients": len(stages), "kappa": kappa, "stages": stages}
        return dict(without_nan(found))


def patient_stages(run: RunFolder, name: str, truth: Mapping[str, str]) -> list[PatientStage]:
    """Return the test patients of model `name` whose true stage is known, sorted by name.

    A slide that the model calls normal is a negative node. A slide that it calls tumour gets the class of its
    longest region of tiles at or above the threshold.
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
    """Return the largest major axis (µm) of the connected regions of tiles at or above the threshold."""
    store = run.store(slide_id)
    table, info = store.read_tiles(), store.read_info()
    scores = read_tile_scores(run.tile_scores(name, slide_id))
    check_scores(scores, table)
    if scores.score_kind == "attention":
        threshold = ATTENTION_THRESHOLD
    raster = score_raster(table, scores.tile_probabilities())
    above = np.nan_to_num(raster.values, nan=-1.0) >= threshold
    regions = polygonize(above, raster.scale_x_px * info.mpp_x, raster.scale_y_px * info.mpp_y).geoms
    return max((major_axis(Polygon(region.exterior)) for region in regions), default=0.0)


def stage_agreement(
    patients: Sequence[PatientStage], rng: np.random.Generator, draws: int = 1000
) -> StageAgreement:
    """Return the agreement of predicted and true stages; the interval is a bootstrap over patients."""
    truth, predicted = [p.truth for p in patients], [p.predicted for p in patients]
    interval = bootstrap_interval(
        lambda rows: quadratic_kappa([truth[i] for i in rows], [predicted[i] for i in rows]),
        [p.patient for p in patients],
        rng,
        draws,
    )
    return StageAgreement(tuple(patients), quadratic_kappa(truth, predicted), interval)
