"""What auto becomes as `encoder.precision` and `encoder.backend`, and why (docs/adr/0028-auto-precision.md).

A run chooses once, before it computes features, and stores the values, never auto.
"""

from dataclasses import dataclass
from typing import Literal

from wsi_mil.encoders.machine import cpu_multiplies_bf16, openvino_version
from wsi_mil.encoders.published import PUBLISHED, Published
from wsi_mil.encoders.spec import AUTO, WITH_LAYERS, Backend, EncoderSpec, Precision

Place = Literal["cpu", "gpu", "unknown"]
"""Where features are computed: on CPUs of this machine, on CUDA devices (here or of Dask workers), or on
devices of several kinds, of another kind, or of machines that this one does not see."""
FASTER = 1.1
"""OpenVINO is taken if it is so many times faster than torch: less is within the variation of timings."""
STATED = "as stated"


@dataclass(frozen=True)
class EncoderChoice:
    """Settings without auto, and the reason for each of the two values."""

    encoder: EncoderSpec
    precision_reason: str = STATED
    backend_reason: str = STATED

    @property
    def line(self) -> str:
        """One line for the user.

        >>> EncoderChoice(EncoderSpec(name="timm:resnet18", precision="bf16", backend="torch")).line
        'encoder timm:resnet18: bf16 (as stated), torch (as stated)'
        """
        spec = self.encoder
        values = f"{spec.precision} ({self.precision_reason}), {spec.backend} ({self.backend_reason})"
        return f"encoder {spec.name}: {values}"


def choose_encoder(spec: EncoderSpec, place: Place, threads: int = 1) -> EncoderChoice:
    """Return `spec` with values in place of auto; a stated value stays.

    threads: of torch and OpenVINO in the extraction. The backend is timed at the first call on a machine,
    which builds the network. Raises EncoderError if the network cannot be built.

    >>> choose_encoder(EncoderSpec(name="timm:resnet18"), "gpu").line
    'encoder timm:resnet18: fp32 (not a published encoder), torch (runs on the GPU)'
    """
    precision, precision_reason = choose_precision(spec, place)
    spec = spec.model_copy(update={"precision": precision})
    backend, backend_reason = choose_backend(spec, place, threads)
    return EncoderChoice(spec.model_copy(update={"backend": backend}), precision_reason, backend_reason)


def published_precision(record: Published) -> Precision:
    """Return the precision at which the authors of a published encoder run it on GPUs."""
    return record.precision


def choose_precision(spec: EncoderSpec, place: Place) -> tuple[Precision, str]:
    """Return the precision of `spec` at a place, and the reason.

    auto: on CPUs bf16 where they have instructions for it, on GPUs the published one, otherwise fp32.
    """
    if spec.precision != AUTO:
        return spec.precision, STATED
    if not _is_known(spec.name):
        return "fp32", "an encoder of another package"
    if place == "gpu":
        if (record := PUBLISHED.get(spec.name)) is None:
            return "fp32", "not a published encoder"
        return published_precision(record), "as published"
    if place == "unknown":
        return "fp32", "the devices are not all known here"
    if cpu_multiplies_bf16():
        return "bf16", "this CPU has instructions for it"
    return "fp32", "this CPU has no bf16 instructions"


def choose_backend(spec: EncoderSpec, place: Place, threads: int) -> tuple[Backend, str]:
    """Return the backend of `spec`, whose precision is chosen, at a place, and the reason.

    auto: OpenVINO on CPUs of this machine, where it is installed and faster.
    """
    if spec.backend != AUTO:
        return spec.backend, STATED
    if not _is_known(spec.name):
        return "torch", "an encoder of another package"
    if place == "gpu":
        return "torch", "runs on the GPU"
    if place == "unknown":
        return "torch", "the devices are not all known here"
    if spec.compile or spec.precision == "fp16":
        return "torch", "with compile=true" if spec.compile else "with fp16"
    if openvino_version() is None:
        return "torch", "OpenVINO is not installed"
    from wsi_mil.encoders.timing import timing_of

    found = timing_of(spec, threads)
    if found.openvino_s is None:
        return "torch", "OpenVINO cannot run this network"
    ratio = found.torch_s / found.openvino_s
    if ratio >= FASTER:
        return "openvino", f"{ratio:.2f} times as fast as torch on this machine"
    return "torch", f"OpenVINO is {ratio:.2f} times as fast on this machine, less than {FASTER}"


def _is_known(name: str) -> bool:
    """Return whether the network comes from this package, so that each precision and backend can run it."""
    return name.startswith(WITH_LAYERS) or name in PUBLISHED
