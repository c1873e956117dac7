"""Readers and encoders of an installed package: found by its metadata, imported when they are used."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.slides.test_readers import LEVELS, write
from wsi_mil.encoders import EncoderSpec, build_encoder
from wsi_mil.encoders.names import ENCODERS, FAMILIES, check_encoder
from wsi_mil.errors import EncoderError, TrustError
from wsi_mil.slides import open_slide
from wsi_mil.slides.opening import READERS, check_reader

MODULE = "lab_of_others"
CODE = """
import torch

from wsi_mil.encoders import Encoder
from wsi_mil.slides.readers.tiffslide import TiffSlideReader


class LabReader(TiffSlideReader):
    name = "lab"


class LabEncoder(Encoder):
    dim = 3

    def __init__(self, model, computation):
        self.device = torch.device(computation.device)
        self.identity = {"name": model.name}

    def encode(self, pixels):
        return pixels.to(self.device).float().mean((1, 2))
"""
ENTRY_POINTS = f"""
[wsi_mil.readers]
lab = {MODULE}:LabReader
openslide = {MODULE}:Stolen

[wsi_mil.encoders]
lab-mean = {MODULE}:LabEncoder
texture = {MODULE}:Stolen

[wsi_mil.encoder_families]
labs = {MODULE}:LabEncoder
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages with one distribution: a module, and metadata as pip writes them."""
    folder = tmp_path / "site-packages"
    metadata = folder / "lab_of_others-1.0.dist-info"
    metadata.mkdir(parents=True)
    (folder / f"{MODULE}.py").write_text(CODE)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-of-others\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(folder))
    for registry in (READERS, ENCODERS, FAMILIES):
        monkeypatch.setattr(registry, "_offered", None)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    return folder


@pytest.mark.usefixtures("installed")
def test_a_reader_of_another_package_opens(tmp_path: Path) -> None:
    path = write(tmp_path / "slide.tiff", LEVELS)
    assert "lab" in list(READERS)
    check_reader("lab")
    assert MODULE not in sys.modules, "listing and checking names imports nothing"
    with open_slide(path, reader="lab") as slide:
        assert slide.info.reader == "lab"
        np.testing.assert_array_equal(slide.read_region(3, 5, 0, 20, 9), LEVELS[0][5:14, 3:23])


@pytest.mark.usefixtures("installed")
def test_an_encoder_of_another_package_encodes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "lab-mean" in list(ENCODERS)
    check_encoder("lab-mean")
    check_encoder("labs:small")
    assert MODULE not in sys.modules, "listing and checking names imports nothing"
    tiles = torch.full((2, 16, 16, 3), 90, dtype=torch.uint8)
    with pytest.raises(TrustError, match=f"encoder '{MODULE}:LabEncoder' is code.*add --trust {MODULE}"):
        build_encoder(
            EncoderSpec(name=f"{MODULE}:LabEncoder"), "cpu"
        )  # the entry points are trusted, no more
    monkeypatch.setenv("WSI_MIL_TRUST", MODULE)
    for name in ("lab-mean", "labs:small", f"{MODULE}:LabEncoder"):
        encoder = build_encoder(EncoderSpec(name=name), "cpu")
        assert encoder.identity == {"name": name}
        assert encoder.encode(tiles).tolist() == [[90.0] * 3] * 2


@pytest.mark.usefixtures("installed")
def test_another_package_cannot_replace_ours() -> None:
    """Its entry points claim `openslide` and `texture`, and the module has no such attribute."""
    assert READERS["openslide"] == "wsi_mil.slides.readers.openslide:READER"
    assert build_encoder(EncoderSpec(name="texture"), "cpu").dim == 106


@pytest.mark.usefixtures("installed")
def test_a_name_is_not_imported_before_it_is_used() -> None:
    """A configuration that is only checked runs no code of the modules that it names."""
    check_encoder(f"{MODULE}:LabEncoder")
    check_reader(f"{MODULE}:LabReader")
    assert MODULE not in sys.modules


@pytest.mark.usefixtures("installed")
def test_imported_features_cannot_name_code() -> None:
    """Whatever a file of another tool gives as its encoder, `imported:...` is never imported."""
    spec = EncoderSpec(name=f"imported:{MODULE}:LabEncoder")
    check_encoder(spec.name)
    with pytest.raises(EncoderError, match="were imported"):
        build_encoder(spec, "cpu")
    assert MODULE not in sys.modules
