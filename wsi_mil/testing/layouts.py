"""The suites of layouts of other tools: subclass one, say what is independent of the code, run pytest."""

import pickle
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from wsi_mil.contracts.features import FeatureTable
from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.errors import DataError
from wsi_mil.interop.layouts.base import ExportedSlide, ExportLayout, ImportLayout, find_files
from wsi_mil.slides import ArrayReader
from wsi_mil.tiles import tile_slide
from wsi_mil.tissue import TissueSpec, find_tissue


def example_slide(slide_id: str = "centre_1/s") -> ExportedSlide:
    """Return a slide of 3 x 2 tiles of 32 px with 5 features each; tile 1 could not be read."""
    with ArrayReader(np.zeros((64, 96, 3), np.uint8), mpp=0.5, slide_id=slide_id) as slide:
        info = slide.info
        tissue = find_tissue(slide, TissueSpec(method="whole"))
    table = tile_slide(info, tissue, TileSpec(mpp=0.5, size_px=32))
    readable = np.ones(len(table), bool)
    readable[1] = False
    values = np.random.default_rng(0).normal(size=(len(table), 5)).astype(np.float16)
    features = FeatureTable(
        slide_id, "texture", "e", table.digest(), 0.5, values, table.coords, readable, "digest"
    )
    return ExportedSlide(info, table, features, 1, np.arange(len(table)) > 2)


class ExportLayoutSuite(ABC):
    """`features_of` reads a written slide by other means than the layout's."""

    @abstractmethod
    def layout(self) -> ExportLayout:
        """Return the layout."""

    @abstractmethod
    def features_of(self, paths: list[Path]) -> NDArray[np.float32]:
        """Return the features (n, D) that the files hold."""

    def test_pickles(self) -> None:
        assert type(pickle.loads(pickle.dumps(self.layout()))) is type(self.layout())

    def test_files_hold_the_readable_rows_in_order(self, tmp_path: Path) -> None:
        slide = example_slide()
        paths = self.layout().write(slide, tmp_path)
        found = self.features_of(paths)
        expected = slide.features.features[slide.features.readable].astype(np.float32)
        np.testing.assert_array_equal(found, expected)

    def test_every_file_is_below_the_folder_and_nothing_else_is_left(self, tmp_path: Path) -> None:
        paths = self.layout().write(example_slide(), tmp_path / "out")
        assert paths
        assert all(path.exists() and (tmp_path / "out") in path.parents for path in paths)
        assert not [path for path in (tmp_path / "out").rglob("*") if path.name.endswith(".tmp")]
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_slides_of_two_folders_do_not_share_files(self, tmp_path: Path) -> None:
        first = self.layout().write(example_slide("centre_1/s"), tmp_path)
        second = self.layout().write(example_slide("centre_2/s"), tmp_path)
        assert not set(first) & set(second)

    def test_written_twice_gives_the_same_files(self, tmp_path: Path) -> None:
        slide = example_slide()
        first = self.layout().write(slide, tmp_path)
        assert self.layout().write(replace(slide, label=0), tmp_path) == first


class ImportLayoutSuite(ABC):
    """`write_example` writes a slide as the tool itself does, not by the layout."""

    @abstractmethod
    def layout(self) -> ImportLayout:
        """Return the layout."""

    @abstractmethod
    def write_example(self, folder: Path) -> Path:
        """Write `example_slide()` below `folder`; return the file of features."""

    def test_features_and_corners_belong_together(self, tmp_path: Path) -> None:
        slide = example_slide()
        self.write_example(tmp_path)
        (files,) = find_files(self.layout(), tmp_path).values()
        assert files.slide_id == slide.info.slide_id
        assert pickle.loads(pickle.dumps(files)) == files
        bag = self.layout().read(files)
        features, coords = slide.readable_rows()
        expected = {tuple(xy): row for xy, row in zip(coords.tolist(), features, strict=True)}
        assert len(bag.coords) == len(expected)
        for xy, row in zip(bag.coords.tolist(), bag.features, strict=True):
            np.testing.assert_array_equal(row, expected[tuple(xy)])

    def test_an_empty_folder_is_refused(self, tmp_path: Path) -> None:
        for folder in (tmp_path, tmp_path / "none"):
            with pytest.raises(DataError, match="no features in"):
                find_files(self.layout(), folder)

    def test_a_damaged_file_is_named(self, tmp_path: Path) -> None:
        path = self.write_example(tmp_path)
        path.write_bytes(path.read_bytes()[:100])
        (files,) = find_files(self.layout(), tmp_path).values()
        with pytest.raises(DataError, match=path.name):
            self.layout().read(files)
