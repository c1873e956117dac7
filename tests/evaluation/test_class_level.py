"""Results by class, compared with scikit-learn on the same slides."""

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    roc_auc_score,
)

from wsi_mil.contracts.scores import SlideScoreRow
from wsi_mil.evaluation.class_level import classes_result

NAMES = ("normal", "luad", "lusc")
RNG = np.random.default_rng(3)
LABELS = np.arange(40) % 3
PROBABILITIES = (
    RNG.dirichlet(np.ones(3), 40) * 0.6 + 0.4 * np.eye(3)[np.where(RNG.random(40) < 0.7, LABELS, 0)]
)
PREDICTED = PROBABILITIES.argmax(1)


def rows(detection: bool) -> list[SlideScoreRow]:
    found = []
    for number, (label, each) in enumerate(zip(LABELS.tolist(), PROBABILITIES.tolist(), strict=True)):
        probability, threshold, prediction = (1 - each[0], 0.5, None) if detection else (np.nan, np.nan, 1.0)
        found.append(
            SlideScoreRow(
                slide_id=f"s{number}",
                patient=f"p{number // 2}",
                fold=0,
                part="test",
                label=label,
                probability=probability,
                threshold=threshold,
                predicted=bool(probability >= threshold),
                tiles=3,
                tiles_digest="t",
                features_digest="f",
                model_digest="m",
                prediction=prediction,
                target=() if detection else (float(label),),
                class_probabilities=tuple(each),
            )
        )
    return found


@pytest.mark.parametrize("detection", [True, False])
def test_every_number_is_that_of_scikit_learn(detection: bool) -> None:
    found = classes_result(rows(detection), NAMES, seed=1, model="m", draws=50)
    assert found is not None
    whole = {name: metric.value for name, metric in found.metrics.items()}
    assert whole == pytest.approx(
        {
            "macro_auc": roc_auc_score(LABELS, PROBABILITIES, multi_class="ovr", average="macro"),
            "class_accuracy": accuracy_score(LABELS, PREDICTED),
            "mean_recall": balanced_accuracy_score(LABELS, PREDICTED),
        }
    )
    assert np.array(found.confusion).tolist() == confusion_matrix(LABELS, PREDICTED).tolist()
    for index, one in enumerate(found.classes):
        truth, called = index == LABELS, index == PREDICTED
        assert (one.name, one.n) == (NAMES[index], int(truth.sum()))
        assert {name: metric.value for name, metric in one.metrics.items()} == pytest.approx(
            {
                "auc": roc_auc_score(truth, PROBABILITIES[:, index]),
                "average_precision": average_precision_score(truth, PROBABILITIES[:, index]),
                "f1": f1_score(truth, called),
            }
        )
        for metric in one.metrics.values():
            assert metric.interval is not None
            assert metric.interval.low <= metric.value <= metric.interval.high


def test_a_class_without_slides_has_no_value_but_a_reason() -> None:
    kept = [row for row in rows(True) if row.label != 2]
    found = classes_result(kept, NAMES, seed=1, model="m", draws=0)
    assert found is not None
    lusc = found.classes[2]
    assert (lusc.n, lusc.metrics["auc"].defined) == (0, False)
    assert "0 positive of" in lusc.metrics["auc"].reason
    pair = [
        roc_auc_score([row.label == k for row in kept], [row.class_probabilities[k] for row in kept])
        for k in (0, 1)
    ]
    assert found.metrics["macro_auc"].value == pytest.approx(np.mean(pair))


def test_two_classes_of_detection_are_not_repeated() -> None:
    from dataclasses import replace

    assert (
        classes_result([replace(row, class_probabilities=()) for row in rows(True)], NAMES, seed=0, model="m")
        is None
    )
