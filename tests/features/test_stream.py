"""Batches with tiles of several slides: each row belongs to its slide, and other slides change nothing.

A slide that fails does not stop the others.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.features.test_features import MeanEncoder
from wsi_mil.contracts.tiles import TileSpec, TileTable
from wsi_mil.encoders import EncoderSpec, build_encoder
from wsi_mil.errors import MachineError, SlideError
from wsi_mil.features import SlideStore, encode_tiles, extract_features, extract_slides
from wsi_mil.features import store as store_module
from wsi_mil.features.engine import SlideToExtract
from wsi_mil.features.stream import SlideFeed, stream_batches
from wsi_mil.slides import ArrayReader, SlideReader
from wsi_mil.tiles import tile_slide
from wsi_mil.tissue import TissueSpec, find_tissue

SIZES = {"a": (200, 130), "b": (90, 50), "c": (300, 210), "d": (45, 45)}  # 15, 2, 35 and 1 tiles of 40 px


def slide(name: str) -> ArrayReader:
    width, height = SIZES[name]
    pixels = np.random.default_rng(ord(name)).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return ArrayReader(pixels, mpp=1.0, slide_id=name)


def table(name: str, size: int = 40) -> TileTable:
    reader = slide(name)
    return tile_slide(
        reader.info, find_tissue(reader, TissueSpec(method="whole")), TileSpec(mpp=1.0, size_px=size)
    )


def feed(name: str) -> SlideFeed:
    return SlideFeed(table(name), lambda: slide(name))


def test_batches_are_full_and_hold_the_right_tiles() -> None:
    rows: dict[str, list[int]] = {}
    filled = []
    for batch in stream_batches([feed(name) for name in SIZES], 8, threads=3):
        assert batch.pixels.shape == (8, 40, 40, 3)
        filled.append(batch.filled)
        assert batch.readable[: batch.filled].all()
        assert not batch.pixels[batch.filled :].any()
        for piece in batch.pieces:
            image = slide(piece.feed.slide_id)._levels[0]
            for row in range(piece.start, piece.stop):
                x, y = piece.feed.table.coords[row]
                tile = batch.pixels[piece.place + row - piece.start]
                np.testing.assert_array_equal(tile, image[y : y + 40, x : x + 40])
                rows.setdefault(piece.feed.slide_id, []).append(row)
    assert rows == {name: list(range(len(table(name)))) for name in SIZES}
    assert [len(found) for found in rows.values()] == [15, 2, 35, 1]
    assert filled == [8, 8, 8, 8, 8, 8, 5]


def stores(folder: Path, names: str) -> list[SlideToExtract]:
    found = []
    for name in names:
        store = SlideStore(folder / f"{name}.zarr", name)
        store.write_tiles(table(name), slide(name).info, "made")
        found.append(SlideToExtract(feed(name), store))
    return found


@pytest.mark.slow
def test_other_slides_in_a_batch_change_no_byte(tmp_path: Path) -> None:
    """All slides together, in another order, and each alone: the same files."""
    spec = EncoderSpec(name="timm:resnet10t", weights="random", input_px=64, batch_size=8)
    encoder = build_encoder(spec, "cpu")
    for folder, order in (("together", "abcd"), ("reversed", "dcba")):
        done = dict(extract_slides(stores(tmp_path / folder, order), encoder, spec, threads=2))
        assert list(done) == list(order)
    for one in stores(tmp_path / "alone", "abcd"):
        extract_features(slide(one.feed.slide_id), one.store, encoder, spec)
    files = [
        path.relative_to(tmp_path / "alone") for path in (tmp_path / "alone").rglob("*") if path.is_file()
    ]
    assert len(files) >= 4 * 11
    for file in files:
        expected = (tmp_path / "alone" / file).read_bytes()
        assert (tmp_path / "together" / file).read_bytes() == expected, file
        assert (tmp_path / "reversed" / file).read_bytes() == expected, file


def test_slides_open_as_they_are_needed_and_are_closed_after_their_last_tile() -> None:
    open_now: set[str] = set()
    most, order = 0, []

    class Watched(ArrayReader):
        def close(self) -> None:
            open_now.discard(self.info.slide_id)
            super().close()

    def opening(number: int) -> SlideReader:
        nonlocal most
        order.append(number)
        open_now.add(f"s{number}")
        most = max(most, len(open_now))
        return Watched(np.zeros((90, 50, 3), np.uint8), mpp=1.0, slide_id=f"s{number}")

    taken: list[int] = []

    def feeds():  # type: ignore[no-untyped-def]
        for number in range(30):
            taken.append(number)
            yield SlideFeed(table("b"), partial(opening, number))

    ahead = []
    for seen, _ in enumerate(stream_batches(feeds(), 4, threads=2)):
        ahead.append(len(taken) - 2 * seen)
    assert sorted(order) == list(range(30))
    assert not open_now
    assert most <= 10
    assert max(ahead) <= 12


def test_slides_that_cannot_be_opened_or_stored_do_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> SlideReader:
        raise SlideError("slide 'b' cannot be opened: no such thing")

    sources = stores(tmp_path, "abcd")
    sources[1] = SlideToExtract(SlideFeed(table("b"), refuse), sources[1].store)
    append = store_module.FeatureWriter.append

    def full(self: store_module.FeatureWriter, *arguments: object) -> None:
        if self._rows == 15:  # slide a
            raise OSError(28, "No space left on device")
        append(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store_module.FeatureWriter, "append", full)
    found = dict(extract_slides(sources, MeanEncoder(), EncoderSpec(batch_size=8), threads=2))
    assert isinstance(found["a"], MachineError)  # names the file and what it needs
    assert "cannot be opened" in str(found["b"])
    assert [found[name].tiles for name in "cd"] == [35, 1]  # type: ignore[union-attr]
    assert [source.store.encoders() for source in sources] == [[], [], ["texture"], ["texture"]]
    assert not list(tmp_path.rglob(".*"))


def test_stopping_in_the_middle_leaves_no_incomplete_store(tmp_path: Path) -> None:
    class Stops(MeanEncoder):
        calls = 0

        def encode(self, pixels: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            if self.calls == 4:
                raise KeyboardInterrupt
            return super().encode(pixels)

    sources = stores(tmp_path, "abcd")
    with pytest.raises(KeyboardInterrupt):
        list(extract_slides(sources, Stops(), EncoderSpec(batch_size=8)))
    assert [source.store.encoders() for source in sources] == [["texture"], ["texture"], [], []]
    assert not list(tmp_path.rglob(".texture*"))


def test_tables_of_another_tile_size_are_refused() -> None:
    other = SlideFeed(table("c", 30), lambda: slide("c"))
    with pytest.raises(SlideError, match=r"'c' has tiles of 30 px, those before it 40 px"):
        list(stream_batches([feed("a"), other], 15))


@pytest.mark.parametrize(
    "spec",
    [EncoderSpec(name="texture", stain="macenko"), EncoderSpec(name="texture", stain="reinhard", view=5)],
)
def test_stains_and_views_of_a_slide_do_not_depend_on_other_slides(tmp_path: Path, spec: EncoderSpec) -> None:
    """Slides alone, together in another order, and in memory: the same features.

    The store holds the changes.
    """
    spec = spec.model_copy(update={"batch_size": 8})
    encoder = build_encoder(spec, "cpu")

    def stained(name: str) -> ArrayReader:
        rng = np.random.default_rng(ord(name))
        amounts = rng.gamma(2.0, 0.3, (SIZES[name][1], SIZES[name][0], 2)) * rng.uniform(0.5, 1.5, 2)
        vectors = np.array([[0.55, 0.75, 0.37], [0.15, 0.92, 0.36]])
        return ArrayReader((255 * np.exp(-amounts @ vectors)).astype(np.uint8), mpp=1.0, slide_id=name)

    found: dict[tuple[str, str], bytes] = {}
    for run, groups in (("together", ["abcd"]), ("alone", ["d", "b", "a", "c"])):
        for group in groups:
            sources = []
            for name in group:
                store = SlideStore(tmp_path / run / f"{name}.zarr", name)
                store.write_tiles(table(name), slide(name).info, "x")
                feed = SlideFeed(table(name), partial(stained, name), view=encoder.view)
                sources.append(SlideToExtract(feed, store))
            for name, report in extract_slides(sources, encoder, spec):
                assert not isinstance(report, Exception)
                found[run, name] = (
                    SlideStore(tmp_path / run / f"{name}.zarr", name)
                    .read_features(spec.key)
                    .features.tobytes()
                )
    plain = build_encoder(EncoderSpec(name="texture"), "cpu")
    for name in SIZES:
        assert found["together", name] == found["alone", name]
        here = encode_tiles(stained(name), table(name), encoder, batch_size=4)
        assert here.features.tobytes() == found["alone", name]
        assert here.features.tobytes() != encode_tiles(stained(name), table(name), plain).features.tobytes()
        stored = SlideStore(tmp_path / "alone" / f"{name}.zarr", name).stored_features(spec.key)
        assert stored is not None
        assert len(stored.origin.colours) == 1 + (spec.view > 0)
        assert stored.origin.encoder["stain"] == spec.stain
