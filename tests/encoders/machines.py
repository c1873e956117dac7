"""Other machines than this one: with other instructions, with and without OpenVINO, with other speeds."""

import pytest

from wsi_mil.encoders import EncoderSpec, choice, machine, timing
from wsi_mil.encoders.timing import Timing

AVX2 = frozenset(("fpu", "sse2", "avx2", "fma"))


def set_machine(
    monkeypatch: pytest.MonkeyPatch, flags: frozenset[str] = AVX2, openvino: str | None = None
) -> None:
    """The CPU has these instructions, and this version of OpenVINO is installed."""
    monkeypatch.setattr(machine, "cpu_flags", lambda: flags)
    monkeypatch.setattr(choice, "cpu_multiplies_bf16", machine.cpu_multiplies_bf16)
    monkeypatch.setattr(choice, "openvino_version", lambda: openvino)


def set_timing(
    monkeypatch: pytest.MonkeyPatch, torch_s: float, openvino_s: float | None
) -> list[EncoderSpec]:
    """Timings give these seconds; the list that is returned gets the settings that are timed."""
    timed: list[EncoderSpec] = []

    def timing_of(spec: EncoderSpec, threads: int) -> Timing:
        timed.append(spec)
        return Timing(torch_s, openvino_s)

    monkeypatch.setattr(timing, "timing_of", timing_of)
    return timed
