"""Features out to other tools' layouts and back: the same rows, and a run that trains on them to the same
scores."""

import json
import shutil
from pathlib import Path

import anndata
import numpy as np
import pytest
from click.testing import CliRunner

from tests.conftest import BuildOnce
from wsi_mil.cli.main import cli
from wsi_mil.config import load_config
from wsi_mil.errors import WsiMilError
from wsi_mil.interop.layouts import export_layout_names, import_layout_names
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring import read_tile_scores
from wsi_mil.stages import run_pipeline


@pytest.fixture(scope="session")
def exported(small_run: Path, build_once: BuildOnce) -> Path:
    """The small run in every layout, one folder each. Read only: copy what you change."""

    def build(folder: Path) -> None:
        shutil.copytree(small_run, folder / "run")
        for layout in export_layout_names():
            call("export", folder / "run", folder / layout, "--layout", layout)

    return build_once("exported", build)


def call(*arguments: object) -> str:
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def slides(run: RunFolder) -> list[str]:
    return run.stored_slides()


def test_the_commands_offer_every_layout_and_refuse_others(tmp_path: Path) -> None:
    assert f"[{'|'.join(export_layout_names())}]" in call("export", "--help")
    assert f"[{'|'.join(import_layout_names())}]" in call("import", "--help")
    result = CliRunner().invoke(cli, ["import", str(tmp_path), str(tmp_path), "--layout", "torchmil"])
    assert result.exit_code == 2
    assert "'torchmil' is not one of 'clam', 'trident'" in result.output


@pytest.mark.parametrize("layout", ["trident", "clam"])
def test_round_trip(layout: str, exported: Path, cohort: Path, tmp_path: Path) -> None:
    before = RunFolder(exported / "run")
    folder = exported / layout
    if layout == "trident":
        (folder,) = folder.glob("*/features_*")
    options = ["--layout", layout, "--labels", cohort / "labels.csv", "--encoder", "texture"]
    output = call("import", tmp_path / "run", folder, *options, "--slides", cohort / "slides")
    assert "imported into" in output
    after = RunFolder(tmp_path / "run")
    assert slides(after) == slides(before)
    for slide_id in slides(before):
        old, new = (run.store(slide_id) for run in (before, after))
        key = "imported.texture"
        np.testing.assert_array_equal(old.read_tiles().coords, new.read_tiles().coords)
        assert new.read_tiles().plan.tile_width0_px == old.read_tiles().plan.tile_width0_px
        np.testing.assert_array_equal(old.read_features("texture").features, new.read_features(key).features)
    assert "nothing to do" in call(
        "import", tmp_path / "run", folder, *options, "--slides", cohort / "slides"
    )


def test_a_run_on_imported_features_gives_the_same_scores(
    exported: Path, quick_config: dict[str, object], cohort: Path, tmp_path: Path
) -> None:
    (folder,) = (exported / "trident").glob("*/features_*")
    labels = cohort / "labels.csv"
    call(
        "import",
        tmp_path / "run",
        folder,
        "--layout",
        "trident",
        "--labels",
        labels,
        "--annotations",
        cohort / "annotations",
    )
    overrides = [
        "seed=1",
        "split.test_share=0.33",
        "split.val_share=0.33",
        "train.epochs=12",
        "train.lr=0.001",
    ]
    overrides += [
        "evaluation.bootstrap=50",
        "execution.workers=1",
        "execution.threads=1",
        "heatmaps.overlay_px=300",
    ]
    summary = run_pipeline(load_config(tmp_path / "run", tuple(overrides)))
    assert summary.failed == []
    before, after = RunFolder(exported / "run"), RunFolder(tmp_path / "run")
    for slide_id in slides(before):
        old, new = (read_tile_scores(run.tile_scores("focus_mil", slide_id)) for run in (before, after))
        np.testing.assert_array_equal(old.tile_scores, new.tile_scores)
    old_metrics, new_metrics = (
        json.loads((run.evaluation("focus_mil") / "metrics.json").read_text()) for run in (before, after)
    )
    for level in ("slide", "patch", "froc"):
        name = "score" if level == "froc" else "auc"
        assert old_metrics[level][name] == new_metrics[level][name]
    # the files of the slides are not given: heatmaps are drawn on white
    assert sorted((after.path / "heatmaps" / "focus_mil").glob("*.png"))
    assert "nothing to do" in call("run", tmp_path / "run")


def test_torchmil_folders(exported: Path, cohort: Path) -> None:
    run, folder = RunFolder(exported / "run"), exported / "torchmil"
    for slide_id in slides(run):
        arrays = {
            name: np.load(folder / name / f"{slide_id}.npy") for name in ("features", "coords", "labels")
        }
        table = run.store(slide_id).read_tiles()
        np.testing.assert_array_equal(
            arrays["features"], run.store(slide_id).read_features("texture").features
        )
        x, y = arrays["coords"].T  # in steps: neighbours are one apart
        step0_px = table.plan.tile_width0_px
        assert np.abs(x * step0_px - table.coords[:, 0]).max() <= 1
        assert np.abs(y * table.plan.tile_height0_px - table.coords[:, 1]).max() <= 1
        marks = folder / "inst_labels" / f"{slide_id}.npy"
        if int(arrays["labels"][0]) == 0:
            assert not np.load(marks).any()
    any_positive = [np.load(path).any() for path in (folder / "inst_labels").iterdir()]
    assert any(any_positive)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")
def test_torchmil_reads_them(exported: Path) -> None:
    datasets = pytest.importorskip("torchmil.datasets", reason="torchmil is not installed (extra: bench)")
    folder = exported / "torchmil"
    names = [path.stem for path in sorted((folder / "features").iterdir())]
    parts = {f"{key}_path": str(folder / key) for key in ("features", "labels", "inst_labels", "coords")}
    dataset = datasets.ProcessedMILDataset(**parts, bag_names=names, verbose=False)
    bag = dataset[0]
    np.testing.assert_array_equal(bag["X"].numpy(), np.load(folder / "features" / f"{names[0]}.npy"))
    joined = bag["adj"].to_dense()
    joined.fill_diagonal_(0)
    assert (joined > 0).any(1).float().mean() > 0.9  # neighbours are found at torchmil's own distance of 1.5


@pytest.mark.parametrize("layout", ["h5ad", "zarr"])
def test_anndata(layout: str, exported: Path) -> None:
    run = RunFolder(exported / "run")
    for slide_id in slides(run)[:4]:
        path = exported / layout / f"{slide_id}.{layout}"
        table = anndata.read_h5ad(path) if layout == "h5ad" else anndata.read_zarr(path)
        store = run.store(slide_id)
        np.testing.assert_array_equal(table.X, store.read_features("texture").features)
        tiles = store.read_tiles()
        size0 = np.array([tiles.plan.tile_width0_px, tiles.plan.tile_height0_px])
        np.testing.assert_allclose(table.obsm["spatial"], tiles.coords + size0 / 2)
        scores = read_tile_scores(run.tile_scores("focus_mil", slide_id))
        np.testing.assert_array_equal(table.obs["score_focus_mil"].to_numpy(), scores.tile_scores)
        assert table.uns["wsi_mil"]["tile_mpp"] == 1.0
        assert table.uns["wsi_mil"]["slide_id"] == slide_id


def test_a_damaged_file_is_one_outcome(exported: Path, cohort: Path, tmp_path: Path) -> None:
    (folder,) = (exported / "trident").glob("*/features_*")
    shutil.copytree(folder, tmp_path / "features")
    victim = sorted((tmp_path / "features").glob("*.h5"))[3]
    victim.write_bytes(victim.read_bytes()[:900])
    result = CliRunner().invoke(
        cli, ["import", str(tmp_path / "run"), str(tmp_path / "features"), "--layout", "trident"]
    )
    assert result.exit_code == 3
    assert victim.stem in result.output
    assert victim.stem not in RunFolder(tmp_path / "run").stored_slides()
    assert len(RunFolder(tmp_path / "run").stored_slides()) == 17


def test_imported_features_cannot_be_extracted(exported: Path, tmp_path: Path) -> None:
    from wsi_mil.encoders import build_encoder
    from wsi_mil.encoders.spec import EncoderSpec

    with pytest.raises(WsiMilError, match="were imported"):
        build_encoder(EncoderSpec(name="imported:uni_v1"), "cpu")
    with pytest.raises(WsiMilError, match="slides of its own"):
        call("import", exported / "run", exported / "trident", "--layout", "trident")
    assert not (exported / "run" / "import.json").exists()
    nowhere = tmp_path / "c.yaml"
    nowhere.write_text(f"run: {tmp_path / 'none'}\nsynthetic: {{pairs: 1}}\n")
    with pytest.raises(WsiMilError, match="no run at"):
        call("export", nowhere, tmp_path / "out", "--layout", "clam")
    assert not (tmp_path / "none").exists()
    (features,) = (exported / "trident").glob("*/features_*")
    call("import", tmp_path / "in", features, "--layout", "trident")
    shutil.copytree(exported / "run" / "scores", tmp_path / "in" / "scores")
    with pytest.raises(WsiMilError, match="imported features have none"):
        call("heatmap", tmp_path / "in", "heatmaps.objects=[tissue]")
