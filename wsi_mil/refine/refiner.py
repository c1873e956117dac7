"""A trained refiner on disk: two files in the folder of the slide model that it belongs to.

refiner.safetensors holds the weights, refiner.json everything else.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

import wsi_mil
from wsi_mil.errors import ModelError
from wsi_mil.io.files import digest_file, write_aside
from wsi_mil.io.json import read_json, write_json
from wsi_mil.io.seals import DamagedFileError, current_digest
from wsi_mil.refine.names import CARD, WEIGHTS
from wsi_mil.refine.network import TileNetwork
from wsi_mil.refine.spec import RefineSpec

FORMAT = 1


@dataclass(frozen=True)
class Limits:
    """Limits of how suspicious a tile is (see `SlideScores.tile_scores01`).

    sure: in training, a tile of a tumour slide above it is tumour. suspicious: a tile above it is refined.
    of_slides: the slide model's threshold. Where its tile scores are attention, tiles must also be called at
    it (`SlideScores.eligible_tiles`).
    """

    sure: float
    suspicious: float
    of_slides: float = 0.0


@dataclass(frozen=True)
class Refiner:
    """A trained network in evaluation mode, with the settings and limits that it was made with.

    digest: of its weights file. left_out: training slides that could not be read, and what identifies the
    state in which they could not.
    """

    network: TileNetwork
    spec: RefineSpec
    limits: Limits
    digest: str
    left_out: Mapping[str, str] = field(default_factory=dict)


def save_refiner(
    folder: Path,
    network: TileNetwork,
    spec: RefineSpec,
    limits: Limits,
    made_from: str,
    counts: dict[str, int],
    left_out: Mapping[str, str] | None = None,
) -> Refiner:
    """Write refiner.safetensors and refiner.json into a model's folder and return the refiner.

    refiner.json is written last and holds the digest of the weights. made_from: digest of everything that the
    refiner depends on. counts: numbers of training tiles by kind. left_out: see `Refiner`.
    """
    from safetensors.torch import save_file

    tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    with write_aside(folder / WEIGHTS) as aside:
        save_file(tensors, aside, metadata={"kind": "wsi_mil refiner"})
    digest = digest_file(folder / WEIGHTS)
    card = {
        "kind": "wsi_mil refiner",
        "format_version": FORMAT,
        "producer": f"wsi_mil {wsi_mil.__version__}, torch {torch.__version__}",
        "spec": spec.model_dump(mode="json"),
        "made_from": made_from,
        "limits": asdict(limits),
        "tiles": counts,
        "weights_digest": digest,
        **({"left_out": dict(left_out)} if left_out else {}),
    }
    write_json(folder / CARD, card)
    return Refiner(network, spec, limits, digest, dict(left_out or {}))


def is_refined(folder: Path) -> bool:
    """Return whether a model's folder holds a refiner."""
    return (folder / CARD).exists()


def load_refiner(folder: Path, device: torch.device, made_from: str | None = None) -> Refiner | None:
    """Return the refiner in a model's folder; None if there is none.

    made_from: if given, return None also for a refiner with another digest or of another format. Raises
    ModelError for files that are damaged or do not belong together, and without `made_from` for another
    format.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not is_refined(folder):
        return None
    remedy = f"remove it and {CARD}, and run `wsi-mil refine` again"
    try:
        card = read_json(folder / CARD, f"remove it and {WEIGHTS}, and run `wsi-mil refine` again")
    except DamagedFileError as error:
        raise ModelError(str(error)) from error
    if card.get("format_version") != FORMAT:
        if made_from is not None:
            return None
        raise ModelError(
            f"{folder / CARD} has format {card.get('format_version')}, this version reads {FORMAT}: "
            "run `wsi-mil refine` again"
        )
    if made_from is not None and card["made_from"] != made_from:
        return None
    try:
        if current_digest(folder / WEIGHTS) != card["weights_digest"]:
            raise ModelError(f"{folder / WEIGHTS} is not the file that {CARD} describes: {remedy}")
        tensors = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{folder / WEIGHTS} cannot be read ({error}): {remedy}") from error
    spec = RefineSpec(**card["spec"])
    network = TileNetwork(spec.model_copy(update={"pretrained": False}), tensors["mean"], tensors["std"])
    network.load_state_dict(tensors)
    return Refiner(
        network.to(device).eval(),
        spec,
        Limits(**card["limits"]),
        card["weights_digest"],
        card.get("left_out", {}),
    )
