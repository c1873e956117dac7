"""What-if questions on models whose answer is known: one that looks at the highest tile, one that reads the
average.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from wsi_mil.errors import StoreError
from wsi_mil.io.json import write_json
from wsi_mil.robustness.audit.interventions import (
    FRACTIONS,
    QUESTIONS,
    AuditedSlide,
    ask_of_features,
)
from wsi_mil.robustness.audit.model_audit import (
    CheckResult,
    ModelAudit,
    agreement,
    overall,
    read_model_audit,
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


def verdicts(slides: list[AuditedSlide]) -> dict[str, CheckResult]:
    pool = torch.cat([s.features for s in slides if not s.label])
    answers = ask_of_features(slides, pool, seed=1)
    return {key: summarise_check(QUESTIONS[key], points, 2, 200) for key, points in answers.items()}


def test_a_model_that_sees_tumour_passes_everything() -> None:
    found = verdicts(cohort(maximum))
    assert {key: check.verdict for key, check in found.items()} == dict.fromkeys(found, "pass")
    assert set(found) == {"remove_tumour", "remove_top", "remove_random", "keep_top", "swap_normal"}


def test_a_model_that_reads_the_slide_fails_where_it_must() -> None:
    found = verdicts(cohort(context))
    assert found["remove_tumour"].verdict == "fail"
    assert found["remove_top"].verdict == "fail"
    assert found["swap_normal"].verdict == "fail"
    # what it does right says nothing: its tint stays on the tiles that are left
    assert found["keep_top"].verdict == found["remove_random"].verdict == "pass"


def test_curves_turn_where_the_tumour_ends() -> None:
    """Ten of a hundred tiles are tumour: with five removed the call stays, with ten it flips."""
    points = {p.x: p.share for p in verdicts(cohort(maximum))["remove_top"].points}
    assert [points[x] for x in FRACTIONS] == [0, 0, 0, 1, 1, 1, 1]


def test_without_outlines_the_highest_tenth_stands_for_tumour() -> None:
    slides = cohort(maximum, known=False)
    found = verdicts(slides)
    assert found["remove_tumour"].verdict == "not measured"
    assert found["remove_tumour"].points[0].n == 0
    assert found["swap_normal"].verdict == "pass"
    assert slides[1].suspicious().sum() == 10
    assert agreement(slides, 0).verdict == "not measured"


def test_only_slides_called_rightly_are_asked() -> None:
    slides = cohort(maximum)
    blind = [
        *slides[:10],
        *(
            AuditedSlide(s.slide_id, s.patient, s.label, 0.999999, s.features, s.scores, s.tumour, s.score)
            for s in slides[10:]
        ),
    ]
    assert verdicts(slides)["keep_top"].points[0].n == 6
    assert verdicts(blind)["keep_top"].points[0].n == 5
    assert verdicts(blind)["swap_normal"].points[0].n == 11


def test_agreement_by_hand() -> None:
    slides = cohort(maximum)
    found = agreement(slides, 0, 100)
    assert (found.n, found.verdict) == (6, "pass")
    assert found.tile_auc is not None
    assert found.top_on_tumour is not None
    assert found.tumour_share_of_tiles is not None
    assert found.tile_auc.value == found.top_on_tumour.value == 1.0
    assert found.tumour_share_of_tiles.value == pytest.approx(0.1)
    upside_down = agreement([replace(s, scores=-s.scores) for s in slides], 0, 100)
    assert upside_down.tile_auc is not None
    assert (upside_down.tile_auc.value, upside_down.verdict) == (0.0, "fail")


def test_another_slide_moves_no_answer() -> None:
    """Each check draws from a generator of its own for each slide."""
    slides = cohort(context)
    pool = torch.cat([s.features for s in slides if not s.label])
    all_slides, fewer = ask_of_features(slides, pool, 1), ask_of_features(slides[3:], pool, 1)
    for check, points in fewer.items():
        for x, answers in points.items():
            kept = {answer.slide_id for answer in answers}
            assert answers == [answer for answer in all_slides[check][x] if answer.slide_id in kept]
    other = ask_of_features(slides, pool, 2)
    assert other["swap_normal"] != all_slides["swap_normal"]
    assert other["remove_top"] == all_slides["remove_top"]  # nothing random


def test_an_audit_is_read_as_it_was_written(tmp_path: Path) -> None:
    slides = cohort(context, known=False)
    checks = tuple(verdicts(slides).values())
    audit = ModelAudit("m", ("d1",), 12, 12, 6, checks, agreement(slides, 0, 50), {"s1": "cannot be opened"})
    write_json(tmp_path / "audit.json", audit.as_json())
    found = read_model_audit(tmp_path / "audit.json")
    assert found.as_json() == audit.as_json()
    assert found.as_json()["failed"] == ["remove_top", "swap_normal"]
    assert (found.verdict, found.skipped) == ("fail", {"s1": "cannot be opened"})
    empty = found.as_json()["checks"]["remove_tumour"]["points"]
    assert empty == [{"x": 1.0, "n": 0, "share": None, "low": None, "high": None}]
    write_json(tmp_path / "audit.json", {"kind": "audit of aggregators", "format_version": 1})
    with pytest.raises(StoreError, match="expected 'audit of a model' of format 1"):
        read_model_audit(tmp_path / "audit.json")


def test_too_few_slides_are_not_measured() -> None:
    found = verdicts(cohort(maximum)[:6][:4] + cohort(maximum)[4:5])
    assert found["remove_top"].verdict == "not measured"
    assert found["swap_normal"].verdict == "pass"  # asked of normal slides, too


def test_intervals_cover_the_share() -> None:
    check = verdicts(cohort(maximum))["swap_normal"]
    for point in check.points:
        assert point.n == 12
        assert point.low <= point.share <= point.high


def test_the_whole_verdict() -> None:
    assert overall(["pass", "fail", "not measured"]) == "fail"
    assert overall(["pass", "not measured"]) == "pass"
    assert overall(["not measured"]) == "not measured"
