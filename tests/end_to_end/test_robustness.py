"""The subcommands poison and audit on a small run: what they write, what they leave alone, what they refuse,
their part of the report."""

import csv
import json
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tests.conftest import BuildOnce
from wsi_mil.cli.main import cli
from wsi_mil.config import load_config
from wsi_mil.errors import ConfigError, DataError, TrustError, WsiMilError
from wsi_mil.experiments.poison import run_poison
from wsi_mil.experiments.poison_store import poison_folder, poisoned_store
from wsi_mil.geojson import geometry_of, read_features
from wsi_mil.io.json import read_json, write_json
from wsi_mil.robustness import PoisonSpec
from wsi_mil.robustness.poison.kinds import POISONS
from wsi_mil.run.folder import RunFolder
from wsi_mil.testing.qupath import broken_rules

ROOT = Path(__file__).parents[2]
CHEAT = "tests.robustness.cheat:MeanOfAll"
QUICK = ("train.epochs=4", "split.kind=kfold", "split.folds=2", "execution.workers=1")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=True)


@dataclass(frozen=True)
class Changed:
    """A copy of the small run after a subcommand, and what that printed. Read only: copy what you change."""

    run: Path
    output: str


def changed_by(build_once: BuildOnce, name: str, small_run: Path, *arguments: object) -> Changed:
    """Copy the small run and call `wsi-mil <name> <copy> <arguments>`, once per test run."""

    def build(folder: Path) -> None:
        shutil.copytree(small_run, folder / name)
        result = call(name, folder / name, *arguments)
        assert result.exit_code == 0, result.output
        (folder / "printed.txt").write_text(result.output, encoding="utf-8")

    folder = build_once(f"after {name}", build)
    return Changed(folder / name, (folder / "printed.txt").read_text(encoding="utf-8"))


@pytest.fixture
def run(small_run: Path, tmp_path: Path) -> Path:
    """A copy of the small run that a test may change."""
    shutil.copytree(small_run, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture(scope="session")
def poisoned(build_once: BuildOnce, small_run: Path) -> Changed:
    """After `wsi-mil poison` with two methods."""
    return changed_by(
        build_once, "poison", small_run, "--aggregator", "mi_net", "--aggregator", CHEAT, *QUICK
    )


MIRRORED = {"mirrored_train_only", "mirrored_test_only", "mirrored"}


def test_poison_writes_a_table_a_picture_and_verdicts(poisoned: Changed) -> None:
    run, printed = poisoned.run, poisoned
    (folder,) = (run / "poison").iterdir()
    study = json.loads((folder / "poison.json").read_text())
    assert study["poison"]["kind"] == "noise"
    assert study["share_of_tiles"] == pytest.approx(0.15, abs=0.05)
    assert [m["model"] for m in study["models"]] == ["mi_net", "MeanOfAll"]
    for model in study["models"]:
        normal = {"train_only", "test_only", "poison"}
        assert set(model["conditions"]) == {"none", "alike", *normal, *MIRRORED}
        assert model["conditions"]["poison"]["slide_auc"]["count"] == 2
        assert set(model["directions"]) == {"normal", "tumour"}
        for found in model["directions"].values():
            assert found["verdict"] in ("resists", "weakened", "fooled", "not learned")
        for name in ("poison", "mirrored"):  # of the slides that are poisoned: tumour, normal
            assert 0 <= model["conditions"][name]["poison_share"]["mean"] <= 1
        assert f"{model['model']}" in printed.output
    with (folder / "trainings.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 2 * 2 * 8  # models, folds, conditions
    for model in study["models"]:  # the summary is the table's
        own = [
            float(r["slide_auc"]) for r in rows if r["model"] == model["model"] and r["condition"] == "poison"
        ]
        assert model["conditions"]["poison"]["slide_auc"]["mean"] == pytest.approx(np.mean(own))
    assert (folder / "poison.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((folder / "previews").glob("*.jpg"))) == 4


def test_poison_leaves_the_run_as_it_was(poisoned: Changed, small_run: Path, tmp_path: Path) -> None:
    for name in ("config.yaml", "provenance.json", "models/split.json", "scores/focus_mil/slides.parquet"):
        assert (poisoned.run / name).read_bytes() == (small_run / name).read_bytes(), name
    shutil.copytree(poisoned.run, tmp_path / "r")
    assert call("evaluate", tmp_path / "r").exit_code == 0


def test_only_tiles_that_the_poison_reaches_have_new_features(poisoned: Changed) -> None:
    run = RunFolder(poisoned.run)
    spec, key = PoisonSpec(), "texture"
    changed_slides = 0
    for slide_id in run.stored_slides():
        clean, stained = run.store(slide_id), poisoned_store(run, spec, slide_id)
        before, after = clean.read_features(key), stained.read_features(key)
        assert stained.read_tiles().digest() == clean.read_tiles().digest()
        differs = (before.features != after.features).any(1)
        stored = stained.stored_features(key)
        assert stored is not None
        assert stored.origin.poison is not None
        counts = stored.origin.poison.counts
        assert differs.sum() <= counts["encoded"] < len(differs)
        assert differs.sum() >= counts["poisoned"] > 0
        changed_slides += 1
    assert changed_slides == 18


def test_the_places_are_drawn_for_qupath_and_spare_the_tumour(poisoned: Changed, cohort: Path) -> None:
    import shapely

    from wsi_mil.evaluation import read_annotations

    run = RunFolder(poisoned.run)
    folder = poison_folder(run, PoisonSpec())
    for path in sorted((folder / "places").glob("*.geojson")):
        info = run.store(path.stem).read_info()
        assert broken_rules(path, (info.width_px, info.height_px)) == []
        found, header = read_features(path)
        assert header["spec"]["kind"] == "noise"
        (area,) = [geometry_of(item, (0, 0)) for item in found]
        assert area is not None
        truth = cohort / "annotations" / f"{path.stem}.xml"
        if truth.exists():
            lesions = shapely.union_all([lesion.geometry for lesion in read_annotations(truth, path.stem)])
            assert area.intersection(lesions).area < 1e-6


def test_a_second_call_trains_nothing_and_an_interrupted_one_goes_on(
    poisoned: Changed, tmp_path: Path
) -> None:
    run = tmp_path / "poison"
    shutil.copytree(poisoned.run, run)
    (folder,) = (run / "poison").iterdir()
    before = (folder / "poison.json").read_bytes()
    arguments = ("poison", run, "--aggregator", "mi_net", "--aggregator", CHEAT, *QUICK)
    assert "nothing to do" in call(*arguments).output
    next((folder / "trainings").glob("mi_net_normal_*.json")).unlink()
    again = call(*arguments)
    assert again.exit_code == 0
    assert "nothing to do" not in again.output
    assert (folder / "poison.json").read_bytes() == before


def test_damaged_files_of_poison_are_made_again(poisoned: Changed, tmp_path: Path) -> None:
    run = tmp_path / "poison"
    shutil.copytree(poisoned.run, run)
    (folder,) = (run / "poison").iterdir()
    training = next((folder / "trainings").glob("mi_net_normal_*.json"))
    store = next((folder / "slides").glob("*.zarr"))
    features = store / "features" / "texture" / "zarr.json"
    paths = (training, folder / "poison.json", features)
    before = [path.read_bytes() for path in paths]
    for path, content in zip(paths, before, strict=True):
        path.write_bytes(content.replace(b"0", b"1", 1))
        assert path.read_bytes() != content
    again = call("poison", run, "--aggregator", "mi_net", "--aggregator", CHEAT, *QUICK)
    assert again.exit_code == 0, again.output
    assert [path.read_bytes() for path in paths] == before


def test_a_damaged_audit_is_left_out_of_the_report(audited: Changed, tmp_path: Path) -> None:
    shutil.copytree(audited.run, tmp_path / "r")
    path = tmp_path / "r" / "audit" / "focus_mil" / "audit.json"
    path.write_text(path.read_text().replace('"slides": 6', '"slides": 5'))
    found = call("report", tmp_path / "r")
    assert found.exit_code == 0, found.output
    assert 'id="audit"' not in (tmp_path / "r" / "report.html").read_text()


def test_trainings_of_an_earlier_format_are_made_again(run: Path, tmp_path: Path) -> None:
    """A training of format 1 lacks the mirrored conditions; its study is left out of the report."""
    shutil.copytree(run, tmp_path / "r")
    config = load_config(tmp_path / "r", (*QUICK, "train.epochs=1", "poison.directions=[tumour]"))
    done = run_poison(config, ("none", "tumour"))
    assert set(done.study.models[0].conditions) == {"none", "test_only", *MIRRORED}
    assert run_poison(config, ("none", "tumour")).trained == 0
    old = sorted((done.folder / "trainings").glob("*_none_fold*.json"))
    for path in (*old, done.folder / "poison.json"):
        raw = read_json(path)
        raw.pop("content_digest", None)
        write_json(path, {**raw, "format_version": 1})
    found = call("report", tmp_path / "r")
    assert found.exit_code == 0, found.output
    assert 'id="poison"' not in (tmp_path / "r" / "report.html").read_text()
    again = run_poison(config, ("none", "tumour"))
    assert again.trained == len(old) == 2
    assert again.study.as_json() == done.study.as_json()


def test_without_controls_less_is_trained(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "r")
    config = load_config(tmp_path / "r", (*QUICK, "train.epochs=1", "poison.kind=cast"))
    done = run_poison(config, ("none", "normal"))
    assert done.trained == 4
    assert "alike" not in done.study.models[0].conditions
    assert done.study.share_of_tiles > 0.9  # a cast lies on the whole slide, but for lesions


def test_tumour_slides_without_outline_cannot_be_poisoned_off_tumour(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "r")
    config = load_config(tmp_path / "r", (*QUICK, "slides.annotations=null"))
    with pytest.raises(DataError, match=r"slides\.annotations, or poison\.placement=anywhere"):
        run_poison(config)


def test_the_dry_run_of_poison_does_nothing(run: Path) -> None:
    printed = call("poison", run, "--kind", "pen", "--dry-run")
    assert printed.exit_code == 0
    assert "pen_c15_s100" in printed.output
    assert not (run / "poison").exists()


@pytest.fixture(scope="session")
def audited(build_once: BuildOnce, small_run: Path) -> Changed:
    """After `wsi-mil audit` of its model."""
    return changed_by(build_once, "audit", small_run, "--slides", 1)


def test_audit_of_a_model(audited: Changed) -> None:
    run, printed = audited.run, audited
    found = json.loads((run / "audit" / "focus_mil" / "audit.json").read_text())
    assert set(found["checks"]) == {
        "remove_tumour",
        "remove_top",
        "remove_random",
        "keep_top",
        "swap_normal",
        "stain_normal",
        "restain",
    }
    assert found["slides"] == 6
    assert found["verdict"] in ("pass", "fail", "not measured")
    assert [p["x"] for p in found["checks"]["stain_normal"]["points"]] == [0.05, 0.15, 0.3, 0.6]
    assert found["checks"]["restain"]["verdict"] == "not measured"  # two slides are too few
    assert found["agreement"]["tile_auc"]["value"] > 0.8
    for name, check in found["checks"].items():
        assert name in printed.output
        for point in check["points"]:
            assert point["n"] == 0 or 0 <= point["low"] <= point["share"] <= point["high"] <= 1
    assert (run / "audit" / "focus_mil" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_report_shows_audit_and_poison(audited: Changed, poisoned: Changed) -> None:
    page = (audited.run / "report.html").read_text()
    assert 'id="audit"' in page
    assert "remove_tumour" in page
    assert 'id="poison"' not in page
    assert f"report: {poisoned.run / 'report.html'}" in poisoned.output
    page = (poisoned.run / "report.html").read_text()
    assert 'id="poison"' in page
    assert "MeanOfAll" in page
    poison = page.split('id="poison"')[1].split('id="problems"')[0]
    assert re.findall(r"[\d.]+ to [\d.]+", poison)
    assert not re.search(r"-\d|to 1\.[0-9]*[1-9]", re.sub(r"base64,[^\"]*", "", poison)), (
        "no AUC lies outside 0 to 1"
    )


def test_an_audit_of_an_earlier_model_is_not_shown(audited: Changed, tmp_path: Path) -> None:
    shutil.copytree(audited.run, tmp_path / "r")
    path = tmp_path / "r" / "audit" / "focus_mil" / "audit.json"
    write_json(path, {**read_json(path), "model_digests": ["0" * 16]})
    assert call("report", tmp_path / "r").exit_code == 0
    assert 'id="audit"' not in (tmp_path / "r" / "report.html").read_text()


def test_slides_that_are_gone_leave_the_other_questions(run: Path, tmp_path: Path) -> None:
    """Without files no pixels can be repainted: said, and the rest is asked."""
    shutil.copytree(run, tmp_path / "r")
    printed = call("audit", tmp_path / "r", "--slides", 0, "--out", tmp_path / "out")
    assert printed.exit_code == 0
    found = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert found["checks"]["stain_normal"]["points"] == []
    assert found["checks"]["keep_top"]["points"]
    assert not (tmp_path / "r" / "audit").exists()


def test_slides_that_cannot_be_read_again_are_reported(run: Path, tmp_path: Path, cohort: Path) -> None:
    shutil.copytree(run, tmp_path / "r")
    shutil.copytree(cohort, tmp_path / "cohort")
    config = tmp_path / "r" / "config.yaml"
    config.write_text(config.read_text().replace(str(cohort), str(tmp_path / "cohort")))
    for path in (tmp_path / "cohort" / "slides").iterdir():
        path.write_bytes(path.read_bytes()[:200])
    printed = call("audit", tmp_path / "r", "--slides", 1)
    assert printed.exit_code == 0, printed.output
    found = json.loads((tmp_path / "r" / "audit" / "focus_mil" / "audit.json").read_text())
    assert len(found["skipped"]) == 2
    assert all("damaged TIFF file" in reason for reason in found["skipped"].values()), found["skipped"]
    assert found["checks"]["keep_top"]["points"]


def test_what_cannot_be_audited_is_refused_in_one_line(run: Path, tmp_path: Path) -> None:
    for arguments, kind, words in (
        (("audit", run, "--model", "focus"), ConfigError, "no model 'focus'.*focus_mil"),
        (("audit", "--aggregator", "foccus"), ConfigError, "focus_mil"),
        (("audit", tmp_path / "nothing"), ConfigError, "no configuration"),
        (("poison", run, "poison.kind=glitter"), ConfigError, "poison.kind"),
        (("poison", run, "tiles.size_px=32"), ConfigError, "tiles: .*made with other settings"),
        (("poison", run, "--coverage", "1.5"), ConfigError, "poison.coverage"),
    ):
        error = call(*arguments).exception
        assert isinstance(error, kind), arguments
        assert isinstance(error, WsiMilError)
        assert "\n" not in str(error)
        assert re.search(words, str(error)), str(error)
    assert "either RUN (and --model) or --aggregator" in call("audit").output
    assert "not both" in call("audit", run, "--aggregator", "mi_net").output


def test_a_cheat_leaves_with_exit_code_4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wsi_mil.experiments import method_audit

    monkeypatch.setattr(method_audit, "bag_test_names", lambda: ["single_concept"])
    printed = call(
        "audit", "--aggregator", CHEAT, "--seeds", 1, "--workers", 1, "--out", tmp_path, "--require", "pass"
    )
    assert printed.exit_code == 4
    assert "FAIL" in printed.output
    (row,) = json.loads((tmp_path / "audit.json").read_text())["aggregators"]
    assert row["verdict"] == "fail"
    assert "single_concept" in row["failed"]
    page = (tmp_path / "audit.html").read_text()
    assert CHEAT in page
    assert "http" not in page
    assert call("audit", "--aggregator", CHEAT, "--seeds", 1, "--workers", 1).exit_code == 0


def test_the_how_tos_own_aggregator_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's class, saved as the page says, in at most 30 lines, keeps what the page shows of it."""
    from wsi_mil.robustness.audit.bag_test_results import bag_verdict
    from wsi_mil.robustness.audit.bag_test_run import BagTestJob, run_bag_test

    code = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "how-to-audit.md").read_text(), re.DOTALL)
    assert code is not None
    assert len([line for line in code[1].splitlines() if line.strip()]) <= 30
    (tmp_path / "my_mil.py").write_text(code[1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WSI_MIL_TRUST", "my_mil")
    found = run_bag_test(BagTestJob("my_mil:NoisyOr", "single_concept", 0))
    assert bag_verdict("single_concept", [found]) == "pass", found


def test_an_own_aggregator_trains_like_any_other(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "r")
    printed = call("train", tmp_path / "r", "--aggregator", CHEAT, "train.epochs=2")
    assert printed.exit_code == 0, printed.output
    assert (tmp_path / "r" / "models" / "MeanOfAll" / "fold0" / "model.json").is_file()
    refused = call("score", tmp_path / "r")
    assert isinstance(refused.exception, TrustError), "what the run saved is no trust"
    assert f"config.yaml: models.MeanOfAll.aggregator={CHEAT} is code" in str(refused.exception)
    assert call("score", tmp_path / "r", "--trust", CHEAT).exit_code == 0
    assert (tmp_path / "r" / "scores" / "MeanOfAll" / "slides.parquet").is_file()


@pytest.mark.parametrize("kind", list(POISONS))
def test_every_kind_goes_through_the_real_path(kind: str, run: Path, tmp_path: Path) -> None:
    """Slides are read, stained, encoded: the features of touched tiles move."""
    from wsi_mil.experiments.poison_slides import write_poisoned_features
    from wsi_mil.run.context import open_run
    from wsi_mil.stages.training_set import training_set

    shutil.copytree(run, tmp_path / "r")
    config = load_config(tmp_path / "r", (f"poison.kind={kind}", "poison.coverage=0.2"))
    context = open_run(config)
    data = training_set(context.run, context.require_labels(), config.tissue, config.tiles, config.encoder)
    one = dict(list(data.labels.items())[:2])
    both = write_poisoned_features(context, replace(data, labels=one))
    assert both == sorted(one)
    for slide_id in both:
        before = context.run.store(slide_id).read_features("texture").features
        after = poisoned_store(context.run, config.poison, slide_id).read_features("texture").features
        moved = (before != after).any(1)
        assert 0.05 < moved.mean() < 0.6
