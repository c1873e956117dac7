"""Two models on the same test slides: the difference of every metric of the table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wsi_mil.contracts.labels import TaskKind
from wsi_mil.errors import DataError
from wsi_mil.evaluation.delong import AucComparison, compare_aucs
from wsi_mil.evaluation.lesion_level import observe_lesions
from wsi_mil.evaluation.measure import compare_all
from wsi_mil.evaluation.observations import SlideObservations
from wsi_mil.evaluation.paired import PairedDifference
from wsi_mil.evaluation.patch_level import observe_tiles
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.evaluation.truth import HeldOutSlide

Models = tuple[str, str]


@dataclass(frozen=True)
class SlideComparison:
    """Differences of slide metrics, by name, and DeLong's test of the AUC: with Obuchowski's variance where
    patients have several slides.

    delong is None if the test is undefined; `delong_reason` then says why.
    """

    differences: Mapping[str, PairedDifference]
    delong: AucComparison | None
    delong_reason: str = ""


@dataclass(frozen=True)
class AnnotatedComparison:
    """Differences of patch and lesion metrics, by name."""

    patch: Mapping[str, PairedDifference]
    froc: Mapping[str, PairedDifference]


def compare_slides(
    first: SlideObservations,
    second: SlideObservations,
    models: Models,
    spec: EvaluationSpec,
    task: TaskKind = "detection",
) -> SlideComparison:
    """Return the comparison of two models at slide level, first minus second.

    first, second: the same slides in the same order. Raises DataError if their patients differ.
    """
    differences = compare_all(first, second, spec.seed, models, spec.bootstrap, task)
    try:
        delong = compare_aucs(first.truth, first.scores, second.scores, patients=first.patients)
        return SlideComparison(differences, delong)
    except DataError as error:
        return SlideComparison(differences, None, str(error))


def compare_annotated(
    first: Sequence[HeldOutSlide],
    second: Sequence[HeldOutSlide],
    models: Models,
    spec: EvaluationSpec,
    task: TaskKind = "detection",
) -> AnnotatedComparison:
    """Return the comparison of two models at patch and lesion level, first minus second.

    first, second: the same slides in the same order. Raises DataError if their patients differ.
    """
    tiles = [observe_tiles([slide.tiles for slide in slides]) for slides in (first, second)]
    lesions = [observe_lesions(slides, spec) for slides in (first, second)]
    return AnnotatedComparison(
        compare_all(tiles[0], tiles[1], spec.seed, models, spec.bootstrap, task),
        compare_all(lesions[0], lesions[1], spec.seed, models, spec.bootstrap, task),
    )
