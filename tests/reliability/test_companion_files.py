"""Slides of one and of several files: features are kept when a slide is tiled again and nothing has changed,
and made again when one of its files has, also where the file that names the slide is the same."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from tests.reliability.harm import content_of
from tests.slides.dicom_files import write_dicom
from tests.slides.several_files import write_mrxs, write_vms
from tests.stages import handmade
from wsi_mil.cli.main import cli
from wsi_mil.contracts.arrays import RGB
from wsi_mil.run.folder import RunFolder

pytestmark = pytest.mark.usefixtures("work_here")


def tiff(folder: Path, image: RGB) -> list[Path]:
    return [handmade.write_slide(folder / "s.tiff", image)]


def dicom(folder: Path, image: RGB) -> list[Path]:
    """Of two levels. Tiles are read from the second one; the first one names the slide."""
    folder.mkdir(exist_ok=True)
    write_dicom(folder / "s.dcm", handmade.pixels(), level=0)
    return [write_dicom(folder / "t.dcm", image[::2, ::2], level=1)]


def mrxs(folder: Path, image: RGB) -> list[Path]:
    return write_mrxs(folder / "s.mrxs", image)


def vms(folder: Path, image: RGB) -> list[Path]:
    return write_vms(folder / "s.vms", image)


class Lab:
    """One slide, a run of it, and the same slide with other pixels under the same tissue outline."""

    def __init__(self, folder: Path, write: Callable[[Path, RGB], list[Path]]) -> None:
        self.slides, self.run = folder / "slides", RunFolder(folder / "run")
        self.files = write(self.slides, handmade.pixels())
        self.others = write(folder / "others", handmade.pixels(seed=1))
        self.config = folder / "c.yaml"
        values = {
            "run": str(self.run.path),
            "slides": {"folder": str(self.slides)},
            "tissue": handmade.TISSUE,
            "tiles": {"mpp": 1.0, "size_px": 64},
            "encoder": {"name": "texture"},
            "execution": {"workers": 1, "threads": 1},
        }
        self.config.write_text(yaml.safe_dump(values))

    def replace(self) -> None:
        """Put the files of the other slide in place of those that do not name the slide."""
        for file, other in zip(self.files, self.others, strict=True):
            other.replace(file)

    def call(self, stage: str) -> str:
        result = CliRunner().invoke(cli, [stage, str(self.config)])
        assert result.exit_code == 0, result.output
        return result.output

    def features(self) -> dict[str, bytes]:
        return content_of(self.run.store("s").path / "features")


@pytest.fixture(params=[tiff, dicom, mrxs, vms])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Lab:
    return Lab(tmp_path, request.param)


def test_features_are_of_the_files_that_are_there(lab: Lab) -> None:
    lab.call("tile")
    lab.call("extract")
    first = lab.features()
    for file in lab.slides.rglob("*"):
        os.utime(file)
    assert "up to date" in lab.call("tile")
    lab.run.preview("s").unlink()
    assert "1 slide worked on (1 done)" in lab.call("tile")
    assert "up to date" in lab.call("extract")
    assert lab.features() == first

    lab.replace()
    assert "1 slide worked on (1 done)" in lab.call("tile")
    assert "1 slide worked on (1 done)" in lab.call("extract")
    made_again = lab.features()
    shutil.rmtree(lab.run.path)
    lab.call("tile")
    lab.call("extract")
    assert made_again == lab.features()
    table = lab.run.store("s").read_features("texture")
    assert len(table.features) > 0
    assert np.isfinite(table.features).all()
    assert made_again != first
