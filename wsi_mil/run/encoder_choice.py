"""Precision and backend of a run's encoder: what the run began with, or else what is chosen now.

A run has features of one precision and one backend, also when it continues on another machine.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from wsi_mil.config.yaml_values import read_values
from wsi_mil.encoders.choice import STATED, EncoderChoice, Place, choose_encoder
from wsi_mil.encoders.spec import AUTO, EncoderSpec
from wsi_mil.errors import WsiMilError
from wsi_mil.execution import ExecutionSpec
from wsi_mil.logs import logger
from wsi_mil.run.folder import RunFolder

BEGAN = "as this run began"


def kept_encoder(spec: EncoderSpec, run: RunFolder) -> EncoderSpec:
    """Return `spec` with the precision and backend that a run began with in place of auto.

    They are those of its saved configuration, or else of the first slide with features. Only settings of the
    same network that agree with what `spec` states count; without any, auto stays.
    """
    if spec.is_settled:
        return spec
    for before in _earlier(spec, run):
        agrees = all(value in (AUTO, before.computed[key]) for key, value in spec.computed.items())
        if before.is_settled and before.model == spec.model and agrees:
            return spec.model_copy(update=before.computed)
    return spec


def chosen_encoder(kept: EncoderSpec, asked: EncoderSpec, execution: ExecutionSpec) -> EncoderSpec:
    """Return settings without auto, and log them in one line if a network runs.

    asked: the settings as the user gave them. kept: what `kept_encoder` made of them. Where kept has auto,
    precision and backend are chosen for the devices of `execution`.
    """
    if not kept.is_settled:
        place, threads = place_of(kept, execution)
        choice = choose_encoder(kept, place, threads)
    elif asked.is_settled:
        choice = EncoderChoice(kept)
    else:
        reasons = [BEGAN if value == AUTO else STATED for value in asked.computed.values()]
        choice = EncoderChoice(kept, *reasons)
    if choice.encoder.runs_a_network:
        logger().info("%s", choice.line)
    return choice.encoder


def place_of(spec: EncoderSpec, execution: ExecutionSpec) -> tuple[Place, int]:
    """Return where features will be computed, and with how many threads in each process.

    The machines of Dask workers are not seen from here: their jobs either ask for GPUs, or the place is
    unknown.
    """
    if execution.backend == "dask":
        return ("gpu" if execution.asks_for_gpu else "unknown"), 1
    from wsi_mil.encoders.base import pick_device, pick_devices
    from wsi_mil.encoders.catalog import device_name

    devices = pick_devices(execution.devices)
    threads = execution.threads_of_each(len(devices))
    kinds = {pick_device(name).type for name in devices or [device_name(spec, execution.device)]}
    if kinds == {"cpu"}:
        return "cpu", threads
    return ("gpu" if kinds == {"cuda"} else "unknown"), threads


def _earlier(spec: EncoderSpec, run: RunFolder) -> Iterator[EncoderSpec]:
    saved = run.path / "config.yaml"
    if saved.is_file() and (found := _saved_encoder(saved)) is not None:
        yield found
    for slide_id in run.stored_slides():
        if (found := _stored_encoder(run, slide_id, spec.key)) is not None:
            yield found


def _saved_encoder(path: Path) -> EncoderSpec | None:
    """Return the encoder of a saved configuration; None of one that cannot be read."""
    try:
        return EncoderSpec.model_validate(read_values(path).get("encoder", {}))
    except (WsiMilError, ValidationError) as error:
        logger().debug("no encoder is read from %s: %s", path, error)
        return None


def _stored_encoder(run: RunFolder, slide_id: str, key: str) -> EncoderSpec | None:
    """Return the settings that made a slide's features; None without features, or for damaged ones."""
    try:
        stored = run.store(slide_id).stored_features(key)
        return EncoderSpec.model_validate(dict(stored.origin.spec)) if stored else None
    except (WsiMilError, ValidationError) as error:
        logger().debug("the features of slide %s do not say how they were made: %s", slide_id, error)
        return None
