"""How fast torch and OpenVINO run a network on this machine: timed once, then remembered in the user's cache.

The file is <cache>/wsi_mil/encoder_timing/<digest>.json, with $XDG_CACHE_HOME or ~/.cache as <cache>. Its
name covers the machine (CPU, instructions, threads, versions of torch and OpenVINO) and the network (name,
input size, layers, precision). Weights are left out: speed does not depend on their values.
"""

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from wsi_mil.encoders.base import Encoder
from wsi_mil.encoders.catalog import build_encoder
from wsi_mil.encoders.engines import CPU_ROWS
from wsi_mil.encoders.machine import cpu_flags, cpu_model, openvino_version
from wsi_mil.encoders.spec import Backend, EncoderSpec
from wsi_mil.errors import WsiMilError
from wsi_mil.io.files import digest_json
from wsi_mil.io.json import read_json, write_json
from wsi_mil.logs import logger

TILE_PX = 256
ROUNDS, SECONDS = 5, 6.0
"""The fastest of so many rounds counts; no round begins after so many seconds."""
LEAST_COSINE = 0.99
"""Features of OpenVINO and torch at one precision have at least this cosine similarity."""


@dataclass(frozen=True)
class Timing:
    """Seconds for one batch of CPU_ROWS tiles. openvino_s: None if OpenVINO cannot run the network."""

    torch_s: float
    openvino_s: float | None

    def __post_init__(self) -> None:
        for seconds in (self.torch_s, self.openvino_s):
            if seconds is not None and not (type(seconds) is float and 0 < seconds < math.inf):
                raise ValueError(f"a time is a positive number of seconds, got {seconds!r}")


def timing_of(spec: EncoderSpec, threads: int) -> Timing:
    """Return the times of a network on this machine, from the cache or measured now.

    spec: its precision is used, its backend is not. A damaged file is written again; without a folder that
    can be written nothing is remembered.
    """
    about = {"machine": machine_name(threads), "network": network_name(spec)}
    path = cache_file(about)
    if path is not None and (found := _remembered(path)) is not None:
        return found
    logger().info("encoder %s: torch and OpenVINO are timed, once on this machine", spec.name)
    with _threads(threads):
        found = measure(spec)
    if path is not None:
        try:
            write_json(path, {**about, **asdict(found)})
        except (WsiMilError, OSError) as error:
            logger().debug("the timing is not remembered: %s", error)
    return found


def machine_name(threads: int) -> Mapping[str, object]:
    """Return what the speed of a network depends on besides the network."""
    return {
        "cpu": cpu_model(),
        "instructions": digest_json(sorted(cpu_flags())),
        "threads": threads,
        "torch": torch.__version__,
        "openvino": openvino_version(),
    }


def network_name(spec: EncoderSpec) -> Mapping[str, object]:
    """Return what the speed of a network depends on besides the machine."""
    network = spec.model.model_dump(
        mode="json", include={"name", "input_px", "layers", "layer_pooling", "layer_projection"}
    )
    return {**network, "precision": spec.precision}


def cache_file(about: Mapping[str, object]) -> Path | None:
    """Return where a timing is remembered; None for a user without a home folder."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
    except RuntimeError:
        return None
    return folder / "wsi_mil" / "encoder_timing" / f"{digest_json(about)}.json"


def measure(spec: EncoderSpec) -> Timing:
    """Return the times of the network with each backend, measured now on random tiles.

    Raises EncoderError if torch cannot run the network.
    """
    generator = torch.Generator().manual_seed(0)
    tiles = torch.randint(0, 256, (CPU_ROWS, TILE_PX, TILE_PX, 3), generator=generator, dtype=torch.uint8)
    plain = _encoder(spec, "torch")
    expected = plain.encode(tiles)  # the first batch takes longer: memory is reserved
    try:
        other = _encoder(spec, "openvino")
        found = other.encode(tiles)
    except Exception:  # OpenVINO and its conversion of a network may fail in any way
        logger().debug("OpenVINO cannot run %s", spec.name, exc_info=True)
        return Timing(_fastest([plain], tiles)[0], None)
    cosine = float(F.cosine_similarity(found, expected).min())
    if not cosine >= LEAST_COSINE:  # also for NaN
        logger().warning(
            "encoder %s: OpenVINO gives other features than torch (cosine similarity %.3f)", spec.name, cosine
        )
        return Timing(_fastest([plain], tiles)[0], None)
    return Timing(*_fastest([plain, other], tiles))


def _encoder(spec: EncoderSpec, backend: Backend) -> Encoder:
    own = {"backend": backend, "batch_size": CPU_ROWS, "view": 0, "views": 0, "stain": "none"}
    return build_encoder(spec.model_copy(update=own), "cpu")


def _fastest(encoders: Sequence[Encoder], tiles: Tensor) -> list[float]:
    """Return the seconds of one batch of each encoder, the fastest of several rounds; they take turns."""
    fastest, begun = [math.inf] * len(encoders), time.perf_counter()
    for _ in range(ROUNDS):
        for number, encoder in enumerate(encoders):
            started = time.perf_counter()
            encoder.encode(tiles)
            fastest[number] = min(fastest[number], time.perf_counter() - started)
        if time.perf_counter() - begun > SECONDS:
            break
    return fastest


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _remembered(path: Path) -> Timing | None:
    """Return the times in a file; None if there is none, or a damaged one."""
    try:
        found = read_json(path)
        return Timing(found["torch_s"], found["openvino_s"])
    except FileNotFoundError:
        return None
    except (WsiMilError, OSError, KeyError, ValueError) as error:
        logger().info("encoder: the remembered timing cannot be used: %s", error)
        return None
