"""Section "Poison": the poison experiments of the run, each with its picture."""

from wsi_mil.report.poison_figure import draw_poison
from wsi_mil.report.section import Content, Section
from wsi_mil.report.source import ReportSource
from wsi_mil.report.templating import fill
from wsi_mil.robustness.poison.study import read_poison_study


def read(source: ReportSource) -> Content | None:
    paths = sorted((source.run.path / "poison").glob("*/poison.json"))
    studies = [read_poison_study(path) for path in paths]
    if not studies:
        return None

    def render() -> str:
        pngs = []
        for path, study in zip(paths, studies, strict=True):
            draw_poison(study, picture := path.with_name("poison.png"))  # equal, also after damage
            pngs.append(picture.read_bytes())
        return fill(__file__, studies=list(zip(studies, pngs, strict=True)))

    return Content([study.as_json() for study in studies], render)


SECTION = Section("Poison", "poison", 50, read)
