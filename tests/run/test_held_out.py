"""Truth of the held-out slides: a positive slide whose annotation gives no lesion is left out, by name."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from wsi_mil.evaluation.annotations import AnnotationRules
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.execution import ExecutionSpec
from wsi_mil.run import held_out
from wsi_mil.run.folder import RunFolder

ASAP = (
    '<ASAP_Annotations><Annotation Type="Polygon" PartOfGroup="{}"><Coordinate X="0" Y="0"/>'
    '<Coordinate X="90" Y="0"/><Coordinate X="90" Y="90"/></Annotation></ASAP_Annotations>'
)


@pytest.mark.usefixtures("work_here")
def test_a_positive_slide_without_lesion_has_unknown_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The slides "none" (no file) and "cap" (an unknown class) are left out; "negative" has no lesion."""
    for slide_id, group in (("tumor", "Tumor"), ("cap", "CaP")):
        (tmp_path / f"{slide_id}.xml").write_text(ASAP.format(group))
    store = SimpleNamespace(read_info=lambda: None, read_tiles=lambda: None)
    monkeypatch.setattr(RunFolder, "store", lambda self, slide_id: store)
    monkeypatch.setattr(held_out, "read_tile_scores", lambda path: None)
    monkeypatch.setattr(held_out, "check_scores", lambda scores, table: None)
    monkeypatch.setattr(
        held_out,
        "held_out_slide",
        lambda row, info, table, scores, lesions, spec: (row.slide_id, len(lesions)),
    )
    files = {s: tmp_path / f"{s}.xml" for s in ("tumor", "cap")} | {"negative": None, "none": None}
    rows = [SimpleNamespace(slide_id=s, positive=s != "negative") for s in files]
    for classes, known in (((), [("tumor", 1)]), (("cap",), [("tumor", 1), ("cap", 1)])):
        found = SimpleNamespace(rows=rows, truth_files=files, rules=AnnotationRules("auto", classes))
        with caplog.at_level(logging.WARNING):
            run, one = RunFolder(tmp_path), ExecutionSpec(workers=1)
            slides, without = held_out.read_truth(run, "m", found, EvaluationSpec(), one)
        assert slides == [*known, ("negative", 0)]
        assert without == [s for s in ("cap", "none") if (s, 1) not in known]
    assert "cap is left out of patch metrics and FROC" in caplog.text
    assert "1 Polygon of class 'CaP': its class is not known to be a lesion" in caplog.text
