"""The verdicts that are promised: max-pooling passes the single-concept test, a mean of all instances fails
it.
"""

from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from wsi_mil.robustness.audit.bag_sets import BagSizes

import wsi_mil.registry
from wsi_mil.aggregators import AGGREGATORS, build_aggregator
from wsi_mil.aggregators.names import matching_aggregators
from wsi_mil.errors import ConfigError
from wsi_mil.registry import OpenRegistry
from wsi_mil.robustness.audit.bag_tests import (
    ASSUMPTION_TESTS,
    CONFOUNDER_TESTS,
    TRAINING,
    BagTestJob,
    BagTestResult,
    bag_verdict,
    run_bag_test,
    summarise_bag_tests,
)

CHEAT = "tests.robustness.cheat:MeanOfAll"
SHORT = TRAINING.model_copy(update={"epochs": 3})


@pytest.mark.parametrize("name", ["focus_mil", "mi_net"])
def test_max_pooling_passes_the_single_concept_test(name: str) -> None:
    found = run_bag_test(BagTestJob(name, "single_concept", 0))
    assert bag_verdict("single_concept", found.train_auc, found.test_auc) == "pass", found


@pytest.mark.parametrize("name", [CHEAT, "mean_pool"])
def test_a_mean_of_all_instances_fails_it(name: str) -> None:
    found = run_bag_test(BagTestJob(name, "single_concept", 0))
    assert found.train_auc > 0.95
    assert found.test_auc < 0.1
    assert bag_verdict("single_concept", found.train_auc, found.test_auc) == "fail"


def test_adding_normal_instances_drowns_a_mean_but_not_a_maximum() -> None:
    assert run_bag_test(BagTestJob("mi_net", "add_normal", 0)).test_auc > 0.9
    assert run_bag_test(BagTestJob(CHEAT, "add_normal", 0)).test_auc < 0.5


def test_the_same_job_gives_the_same_numbers() -> None:
    jobs = [BagTestJob("abmil", "duplicates", seed, BagSizes(20, 20), SHORT) for seed in (0, 0, 1)]
    a, b, c = (run_bag_test(job) for job in jobs)
    assert (a.train_auc, a.test_auc, a.instance_auc) == (b.train_auc, b.test_auc, b.instance_auc)
    assert (a.train_auc, a.test_auc, a.instance_auc) != (c.train_auc, c.test_auc, c.instance_auc)


@pytest.mark.parametrize(
    ("test", "train", "measured", "verdict"),
    [
        ("single_concept", 0.95, 0.80, "pass"),
        ("single_concept", 0.95, 0.60, "fail"),
        ("single_concept", 0.85, 0.60, "not learned"),
        ("single_concept", 0.85, 0.10, "fail"),
        ("add_normal", 0.95, 0.91, "pass"),
        ("add_normal", 0.95, 0.85, "fail"),
        ("remove_positive", 0.60, 0.10, "not learned"),
        ("duplicates", float("nan"), 0.9, "not learned"),
    ],
)
def test_verdicts(test: str, train: float, measured: float, verdict: str) -> None:
    assert bag_verdict(test, train, measured) == verdict


def results(**measured: float) -> list[BagTestResult]:
    return [
        BagTestResult(test, seed, 1.0, value, float("nan"), 1.0)
        for test, value in measured.items()
        for seed in (0, 1)
    ]


def test_what_is_held_against_a_method() -> None:
    clean = dict.fromkeys(ASSUMPTION_TESTS, 0.99)
    assert (
        summarise_bag_tests("m", results(**clean, **dict.fromkeys(CONFOUNDER_TESTS, 0.0)))["verdict"]
        == "pass"
    )
    one = summarise_bag_tests("m", results(**{**clean, "duplicates": 0.3}))
    assert (one["verdict"], one["failed"]) == ("fail", ["duplicates"])
    assert one["tests"]["duplicates"]["test_auc"]["mean"] == pytest.approx(0.3)
    assert one["tests"]["duplicates"]["seconds"] == 2.0
    unlearned = [BagTestResult("single_concept", 0, 0.6, 0.6, 0.5, 1.0)]
    assert summarise_bag_tests("m", unlearned)["verdict"] == "not learned"


def test_an_aggregator_of_ones_own_by_its_place() -> None:
    model = build_aggregator(CHEAT, 6, 1, 0, {"hidden": 5})
    assert model.embed[0].weight.shape == (5, 6)
    assert matching_aggregators([CHEAT, "mi_net"]) == [CHEAT, "mi_net"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("tests.robustness.cheat:NoAggregator", "must derive from"),
        ("tests.robustness.cheat:Missing", "has no 'Missing'"),
        ("no_such_package.models:Mine", "cannot be imported"),
        ("foccus_mil", "focus_mil"),
        ("pathlib:Path", "is no aggregator"),
    ],
)
def test_a_wrong_name_is_told_in_one_line(name: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        build_aggregator(name, 6, 1, 0, {})
    assert "\n" not in str(caught.value)


def test_a_module_in_the_working_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_mil.py").write_text((Path(__file__).parents[1] / "cheat.py").read_text())
    monkeypatch.chdir(tmp_path)
    assert AGGREGATORS.load("my_own_mil:MeanOfAll").__name__ == "MeanOfAll"


def test_entry_points_of_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def offered(*, group: str) -> list[EntryPoint]:
        asked.append(group)
        return [EntryPoint("theirs", CHEAT, group), EntryPoint("mi_net", CHEAT, group)]

    monkeypatch.setattr(wsi_mil.registry, "entry_points", offered)
    registry = OpenRegistry(
        "aggregator", {"mi_net": "wsi_mil.aggregators.mi_net:MiNet"}, "wsi_mil.aggregators"
    )
    assert list(registry) == ["mi_net", "theirs"]
    assert len(registry) == 2
    assert registry.load("theirs").__name__ == "MeanOfAll"
    assert registry.load("mi_net").__name__ == "MiNet", "our own names come first"
    assert asked == ["wsi_mil.aggregators"]
    assert AGGREGATORS.group == "wsi_mil.aggregators"


def test_instance_auc_uses_attention_as_tile_scores_do() -> None:
    from wsi_mil.robustness.audit.bag_tests import _comparable

    np.testing.assert_allclose(_comparable(np.array([0.1, 0.4]), "attention"), [0.25, 1.0])
    np.testing.assert_allclose(_comparable(np.array([-1.0, 4.0]), "logit"), [-1.0, 4.0])
