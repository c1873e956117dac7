"""The study of remedies: its parts by hand, and the study on a few generated slides."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from pipelines import poison_remedies
from pipelines.poison import cohorts
from pipelines.poison.remedies import REMEDIES, RedrawnBag, balanced, outside_tissue_at_the_top
from pipelines.poison.remedy_table import Row, remedy_table
from wsi_mil.contracts.bags import Bag

ROOT = Path(__file__).parents[2]


def test_every_centre_and_class_occurs_equally_often() -> None:
    cells = {"a": ("x", 0), "b": ("x", 0), "c": ("x", 0), "d": ("x", 1), "e": ("y", 1), "f": ("y", 1)}
    found = balanced(cells)
    counts = {cell: sum(cells[s] == cell for s in found) for cell in set(cells.values())}
    assert counts == {("x", 0): 3, ("x", 1): 3, ("y", 1): 3}
    assert set(found) == set(cells)


def test_a_redrawn_bag_leaves_instances_out_anew_each_time() -> None:
    plain = torch.arange(10.0)[:, None]
    bag = RedrawnBag(Bag("a", plain, 1), (), 0.5, seed=3)
    seen = []
    for _ in range(40):
        bag.read_into(out := torch.empty(len(bag), bag.dim))
        values = out[:, 0].tolist()
        assert len(set(values)) == 5
        seen += values
    assert set(seen) == set(plain[:, 0].tolist())
    assert all(10 <= seen.count(value) <= 30 for value in range(10))  # 20 expected, deviation 3.2


def test_a_redrawn_bag_takes_all_views_with_whole_instances() -> None:
    views = [torch.full((3, 2), float(number)) for number in range(3)]
    bag = RedrawnBag(Bag("a", views[0], 0), views[1:], 0.0, seed=0)
    drawn = []
    for _ in range(60):
        bag.read_into(out := torch.empty(3, 2))
        assert bool((out == out[0, 0]).all())
        drawn.append(int(out[0, 0]))
    assert all(10 <= drawn.count(number) <= 32 for number in range(3))


def test_only_the_highest_tiles_outside_tissue_are_left_out() -> None:
    scores = np.arange(20.0)  # the highest tenth: 18 and 19
    tissue = np.ones(20)
    tissue[[0, 19]] = 0.0
    assert np.flatnonzero(outside_tissue_at_the_top(scores, tissue, 0.5)).tolist() == [19]
    assert not outside_tissue_at_the_top(np.ones(1), np.zeros(1), 0.5).any(), "one tile stays"


def test_the_table_has_mean_and_worst_fold() -> None:
    rows: list[Row] = [
        ("c", "m", "none", "none", 0, 0.9),
        ("c", "m", "none", "none", 1, 1.0),
        ("c", "m", "none", "tumour", 0, math.nan),
    ]
    assert remedy_table(rows).splitlines()[2] == "| c | m | none | 0.950 (0.900) | - | - |"


def test_the_study_on_a_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every remedy in every arm; a second call trains nothing and prints the same table."""
    slides = {"pairs": 6, "centres": 2, "seed": 3, "width_px": [1500, 1600], "height_px": [1250, 1300]}
    cohort = {
        "synthetic": {**slides, "itc_share": 0, "macro_share": 0},
        "tiles": {"mpp": 1.0, "size_px": 64},
        "encoder": {"name": "texture"},
        "split": {"kind": "kfold", "folds": 2, "val_share": 0.3},
    }
    for module in (poison_remedies, cohorts):
        monkeypatch.setattr(module, "COHORTS", {"demo": cohort})
    raw = yaml.safe_load((ROOT / "configs" / "poison_remedies.yaml").read_text())
    raw["train"]["epochs"] = 1
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(raw, sort_keys=False))
    options = ["--cohort", "demo", "--method", "mi_net", "--folds", "1"]
    own = [f"run={tmp_path / 'run'}", "execution.workers=1"]
    monkeypatch.setattr(sys, "argv", ["poison_remedies.py", str(config), *options, *own])
    poison_remedies.main()
    table = capsys.readouterr().out.split("so far\n")[1]
    assert [line.split(" | ")[2] for line in table.splitlines()[2:]] == list(REMEDIES)
    files = sorted((tmp_path / "run" / "demo" / "poison").glob("*/remedies/*.json"))
    assert len(files) == 3 * len(REMEDIES)
    times = [path.stat().st_mtime_ns for path in files]
    poison_remedies.main()
    assert capsys.readouterr().out.split("so far\n")[1] == table
    assert [path.stat().st_mtime_ns for path in files] == times
