"""report.html of hand-made runs: its sections, what a new file adds, and when the page is written again."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

import wsi_mil.report.model_parts
import wsi_mil.report.sections
from wsi_mil.bags.labels import LabelTable
from wsi_mil.contracts.labels import SlideLabel
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.scores import SlideScoreRow, SlideScoresHeader
from wsi_mil.execution import ExecutionSpec
from wsi_mil.io.files import write_text
from wsi_mil.io.json import write_json
from wsi_mil.report.page import read_page
from wsi_mil.report.section import SECTIONS, Section, model_parts, sections
from wsi_mil.report.source import ReportSource
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring import write_slide_scores
from wsi_mil.stages.report import run_report

ONE = ExecutionSpec(workers=1)
SLIDES = ("b", "a", "c <1>")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Three slides, of which one failed, scored by model `m`; one has a heatmap. Nothing was evaluated."""
    folder = tmp_path / "cohort"
    stamp = {
        "kind": "wsi_mil run",
        "format_version": 1,
        "producer": "wsi_mil 0",
        "python": "3",
        "platform": "L",
    }
    write_json(folder / "provenance.json", {**stamp, "packages": {"numpy": "2"}, "config_digest": "0"})
    run = RunFolder(folder)
    for slide_id in SLIDES[:2]:
        run.ledger.put(Outcome(slide_id, "tile", "done", counts={"tiles": 7, "tissue_um2": 2_500_000}))
    run.ledger.put(Outcome(SLIDES[2], "tile", "failed", "no pixels & no <scale>"))
    run.ledger.save()
    rows = [score(slide_id, p) for slide_id, p in zip(SLIDES[:2], (0.75, 0.125), strict=True)]
    write_slide_scores(run.slide_scores("m"), rows, SlideScoresHeader("m", "s", 1))
    picture = np.full((40, 60, 3), 200, np.uint8)
    run.heatmap("m", "b", "png").parent.mkdir(parents=True)
    cv2.imwrite(str(run.heatmap("m", "b", "png")), picture)
    return run


def score(slide_id: str, probability: float) -> SlideScoreRow:
    return SlideScoreRow(
        slide_id, "p", 0, "test", 1, probability, 0.5, probability >= 0.5, 7, "t", "f", "model1"
    )


def labels() -> LabelTable:
    rows = {slide_id: SlideLabel(slide_id, 1, slide_id) for slide_id in SLIDES[:2]}
    return LabelTable(rows, ("normal", "grade a"))


def source(run: RunFolder) -> ReportSource:
    return ReportSource(run, (), "auto", labels(), ("m",))


def page_of(run: RunFolder) -> str:
    run_report(run, (), "auto", labels(), ["m", "without scores"], execution=ONE)
    return run.report.read_text()


def test_sections_and_parts_of_this_version() -> None:
    assert [name for name, _ in sections()] == [
        "evaluation",
        "comparison",
        "models",
        "audit",
        "poison",
        "problems",
        "cohort",
        "provenance",
    ]
    assert [name for name, _ in model_parts()] == [
        "overview",
        "classes",
        "refined",
        "missed",
        "false_positives",
        "heatmaps",
    ]
    assert all(isinstance(SECTIONS.load(name), Section) for name in SECTIONS)


def test_the_page_shows_the_run(run: RunFolder) -> None:
    page = page_of(run)
    assert "<h1>wsi_mil report: cohort</h1>" in page
    assert "3 slides; tile: 2 done, 1 failed. Made by wsi_mil 0." in page
    assert "no pixels &amp; no &lt;scale&gt;" in page
    assert "without scores" not in page
    table = page.split('<table id="slides">')[1].split("</table>")[0]
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in table.split("<tr>")[2:]]
    png = '<a href="heatmaps/m/b.png">PNG</a>'
    assert rows == [
        ["a", "grade a", "test", "–", "–", "2.50", "7", "done", "0.125", ""],
        ["b", "grade a", "test", "–", "–", "2.50", "7", "done", "0.750", png],
        ["c &lt;1&gt;", "", "", "–", "–", "–", "–", "failed", "–", ""],
    ]
    assert "probability 0.750, called positive, label grade a" in " ".join(page.split())
    assert page.count("data:image/jpeg;base64,") == 1
    anchors = re.findall(r'<a href="#([\w-]+)">', page)
    assert anchors == ["metrics", "model-1", "problems", "cohort", "provenance"]
    assert all(f'<h2 id="{anchor}">' in page for anchor in anchors)


def test_sections_without_content_are_left_out(run: RunFolder) -> None:
    page = page_of(run)
    assert 'id="audit"' not in page
    assert 'id="poison"' not in page
    assert 'id="comparison"' not in page


def test_the_page_is_written_again_only_when_it_would_change(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    page_of(run)
    again = (run, (), "auto", labels(), ["m"])
    assert not run_report(*again, execution=ONE)
    run.ledger.put(Outcome("a", "tile", "done", counts={"tiles": 7, "tissue_um2": 2_500_000}, seconds=9.0))
    assert not run_report(*again, execution=ONE)  # seconds are not shown
    run.ledger.put(Outcome("a", "tile", "done", counts={"tiles": 8, "tissue_um2": 2_500_000}))
    assert run_report(*again, execution=ONE)
    old = SECTIONS.load("problems")
    newer = Section(old.title, old.anchor, old.order, old.read, version=old.version + 1)
    monkeypatch.setattr("wsi_mil.report.sections.problems.SECTION", newer)
    assert run_report(*again, execution=ONE)
    assert not run_report(*again, execution=ONE)


def test_an_audit_of_an_earlier_model_is_not_current(run: RunFolder) -> None:
    assert source(run).are_current("m", ["model1"])
    assert not source(run).are_current("m", ["model1", "model0"])


SECTION = """
from wsi_mil.report.section import Content, Section
from wsi_mil.report.templating import fill

def read(source):
    names = [path.name for path in source.run.path.glob("*.note")]
    return Content(names, lambda: fill(__file__, names=names)) if names else None

SECTION = Section("My notes", "notes", 55, read)
"""
PART = """
from wsi_mil.report.section import Content, ModelPart
from wsi_mil.report.templating import fill

PART = ModelPart(45, lambda source, name: Content(name, lambda: fill(__file__, name=name)))
"""


def test_a_file_in_the_folder_is_a_section(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python and template of a section, and of a part of every model's section, in folders of their own."""
    for package, name, code, template in (
        (
            wsi_mil.report.sections,
            "my_notes",
            SECTION,
            '<h2 id="notes">Notes</h2>{% for n in names %}{{ n }};{% endfor %}',
        ),
        (wsi_mil.report.model_parts, "my_part", PART, "<p>mine of {{ name }}</p>"),
    ):
        folder = tmp_path / name
        write_text(folder / f"{name}.py", code)
        write_text(folder / f"{name}.html", template)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    before = read_page(source(run)).mark
    page = page_of(run)
    assert "<p>mine of m</p>" in page
    assert 'id="notes"' not in page
    write_text(run.path / "a&b.note", "")
    assert read_page(source(run)).mark != before
    page = page_of(run)
    assert '<h2 id="notes">Notes</h2>a&amp;b.note;' in page
    assert re.findall(r'<a href="#(notes|problems)">', page) == ["notes", "problems"]
