"""Pixel-level maps of one model: Dice and FROC of tiles and of refined maps."""

from wsi_mil.refine.evaluation_file import refinement_json
from wsi_mil.report.section import Content, ModelPart
from wsi_mil.report.source import ReportSource
from wsi_mil.report.templating import fill


def read(source: ReportSource, name: str) -> Content | None:
    refined = source.refinements.get(name)
    if refined is None:
        return None
    return Content(refinement_json(refined), lambda: fill(__file__, refined=refined))


PART = ModelPart(20, read)
