"""Shares are met to within one patient; small cohorts are refused with the number that is needed."""

import pytest

from wsi_mil.bags import SplitSpec, make_split
from wsi_mil.contracts.labels import SlideLabel
from wsi_mil.errors import DataError
from wsi_mil.tasks import Detection


def cohort(patients: int, positive: int) -> list[SlideLabel]:
    return [SlideLabel(f"s{i:03d}", int(i < positive), f"p{i:03d}") for i in range(patients)]


@pytest.mark.parametrize("share", [0.1, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7])
@pytest.mark.parametrize("patients", [40, 61])
def test_a_share_is_met_to_within_one_patient(share: float, patients: int) -> None:
    fold = make_split(cohort(patients, patients // 2), SplitSpec(test_share=share)).folds[0]
    assert abs(len(fold.test) - share * patients) <= 1
    assert abs(len(fold.val) - 0.2 * (patients - len(fold.test))) <= 1
    assert sorted((*fold.train, *fold.val, *fold.test)) == [f"s{i:03d}" for i in range(patients)]
    drawn = sum(int(name[1:]) < patients // 2 for name in fold.test) / len(fold.test)
    assert abs(drawn - (patients // 2) / patients) <= 1.5 / len(fold.test)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.4, 0.7])
def test_small_cohorts_are_split_or_refused_with_the_number(share: float) -> None:
    for patients in range(4, 14):
        for positive in range(2, patients - 1):
            rows = cohort(patients, positive)
            fewest = min(positive, patients - positive)
            if fewest < 3:
                with pytest.raises(DataError, match=f"at least 3 patients.*add {3 - fewest}"):
                    make_split(rows, SplitSpec(test_share=share))
                continue
            try:
                fold = make_split(rows, SplitSpec(test_share=share)).folds[0]
            except DataError as error:
                assert "share nearer to 0.3" in str(error)  # noqa: PT017
                continue
            for part in (fold.train, fold.val, fold.test):
                assert {int(name[1:]) < positive for name in part} == {True, False}


def test_a_part_that_is_too_small_for_every_class_is_made_larger_and_that_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows = [SlideLabel(f"s{i}", i % 3, f"p{i}") for i in range(12)]
    fold = make_split(rows, SplitSpec()).folds[0]
    for part in (fold.train, fold.val, fold.test):
        assert {int(name[1:]) % 3 for name in part} == {0, 1, 2}
    assert (len(fold.test), len(fold.val)) == (4, 3)
    assert "a part of 0.2 of 8 patients has 3, so that it has every class" in caplog.text


def test_a_refused_share_names_a_number_that_would_do() -> None:
    with pytest.raises(DataError, match=r"at least 10 patients") as refused:
        make_split(cohort(8, 4), SplitSpec(test_share=0.7))
    assert "share nearer to 0.3" in str(refused.value)
    fold = make_split(cohort(10, 5), SplitSpec(test_share=0.7)).folds[0]
    assert len(fold.test) in (6, 7)


def test_the_class_that_is_too_rare_is_named() -> None:
    with pytest.raises(DataError, match=r"class cancer has 2 patients.*add 1"):
        make_split(cohort(9, 2), SplitSpec(), Detection(("normal", "cancer")))
