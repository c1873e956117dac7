"""What every encoder must do. Subclass, give `build`, and pytest runs the suite."""

from abc import ABC, abstractmethod

import numpy as np
import pytest
import torch
from torch import Tensor

from wsi_mil.encoders import Encoder
from wsi_mil.encoders.views import View


class EncoderSuite(ABC):
    """`tile_px`: side of the tiles. `tolerance`: largest difference of a feature between batches, of the largest feature."""

    tile_px = 48
    tolerance = 1e-5

    @abstractmethod
    def build(self) -> Encoder:
        """Return a new encoder on the CPU, with the same weights at every call."""

    def changed(self) -> Encoder | None:
        """Return the encoder with other weights or settings, or None if it has none to change."""
        return None

    def tiles(self, count: int = 5) -> Tensor:
        rng = np.random.default_rng(7)
        return torch.from_numpy(rng.integers(0, 256, (count, self.tile_px, self.tile_px, 3), dtype=np.uint8))

    def assert_close(self, found: Tensor, expected: Tensor) -> None:
        limit = self.tolerance * max(float(expected.abs().max()), 1e-6)
        torch.testing.assert_close(found, expected, rtol=0, atol=limit)

    def test_features_are_finite_float32_of_its_size(self) -> None:
        encoder = self.build()
        for count in (1, 5):
            found = encoder.encode(self.tiles(count))
            assert found.dtype == torch.float32
            assert found.shape == (count, encoder.dim)
            assert torch.isfinite(found).all()

    def test_different_tiles_have_different_features(self) -> None:
        found = self.build().encode(self.tiles())
        assert len(torch.unique(found, dim=0)) == len(found)

    def test_same_tiles_same_features(self) -> None:
        """Within an encoder and between two, whatever the global generator did before."""
        one, tiles = self.build(), self.tiles()
        first = one.encode(tiles)
        torch.manual_seed(1)
        assert torch.equal(first, one.encode(tiles))
        assert torch.equal(first, self.build().encode(tiles))

    def test_a_tile_does_not_depend_on_the_others_of_its_batch(self) -> None:
        encoder, tiles = self.build(), self.tiles()
        whole = encoder.encode(tiles)
        self.assert_close(torch.cat([encoder.encode(tile[None]) for tile in tiles]), whole)
        self.assert_close(encoder.encode(tiles.flip(0)).flip(0), whole)

    def test_tiles_are_left_as_they_are(self) -> None:
        tiles = self.tiles()
        before = tiles.clone()
        self.build().encode(tiles)
        assert torch.equal(tiles, before)

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
        with pytest.raises(Exception, match=r"."):
            self.build().encode(torch.zeros(2, 3, dtype=torch.uint8))
