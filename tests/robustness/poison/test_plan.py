"""Where poison lies: how much of a slide, never on tumour, the same for the same seed."""

import numpy as np
import pytest
import shapely
from pydantic import ValidationError
from shapely import MultiPolygon

from tests.robustness.poison.test_slide import LESION, array_slide, tiles_of
from wsi_mil.robustness import PoisonSpec, plan_poison
from wsi_mil.robustness.poison.conditions import CONDITIONS, is_poisoned, loss_of_auc, poison_verdict
from wsi_mil.robustness.poison.places import tile_boxes


@pytest.mark.parametrize("coverage", [0.05, 0.3, 0.6])
@pytest.mark.parametrize("kind", ["noise", "pen"])
def test_the_asked_share_of_tiles_is_touched(coverage: float, kind: str) -> None:
    slide = array_slide()
    tiles = tiles_of(slide, 16)
    plan = plan_poison(slide.info, tiles, PoisonSpec(kind=kind, coverage=coverage, width_um=6))
    touched = (plan.share_of_tiles(tiles) > 0).mean()
    assert touched == pytest.approx(coverage, abs=0.01 if kind == "noise" else 0.06)


def test_a_patch_covers_its_share_of_the_tile() -> None:
    slide = array_slide()
    tiles = tiles_of(slide, 32)
    plan = plan_poison(slide.info, tiles, PoisonSpec(coverage=0.2, patch_share=0.25))
    shares = plan.share_of_tiles(tiles)
    np.testing.assert_allclose(shares[shares > 0], 0.25)  # 16 of 32 px a side
    boxes = tile_boxes(tiles)[shares > 0]
    patches = [shapely.box(x, y, x + w, y + h) for x, y, w, h in plan.patches]
    assert len(patches) == len(boxes)
    assert all(any(shapely.covers(box, patch) for box in boxes) for patch in patches)


def test_overlapping_tiles_that_share_a_patch_all_count() -> None:
    slide = array_slide()
    tiles = tiles_of(slide, 32, stride_px=16)
    plan = plan_poison(slide.info, tiles, PoisonSpec(coverage=0.3))
    touched = plan.share_of_tiles(tiles) > 0
    assert touched.mean() == pytest.approx(0.3, abs=0.03)
    assert touched.sum() > len(plan.patches)


def test_tiles_that_meet_a_lesion_are_chosen_only_on_request() -> None:
    slide = array_slide()
    tiles = tiles_of(slide, 32)
    meets = shapely.intersects(LESION, tile_boxes(tiles))
    off = plan_poison(slide.info, tiles, PoisonSpec(coverage=0.99), LESION)
    assert off.area.intersection(LESION).area == 0
    assert not (off.share_of_tiles(tiles) > 0)[meets].any()
    assert (off.share_of_tiles(tiles) > 0)[~meets].all()
    anywhere = plan_poison(slide.info, tiles, PoisonSpec(coverage=0.99, placement="anywhere"), LESION)
    assert (anywhere.share_of_tiles(tiles) > 0)[meets].any()


def test_a_slide_full_of_tumour_gets_nothing() -> None:
    slide = array_slide()
    tiles = tiles_of(slide, 32)
    plan = plan_poison(slide.info, tiles, PoisonSpec(), MultiPolygon([shapely.box(-1, -1, 500, 500)]))
    assert plan.area.is_empty
    assert not plan.changed_tiles(tiles).any()


def test_tiles_to_read_again_are_those_near_the_poison() -> None:
    slide = array_slide()
    tiles = tiles_of(slide, 32)
    plan = plan_poison(slide.info, tiles, PoisonSpec(coverage=0.1))
    touched, again = plan.share_of_tiles(tiles) > 0, plan.changed_tiles(tiles)
    assert again[touched].all()
    assert again.sum() < len(tiles) / 2


@pytest.mark.parametrize(
    "wrong", [{"strength": 0}, {"coverage": 0}, {"coverage": 1.5}, {"kind": "glitter"}, {"colour": (1, 2)}]
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PoisonSpec(**wrong)


def test_who_is_poisoned_in_which_condition() -> None:
    """By hand: (normal, tumour) slides of the training part, then of the test part."""
    expected = {
        "none": ((False, False), (False, False)),
        "test_only": ((False, False), (False, True)),
        "train_only": ((True, False), (False, False)),
        "poison": ((True, False), (False, True)),
        "mirrored_test_only": ((False, False), (True, False)),
        "mirrored_train_only": ((False, True), (False, False)),
        "mirrored": ((False, True), (True, False)),
        "alike": ((True, True), (True, True)),
    }
    found = {
        name: tuple(tuple(is_poisoned(arm, label) for label in (0, 1)) for arm in arms)
        for name, arms in CONDITIONS.items()
    }
    assert found == expected


@pytest.mark.parametrize(
    ("clean", "poisoned", "verdict"),
    [
        ([0.95, 0.97], [0.94, 0.95], "resists"),
        ([0.95, 0.97], [0.80, 0.85], "weakened"),
        ([0.95, 0.97], [0.30, 0.10], "fooled"),
        ([0.55, 0.60], [0.10, 0.05], "not learned"),
        ([float("nan")], [0.9], "not learned"),
    ],
)
def test_verdicts(clean: list[float], poisoned: list[float], verdict: str) -> None:
    assert poison_verdict(clean, poisoned) == verdict


def test_the_loss_is_paired() -> None:
    found = loss_of_auc([0.9, 0.8, 1.0], [0.8, 0.7, 0.9])
    assert found.mean == pytest.approx(0.1)
    assert found.std == pytest.approx(0.0, abs=1e-12)
