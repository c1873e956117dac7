"""A run keeps the precision and the backend that it began with, also on another machine."""

import json
import logging
import shutil
from pathlib import Path

import pytest

from tests.encoders.machines import AVX2, set_machine, set_timing
from tests.stages import handmade
from wsi_mil.cli.output import plan_text
from wsi_mil.config import RunConfig, load_config
from wsi_mil.config.loading import parse_config
from wsi_mil.encoders import EncoderSpec
from wsi_mil.encoders.choice import Place
from wsi_mil.errors import ConfigError
from wsi_mil.execution import ExecutionSpec
from wsi_mil.execution.clusters import ClusterSpec
from wsi_mil.run.context import open_run
from wsi_mil.run.encoder_choice import place_of
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.integrity import check_store, network_lines, stores_of
from wsi_mil.run.plan import plan_run
from wsi_mil.scoring.card import read_card
from wsi_mil.stages import predict_slides, run_stage

RESNET = {"name": "timm:resnet10t", "weights": "random", "input_px": 32, "batch_size": 4}
KEY = "timm.resnet10t"
FP32, BF16 = {"precision": "fp32", "backend": "torch"}, {"precision": "bf16", "backend": "torch"}
WITH_BF16 = AVX2 | {"amx_bf16"}


def config(folder: Path, **encoder: object) -> RunConfig:
    return handmade.config(folder, encoder={**RESNET, **encoder})


def saved(folder: Path) -> dict[str, str]:
    return load_config(folder / "run").encoder.computed


def feature_bytes(folder: Path, slide_id: str = "s0") -> dict[str, bytes]:
    features = folder / "run" / "slides" / f"{slide_id}.zarr" / "features" / KEY
    return {str(p.relative_to(features)): p.read_bytes() for p in sorted(features.rglob("*")) if p.is_file()}


def stored(folder: Path, slide_id: str = "s0") -> tuple[object, object]:
    """The precision of the encoder's identity, and that of the settings beside the features."""
    found = RunFolder(folder / "run").store(slide_id).stored_features(KEY)
    assert found is not None
    return found.origin.encoder["precision"], found.origin.spec["precision"]


@pytest.fixture
def tiled(tmp_path: Path, work_here: None) -> Path:
    """A folder with a run whose only slide has tiles; it has chosen nothing yet."""
    handmade.source(tmp_path / "slides")
    run_stage(config(tmp_path), "tile")
    return tmp_path


def test_tiling_chooses_nothing(tiled: Path) -> None:
    """The machine that tiles need not be the one that extracts."""
    assert saved(tiled) == {"precision": "auto", "backend": "auto"}


def test_values_are_chosen_said_and_recorded_before_the_first_feature(
    tiled: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    set_machine(monkeypatch, WITH_BF16)
    with caplog.at_level(logging.INFO, "wsi_mil"):
        run_stage(config(tiled), "extract")
    line = (
        "encoder timm:resnet10t: bf16 (this CPU has instructions for it), torch (OpenVINO is not installed)"
    )
    assert [message for message in caplog.messages if message.startswith("encoder")] == [line]
    assert saved(tiled) == BF16
    assert json.loads((tiled / "run" / "provenance.json").read_text())["encoder"] == BF16
    assert stored(tiled) == ("bf16", "bf16")
    rows = [check_store(store, deep=False) for store in stores_of(tiled / "run")]
    assert network_lines(rows) == ["features timm.resnet10t: bf16, torch (slides: 1)"]


def test_auto_and_the_values_that_it_becomes_give_the_same_bytes(
    tiled: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run_stage(config(tiled), "extract")
    other = tmp_path_factory.mktemp("stated")
    handmade.source(other / "slides")
    for stage in ("tile", "extract"):
        run_stage(config(other, **FP32), stage)
    assert feature_bytes(tiled) == feature_bytes(other) != {}


def test_features_of_before_auto_stay_valid(tiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that knew no auto has saved its values; a machine that would choose others keeps them."""
    run_stage(config(tiled, **FP32), "extract")
    before = feature_bytes(tiled)
    set_machine(monkeypatch, WITH_BF16, openvino="2026.1")
    timed = set_timing(monkeypatch, 9.0, 1.0)
    assert run_stage(config(tiled), "extract").work == {"extract": 0}
    assert (feature_bytes(tiled), saved(tiled), timed) == (before, FP32, [])


@pytest.mark.parametrize("lost", ["nothing", "config.yaml", "a readable config.yaml"])
def test_a_run_that_continues_on_another_machine_keeps_its_values(
    tiled: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, lost: str
) -> None:
    """Of three slides one is extracted before the machine changes."""
    run_stage(config(tiled), "extract")
    for slide_id in ("s1", "s2"):
        handmade.source(tiled / "slides", slide_id, handmade.pixels(seed=int(slide_id[1])))
    if lost == "config.yaml":
        (tiled / "run" / "config.yaml").unlink()
    elif lost == "a readable config.yaml":
        (tiled / "run" / "config.yaml").write_text("encoder: [")
    set_machine(monkeypatch, WITH_BF16, openvino="2026.1")
    set_timing(monkeypatch, 9.0, 1.0)
    run_stage(config(tiled), "tile")
    with caplog.at_level(logging.INFO, "wsi_mil"):
        assert run_stage(config(tiled), "extract").work == {"extract": 2}
    assert [stored(tiled, slide_id) for slide_id in ("s0", "s1", "s2")] == [("fp32", "fp32")] * 3
    line = "encoder timm:resnet10t: fp32 (as this run began), torch (as this run began)"
    assert line in caplog.messages


def test_the_plan_says_what_would_be_used(tiled: Path) -> None:
    assert f"0 have {KEY} features; precision auto; backend auto\n" in plan_text(plan_run(config(tiled)))
    run_stage(config(tiled), "extract")
    assert f"1 have {KEY} features; precision fp32; backend torch\n" in plan_text(plan_run(config(tiled)))
    texture = plan_text(plan_run(handmade.config(tiled)))
    assert "0 have texture features\n" in texture


def test_a_later_stage_has_the_values_as_well(tiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_stage(config(tiled), "extract")
    set_machine(monkeypatch, WITH_BF16)
    assert open_run(config(tiled)).config.encoder.computed == FP32
    assert plan_run(config(tiled)).config.encoder.computed == FP32
    assert open_run(config(tiled), keep_configuration=True).config.encoder.computed == FP32


def test_a_poison_study_of_a_tiled_run_finds_its_values_again(
    tiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves config.yaml as it is, so the stores alone know the values."""
    set_machine(monkeypatch, WITH_BF16)
    context = open_run(config(tiled), keep_configuration=True, extracts=True)
    assert (context.config.encoder.computed, saved(tiled)["precision"]) == (BF16, "auto")
    from wsi_mil.stages import extract

    extract.run(context)
    set_machine(monkeypatch, AVX2)
    assert open_run(config(tiled), keep_configuration=True).config.encoder.computed == BF16


def test_a_stated_value_wins_over_the_run(tiled: Path) -> None:
    run_stage(config(tiled), "extract")
    assert run_stage(config(tiled, precision="bf16"), "extract").work == {"extract": 1}
    assert (stored(tiled), saved(tiled)) == (("bf16", "bf16"), BF16)
    assert run_stage(config(tiled), "extract").work == {"extract": 0}  # auto keeps what was stated


def test_another_network_in_the_same_run_is_chosen_for(tiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_stage(config(tiled), "extract")
    set_machine(monkeypatch, WITH_BF16)
    run_stage(config(tiled, seed=1), "extract")
    assert saved(tiled) == BF16


def test_damaged_features_do_not_decide(tiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_stage(config(tiled), "extract")
    (tiled / "run" / "config.yaml").unlink()
    (tiled / "run" / "slides" / "s0.zarr" / "features" / KEY / "zarr.json").write_text("{")
    set_machine(monkeypatch, WITH_BF16)
    run_stage(config(tiled), "extract")
    assert stored(tiled) == ("bf16", "bf16")


@pytest.mark.parametrize(
    ("execution", "place"),
    [
        (ExecutionSpec(device="cpu"), "cpu"),
        (ExecutionSpec(device="cuda"), "gpu"),
        (ExecutionSpec(device="auto"), "gpu"),
        (ExecutionSpec(device="mps"), "unknown"),
        (ExecutionSpec(devices=("cuda:0", "cuda:1")), "gpu"),
        (ExecutionSpec(devices="all"), "gpu"),
        (ExecutionSpec(devices=("cuda:0", "cpu")), "unknown"),
        (ExecutionSpec(backend="dask", scheduler="tcp://x:1"), "unknown"),
        (ExecutionSpec(backend="dask", scheduler="tcp://x:1", device="cpu"), "unknown"),
        (ExecutionSpec(backend="dask", scheduler="tcp://x:1", device="cuda"), "gpu"),
        (ExecutionSpec(backend="dask", cluster=ClusterSpec(kind="slurm", gpus=1)), "gpu"),
        (ExecutionSpec(backend="dask", cluster=ClusterSpec(kind="slurm")), "unknown"),
    ],
)
def test_where_features_will_be_computed(
    monkeypatch: pytest.MonkeyPatch, execution: ExecutionSpec, place: Place
) -> None:
    """On a machine that seems to have two GPUs."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert place_of(EncoderSpec.model_validate(RESNET), execution)[0] == place


def test_openvino_leaves_the_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    spec = EncoderSpec(name="timm:resnet10t", backend="openvino")
    assert place_of(spec, ExecutionSpec(device="auto"))[0] == "cpu"


def test_timings_use_the_threads_of_an_extraction() -> None:
    spec = EncoderSpec(name="timm:resnet10t")
    for devices, threads in (((), 6), (("cpu",), 6), (("cpu", "cpu"), 3)):
        assert place_of(spec, ExecutionSpec(device="cpu", devices=devices, threads=6)) == ("cpu", threads)


def test_poison_and_audit_refuse_another_precision(tiled: Path) -> None:
    run_stage(config(tiled), "extract")
    with pytest.raises(ConfigError, match=r"encoder: .* was made with other settings"):
        open_run(config(tiled, precision="bf16"), keep_configuration=True)


def test_a_moved_run_keeps_its_values(tiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_stage(config(tiled), "extract")
    shutil.move(tiled / "run", tiled / "moved")
    set_machine(monkeypatch, WITH_BF16)
    assert open_run(load_config(tiled / "moved")).config.encoder.computed == FP32


@pytest.mark.slow
def test_a_model_predicts_as_its_features_were_made(
    quick_config: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Trained on one machine, used on another."""
    own = {"encoder": RESNET, "models": {"mean_pool": {"epochs": 1}}, "run": str(tmp_path / "run")}
    settings = parse_config({**quick_config, **own})
    for stage in ("tile", "extract", "train"):
        run_stage(settings, stage)
    model = tmp_path / "run" / "models" / "mean_pool" / "fold0"
    assert read_card(model).encoder.computed == FP32
    set_machine(monkeypatch, WITH_BF16, openvino="2026.1")
    set_timing(monkeypatch, 9.0, 1.0)
    assert run_stage(settings, "train").work == {"train": 0}
    slide = sorted(Path(str(settings.slides.folder)).iterdir())[0]
    with caplog.at_level(logging.INFO, "wsi_mil"):
        predict_slides(model, slide, tmp_path / "predicted", not_learned=True)
    like = "as the features of the model"
    assert f"encoder timm:resnet10t: fp32 ({like}), torch ({like})" in caplog.messages
    predicted = RunFolder(tmp_path / "predicted")
    [slide_id] = predicted.stored_slides()
    features = predicted.store(slide_id).stored_features(KEY)
    assert features is not None
    assert features.encoder_digest == read_card(model).encoder_digest
    assert load_config(predicted.path).encoder.computed == FP32
