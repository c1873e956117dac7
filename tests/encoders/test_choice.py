"""What auto becomes: by the instructions of the CPU, the device, the encoder, and what is installed."""

from pathlib import Path

import pytest

from tests.encoders.machines import AVX2, set_machine, set_timing
from wsi_mil.encoders import EncoderSpec, build_encoder, choice, machine
from wsi_mil.encoders.catalog import device_name
from wsi_mil.encoders.choice import Place, choose_encoder
from wsi_mil.encoders.shared import shared_encoder
from wsi_mil.errors import ConfigError, EncoderError

RESNET = EncoderSpec(name="timm:resnet10t", weights="random", input_px=64)


@pytest.mark.parametrize(
    ("name", "place", "flags", "precision", "reason"),
    [
        ("timm:resnet18", "cpu", AVX2, "fp32", "this CPU has no bf16 instructions"),
        ("timm:resnet18", "cpu", AVX2 | {"avx512_bf16"}, "bf16", "this CPU has instructions for it"),
        ("uni", "cpu", AVX2 | {"amx_bf16"}, "bf16", "this CPU has instructions for it"),
        (
            "torchvision:vgg11",
            "cpu",
            frozenset(("asimd", "bf16")),
            "bf16",
            "this CPU has instructions for it",
        ),
        ("timm:resnet18", "gpu", AVX2 | {"amx_bf16"}, "fp32", "not a published encoder"),
        ("uni", "gpu", AVX2, "fp16", "as published"),
        ("uni", "unknown", AVX2 | {"amx_bf16"}, "fp32", "the devices are not all known here"),
        ("of_another_package", "cpu", AVX2 | {"amx_bf16"}, "fp32", "an encoder of another package"),
        ("of_another_package", "gpu", AVX2, "fp32", "an encoder of another package"),
    ],
)
def test_precision_by_place_and_instructions(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    place: Place,
    flags: frozenset[str],
    precision: str,
    reason: str,
) -> None:
    set_machine(monkeypatch, flags)
    monkeypatch.setattr(choice, "published_precision", lambda record: "fp16")
    found = choose_encoder(EncoderSpec(name=name), place)
    assert (found.encoder.precision, found.precision_reason) == (precision, reason)
    assert found.encoder.backend == "torch"


@pytest.mark.parametrize(
    ("torch_s", "openvino_s", "backend", "reason"),
    [
        (1.1, 1.0, "openvino", "1.10 times as fast as torch on this machine"),
        (3.0, 1.0, "openvino", "3.00 times as fast as torch on this machine"),
        (1.09, 1.0, "torch", "OpenVINO is 1.09 times as fast on this machine, less than 1.1"),
        (1.0, 4.0, "torch", "OpenVINO is 0.25 times as fast on this machine, less than 1.1"),
        (1.0, None, "torch", "OpenVINO cannot run this network"),
    ],
)
def test_openvino_is_taken_where_it_is_faster_by_a_tenth(
    monkeypatch: pytest.MonkeyPatch, torch_s: float, openvino_s: float | None, backend: str, reason: str
) -> None:
    set_machine(monkeypatch, AVX2 | {"amx_bf16"}, openvino="2026.1")
    timed = set_timing(monkeypatch, torch_s, openvino_s)
    found = choose_encoder(RESNET, "cpu", 2)
    assert (found.encoder.backend, found.backend_reason) == (backend, reason)
    assert [spec.precision for spec in timed] == ["bf16"]  # both are timed at the precision that is used


@pytest.mark.parametrize(
    ("openvino", "place", "changes", "reason"),
    [
        (None, "cpu", {}, "OpenVINO is not installed"),
        ("2026.1", "gpu", {}, "runs on the GPU"),
        ("2026.1", "unknown", {}, "the devices are not all known here"),
        ("2026.1", "cpu", {"compile": True}, "with compile=true"),
        ("2026.1", "cpu", {"name": "of_another_package"}, "an encoder of another package"),
    ],
)
def test_nothing_is_timed_where_only_torch_can_run(
    monkeypatch: pytest.MonkeyPatch,
    openvino: str | None,
    place: Place,
    changes: dict[str, object],
    reason: str,
) -> None:
    set_machine(monkeypatch, openvino=openvino)
    timed = set_timing(monkeypatch, 9.0, 1.0)
    found = choose_encoder(RESNET.model_copy(update=changes), place)
    assert (found.encoder.backend, found.backend_reason, timed) == ("torch", reason, [])


@pytest.mark.parametrize("place", ["cpu", "gpu", "unknown"])
def test_a_stated_value_stays(monkeypatch: pytest.MonkeyPatch, place: Place) -> None:
    set_machine(monkeypatch, AVX2, openvino="2026.1")
    timed = set_timing(monkeypatch, 9.0, 1.0)
    asked = RESNET.model_copy(update={"precision": "bf16", "backend": "torch"})
    found = choose_encoder(asked, place)
    assert found.encoder == asked
    assert found.line == "encoder timm:resnet10t: bf16 (as stated), torch (as stated)"
    assert timed == []


@pytest.mark.parametrize("name", ["texture", "imported:theirs", "my_lab.encoders:Mine"])
def test_there_is_nothing_to_choose_without_a_network(name: str) -> None:
    spec = EncoderSpec(name=name, precision="auto", backend="auto")
    assert spec.computed == {"precision": "fp32", "backend": "torch"}
    assert spec.digest() == EncoderSpec(name=name, precision="fp32", backend="torch").digest()


def test_auto_is_never_part_of_a_digest() -> None:
    with pytest.raises(ConfigError, match="precision and backend are auto"):
        RESNET.digest()
    for key, value in (("precision", "fp32"), ("backend", "torch")):
        with pytest.raises(ConfigError, match="precision and backend are auto"):
            RESNET.model_copy(update={key: value}).digest()
    chosen = EncoderSpec(
        name="timm:resnet10t", weights="random", input_px=64, precision="fp32", backend="torch"
    )
    assert RESNET.settled.digest() == chosen.digest() == "75f9cde6d7fc7384"  # of versions without auto


def test_without_a_run_auto_means_the_same_on_every_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    set_machine(monkeypatch, AVX2 | {"amx_bf16"}, openvino="2026.1")
    encoder = build_encoder(RESNET, "cpu")
    assert encoder.identity["precision"] == "fp32"
    assert encoder.digest == "f9eedc92a7da405a"  # of versions without auto


def test_the_processes_of_a_run_do_not_choose() -> None:
    with pytest.raises(EncoderError, match="a run chooses precision and backend before it extracts"):
        shared_encoder(RESNET, "cpu")


def test_openvino_runs_on_the_cpu_where_the_device_is_left_open() -> None:
    openvino = RESNET.model_copy(update={"backend": "openvino"})
    assert [device_name(openvino, name) for name in ("auto", "cpu", "cuda:1")] == ["cpu", "cpu", "cuda:1"]
    assert device_name(RESNET, "auto") == "auto"


def test_instructions_and_name_are_those_that_linux_states(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(machine, "CPU_INFO", path)
    assert (machine.cpu_flags(), machine.cpu_multiplies_bf16()) == (frozenset(), False)
    path.write_text("model name\t: Fast 9\nflags\t\t: fpu avx512_bf16_like avx2\n\nmodel name\t: Slow\n")
    assert machine.cpu_model() == "Fast 9"
    assert machine.cpu_flags() == frozenset(("fpu", "avx512_bf16_like", "avx2"))
    assert not machine.cpu_multiplies_bf16()
    path.write_text("processor : 0\nFeatures : fp asimd bf16 i8mm\n")
    assert machine.cpu_multiplies_bf16()
    assert machine.cpu_model() != ""
