"""Outlines that workers read: the fraction of each tile, and a damaged file that is left out by name."""

from pathlib import Path

import numpy as np
import pytest

from tests.stages import handmade
from wsi_mil.errors import MachineError
from wsi_mil.evaluation import AnnotationRules
from wsi_mil.execution import ExecutionSpec
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.slide_outlines import OutlineJob, found_lesions, outlined_shares, read_outlines

pytestmark = pytest.mark.usefixtures("work_here")


def outline(path: Path, x0: int, y0: int, x1: int, y1: int, group: str = "Tumor") -> Path:
    """Write a rectangle in level-0 px as ASAP XML."""
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    text = "".join(f'<Coordinate X="{x}" Y="{y}"/>' for x, y in corners)
    path.write_text(
        f'<ASAP_Annotations><Annotations><Annotation Type="Polygon" PartOfGroup="{group}"><Coordinates>{text}'
        "</Coordinates></Annotation></Annotations></ASAP_Annotations>"
    )
    return path


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    found = RunFolder(tmp_path / "run")
    for slide_id in ("a", "b", "c"):
        handmade.store_tiles(found, slide_id)
    return found


def test_a_damaged_file_is_left_out_by_name(
    run: RunFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    x, y, size = handmade.LEFT, handmade.TOP, handmade.SIZE
    files = {
        "c": outline(tmp_path / "c.xml", x, y, x + size + size // 4, y + size),
        "b": tmp_path / "b.xml",
        "a": outline(tmp_path / "a.xml", x, y, x + size, y + 3 * size // 2),
    }
    files["b"].write_text(files["c"].read_text()[:90])
    found = read_outlines(
        outlined_shares,
        run,
        files,
        AnnotationRules(),
        stage="audit m",
        used_for="the truth of audit",
        execution=ExecutionSpec(workers=1),
    )
    expected = np.zeros((2, 24))  # six columns of tiles
    expected[0, :2] = 1, 0.25
    expected[1, [0, 6]] = 1, 0.5
    assert list(found) == ["c", "a"]
    np.testing.assert_allclose([found["c"], found["a"]], expected)
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said.startswith("audit m: slide b is left out of the truth of audit: ")
    assert str(files["b"]) in said


def test_a_disk_that_fails_ends_the_command(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="slide a could not be read because of this machine"):
        read_outlines(
            full_disk,
            run,
            {"a": tmp_path / "a.xml"},
            AnnotationRules(),
            stage="train",
            used_for="the outlines that models may see",
            execution=ExecutionSpec(workers=1),
        )


def full_disk(job: OutlineJob) -> None:
    raise OSError(28, "No space left on device", str(job.outlines))


def test_a_slide_without_tumour_needs_no_lesion(run: RunFolder, tmp_path: Path) -> None:
    path = outline(tmp_path / "a.xml", 0, 0, 9, 9, group="Fat")
    assert found_lesions(OutlineJob("a", run.path, path, AnnotationRules())) == ()
