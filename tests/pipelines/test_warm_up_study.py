"""The study of the warm-up on a file of bags: divisions, tables, and a stopped study that continues."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines import warm_up, warm_up_bag_tests
from pipelines.classic.bags import divide, read_classic
from pipelines.crc.bags import patient_bags
from pipelines.lung.warm_up_tables import summary
from wsi_mil.encoders import EncoderSpec, build_encoder
from wsi_mil.io.tables import Row, read_csv
from wsi_mil.robustness.audit.bag_test_run import TRAINING, BagTestJob, run_bag_test


@pytest.fixture
def bags_file(tmp_path: Path) -> Path:
    """20 bags of 4 instances; one instance of a positive bag is 3 above the others."""
    rng = np.random.default_rng(0)
    labels = np.arange(20) % 2
    values = rng.normal(size=(20, 4, 5)).astype(np.float32)
    values[labels == 1, 2] += 3
    path = tmp_path / "bags.npz"
    np.savez(path, X=values.reshape(80, 5), bag=np.repeat(np.arange(20), 4), bag_label=labels)
    return path


def test_a_division_keeps_classes_and_shares(bags_file: Path) -> None:
    bags = read_classic(bags_file)
    parts = divide(bags, (0.5, 0.2), seed=3)
    assert {name: len(part) for name, part in parts.items()} == {"train": 10, "val": 4, "test": 6}
    assert all(sum(bag.label for bag in part) == len(part) / 2 for part in parts.values())
    assert sorted(bag.slide_id for part in parts.values() for bag in part) == sorted(b.slide_id for b in bags)
    assert [b.slide_id for b in divide(bags, (0.5, 0.2), seed=4)["test"]] != [
        b.slide_id for b in parts["test"]
    ]


def test_a_study_goes_on_where_it_was_stopped(
    bags_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["warm_up", "--ucsb", str(bags_file), "--draws", "1", "--out", str(tmp_path / "out")]
    command += ["--methods", "mi_net", "--warm-ups", "smooth_max", "--lr", "0.001", "0.003"]
    monkeypatch.setattr(sys, "argv", [*command, "--seeds", "1"])
    warm_up.main()
    first = capsys.readouterr().out
    rows = read_csv(tmp_path / "out" / "trainings.csv")
    assert [(row["method"], row["lr"]) for row in rows] == [("mi_net", "0.001"), ("mi_net", "0.003")]
    assert all(row["patch_auc"] == "nan" and 0 <= row.number("slide_auc") <= 1 for row in rows)
    assert first.count("val_auc") == 2
    assert "| mi_net | smooth_max | 0.001 | 1 |" in first
    warm_up.main()
    assert "val_auc" not in capsys.readouterr().out
    assert read_csv(tmp_path / "out" / "trainings.csv") == rows


def test_colon_nuclei_as_bags(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 27, 27, 3), dtype=np.uint8)
    data, cache = tmp_path / "nuclei.npz", tmp_path / "features" / "nuclei.npz"
    np.savez(data, images=images, patient=[7, 2, 7, 2, 2], cancerous=[0, 0, 1, 0, 0])
    first, second = patient_bags(data, cache)
    assert (first.slide_id, first.label) == ("patient_002", 0)
    assert (second.slide_id, second.label) == ("patient_007", 1)
    assert second.instance_labels is not None
    assert second.instance_labels.tolist() == [0, 1]
    texture = build_encoder(EncoderSpec(name="texture"), "cpu").encode(torch.from_numpy(images[[0, 2]]))
    assert torch.equal(second.features, texture)
    data.rename(tmp_path / "renamed.npz")
    again = patient_bags(tmp_path / "renamed.npz", cache)
    assert torch.equal(again[1].features, texture)


def test_the_summary_counts_what_learned_and_what_was_reported() -> None:
    cell = {"method": "mi_net", "warm_up": "none", "lr": "0.1", "val_auc": "0.5", "patch_auc": "0.75"}
    rows = [
        Row(Path("trainings.csv"), line, cell | {"slide_auc": auc, "val_unexplained": left})
        for line, (auc, left) in enumerate([("0.9", "0.2"), ("0.4", "0.97")], 2)
    ]
    expected = ["mi_net", "none", "0.1", "2", "0.650", "0.400", "0.750", "0.750"]
    assert summary(rows)[1] == [*expected, "1 of 2", "1", "0.500"]


def test_bag_tests_with_and_without_warm_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["bag_tests", "--seeds", "1", "--methods", "mi_net", "--tests", "single_concept"]
    monkeypatch.setattr(sys, "argv", command)
    quick = TRAINING.model_copy(update={"epochs": 1})
    monkeypatch.setattr(warm_up_bag_tests, "TRAINING", quick)
    warm_up_bag_tests.main()
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[0] == "| test | mi_net, none | mi_net, smooth_max |"
    job = BagTestJob("mi_net", "single_concept", 0, training=quick)
    assert lines[2].split(" | ")[1] == warm_up_bag_tests.cell([run_bag_test(job)])
