"""wsi-mil check of one slide: what is read, what is predicted, and what is wrong."""

from pathlib import Path

import pytest
import tifffile

from tests.stages import handmade
from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.slides import SlideFile
from wsi_mil.stages.check import CheckRow, check_slide, table
from wsi_mil.tissue import TissueSpec

TISSUE = TissueSpec(**handmade.TISSUE)  # type: ignore[arg-type]


def check(
    path: Path, mpp: float | tuple[float, float] | None = None, spec: TileSpec = handmade.TILES
) -> CheckRow:
    return check_slide(SlideFile(path.stem, path), "auto", mpp, spec, TISSUE)


def test_a_good_slide(tmp_path: Path) -> None:
    row = check(handmade.write_slide(tmp_path / "s.tiff", handmade.pixels()))
    assert (row.slide_id, row.size, row.levels, row.mpp) == ("s", "640x448", "1", "1")
    assert (row.bounds, row.problems, row.failed) == ("-", "", False)
    assert row.tiles == 24


def test_pixels_that_are_not_square_show_both_scales(tmp_path: Path) -> None:
    row = check(handmade.write_slide(tmp_path / "s.tiff", handmade.pixels()), mpp=(1.0, 0.5))
    assert row.mpp == "1x0.5"
    assert row.source == "override"


@pytest.mark.parametrize(
    ("mpp", "spec", "words", "failed"),
    [
        (None, TileSpec(mpp=0.5, size_px=64), "finer than", True),
        (1.0, TileSpec(mpp=1.0, size_px=448), "", False),
    ],
)
def test_tiles_that_do_not_fit(
    tmp_path: Path, mpp: float | None, spec: TileSpec, words: str, failed: bool
) -> None:
    row = check(handmade.write_slide(tmp_path / "s.tiff", handmade.pixels()), mpp, spec)
    assert row.failed is failed
    assert words in row.problems
    assert row.size == "640x448"


def test_glass_has_no_tissue_and_is_no_failure(tmp_path: Path) -> None:
    row = check(handmade.write_slide(tmp_path / "s.tiff", handmade.pixels(tissue=False)))
    assert (row.tiles, row.failed) == (0, False)
    assert row.problems.startswith("no tissue found by threshold: saturation above 20 of 255; saturation 0 ")


def test_slides_that_cannot_be_used(tmp_path: Path) -> None:
    broken = tmp_path / "broken.svs"
    broken.write_bytes(b"not a slide")
    assert check(broken).failed
    scaleless = tmp_path / "scaleless.tiff"
    tifffile.imwrite(scaleless, handmade.pixels(), tile=(128, 128), photometric="rgb", metadata=None)
    row = check(scaleless)
    assert row.failed
    assert "µm per pixel" in row.problems
    assert not check(scaleless, mpp=1.0).failed


def test_the_table_is_aligned_and_problems_come_last() -> None:
    rows = [CheckRow("a", "1x1", tiles=7), CheckRow("longer", problems="a long reason", failed=True)]
    header, first, second = table(rows).splitlines()
    assert header.startswith("slide   size, px")
    assert [line.index(word) for line, word in ((header, "problems"), (second, "a long reason"))] == [
        header.index("problems")
    ] * 2
    assert first.split()[-1] == "7"
    assert second.split()[-4:] == ["-", "a", "long", "reason"]


@pytest.mark.parametrize("error", [MemoryError("too large"), ValueError("two\nlines"), ZeroDivisionError()])
def test_whatever_one_slide_does_is_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    path = handmade.write_slide(tmp_path / "s.tiff", handmade.pixels())
    for name in ("open_slide", "find_tissue"):
        with monkeypatch.context() as patch:
            patch.setattr(f"wsi_mil.stages.check.{name}", fail)
            row = check(path)
        assert row.failed
        assert type(error).__name__ in row.problems
        assert str(path) in row.problems
        assert "\n" not in row.problems
