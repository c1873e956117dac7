"""What every encoder must do. Subclass EncoderSuite, give `build`, and pytest runs the suite."""

import pickle
from abc import ABC, abstractmethod

import numpy as np
import pytest
import torch
from torch import Tensor

from wsi_mil.encoders import Encoder
from wsi_mil.encoders.views import View
from wsi_mil.errors import EncoderError


class EncoderSuite(ABC):
    """Tests of one encoder on random tiles.

    `tile_px`: side of the tiles. `tolerance`: largest difference of a feature between batches or devices,
    relative to the largest feature.
    """

    tile_px = 48
    tolerance = 1e-5

    @abstractmethod
    def build(self, device: str = "cpu") -> Encoder:
        """Return a new encoder on `device`, with the same weights at every call."""

    def changed(self) -> Encoder | None:
        """Return the encoder with other weights or settings, or None if it has none to change."""
        return None

    def tiles(self, count: int = 5, size_px: int | None = None) -> Tensor:
        """Return (count, S, S, 3) uint8 random tiles, the same at every call."""
        size = size_px or self.tile_px
        pixels = np.random.default_rng(7).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
        return torch.from_numpy(pixels)

    def assert_close(self, found: Tensor, expected: Tensor) -> None:
        """Fail unless features agree up to `tolerance`."""
        limit = self.tolerance * max(float(expected.abs().max()), 1e-6)
        torch.testing.assert_close(found, expected, rtol=0, atol=limit)

    def test_features_are_finite_float32_of_its_size(self) -> None:
        encoder = self.build()
        for count in (1, 5):
            found = encoder.encode(self.tiles(count))
            assert found.dtype == torch.float32
            assert found.shape == (count, encoder.dim)
            assert torch.isfinite(found).all()

    def test_black_and_white_tiles_have_finite_features(self) -> None:
        """Glass and the edge of a slide are such tiles: a division by their deviation must not give NaN."""
        encoder = self.build()
        for value in (0, 255):
            assert torch.isfinite(encoder.encode(torch.full_like(self.tiles(2), value))).all()

    def test_different_tiles_have_different_features(self) -> None:
        found = self.build().encode(self.tiles())
        assert len(torch.unique(found, dim=0)) == len(found)

    def test_same_tiles_same_features(self) -> None:
        """Within an encoder and between two, whatever was drawn from the global generators before."""
        tiles = self.tiles()
        torch.manual_seed(1)
        one = self.build()
        first = one.encode(tiles)
        torch.manual_seed(2)
        np.random.seed(2)  # noqa: NPY002  an encoder may use it by mistake
        assert torch.equal(first, one.encode(tiles))
        assert torch.equal(first, self.build().encode(tiles))

    def test_a_tile_does_not_depend_on_the_others_of_its_batch(self) -> None:
        encoder, tiles = self.build(), self.tiles()
        whole = encoder.encode(tiles)
        self.assert_close(torch.cat([encoder.encode(tile[None]) for tile in tiles]), whole)
        self.assert_close(encoder.encode(tiles.flip(0)).flip(0), whole)

    def test_tiles_of_mixed_sizes(self) -> None:
        """Batches of another tile size have features of the same length and leave no trace in the encoder."""
        encoder, tiles = self.build(), self.tiles()
        before = encoder.encode(tiles)
        other = encoder.encode(self.tiles(3, self.tile_px + 16))
        assert other.shape == (3, encoder.dim)
        assert torch.equal(encoder.encode(tiles), before)

    def test_tiles_are_left_as_they_are(self) -> None:
        tiles = self.tiles()
        before = tiles.clone()
        self.build().encode(tiles)
        assert torch.equal(tiles, before)

    def test_it_moves_to_a_device(self) -> None:
        """Tiles may come from the CPU; features lie on the encoder's device; the digest names no device."""
        plain, tiles = self.build(), self.tiles()
        expected = plain.encode(tiles)
        for name in ("cpu", "cpu:0", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))):
            encoder = self.build(name)
            assert encoder.device == torch.device(name)
            assert encoder.digest == plain.digest, f"the digest on {name} is another one than on cpu"
            found = encoder.encode(tiles)
            assert found.device.type == encoder.device.type
            self.assert_close(found.cpu(), expected)

    def test_pickles_to_an_equal_encoder(self) -> None:
        encoder, tiles = self.build(), self.tiles()
        again = pickle.loads(pickle.dumps(encoder))
        assert (again.digest, again.dim, again.device) == (encoder.digest, encoder.dim, encoder.device)
        assert torch.equal(again.encode(tiles), encoder.encode(tiles))

    def test_the_digest_names_what_makes_the_values(self) -> None:
        encoder = self.build()
        assert encoder.identity.get("name")
        assert encoder.digest == self.build().digest
        other = self.changed()
        if other is None:
            return
        same = other.dim == encoder.dim and torch.equal(
            other.encode(self.tiles()), encoder.encode(self.tiles())
        )
        assert not same, "`changed` must give other features"
        assert other.digest != encoder.digest

    def test_a_view_has_a_digest_of_its_own(self) -> None:
        encoder = self.build()
        turned = encoder.seen_as(View(number=1))
        assert turned.digest != encoder.digest
        assert turned.dim == encoder.dim
        assert encoder.view == View()

    def test_what_is_no_tile_is_refused(self) -> None:
        """With a message that names what is expected and what came."""
        encoder, size = self.build(), self.tile_px
        for pixels, found in (
            (torch.zeros(2, 3, dtype=torch.uint8), r"\(2, 3\) torch.uint8"),
            (torch.zeros(2, 3, size, size, dtype=torch.uint8), rf"\(2, 3, {size}, {size}\) torch.uint8"),
            (torch.zeros(2, size, size, 3), rf"\(2, {size}, {size}, 3\) torch.float32"),
        ):
            with pytest.raises(EncoderError, match=rf"takes tiles \(B, S, S, 3\) uint8, got {found}"):
                encoder.encode(pixels)
