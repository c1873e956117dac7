"""Section "Poison": the poison experiments of the run, each with its picture."""

from pathlib import Path

from wsi_mil.logs import logger
from wsi_mil.report.poison_figure import draw_poison
from wsi_mil.report.section import Content, Section
from wsi_mil.report.source import ReportSource, undamaged
from wsi_mil.report.templating import fill
from wsi_mil.robustness.poison.study import EarlierStudyError, PoisonStudy, read_poison_study

TABLES = (
    ("Normal slides poisoned in training, tumour slides in the test", "normal", "poison"),
    ("Mirrored: tumour slides poisoned in training, normal slides in the test", "tumour", "mirrored"),
)
"""Title, direction and condition of the tables of a study."""


def read(source: ReportSource) -> Content | None:
    files = sorted((source.run.path / "poison").glob("*/poison.json"))
    found = [(path, study) for path, study in undamaged(files, _current) if study is not None]
    if not found:
        return None
    studies = [study for _, study in found]

    def render() -> str:
        pngs = []
        for path, study in found:
            draw_poison(study, picture := path.with_name("poison.png"))  # equal, also after damage
            pngs.append(picture.read_bytes())
        return fill(__file__, studies=list(zip(studies, pngs, strict=True)), directions=TABLES)

    return Content([study.as_json() for study in studies], render)


def _current(path: Path) -> PoisonStudy | None:
    """Return what a poison.json holds; None for one of an earlier format, with a warning."""
    try:
        return read_poison_study(path)
    except EarlierStudyError as error:
        logger().warning("report: left out: %s", error)
        return None


SECTION = Section("Poison", "poison", 50, read)
