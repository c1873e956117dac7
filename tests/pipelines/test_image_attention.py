"""The study of attention on images, in small: exact truth, the shortcut, and a table with every method."""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.attention import nests, slide_tiles
from pipelines.attention.images import Images, standardised, with_colour_shortcut
from pipelines.attention.methods import METHODS
from pipelines.attention.nests import nest_images
from pipelines.attention.slide_tiles import slide_images
from pipelines.attention.training import train
from pipelines.image_attention import study, table
from pipelines.intervals import interval
from wsi_mil.errors import DataError
from wsi_mil.synthetic import SynthSpec


@pytest.fixture(scope="module")
def images() -> Images:
    patch = pytest.MonkeyPatch()
    patch.setattr(nests, "FIELD_UM", 3000.0)
    patch.setattr(nests, "NESTS", 60)
    made = nest_images(64, 3)
    patch.undo()
    return made


def test_every_other_image_has_a_nest_where_its_mask_says(images: Images) -> None:
    assert images.pixels.shape == (64, 3, 64, 64)
    assert images.labels.tolist() == [0, 1] * 32
    share = images.masks.flatten(1).mean(1)
    assert not share[images.labels == 0].any()
    assert share[images.labels == 1].min() >= 0.05
    # tumour is bluer and darker than what surrounds it: red falls most
    positive = images.labels == 1
    inside = (images.pixels[positive] * images.masks[positive]).sum((2, 3)) / images.masks[positive].sum(
        (2, 3)
    )
    outside = (images.pixels[positive] * (1 - images.masks[positive])).sum((2, 3)) / (
        1 - images.masks[positive]
    ).sum((2, 3))
    assert (inside[:, 0] < outside[:, 0]).float().mean() > 0.9


def test_the_shortcut_says_the_label_as_often_as_asked(images: Images) -> None:
    for agreement in (1.0, 0.5, 0.0):
        changed = with_colour_shortcut(images, agreement, 1)
        tinted = (changed.pixels != images.pixels).flatten(1).any(1)
        same = float((tinted.long() == images.labels).float().mean())
        assert abs(same - agreement) < (0.2 if agreement == 0.5 else 1e-6)
        assert torch.equal(changed.masks, images.masks)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_from_its_seed(images: Images, name: str) -> None:
    images = standardised(images, images)
    one, other = (train(name, images, 5, 4, "cpu") for _ in range(2))
    with torch.no_grad():
        assert torch.equal(one.logits(images.pixels[:4]), other.logits(images.pixels[:4]))
        maps = one.maps(images.pixels[:4])
    assert maps.shape == (4, 64, 64)
    assert torch.isfinite(maps).all()
    assert maps.std() > 0


SMALL_SLIDES = SynthSpec(
    pairs=3, centres=3, itc_share=0, macro_share=0, width_px=(2200, 2300), height_px=(1800, 1900)
)


def test_tiles_of_slides_hold_what_their_mask_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(slide_tiles, "COHORT", SMALL_SLIDES)
    images = slide_images(24, 4, tmp_path)
    assert images.pixels.shape == (24, 3, 64, 64)
    assert images.labels.tolist() == [0, 1] * 12
    share = images.masks.flatten(1).mean(1)
    assert not share[images.labels == 0].any()
    assert share[images.labels == 1].min() >= 0.05
    assert share[images.labels == 1].max() <= 0.75
    positive = images.labels == 1
    inside = (images.pixels[positive] * images.masks[positive]).sum((2, 3)) / images.masks[positive].sum(
        (2, 3)
    )
    outside = (images.pixels[positive] * (1 - images.masks[positive])).sum((2, 3)) / (
        1 - images.masks[positive]
    ).sum((2, 3))
    assert (inside[:, 0] < outside[:, 0]).float().mean() > 0.9
    monkeypatch.setattr(slide_tiles, "GLASS_FROM", 0)  # no tissue anywhere
    with pytest.raises(DataError, match=r"\[0, 48\] tiles without and with tumour"):
        slide_images(24, 4, tmp_path)


def test_what_is_covered_has_the_mean_colour(images: Images) -> None:
    found = standardised(images, images).pixels
    torch.testing.assert_close(found.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.std((0, 2, 3)), torch.ones(3), atol=1e-4, rtol=0)
    shifted = replace(images, pixels=images.pixels + 0.1)
    assert (
        standardised(shifted, images).pixels > found
    ).all()  # by the training images' colours, not by its own


def test_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nests, "FIELD_UM", 3000.0)
    monkeypatch.setattr(nests, "NESTS", 60)
    monkeypatch.setattr(slide_tiles, "COHORT", SMALL_SLIDES)
    options = argparse.Namespace(seeds=[4], train=64, test=32, epochs=1, device="cpu")
    found = study(options)
    for kind in ("nests", "slides", "shortcut"):
        assert list(found[kind]) == list(METHODS)
        lines = table(found[kind]).splitlines()
        assert len(lines) == 2 + len(METHODS)
        assert lines[2].startswith("| Grad-CAM | 0.")


def test_intervals_are_students() -> None:
    values = [0.5, 0.6, 0.8]
    half = 4.302653 * np.std(values, ddof=1) / np.sqrt(3)
    assert interval(values) == f"{np.mean(values):.3f} ± {half:.3f}"
    assert interval([0.25]) == "0.250"
