"""Timings of torch and OpenVINO: remembered by machine and network, measured again where that is lost."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from wsi_mil.encoders import EncoderSpec, timing
from wsi_mil.encoders.base import Encoder
from wsi_mil.encoders.timing import Timing, cache_file, machine_name, measure, network_name, timing_of
from wsi_mil.errors import EncoderError

SPEC = EncoderSpec(name="timm:resnet10t", weights="random", input_px=64, precision="fp32")


class Measured:
    """In place of `measure`: the seconds count up, so that each call gives other ones."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, spec: EncoderSpec) -> Timing:
        self.calls += 1
        self.threads = torch.get_num_threads()
        return Timing(float(self.calls), 0.5)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Measured:
    found = Measured()
    monkeypatch.setattr(timing, "measure", found)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return found


def only_file(folder: Path) -> Path:
    [path] = (folder / "wsi_mil" / "encoder_timing").iterdir()
    return path


def test_a_network_is_timed_once(measured: Measured, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    assert [timing_of(SPEC, 3) for _ in range(3)] == [Timing(1.0, 0.5)] * 3
    assert (measured.calls, measured.threads, torch.get_num_threads()) == (1, 3, before)
    found = json.loads(only_file(tmp_path).read_text())
    assert (found["torch_s"], found["openvino_s"]) == (1.0, 0.5)
    assert found["machine"] == machine_name(3)
    assert found["network"] == network_name(SPEC)


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.setattr(timing, "cpu_model", lambda: "another"),
        lambda patch: patch.setattr(timing, "cpu_flags", lambda: frozenset(("another",))),
        lambda patch: patch.setattr(timing, "openvino_version", lambda: "0.1"),
        lambda patch: patch.setattr(torch, "__version__", "0.1"),
    ],
)
def test_another_machine_is_timed_anew(
    measured: Measured, monkeypatch: pytest.MonkeyPatch, change: Callable[[pytest.MonkeyPatch], None]
) -> None:
    timing_of(SPEC, 1)
    change(monkeypatch)
    assert timing_of(SPEC, 1).torch_s == 2.0


@pytest.mark.parametrize(
    ("changes", "calls"),
    [
        ({"name": "timm:resnet18"}, 2),
        ({"input_px": 96}, 2),
        ({"precision": "bf16"}, 2),
        ({"layers": ("1",)}, 2),
        ({"weights": "pretrained"}, 1),
        ({"views": 2, "seed": 4, "stain": "macenko"}, 1),
    ],
)
def test_another_network_is_timed_anew(measured: Measured, changes: dict[str, object], calls: int) -> None:
    """Weights and views change no speed."""
    timing_of(SPEC, 1)
    timing_of(SPEC.model_copy(update=changes), 1)
    assert measured.calls == calls


def test_another_number_of_threads_is_timed_anew(measured: Measured) -> None:
    assert [timing_of(SPEC, threads).torch_s for threads in (1, 2, 1, 2)] == [1.0, 2.0, 1.0, 2.0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        '{"torch_s": 1.0}',
        '{"torch_s": -1.0, "openvino_s": 0.5}',
        '{"torch_s": "1", "openvino_s": 0.5}',
        '{"torch_s": NaN, "openvino_s": 0.5}',
        '{"torch_s": 1.0, "openvino_s": 0.5, "content_digest": "0123456789abcdef"}',
    ],
)
def test_a_damaged_file_is_measured_and_written_again(measured: Measured, tmp_path: Path, text: str) -> None:
    timing_of(SPEC, 1)
    only_file(tmp_path).write_text(text)
    assert [timing_of(SPEC, 1).torch_s for _ in range(2)] == [2.0, 2.0]


def test_without_a_folder_for_it_nothing_is_remembered(
    measured: Measured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert [timing_of(SPEC, 1).torch_s for _ in range(2)] == [1.0, 2.0]


def test_where_the_file_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def folder() -> Path | None:
        path = cache_file({"a": 1})
        return path and path.parents[2]

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert folder() == tmp_path
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")  # to be ignored, by the XDG specification
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert folder() == tmp_path / "home" / ".cache"

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert folder() is None


TIME_OFTEN = """
import sys
from wsi_mil.encoders import EncoderSpec, timing
from wsi_mil.encoders.timing import Timing, cache_file, machine_name, network_name, timing_of

spec = EncoderSpec(name="timm:resnet10t", precision="fp32")
timing.measure = lambda spec: Timing(float(sys.argv[1]), None)
path = cache_file({"machine": machine_name(1), "network": network_name(spec)})
print("ready", flush=True)
sys.stdin.readline()
for _ in range(100):
    assert timing_of(spec, 1) in (Timing(1.0, None), Timing(2.0, None))
    path.unlink(missing_ok=True)
print(path.parent)
"""


def test_two_processes_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Both measure, remember and forget, a hundred times; a reader never meets a part of a file."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    both = [
        subprocess.Popen(
            [sys.executable, "-c", TIME_OFTEN, seconds],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seconds in ("1", "2")
    ]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    found = [process.communicate("go\n", timeout=100) for process in both]
    folder = tmp_path / "wsi_mil" / "encoder_timing"
    assert found == [(f"{folder}\n", "")] * 2
    assert list(folder.iterdir()) == []


class Scaled(Encoder):
    """Features that are the mean colours, times `factors`."""

    dim = 3

    def __init__(self, *factors: float) -> None:
        self.device, self.identity, self.factors = torch.device("cpu"), {"name": "scaled"}, factors

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.float().mean((1, 2)) * torch.tensor(self.factors)


@pytest.mark.parametrize(
    ("factors", "works"),
    [((1.0, 1.0, 1.0), True), ((1.0, -1.0, 1.0), False), ((1.0, float("nan"), 1.0), False)],
)
def test_openvino_with_other_features_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, factors: tuple[float, ...], works: bool
) -> None:
    other = Scaled(*factors)
    monkeypatch.setattr(
        timing, "_encoder", lambda spec, backend: Scaled(1.0, 1.0, 1.0) if backend == "torch" else other
    )
    found = measure(SPEC)
    assert found.torch_s > 0
    assert (found.openvino_s is not None) == works


def test_a_network_that_openvino_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(spec: EncoderSpec, backend: str) -> Encoder:
        if backend == "openvino":
            raise EncoderError("OpenVINO cannot convert this network")
        return Scaled(1.0, 1.0, 1.0)

    monkeypatch.setattr(timing, "_encoder", build)
    assert measure(SPEC).openvino_s is None


@pytest.mark.slow
def test_a_real_network_is_timed_with_both() -> None:
    pytest.importorskip("openvino")
    found = measure(SPEC)
    assert found.openvino_s is not None
    assert min(found.torch_s, found.openvino_s) > 0
