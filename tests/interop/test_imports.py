"""An import of CLAM's features: slides without coordinates are named, and are not lost."""

from pathlib import Path

import h5py
import pytest
import torch

from tests.interop.test_foreign import FEATURES, GRID, clam
from wsi_mil.errors import DataError
from wsi_mil.interop.foreign import StatedTiles
from wsi_mil.interop.imports import ImportSource, import_features
from wsi_mil.run.folder import RunFolder

MISSING = (
    r"{0}\.pt holds features without the coordinates of their tiles: expected them in patches/{0}\.h5, "
    r".*create_patches_fp\.py"
)


def source(folder: Path) -> ImportSource:
    stated = StatedTiles(tile_mpp=0.5, overlap_px=0)
    return ImportSource(folder, "clam", encoder="resnet50", stated=stated)


def test_slides_without_coordinates_are_failed_outcomes(tmp_path: Path) -> None:
    """Also the first one by name, which others are compared with; `c` has features in h5 without `coords`."""
    clam(tmp_path / "clam", h5=False, pt=True)
    torch.save(torch.from_numpy(FEATURES), tmp_path / "clam" / "pt_files" / "a.pt")
    (tmp_path / "clam" / "pt_files" / "centre").mkdir()
    torch.save(torch.from_numpy(FEATURES), tmp_path / "clam" / "pt_files" / "centre" / "b.pt")
    with h5py.File(tmp_path / "clam" / "h5_files" / "c.h5", "w") as file:
        file["features"] = FEATURES
    summary = import_features(tmp_path / "run", source(tmp_path / "clam"))
    run = RunFolder(tmp_path / "run")
    assert {row.slide_id: row.status for row in run.ledger.rows("import")} == {
        "a": "failed",
        "c": "failed",
        "centre/b": "failed",
        "s": "done",
    }
    reasons = {row.slide_id: row.reason for row in run.ledger.rows("import")}
    assert "patches/a.h5" in reasons["a"]
    assert "patches/centre/b.h5" in reasons["centre/b"]
    assert "a dataset 'coords' in it, or in patches/c.h5" in reasons["c"]
    assert len(summary.problems) == 3
    assert run.stored_slides() == ["s"]
    assert len(run.store("s").read_tiles().coords) == len(GRID)


def test_features_that_all_lack_coordinates_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pt_files").mkdir()
    for name in "ab":
        torch.save(torch.from_numpy(FEATURES), tmp_path / "pt_files" / f"{name}.pt")
    with pytest.raises(
        DataError, match="none of 2 slides can be imported; the first, 'a': .*" + MISSING.format("a")
    ):
        import_features(tmp_path / "run", source(tmp_path))


def test_coordinates_in_another_unicode_form_belong_to_the_features(tmp_path: Path) -> None:
    clam(tmp_path, h5=False, pt=True)
    (tmp_path / "pt_files" / "s.pt").rename(tmp_path / "pt_files" / "Lung\u00e9.pt")
    (tmp_path / "patches" / "s.h5").rename(tmp_path / "patches" / "Lunge\u0301.h5")
    import_features(tmp_path / "run", source(tmp_path))
    assert RunFolder(tmp_path / "run").stored_slides() == ["Lung\u00e9"]
