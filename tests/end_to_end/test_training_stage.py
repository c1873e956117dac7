"""The train subcommand: methods compared over folds, repeats and seeds; outlines for guided attention; what
failed is reported."""

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from wsi_mil.bags import Split
from wsi_mil.cli.main import main
from wsi_mil.config import RunConfig
from wsi_mil.config.loading import load_config, parse_config, with_trained
from wsi_mil.config.schema import with_aggregators
from wsi_mil.errors import ConfigError, DataError, ModelError, StoreError
from wsi_mil.io.json import read_json
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.trainings import summarise
from wsi_mil.scoring import load_model
from wsi_mil.stages import run_stage
from wsi_mil.stages.predict import predict_slides


@pytest.fixture
def config(run_with_features: Path, quick_config: dict[str, Any]) -> dict[str, Any]:
    """A run whose features are made, and nothing trained yet."""
    settings = {**quick_config, "run": str(run_with_features), "models": {"mi_net": {}}}
    return {**settings, "train": {"epochs": 2, "lr": 0.001}}


def read_rows(config: dict[str, Any]) -> list[dict[str, str]]:
    with RunFolder(Path(config["run"])).comparison.open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_methods_are_compared_over_folds_repeats_and_seeds(config: dict[str, Any]) -> None:
    config["split"] = {"kind": "kfold", "folds": 3, "val_share": 0.33, "repeats": 2, "seeds": 2}
    config["models"] = {"mi_net": {}, "abmil": {}}
    config["execution"] = {"workers": 1, "threads": 1}
    assert run_stage(parse_config(config), "train").work["train"] == 2 * 3 * 2 * 2
    rows = read_rows(config)
    key = [(row["model"], row["repeat"], row["seed_number"]) for row in rows]
    assert {key.count(item) for item in key} == {3}
    assert len(set(key)) == 8
    run = RunFolder(Path(config["run"]))
    split = Split.load(run.split)
    assert len(split.folds) == 12
    assert len(split.first_round) == 3
    assert split.folds[0].test == split.folds[6].test != split.folds[3].test
    weights = [
        load_model(run.model("mi_net", n)).aggregator.state_dict()["classifier.0.weight"] for n in (0, 6)
    ]
    assert not weights[0].equal(weights[1])
    table = summarise(run.comparison)
    assert [row[1] for row in table] == ["trainings", "12", "12"]
    aucs = [float(row["test_auc"]) for row in rows if row["model"] == table[1][0]]
    assert table[1][2] == f"{sum(aucs) / 12:.3f}"
    # scores come from the first round only, and are up to date afterwards
    assert run_stage(parse_config(config), "score").work["score"] == 2 * 18
    assert run_stage(parse_config(config), "score").work["score"] == 0
    assert run_stage(parse_config(config), "train").work["train"] == 0
    run_stage(parse_config(config), "report")
    assert "Every training, on its test part" in run.report.read_text(encoding="utf-8")


def test_numbers_do_not_depend_on_what_was_left_to_do(config: dict[str, Any]) -> None:
    """One of four trainings removed and made again, alone: the very same weights."""
    config["split"] = {"kind": "kfold", "folds": 3, "val_share": 0.33}
    config["execution"] = {"workers": 2, "threads": 1}
    run_stage(parse_config(config), "train")
    model = RunFolder(Path(config["run"])).model("mi_net", 1)
    before = (model / "model.safetensors").read_bytes()
    shutil.rmtree(model)
    assert run_stage(parse_config(config), "train").work["train"] == 1
    assert (model / "model.safetensors").read_bytes() == before


def test_validation_slides_choose_the_learning_rate_of_each_fold(config: dict[str, Any]) -> None:
    """The kept rate is the one of the better validation measure, in the card as well."""
    config["split"] = {"kind": "kfold", "folds": 2, "val_share": 0.33}
    rates = {"search": [1e-5, 3e-3], "class_weight": "balanced", "sampler": "balanced"}
    run_stage(parse_config({**config, "train": {**config["train"], **rates}}), "train")
    run = RunFolder(Path(config["run"]))
    chosen = []
    for fold in range(2):
        folder = run.model("mi_net", fold)
        with (folder / "search.csv").open(newline="") as handle:
            rows = list(csv.DictReader(handle))
        assert [float(row["lr"]) for row in rows] == rates["search"]
        best = max(rows, key=lambda row: (float(row["val_auc"]), -float(row["val_loss"])))
        assert [row["chosen"] for row in rows].count("1") == 1
        assert best["chosen"] == "1"
        chosen.append(load_model(folder).training.spec.lr)
        assert chosen[-1] == float(best["lr"])
        assert load_model(folder).training.metrics["val_loss"] == pytest.approx(float(best["val_loss"]))
    assert (
        run_stage(parse_config({**config, "train": {**config["train"], **rates}}), "train").work["train"] == 0
    )


def test_new_slides_get_the_mean_of_all_folds(config: dict[str, Any], cohort: Path, tmp_path: Path) -> None:
    """The mean and the disagreement are those of predictions with each fold alone."""
    config["split"] = {"kind": "kfold", "folds": 2, "val_share": 0.33}
    run_stage(parse_config(config), "train")
    folder = RunFolder(Path(config["run"])).model("mi_net", 0).parent
    slides = tmp_path / "slides"
    slides.mkdir()
    for path in sorted((cohort / "slides").glob("*.tiff"))[:2]:
        shutil.copy(path, slides)

    def predicted(model: Path, out: str) -> list[dict[str, str]]:
        predict_slides(model, slides, tmp_path / out, error=0.4, not_learned=True)
        with (tmp_path / out / "predictions.csv").open(newline="") as handle:
            return list(csv.DictReader(handle))

    found = predicted(folder, "mean")
    alone = [predicted(folder / f"fold{n}", f"alone{n}") for n in range(2)]
    for number, row in enumerate(found):
        values = [float(rows[number]["probability"]) for rows in alone]
        assert float(row["probability"]) == pytest.approx(np.mean(values), abs=2e-6)
        assert float(row["sd"]) == pytest.approx(np.std(values, ddof=1), abs=2e-6)
        assert (float(row["lowest"]), float(row["highest"])) == (min(values), max(values))
        assert int(row["called_by"]) == sum(rows[number]["predicted"] == "positive" for rows in alone)
        calibrated = [float(rows[number]["calibrated"]) for rows in alone]
        assert float(row["calibrated"]) == pytest.approx(np.mean(calibrated), abs=2e-6)
        assert row["conformal"] in {"positive", "negative", "undecided"}
    assert "models" not in alone[0][0]
    assert not any(
        predict_slides(folder, slides, tmp_path / "mean", error=0.4, not_learned=True).work.values()
    )


def test_a_pattern_names_the_methods(
    config: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    loaded = RunConfig(**{**config, "models": {"mi_net": {"lr": 0.01}}})
    assert len(with_aggregators(loaded, ("all",)).models) == 15
    assert with_aggregators(loaded, ("mi_net", "clam*")).models == {
        "mi_net": {"lr": 0.01},
        "clam_sb": {},
        "clam_mb": {},
    }
    assert "guided(abmil)" in with_aggregators(loaded, ("*",)).models
    assert with_aggregators(loaded, ()) == loaded
    with pytest.raises(ConfigError, match="'transmil'"):
        with_aggregators(loaded, ("transml",))
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(SystemExit) as stop:
        main(["train", str(path), "--aggregator", "m*_pool", "--aggregator", "dsmil"])
    assert not stop.value.code
    out = capsys.readouterr().out
    assert all(name in out for name in ("max_pool", "mean_pool", "dsmil", "95 % interval"))
    run = Path(config["run"])
    kept = load_config(run)
    assert {"max_pool", "mean_pool", "dsmil"} <= set(kept.models)  # a run keeps what it has trained
    assert set(with_trained(with_aggregators(kept, ("clam_sb",))).models) == {*kept.models, "clam_sb"}
    run_stage(
        load_config(run / "config.yaml"), "report"
    )  # nothing is scored yet: the comparison is what there is
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Every training, on its test part" in page
    assert "<td>dsmil</td>" in page


def test_a_training_that_fails_leaves_the_others(config: dict[str, Any]) -> None:
    config["models"] = {"mi_net": {"lr": 1e30, "clip_norm": 0, "epochs": 30}, "abmil": {}}
    with pytest.raises(
        ModelError, match=r"mi_net fold 0: the loss is .* The models that were trained are kept"
    ):
        run_stage(parse_config(config), "train")
    run = RunFolder(Path(config["run"]))
    assert (run.model("abmil", 0) / "model.json").exists()
    assert not (run.model("mi_net", 0) / "model.json").exists()


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 GB")]
)
def test_too_little_memory_is_reported(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr("wsi_mil.stages.train_one.fit", fail)
    with pytest.raises(ModelError, match=r"out of memory with 3 bags a step .* max-pooling method"):
        run_stage(parse_config(config), "train")
    monkeypatch.setattr(
        "wsi_mil.stages.train_one.fit", lambda *a, **k: (_ for _ in ()).throw(RuntimeError("a bug"))
    )
    with pytest.raises(RuntimeError, match="a bug"):
        run_stage(parse_config(config), "train")


def test_a_few_outlines_reach_guided_attention_and_nothing_else(config: dict[str, Any]) -> None:
    config["models"] = {"guided(abmil)": {"annotated_share": 0.2}}
    run_stage(parse_config(config), "train")
    card = read_json(RunFolder(Path(config["run"])).model("guided(abmil)", 0) / "model.json")
    split = Split.load(RunFolder(Path(config["run"])).split)
    chosen = card["training"]["annotated_slides"]
    assert len(chosen) == round(0.2 * len(split.folds[0].train))
    assert set(chosen) <= set(split.folds[0].train)
    assert card["training"]["metrics"]["train_guidance"] > 0
    for models, match in (
        ({"abmil": {"annotated_share": 0.2}}, "only guided"),
        ({"guided(abmil)": {"annotated_share": 1.0}}, "annotated training slides, only"),
    ):
        with pytest.raises((ConfigError, DataError), match=match):
            run_stage(parse_config({**config, "models": models}), "train")


def test_softmax_heads_and_many_classes_pass_through_the_stage(config: dict[str, Any]) -> None:
    config["models"] = {
        "abmil": {"head": "softmax"},
        "clam_mb": {"params": {"hidden": 16, "attention": 8}},
        "transmil": {"params": {"hidden": 32, "landmarks": 8}},
        "dtfd": {"params": {"hidden": 16}},
    }
    for stage in ("train", "score", "evaluate"):
        run_stage(parse_config(config), stage)
    run = RunFolder(Path(config["run"]))
    assert {load_model(run.model(name, 0)).aggregator.n_outputs for name in config["models"]} == {2}
    for name in config["models"]:
        metrics = read_json(run.evaluation(name) / "metrics.json")
        assert 0 <= metrics["slide"]["auc"] <= 1
        assert 0 <= metrics["patch"]["auc"] <= 1


def test_views_are_made_once_and_trained_on(config: dict[str, Any], cohort: Path, tmp_path: Path) -> None:
    """Views lie beside the plain features, change what a model learns, and a view that is missing is named.
    Prediction makes none."""
    config["split"] = {"kind": "holdout", "test_share": 0.33, "val_share": 0.33}
    run_stage(parse_config(config), "train")
    run = RunFolder(Path(config["run"]))
    plain = (run.model("mi_net", 0) / "model.safetensors").read_bytes()
    config["models"] = {"mi_net": {"views": True}}
    with pytest.raises(ConfigError, match=r"models.mi_net.views: there are no views.*encoder.views=4"):
        run_stage(parse_config(config), "train")
    config["encoder"] = {"views": 2}
    with pytest.raises(StoreError, match=r"lacks view 1 of 2: run `wsi-mil extract`"):
        run_stage(parse_config(config), "train")
    assert run_stage(parse_config(config), "extract").work["extract"] == 2 * 18
    assert run_stage(parse_config(config), "extract").work["extract"] == 0
    store = run.store(sorted(run.stored_slides())[0])
    assert store.encoders() == ["texture", "texture.view1", "texture.view2"]
    tables = [store.read_features(key).features for key in store.encoders()]
    assert tables[0].shape == tables[1].shape
    assert not (tables[0] == tables[1]).all()
    assert run_stage(parse_config(config), "train").work["train"] == 1
    assert (run.model("mi_net", 0) / "model.safetensors").read_bytes() != plain
    assert run_stage(parse_config(config), "score").work["score"] == 18
    assert {row.status for row in run.ledger.rows("extract view 2")} == {"done"}
    slide = sorted((cohort / "slides").glob("*.tiff"))[0]
    predict_slides(run.model("mi_net", 0), slide, tmp_path / "predicted", not_learned=True)
    assert RunFolder(tmp_path / "predicted").store(slide.stem).encoders() == ["texture"]
