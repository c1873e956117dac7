"""After refine: compare pixel-level maps with tile scores on the slides of a run whose lesions are known."""

from collections.abc import Sequence

from wsi_mil.contracts.scores import SlideScoreRow
from wsi_mil.evaluation import AnnotationFolder, lesions_or_unknown
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.heatmaps.refined import read_refined
from wsi_mil.logs import progress
from wsi_mil.refine.evaluation import ComparedSlide, RefinementResult, compared_slide, evaluate_refinement
from wsi_mil.refine.evaluation_file import write_refinement
from wsi_mil.run.current import check_scores, current_refined
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring import read_slide_scores, read_tile_scores


def compare_refined(
    run: RunFolder, name: str, annotations: AnnotationFolder, spec: EvaluationSpec
) -> RefinementResult:
    """Write evaluation/<name>/refine.json and return what it holds.

    Slides without label or without current refined maps, and tumour slides without outlines, are left out.
    Raises DataError if no test slide is left.
    """
    slides = [
        slide for row in _labelled_rows(run, name) if (slide := _read(run, name, row, annotations, spec))
    ]
    found = evaluate_refinement(name, slides, spec)
    write_refinement(run.evaluation(name) / "refine.json", found)
    return found


def _labelled_rows(run: RunFolder, name: str) -> Sequence[SlideScoreRow]:
    rows, _ = read_slide_scores(run.slide_scores(name))
    found = [row for row in rows if row.part in ("val", "test") and row.label is not None]
    return list(progress(found, total=len(found), label=f"compare {name}"))


def _read(
    run: RunFolder, name: str, row: SlideScoreRow, annotations: AnnotationFolder, spec: EvaluationSpec
) -> ComparedSlide | None:
    slide_id = row.slide_id
    outlines = annotations.find(slide_id) if row.positive else None
    if (row.positive and outlines is None) or current_refined(run, name, row) is None:
        return None
    info, table = run.store(slide_id).read_info(), run.store(slide_id).read_tiles()
    scores = read_tile_scores(run.tile_scores(name, slide_id))
    check_scores(scores, table)
    lesions = (
        lesions_or_unknown(outlines, slide_id, info, annotations.rules, "Dice and FROC of refine")
        if row.positive
        else []
    )
    if lesions is None:
        return None
    maps = read_refined(run.refined(name, slide_id))
    return compared_slide(row, info, table, scores, maps, lesions, spec)
