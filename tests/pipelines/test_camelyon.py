"""Both Camelyon pipelines on miniatures in the owners' layout, made of synthetic slides."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipelines import camelyon16, camelyon17
from pipelines.camelyon.download import find_files, lay_out
from pipelines.camelyon.patients import PatientStage, stage_agreement
from pipelines.camelyon.pn_stage import node_class, quadratic_kappa
from wsi_mil.bags import Split, read_labels
from wsi_mil.errors import DataError
from wsi_mil.io.json import read_json

ROOT = Path(__file__).parents[2]
QUICK = [
    "encoder={name: texture}",
    "tiles.size_px=64",
    "train.epochs=2",
    "train.lr=0.001",
    "evaluation.bootstrap=20",
    "models={focus_mil: {}}",
    "execution.workers=1",
    "execution.threads=1",
    "heatmaps.overlay_px=200",
]


def by_label(cohort: Path) -> tuple[list[str], list[str]]:
    rows = read_labels(cohort / "labels.csv").rows
    return [s for s, row in rows.items() if row.label == 0], [s for s, row in rows.items() if row.label == 1]


def put(cohort: Path, slide_id: str, slide: Path, outline: Path | None = None) -> None:
    slide.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(cohort / "slides" / f"{slide_id}.tiff", slide)
    if outline is not None:
        outline.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(cohort / "annotations" / f"{slide_id}.xml", outline)


@pytest.fixture(scope="module")
def miniature16(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("CAMELYON16")
    normal, tumour = by_label(cohort)
    for number, slide_id in enumerate(normal[:6], start=1):
        put(cohort, slide_id, root / "training" / "normal" / f"normal_{number:03d}.tif")
    for number, slide_id in enumerate(tumour[:6], start=1):
        outline = root / "training" / "lesion_annotations" / f"tumor_{number:03d}.xml"
        put(cohort, slide_id, root / "training" / "tumor" / f"tumor_{number:03d}.tif", outline)
    lines = []
    for number, slide_id in enumerate([normal[6], tumour[6], normal[7], tumour[7], tumour[8]], start=1):
        positive = slide_id in tumour
        outline = root / "testing" / "lesion_annotations" / f"test_{number:03d}.xml"
        put(
            cohort,
            slide_id,
            root / "testing" / "images" / f"test_{number:03d}.tif",
            outline if positive else None,
        )
        lines.append(f"test_{number:03d},{'Tumor' if positive else 'Normal'},IDC,None")
    put(cohort, normal[8], root / "testing" / "images" / "test_049.tif")
    (root / "testing" / "reference.csv").write_text("\n".join([*lines, "test_049,Normal,None,None"]) + "\n")
    (root / "testing" / "masks").mkdir()
    (root / "testing" / "masks" / "test_002_Mask.tif").write_bytes(b"no slide")
    return root


@pytest.fixture(scope="module")
def miniature17(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("CAMELYON17")
    normal, tumour = by_label(cohort)
    lines = ["patient,stage"]
    # centre -> patients; each patient has a negative and a positive node, or two negative ones
    for number, (centre, patient) in enumerate((c, 20 * c + p) for c in range(5) for p in range(2)):
        pair = (normal[number % 9], tumour[number]) if number < 9 else (normal[4], normal[5])
        positive = number < 9
        lines.append(f"patient_{patient:03d}.zip,{'pN1' if positive else 'pN0'}")
        for node, slide_id in enumerate(pair):
            name = f"patient_{patient:03d}_node_{node}"
            outline = root / "training" / "lesion_annotations" / f"{name}.xml" if slide_id in tumour else None
            put(cohort, slide_id, root / "training" / f"center_{centre}" / f"{name}.tif", outline)
            lines.append(f"{name}.tif,{'macro' if slide_id in tumour else 'negative'}")
    put(
        cohort, normal[0], root / "testing" / "patient_100_node_0.tif"
    )  # the challenge's own test has no labels
    (root / "training" / "stage_labels.csv").write_text("\n".join(lines) + "\n")
    return root


def run(pipeline: str, data: Path, folder: Path, *more: str) -> str:
    command = [
        sys.executable,
        "-m",
        f"pipelines.{pipeline}",
        f"configs/{pipeline}.yaml",
        f"run={folder}",
        *QUICK,
    ]
    result = subprocess.run(
        [*command, "--data", str(data), *more], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_camelyon16_runs_on_its_owners_layout(miniature16: Path, tmp_path: Path) -> None:
    said = run("camelyon16", miniature16, tmp_path / "run", "--seeds", "1", "11")
    assert "left out: test_049 (a duplicate" in said
    assert "12 training slides, 5 test slides, 2 seeds" in said
    assert "| focus_mil | " in said
    labels = read_labels(tmp_path / "run" / "cohort" / "labels.csv")
    assert labels.class_names == ("normal", "tumor")
    splits = [
        Split.load(tmp_path / "run" / f"seed_{seed}" / "models" / "split.json").folds[0] for seed in (1, 11)
    ]
    for fold in splits:
        assert sorted(fold.test) == [f"test_{n:03d}" for n in range(1, 6)]
        assert len(fold.val) >= 2
        assert not any(name.startswith("test") for name in (*fold.train, *fold.val))
    assert splits[0].val != splits[1].val  # 80/20 by seed
    metrics = read_json(tmp_path / "run" / "seed_1" / "evaluation" / "focus_mil" / "metrics.json")
    assert metrics["patch"]["n_positive"] > 0
    assert metrics["froc"]["n_slides"] == 5
    assert metrics["froc"]["n_lesions"] > 0
    assert (tmp_path / "run" / "seed_1" / "report.html").exists()
    features = tmp_path / "run" / "features" / "slides"
    first = next((tmp_path / "run" / "seed_11" / "slides").rglob("zarr.json"))
    assert first.stat().st_nlink > 1  # the features are stored once
    before = {p: p.stat().st_mtime_ns for p in features.rglob("*") if p.is_file()}
    again = run("camelyon16", miniature16, tmp_path / "run", "--seeds", "1", "11")
    assert again.splitlines()[-1] == said.splitlines()[-1]
    assert {p: p.stat().st_mtime_ns for p in features.rglob("*") if p.is_file()} == before


def test_camelyon16_exclusions_by_name(miniature16: Path) -> None:
    rows = camelyon16.rows_of(miniature16)
    assert len(rows) == 18
    assert {row.split for row in rows if row.slide_id.startswith("test")} == {"test"}
    kept = camelyon16.exclude(rows, ["normal_001"], camelyon16.EXCLUSIONS)
    assert {row.slide_id for row in rows} - {row.slide_id for row in kept} == {"normal_001"}
    assert camelyon16.exclude(rows, ["none"], camelyon16.EXCLUSIONS) == rows
    assert camelyon16.exclude(rows, ["test_114"], camelyon16.EXCLUSIONS) == rows  # not on this disk
    with pytest.raises(DataError, match="--exclude tset_1: no slide"):
        camelyon16.exclude(rows, ["tset_1"], camelyon16.EXCLUSIONS)


def test_camelyon17_trains_on_some_centres_and_stages_patients(miniature17: Path, tmp_path: Path) -> None:
    said = run("camelyon17", miniature17, tmp_path / "run", "--seeds", "2021", "2022")
    assert "left out: 1 slides without a label" in said
    assert "12 training slides, 8 of held-out centres" in said
    labels = read_labels(tmp_path / "run" / "cohort" / "labels.csv").rows
    fold = Split.load(tmp_path / "run" / "seed_2021" / "models" / "split.json").folds[0]
    assert {labels[s].centre for s in fold.test} == {"3", "4"}
    assert {labels[s].centre for s in (*fold.train, *fold.val)} == {"0", "1", "2"}
    stages = read_json(tmp_path / "run" / "seed_2021" / "evaluation" / "focus_mil" / "stages.json")
    assert [p["patient"] for p in stages["stages"]] == [
        "patient_060",
        "patient_061",
        "patient_080",
        "patient_081",
    ]
    assert all(len(p["nodes"]) == 2 for p in stages["stages"])
    assert "quadratic weighted kappa" in said
    kappa = quadratic_kappa(
        [p["truth"] for p in stages["stages"]], [p["predicted"] for p in stages["stages"]]
    )
    assert stages["kappa"]["value"] == (None if np.isnan(kappa) else kappa)


def test_stage_agreement_is_over_patients() -> None:
    patients = [
        PatientStage(f"p{i}", ("macro",), t, t if i % 3 else "pN0")
        for i, t in enumerate(["pN0", "pN1", "pN2"] * 8)
    ]
    found = stage_agreement(patients, np.random.default_rng(0), 200)
    assert len(found.stages) == 24
    expected = quadratic_kappa([p.truth for p in patients], [p.predicted for p in patients])
    assert found.kappa == expected
    assert found.low <= expected <= found.high


def test_classes_of_nodes() -> None:
    assert [node_class(True, length) for length in (0, 200, 201, 2000, 2001)] == [
        "itc",
        "itc",
        "micro",
        "micro",
        "macro",
    ]
    assert node_class(False, 5000) == "negative"


def test_what_is_missing_is_named(tmp_path: Path, miniature16: Path) -> None:
    with pytest.raises(DataError, match="no slide below"):
        find_files(tmp_path, r"test_\d+")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for folder in "ab":
        (tmp_path / folder / "test_001.tif").write_bytes(b"")
    with pytest.raises(DataError, match=r"test_001\.tif lies in"):
        find_files(tmp_path, r"test_\d+")
    (tmp_path / "b" / "test_001.tif").unlink()
    with pytest.raises(DataError, match=r"no reference\.csv"):
        camelyon16.rows_of(tmp_path)
    with pytest.raises(DataError, match=r"no stage_labels\.csv"):
        camelyon17.rows_of(tmp_path)


def test_links_follow_the_rows(miniature16: Path, tmp_path: Path) -> None:
    download = find_files(miniature16, r"(normal|tumor|test)_\d+")
    rows = camelyon16.rows_of(miniature16)
    lay_out(tmp_path, download, rows)
    assert len(list((tmp_path / "slides").iterdir())) == 18
    lay_out(tmp_path, download, rows[:4])
    assert {p.stem for p in (tmp_path / "slides").iterdir()} == {row.slide_id for row in rows[:4]}
    assert all(p.resolve().exists() for p in (tmp_path / "annotations").iterdir())
