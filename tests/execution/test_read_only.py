"""A folder that may not be written to: an error in one line, and nothing in it changes. Root may write
anywhere, so it becomes nobody first."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wsi_mil.cli.main import main
from wsi_mil.contracts.slide import SlideSource
from wsi_mil.encoders import EncoderSpec
from wsi_mil.run.folder import RunFolder
from wsi_mil.stages.extract import ExtractJob, extract_many

NOBODY = 65534
pytestmark = pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX users")


@contextmanager
def nobody() -> Iterator[None]:
    """Without the rights of root, also not those to read Python's files: all imports are done before."""
    import pydicom
    import pydicom.encaps

    assert pydicom.encaps
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.fixture
def read_only_run(small_run: Path, cohort: Path) -> Iterator[Path]:
    """A run that everybody may read and nobody may write, below folders that everybody may enter; slides
    beside it."""
    with tempfile.TemporaryDirectory(dir=tempfile.gettempdir()) as above:
        os.chmod(above, 0o755)
        run = Path(above, "run")
        shutil.copytree(small_run, run)
        shutil.copytree(cohort / "slides", run.parent / "slides")
        for path in [run, *run.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        yield run
        for path in [run, *run.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)


def listing(run: Path) -> list[tuple[str, int]]:
    return sorted((str(path.relative_to(run)), path.stat().st_mtime_ns) for path in run.rglob("*"))


def test_a_run_in_a_read_only_folder_is_refused_in_one_line(
    read_only_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = listing(read_only_run)
    with nobody(), pytest.raises(SystemExit) as stop:
        main(["extract", str(read_only_run), "encoder.alias=other"])
    assert stop.value.code == 1
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1
    assert str(read_only_run) in said
    assert "Permission denied" in said
    assert listing(read_only_run) == before


def test_a_read_only_store_fails_its_slide_and_keeps_what_it_holds(read_only_run: Path) -> None:
    run = RunFolder(read_only_run)
    before = listing(read_only_run)
    jobs = [
        ExtractJob(
            slide_id,
            SlideSource(slide_id, run.path.parent / "slides" / f"{slide_id}.tiff", None),
            "auto",
            run.store(slide_id).path,
            EncoderSpec(name="texture", alias="other"),
            "cpu",
            1,
        )
        for slide_id in run.stored_slides()[:2]
    ]
    with nobody():
        found = list(extract_many(jobs))
    assert [outcome.status for outcome in found] == ["failed", "failed"]
    for job, outcome in zip(jobs, found, strict=True):
        assert outcome.reason.startswith(str(job.store)), outcome.reason
        assert "cannot be written: Permission denied" in outcome.reason
    assert listing(read_only_run) == before
