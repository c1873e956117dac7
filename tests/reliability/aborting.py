"""A lab with eleven slides, one of which ends the process that reads it, or its outlines."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# Python imports it at the start of every process. A library that aborts cannot be caught by any `except`.
SITE = """
import os
from wsi_mil.evaluation.annotations import reading
from wsi_mil.slides import base, opening
_open, read_region = opening._open, base.SlideReader.read_region
read_annotation_file = reading.read_annotation_file
def abort_if(slide_id, when):
    if slide_id == os.environ["ABORT_SLIDE"] and os.environ.get("ABORT_WHEN") == when:
        with open(os.environ["ABORTS"], "a") as file:
            file.write(when + "\\n")
        os.abort()
def aborting_open(name, path, slide_id, mpp):
    abort_if(slide_id, "opening")
    return _open(name, path, slide_id, mpp)
def aborting_read(self, *arguments):
    abort_if(self.info.slide_id, "reading")
    return read_region(self, *arguments)
def aborting_outlines(path, slide_id, info, rules):
    abort_if(slide_id, "outlines")
    return read_annotation_file(path, slide_id, info, rules)
opening._open, base.SlideReader.read_region = aborting_open, aborting_read
reading.read_annotation_file = aborting_outlines
"""
KILLED = "killed by signal 6 (SIGABRT)"


@dataclass(frozen=True)
class Lab:
    """Eleven slides, one of which aborts, and where the processes that it ended are counted."""

    folder: Path

    @property
    def slides(self) -> Path:
        return self.folder / "slides"

    def aborts(self) -> int:
        marks = self.folder / "aborts.txt"
        return len(marks.read_text().splitlines()) if marks.exists() else 0

    def call(
        self, *arguments: object, when: str = "opening", slide: str = "aborts"
    ) -> subprocess.CompletedProcess[str]:
        paths = [str(self.folder / "site"), *filter(None, [os.environ.get("PYTHONPATH", "")])]
        own = {"PYTHONPATH": os.pathsep.join(paths), "ABORT_WHEN": when, "ABORT_SLIDE": slide}
        return subprocess.run(
            [sys.executable, "-c", "from wsi_mil.cli import main; main()", *map(str, arguments)],
            env={**os.environ, **own, "ABORTS": str(self.folder / "aborts.txt")},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
        )


def make_lab(cohort: Path, tmp_path: Path) -> Lab:
    """Copy ten slides of a cohort, and one of them as `aborts`; write what lets it abort."""
    good = sorted(p for p in (cohort / "slides").iterdir() if p.is_file())[:10]
    (tmp_path / "slides").mkdir()
    for path in good:
        shutil.copy(path, tmp_path / "slides")
    shutil.copy(good[0], tmp_path / "slides" / f"aborts{''.join(good[0].suffixes)}")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    return Lab(tmp_path)
