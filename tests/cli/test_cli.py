"""The command line as its users meet it: help, exit codes, one-line errors, one bad slide among good ones."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tifffile
import yaml

from wsi_mil.cli import main
from wsi_mil.cli.subcommands import subcommand_names


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


@pytest.fixture
def config(tmp_path: Path, quick_config: dict[str, Any]) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({**quick_config, "run": str(tmp_path / "run"), "models": {"mi_net": {}}}))
    return path


@pytest.mark.parametrize("subcommand", subcommand_names())
def test_every_help_ends_with_an_example(subcommand: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(subcommand, "--help") == 0
    last = " ".join(capsys.readouterr().out.split("\n\n")[-1].split())
    assert last.startswith(f"Example: wsi-mil {subcommand}")


def test_wrong_subcommands_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("extrat") == 1
    assert "Nearest: 'extract'" in capsys.readouterr().err
    assert call("run") == 1
    assert call("check") == 1


def test_check_prints_the_table_and_leaves_with_3_if_a_slide_is_bad(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "slides"
    folder.mkdir()
    good = sorted((cohort / "slides").iterdir())[0]
    shutil.copy(good, folder)
    assert call("check", folder, "--tile-mpp", 1.0, "--tile-px", 64) == 0
    out = capsys.readouterr().out
    assert "openslide.mpp" in out
    assert "generic-tiff (jpeg_tiles)" in out
    assert "1 of 1 slides can be used" in out
    (folder / "broken.svs").write_bytes(good.read_bytes()[:5000])
    image = tifffile.imread(good, level=1)
    tifffile.imwrite(folder / "no_mpp.tiff", image, tile=(256, 256), photometric="rgb", metadata=None)
    assert call("check", folder) == 3
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[1:]}
    assert "slide 'broken': no pixels at level 0" in lines["broken"]
    assert "does not say its µm per pixel" in lines["no_mpp"]
    labels = tmp_path / "l.csv"
    labels.write_text(f"slide,label,mpp\n{good.stem},1,\nno_mpp,0,1.0\nghost,0,\n")
    assert call("check", folder, "--labels", labels) == 3
    out = capsys.readouterr().out
    assert "override" in out
    assert "labels: 1 (ghost) without slide; slides without label: 1 (broken)" in out


def test_a_run_with_bad_slides_and_labels_finishes_with_3_and_says_why(
    config: Path, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "slides"
    shutil.copytree(cohort / "slides", folder)
    whole = (folder / "slide_000.tiff").read_bytes().rstrip(b"\0")
    (folder / "truncated.tiff").write_bytes(whole[: len(whole) // 3])
    (folder / "zero.svs").touch()
    (folder / "unlabelled.tiff").write_bytes((folder / "slide_001.tiff").read_bytes())
    tifffile.imwrite(
        folder / "glass.tiff",
        245 + 0 * tifffile.imread(folder / "slide_000.tiff", level=1),
        tile=(256, 256),
        photometric="rgb",
        metadata=None,
        resolution=(20000, 20000),
        resolutionunit="CENTIMETER",
    )
    labels = tmp_path / "labels.csv"
    extra = "ghost,1,p1,c,x\ntruncated,1,p2,c,x\nzero,0,p3,c,x\nglass,0,p4,c,x\n"
    labels.write_text((cohort / "labels.csv").read_text() + extra)
    assert call("run", config, f"slides.folder={folder}", f"slides.labels={labels}") == 3
    error = capsys.readouterr().err
    with (tmp_path / "run" / "outcomes.csv").open() as handle:
        rows = {(row["slide_id"], row["stage"]): row for row in csv.DictReader(handle)}
    assert rows["ghost", "labels"]["status"] == "failed"
    assert rows["unlabelled", "labels"]["status"] == "skipped"
    assert rows["zero", "tile"]["status"] == "failed"
    assert "0 bytes" in rows["zero", "tile"]["reason"]
    assert (
        rows["truncated", "tile"]["status"] == "failed" or rows["truncated", "extract"]["status"] == "failed"
    )
    assert rows["glass", "tile"]["status"] == "empty"
    assert rows["slide_001", "extract"]["status"] == "done"
    for name in ("ghost", "truncated", "zero"):
        assert name in error
    assert "3 slides failed" in error
    assert "Traceback" not in error
    assert (tmp_path / "run" / "evaluation" / "mi_net" / "metrics.json").exists()
    assert (tmp_path / "run" / "heatmaps" / "mi_net" / "unlabelled.png").exists()
    report = (tmp_path / "run" / "report.html").read_text()
    assert "0 bytes" in report


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tiles.mpp=0.01", "every"),
        ("encoder.name=textur", "No encoder named 'textur'"),
        ("encoder.name=timm:resnet10t", "could not be fetched"),
        ("models.mi_nett.epochs=3", "No aggregator named 'mi_nett'. Nearest: 'mi_net'"),
        ("slides.labels=nowhere.csv", "no labels at nowhere.csv"),
        ("slides.folder=nowhere", "no slide folder at nowhere"),
        ("slides.reader=opensilde", "No reader named"),
        ("split={kind: kfold, folds: 15}", "too few for 15 folds"),
        ("tiles.size=3", "unknown key 'tiles.size'"),
    ],
)
def test_mistakes_end_with_1_and_one_line(
    override: str,
    message: str,
    config: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    code = call("run", config, override)
    error = capsys.readouterr().err
    last = error.strip().splitlines()[-1]
    if message == "every":  # all slides fail, none can be trained on
        assert "upsampling is not offered" in error
    else:
        assert message in last
    assert code == 1
    assert last.startswith("error: ")
    assert "Traceback" not in error


@pytest.mark.slow
def test_one_class_only(
    config: Path, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "one.csv"
    with (cohort / "labels.csv").open() as handle:
        labels.write_text("slide,label\n" + "".join(f"{row['slide']},1\n" for row in csv.DictReader(handle)))
    assert call("run", config, f"slides.labels={labels}") == 1
    assert "one class" in capsys.readouterr().err


def test_a_run_folder_of_another_version_is_refused_untouched(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "provenance.json").write_text(
        json.dumps({"kind": "wsi_mil run", "format_version": 99, "producer": "wsi_mil 9.0"})
    )
    assert call("run", config) == 1
    assert "made by wsi_mil 9.0 (format 99), this version reads format 1" in capsys.readouterr().err
    assert [p.name for p in run.iterdir()] == ["provenance.json"]


def test_dry_run_writes_nothing(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("run", config, "--dry-run") == 0
    assert "18 below" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
    assert call("run", "configs/demo.yaml", f"run={tmp_path / 'x'}", "--dry-run") == 0
    assert "48 synthetic slides" in capsys.readouterr().out


@pytest.mark.slow
def test_stages_one_by_one_give_the_run(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("score", config) == 1
    assert "wsi-mil train" in capsys.readouterr().err
    for subcommand in ("tile", "extract", "train", "score", "heatmap", "evaluate", "report"):
        assert call(subcommand, config) == 0, subcommand
    out = capsys.readouterr().out
    assert "slide AUC" in out
    assert call("run", tmp_path / "run") == 0  # the run folder is a configuration
    assert "nothing to do: everything is up to date" in capsys.readouterr().out
    assert call("ls", tmp_path / "run") == 0
    assert "tile: 18 done" in capsys.readouterr().out


def test_ls_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("ls", "aggregators") == 0
    names = capsys.readouterr().out.split()
    assert {"focus_mil", "transmil", "counterfactual(abmil)", "guided(clam_sb)"} < set(names)
    assert call("ls", "aggregators", "clam*") == 0
    assert capsys.readouterr().out.split() == ["clam_mb", "clam_sb"]
    assert call("ls", "readers", "open*") == 0
    assert capsys.readouterr().out.split() == ["openslide"]
    assert call("ls", "nonsense") == 1


@pytest.mark.slow
@pytest.mark.usefixtures("work_here")
def test_a_full_disk_is_reported_and_leaves_no_half_file(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from wsi_mil.features.writing import FeatureWriter

    append, calls = FeatureWriter.append, []

    def full(self: FeatureWriter, *arguments: Any) -> None:
        calls.append(1)
        if len(calls) > 10:
            raise OSError(28, "No space left on device", "features")
        append(self, *arguments)

    monkeypatch.setattr(FeatureWriter, "append", full)
    assert call("tile", config) == 0
    assert call("extract", config) == 1  # ten slides in a row: the disk is at fault, not the slides
    assert "No space left on device" in capsys.readouterr().err
    left = [p for p in (tmp_path / "run").rglob("*") if p.name.endswith(".tmp")]
    assert left == []
    monkeypatch.setattr(FeatureWriter, "append", append)
    assert call("extract", config) == 0


def test_the_command_knows_its_version() -> None:
    code = "from wsi_mil.cli import main; main()"
    found = subprocess.run(
        [sys.executable, "-c", code, "--version"], capture_output=True, text=True, check=True
    )
    assert "0.1.0" in found.stdout
