"""What runs a network: torch, torch with compilation, or OpenVINO. Prepared images in, features out.

Compiled networks always see batches of one size: an incomplete batch is filled with empty images, because
every new shape would be compiled again.
"""

import warnings
from collections.abc import Callable
from functools import cached_property
from itertools import chain
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsi_mil.encoders.folding import fold_batch_norms
from wsi_mil.encoders.machine import cpu_multiplies_bf16
from wsi_mil.encoders.spec import Computation
from wsi_mil.errors import ConfigError, EncoderError
from wsi_mil.logs import logger

CPU_ROWS = 8
"""Images that a CPU runs together, with torch and with OpenVINO: the values between two layers then fit its
cache."""
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
Engine = Callable[[Tensor], Tensor]
"""(B, 3, S, S) float32 on the device -> (B, dim) float32."""


def make_engine(computation: Computation, trunk: nn.Module, input_px: int) -> Engine:
    """Return what runs `trunk` as `computation` asks.

    Raises ConfigError for a combination that does not exist.
    """
    device = torch.device(computation.device)
    if computation.precision == "bf16" and device.type == "cpu" and not cpu_multiplies_bf16():
        logger().warning("encoder.precision=bf16: this CPU has no bf16 instructions, fp32 is faster here")
    if computation.backend == "openvino":
        if device.type != "cpu":
            raise ConfigError(
                f"encoder.backend=openvino runs on the CPU, the device is {device}: say execution.device=cpu "
                "or encoder.backend=torch"
            )
        rows = min(computation.batch_size, CPU_ROWS)
        return OpenVinoEngine(trunk, rows, input_px, computation.precision)
    rows = computation.batch_size
    if device.type == "cpu":
        example = torch.rand(1, 3, input_px, input_px, generator=torch.Generator().manual_seed(0))
        trunk = fold_batch_norms(trunk, example)
        rows = min(rows, CPU_ROWS)
    return TorchEngine(trunk, device, PRECISIONS[computation.precision], rows, computation.compile)


@final
class TorchEngine:
    """The network in torch, channels last, on at most `rows` images at once.

    When a batch does not fit the device's memory, the batch size is halved and stays at that.
    """

    def __init__(
        self, trunk: nn.Module, device: torch.device, dtype: torch.dtype, rows: int, compiled: bool = False
    ) -> None:
        self._trunk = trunk.to(device)
        for tensor in chain(self._trunk.parameters(), self._trunk.buffers()):
            if tensor.dim() == 4:  # `to` would refuse a network with constants of five dimensions
                tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
        self._run: Any = torch.compile(self._trunk) if compiled else self._trunk
        self._fixed = rows if compiled else None  # every other shape would be compiled again
        self._device_type, self._dtype = device.type, dtype
        self._most = rows

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Return (B, dim) float32 features of (B, 3, S, S) float32 images on the device."""
        while True:
            try:
                return torch.cat([self._batch(part) for part in images.split(self._most)])
            except torch.OutOfMemoryError:
                if self._most == 1:
                    raise
                self._most = max(min(self._most, len(images)) // 2, 1)
                self._fixed = self._most if self._fixed else None
                logger().warning(
                    "encoder: the device is out of memory, continuing with batches of %d", self._most
                )
                torch.cuda.empty_cache()

    def _batch(self, images: Tensor) -> Tensor:
        count = len(images)
        with torch.autocast(self._device_type, self._dtype, enabled=self._dtype != torch.float32):
            features: Tensor = self._run(_filled_up(images, self._fixed))
        return features[:count].float().flatten(1)


@final
class OpenVinoEngine:
    """The network in OpenVINO, compiled for one shape at the first use."""

    def __init__(self, trunk: nn.Module, batch_size: int, input_px: int, precision: str) -> None:
        try:
            import openvino
        except ImportError as error:
            raise ConfigError("encoder.backend=openvino needs: pip install 'wsi-mil[openvino]'") from error
        self._openvino = openvino
        self._trunk, self._shape = trunk, (batch_size, 3, input_px, input_px)
        self._precision = "f32" if precision == "fp32" else precision

    @cached_property
    def _compiled(self) -> Any:
        try:
            with torch.inference_mode(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns about tracing, which a user cannot change
                model = self._openvino.convert_model(
                    self._trunk, example_input=torch.zeros(self._shape), input=[self._shape]
                )
        except Exception as error:
            raise EncoderError(
                f"OpenVINO cannot convert this network ({type(error).__name__}): say encoder.backend=torch"
            ) from error
        hints = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": self._precision,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        return self._openvino.Core().compile_model(model, "CPU", hints)

    def __call__(self, images: Tensor) -> Tensor:
        """Return (B, dim) float32 features of (B, 3, S, S) float32 images."""
        parts = []
        for part in images.split(self._shape[0]):
            found = self._compiled(_filled_up(part, self._shape[0]).contiguous().numpy())[0]
            parts.append(torch.from_numpy(found[: len(part)].copy()).float().flatten(1))
        return torch.cat(parts)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what cannot be pickled: compiled network and library are made and imported again."""
        return {key: value for key, value in vars(self).items() if key not in ("_compiled", "_openvino")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        import openvino

        vars(self).update(state, _openvino=openvino)


def _filled_up(images: Tensor, count: int | None) -> Tensor:
    """Return `images` followed by empty ones, `count` in all; unchanged for None or when there are enough."""
    missing = (count or 0) - len(images)
    if missing <= 0:
        return images
    return F.pad(images, (0, 0, 0, 0, 0, 0, 0, missing)).contiguous(memory_format=torch.channels_last)
