"""Small slides, each in a folder of its own, and a run of them that a test can harm and put back."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import yaml
from click.testing import CliRunner, Result

from tests.reliability.harm import content_of, touched
from tests.stages import handmade
from wsi_mil.cli.main import cli


class Lab:
    """Slides, and a run of them."""

    def __init__(self, folder: Path, names: Iterable[str] = "abc", workers: int = 1) -> None:
        self.folder, self.slides, self.run = folder, folder / "slides", folder / "run"
        for number, slide_id in enumerate(names):
            handmade.write_slide(self.path(slide_id), handmade.pixels(number))
            touched(self.path(slide_id))
        shutil.copytree(self.slides, folder / "kept")
        self.config = folder / "c.yaml"
        values = {
            "run": str(self.run),
            "slides": {"folder": str(self.slides)},
            "tissue": handmade.TISSUE,
            "tiles": {"mpp": 1.0, "size_px": 64},
            "models": {handmade.MODEL: {"aggregator": "mi_net"}},
            "encoder": {"name": "texture", "batch_size": 10, "max_unreadable": 1.0},
            "execution": {"workers": workers, "threads": 2},
        }
        self.config.write_text(yaml.safe_dump(values))

    def path(self, slide_id: str) -> Path:
        return self.folder / "slides" / slide_id / f"{slide_id}.tiff"

    @staticmethod
    def id_of(slide_id: str) -> str:
        return f"{slide_id}/{slide_id}"

    def call(self, *arguments: object) -> Result:
        return CliRunner().invoke(cli, [str(argument) for argument in arguments])

    def put_back(self) -> None:
        shutil.rmtree(self.slides)
        shutil.copytree(self.folder / "kept", self.slides)

    def made(self) -> dict[str, bytes]:
        """What the run has made of the slides."""
        found = {name: content_of(self.run / name) for name in ("slides", "tissue")}
        return {f"{name}/{path}": data for name, files in found.items() for path, data in files.items()}
