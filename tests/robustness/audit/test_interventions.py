"""What-if questions on models whose answer is known: one that looks at the highest tile, one that reads the
average.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wsi_mil.robustness.audit.interventions import (
    QUESTIONS,
    SHARES,
    AuditedSlide,
    agreement,
    ask_of_features,
    overall,
    right_calls,
    summarise_check,
)

TILES = 100


def maximum(features: Tensor) -> float:
    """Sees tumour: the first number of a tile says it."""
    return float(features[:, 0].max().sigmoid())


def context(features: Tensor) -> float:
    """Reads the slide: the mean of the second number, which every tile of a tumour slide has."""
    return float(features[:, 1].mean().sigmoid())


def cohort(score: Callable[[Tensor], float], known: bool = True) -> list[AuditedSlide]:
    """Six normal and six tumour slides of 100 tiles; ten tiles of a tumour slide are tumour, and all of it
    has a tint.
    """
    rng = np.random.default_rng(0)
    slides = []
    for number in range(12):
        label = number % 2
        features = torch.from_numpy(rng.normal(-3, 0.3, (TILES, 2))).float()
        tumour = np.zeros(TILES, bool)
        if label:
            tumour[rng.permutation(TILES)[:10]] = True
            features[torch.from_numpy(tumour), 0] = 4.0
            features[:, 1] = 3.0
        truth = tumour if known or not label else None
        tile_scores = features[:, 0].double().numpy()
        slides.append(
            AuditedSlide(f"s{number}", f"p{number}", label, 0.5, features, tile_scores, truth, score)
        )
    return slides


def verdicts(slides: list[AuditedSlide]) -> dict[str, Any]:
    pool = torch.cat([s.features for s in slides if not s.label])
    answers = ask_of_features(slides, pool, np.random.default_rng(1))
    return {
        key: summarise_check(QUESTIONS[key], points, np.random.default_rng(2), 200)
        for key, points in answers.items()
    }


def test_a_model_that_sees_tumour_passes_everything() -> None:
    found = verdicts(cohort(maximum))
    assert {key: check["verdict"] for key, check in found.items()} == dict.fromkeys(found, "pass")
    assert set(found) == {"remove_tumour", "remove_top", "remove_random", "keep_top", "swap_normal"}


def test_a_model_that_reads_the_slide_fails_where_it_must() -> None:
    found = verdicts(cohort(context))
    assert found["remove_tumour"]["verdict"] == "fail"
    assert found["remove_top"]["verdict"] == "fail"
    assert found["swap_normal"]["verdict"] == "fail"
    # what it does right says nothing: its tint stays on the tiles that are left
    assert found["keep_top"]["verdict"] == found["remove_random"]["verdict"] == "pass"


def test_curves_turn_where_the_tumour_ends() -> None:
    """Ten of a hundred tiles are tumour: with five removed the call stays, with ten it flips."""
    points = {p["x"]: p["share"] for p in verdicts(cohort(maximum))["remove_top"]["points"]}
    assert [points[x] for x in SHARES] == [0, 0, 0, 1, 1, 1, 1]


def test_without_outlines_the_highest_tenth_stands_for_tumour() -> None:
    slides = cohort(maximum, known=False)
    found = verdicts(slides)
    assert found["remove_tumour"]["verdict"] == "not measured"
    assert found["remove_tumour"]["points"][0]["n"] == 0
    assert found["swap_normal"]["verdict"] == "pass"
    assert slides[1].suspicious().sum() == 10
    assert agreement(slides, np.random.default_rng(0))["verdict"] == "not measured"


def test_only_slides_called_rightly_are_asked() -> None:
    slides = cohort(maximum)
    blind = [
        *slides[:10],
        *(
            AuditedSlide(s.slide_id, s.patient, s.label, 0.999999, s.features, s.scores, s.tumour, s.score)
            for s in slides[10:]
        ),
    ]
    assert len(right_calls(slides, tumour_only=True)) == 6
    assert len(right_calls(blind, tumour_only=True)) == 5
    assert len(right_calls(blind, tumour_only=False)) == 11


def test_agreement_by_hand() -> None:
    slides = cohort(maximum)
    found = agreement(slides, np.random.default_rng(0), 100)
    assert (found["n"], found["verdict"]) == (6, "pass")
    assert found["tile_auc"]["value"] == found["top_on_tumour"]["value"] == 1.0
    assert found["tumour_share_of_tiles"]["value"] == pytest.approx(0.1)
    turned = [
        AuditedSlide(s.slide_id, s.patient, s.label, s.threshold, s.features, -s.scores, s.tumour, s.score)
        for s in slides
    ]
    upside_down = agreement(turned, np.random.default_rng(0), 100)
    assert (upside_down["tile_auc"]["value"], upside_down["verdict"]) == (0.0, "fail")


def test_too_few_slides_are_not_measured() -> None:
    found = verdicts(cohort(maximum)[:6][:4] + cohort(maximum)[4:5])
    assert found["remove_top"]["verdict"] == "not measured"
    assert found["swap_normal"]["verdict"] == "pass"  # asked of normal slides, too


def test_intervals_cover_the_share() -> None:
    check = verdicts(cohort(maximum))["swap_normal"]
    for point in check["points"]:
        assert point["n"] == 12
        assert point["low"] <= point["share"] <= point["high"]


def test_the_whole_verdict() -> None:
    assert overall(["pass", "fail", "not measured"]) == "fail"
    assert overall(["pass", "not measured"]) == "pass"
    assert overall(["not measured"]) == "not measured"
