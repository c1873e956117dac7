"""Stages by the challenge's rules, and kappa against its definition."""

import math

import numpy as np
import pytest

from pipelines.camelyon.pn_stage import STAGES, pn_stage, quadratic_kappa
from wsi_mil.errors import DataError


@pytest.mark.parametrize(
    ("nodes", "stage"),
    [
        ("nnnnn", "pN0"),
        ("ninin", "pN0(i+)"),
        ("mnnni", "pN1mi"),
        ("mmmmm", "pN1mi"),
        ("Mnnnn", "pN1"),
        ("Mmmni", "pN1"),
        ("Mmmmi", "pN2"),
        ("MMMMM", "pN2"),
    ],
)
def test_stages_by_the_rules(nodes: str, stage: str) -> None:
    names = {"n": "negative", "i": "itc", "m": "micro", "M": "macro"}
    assert pn_stage([names[node] for node in nodes]) == stage


def test_kappa_equals_its_definition() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 5, 60), rng.integers(0, 5, 60)
    observed = ((truth - predicted) ** 2).mean()
    expected = ((truth[:, None] - predicted[None]) ** 2).mean()
    found = quadratic_kappa([STAGES[i] for i in truth], [STAGES[i] for i in predicted])
    assert found == pytest.approx(1 - observed / expected)
    assert quadratic_kappa(STAGES, STAGES) == 1
    assert math.isnan(quadratic_kappa(["pN0"] * 3, ["pN0"] * 3))


def test_wrong_input_is_refused() -> None:
    with pytest.raises(DataError, match="lymph node is 'Macro', expected one of negative"):
        pn_stage(["Macro"])
    with pytest.raises(DataError, match="without a lymph node"):
        pn_stage([])
    with pytest.raises(DataError, match="unknown stage 'pN3'"):
        quadratic_kappa(["pN3"], ["pN0"])
    with pytest.raises(DataError, match="got 1 and 2"):
        quadratic_kappa(["pN0"], ["pN0", "pN1"])


@pytest.mark.parametrize(
    ("truth", "predicted", "value"),
    [
        (["pN0", "pN1", "pN2"], ["pN0", "pN1", "pN2"], 1),
        (["pN0", "pN2"], ["pN2", "pN0"], -1),
        (["pN0", "pN1", "pN2"], ["pN1", "pN1", "pN1"], 0),
        (["pN0", "pN0"], ["pN0", "pN0"], math.nan),
    ],
)
def test_kappa_of_stages(truth: list[str], predicted: list[str], value: float) -> None:
    assert quadratic_kappa(truth, predicted) == pytest.approx(value, abs=1e-12, nan_ok=True)
