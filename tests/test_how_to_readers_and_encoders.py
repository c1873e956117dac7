"""The reader and the encoder of docs/how-to-readers-and-encoders.md are short, and pass the suites."""

import re
from pathlib import Path

import pytest

from tests.slides.test_readers import LEVELS, write
from wsi_mil.contracts.arrays import RGB
from wsi_mil.encoders import Encoder, EncoderSpec, build_encoder
from wsi_mil.slides import SlideReader, open_slide
from wsi_mil.testing.encoders import EncoderSuite
from wsi_mil.testing.readers import ReaderSuite

DOCUMENT = Path(__file__).parents[1] / "docs" / "how-to-readers-and-encoders.md"
MODULES = dict(
    re.findall(
        r'Path\("(\w+)\.py"\)\.write_text\("""\n(.*?)"""\)', DOCUMENT.read_text(encoding="utf-8"), re.DOTALL
    )
)


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on Python's path with the modules of the document."""
    for name, code in MODULES.items():
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("WSI_MIL_TRUST", ",".join(MODULES))
    return tmp_path


@pytest.mark.parametrize("name", ["negative", "mean_colour"])
def test_a_kind_takes_at_most_30_lines(name: str) -> None:
    assert len(MODULES[name].splitlines()) <= 30


class TestNegativeReader(ReaderSuite):
    @pytest.fixture(autouse=True)
    def _take(self, modules: Path) -> None:
        self.path = write(modules / "slide.tiff", LEVELS)

    def open(self) -> SlideReader:
        return open_slide(self.path, reader="negative:NegativeReader")

    def truth(self) -> list[RGB]:
        return [255 - level for level in LEVELS]


@pytest.mark.usefixtures("modules")
class TestMeanColour(EncoderSuite):
    def build(self, device: str = "cpu") -> Encoder:
        return build_encoder(EncoderSpec(name="mean_colour:MeanColour"), device)
