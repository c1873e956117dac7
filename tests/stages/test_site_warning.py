"""Training warns when the centre gives the label away, and only then."""

import logging

import numpy as np
import pytest

from wsi_mil.contracts.labels import SlideLabel
from wsi_mil.stages.site_warning import warn_of_guessable_labels
from wsi_mil.tasks import Detection
from wsi_mil.tasks.kinds.classification import Classification


def rows(labels: list[int], centres: list[str]) -> list[SlideLabel]:
    return [SlideLabel(f"s{i}", y, f"p{i}", c) for i, (y, c) in enumerate(zip(labels, centres, strict=True))]


def warned(caplog: pytest.LogCaptureFixture, labels: list[int], centres: list[str], task: object) -> str:
    caplog.clear()
    with caplog.at_level(logging.WARNING, "wsi_mil"):
        warn_of_guessable_labels(rows(labels, centres), task)
    return caplog.text


def test_a_tie_is_named_with_its_figures(caplog: pytest.LogCaptureFixture) -> None:
    labels = [1] * 9 + [0] + [0] * 9 + [1]
    text = warned(caplog, labels, ["a"] * 10 + ["b"] * 10, Detection(class_names=("normal", "tumour")))
    # pairs of different centres: 9 * 9 right, 1 wrong; of the same centre 9 + 9 that count one half
    assert "AUC of 0.90 for class tumour" in text
    assert "V 0.80" in text
    assert "split.kind=preserved_site" in text


@pytest.mark.parametrize(
    ("labels", "centres"),
    [
        ([0, 1] * 10, ["a", "a", "b", "b"] * 5),  # no tie
        ([0, 1] * 10, ["a"] * 20),  # one centre
        ([0] * 10 + [1] * 10, [""] * 20),  # no centre column
        ([0, 0, 1, 1], ["a", "a", "b", "b"]),  # a full tie of four slides is no more than chance
    ],
)
def test_no_warning_without_a_tie(
    caplog: pytest.LogCaptureFixture, labels: list[int], centres: list[str]
) -> None:
    assert warned(caplog, labels, centres, Detection(class_names=("normal", "tumour"))) == ""


def test_of_several_classes_the_one_that_is_given_away_most_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90).tolist()
    centres = ["west" if label == 2 else f"east{rng.integers(2)}" for label in labels]
    text = warned(caplog, labels, centres, Classification(class_names=("a", "b", "c")))
    assert "AUC of 1.00 for class c" in text
