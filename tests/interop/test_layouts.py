"""Every layout passes its suite, checked by the libraries of the formats; a wrong layout fails it."""

from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from wsi_mil.errors import ConfigError, DataError
from wsi_mil.interop.layouts import (
    LAYOUTS,
    export_layout_names,
    import_layout_names,
    load_export_layout,
    load_import_layout,
)
from wsi_mil.interop.layouts.base import ExportedSlide, ExportLayout, ImportLayout
from wsi_mil.testing.layouts import ExportLayoutSuite, ImportLayoutSuite, example_slide
from wsi_mil.trust import trusted


class TestTridentExport(ExportLayoutSuite):
    def layout(self) -> ExportLayout:
        return load_export_layout("trident")

    def features_of(self, paths: list[Path]) -> NDArray[np.float32]:
        with h5py.File(paths[0]) as file:
            return np.asarray(file["features"])


class TestClamExport(ExportLayoutSuite):
    def layout(self) -> ExportLayout:
        return load_export_layout("clam")

    def features_of(self, paths: list[Path]) -> NDArray[np.float32]:
        (path,) = [path for path in paths if path.suffix == ".pt"]
        return np.asarray(torch.load(path, weights_only=True).numpy())


class TestTorchMILExport(ExportLayoutSuite):
    def layout(self) -> ExportLayout:
        return load_export_layout("torchmil")

    def features_of(self, paths: list[Path]) -> NDArray[np.float32]:
        (path,) = [path for path in paths if path.parent.name == "features"]
        return np.asarray(np.load(path))


class TestH5adExport(ExportLayoutSuite):
    def layout(self) -> ExportLayout:
        return load_export_layout("h5ad")

    def features_of(self, paths: list[Path]) -> NDArray[np.float32]:
        return np.asarray(anndata.read_h5ad(paths[0]).X)


class TestZarrExport(ExportLayoutSuite):
    def layout(self) -> ExportLayout:
        return load_export_layout("zarr")

    def features_of(self, paths: list[Path]) -> NDArray[np.float32]:
        return np.asarray(anndata.read_zarr(paths[0]).X)


class TestTridentImport(ImportLayoutSuite):
    def layout(self) -> ImportLayout:
        return load_import_layout("trident")

    def write_example(self, folder: Path) -> Path:
        slide = example_slide()
        path = folder / f"{slide.info.slide_id}.h5"
        path.parent.mkdir(parents=True)
        with h5py.File(path, "w") as file:
            file["features"], file["coords"] = slide.readable_rows()
        return path


class TestClamImport(ImportLayoutSuite):
    def layout(self) -> ImportLayout:
        return load_import_layout("clam")

    def write_example(self, folder: Path) -> Path:
        slide = example_slide()
        features, coords = slide.readable_rows()
        path = folder / "pt_files" / f"{slide.info.slide_id}.pt"
        patches = folder / "patches" / f"{slide.info.slide_id}.h5"
        for parent in (path.parent, patches.parent):
            parent.mkdir(parents=True)
        torch.save(torch.from_numpy(features), path)
        with h5py.File(patches, "w") as file:
            file["coords"] = coords
        return path


def test_every_layout_has_its_suites() -> None:
    assert export_layout_names() == ["clam", "h5ad", "torchmil", "trident", "zarr"]
    assert import_layout_names() == ["clam", "trident"]


class EveryRow(ExportLayout):
    """Wrong: writes unreadable tiles, too."""

    def write(self, slide: ExportedSlide, folder: Path) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{slide.info.slide_id.replace('/', '_')}.npy"
        np.save(path, slide.features.features)
        return [path]


EVERY_ROW = EveryRow()


def test_a_wrong_layout_fails_the_suite(tmp_path: Path) -> None:
    class Wrong(TestTorchMILExport):
        def layout(self) -> ExportLayout:
            return EVERY_ROW

        def features_of(self, paths: list[Path]) -> NDArray[np.float32]:
            return np.asarray(np.load(paths[0]))

    with pytest.raises(AssertionError):
        Wrong().test_files_hold_the_readable_rows_in_order(tmp_path)


def test_a_layout_of_another_package_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    with trusted("test_layouts"):
        found = load_export_layout("test_layouts:EVERY_ROW")
        assert type(found).__name__ == "EveryRow"
        with pytest.raises(ConfigError, match="cannot be imported: expected one of clam, trident"):
            load_import_layout("test_layouts:EVERY_ROW")
    with pytest.raises(ConfigError, match=r"No layout named 'tridnt'.*trident"):
        _ = LAYOUTS["tridnt"]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsi_mil.interop.layouts.base.find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"layout 'h5ad' needs anndata: run pip install 'wsi-mil\[interop\]'"
    ):
        load_export_layout("h5ad")


def test_truth_of_another_number_of_tiles_is_refused() -> None:
    slide = example_slide()
    with pytest.raises(DataError, match=r"truth has shape \(2,\), expected \(6,\)"):
        ExportedSlide(slide.info, slide.table, slide.features, truth=np.zeros(2, bool))
