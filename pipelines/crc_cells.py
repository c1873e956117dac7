"""Real H&E with patch labels that no model sees: CRCHistoPhenotypes nuclei as mosaic slides.

20,280 patches of 27 x 27 px at 0.5 µm/px from 98 patients, each with 'cancerous or not'. One slide per patient (its
own patches, one per tile), labelled by 'contains a cancerous patch'; the patch labels are the truth of the evaluation.
Then tiles, features, all methods over five folds by patient, scores and evaluation, on texture features and on
SqueezeNet 1.0 with ImageNet weights.

    python pipelines/crc_cells.py configs/crc_cells.yaml --data FILE.npz --squeezenet WEIGHTS.npz
"""

import argparse
import csv
import json
import math
import time
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_mil.bags import Split
from wsi_mil.config import RunConfig, load_config
from wsi_mil.evaluation.metrics.auc import auc
from wsi_mil.geojson import feature, polygonal, stable_id, write_features
from wsi_mil.io.files import write_text
from wsi_mil.logs import setup_console
from wsi_mil.run.folder import RunFolder
from wsi_mil.stages import run_stage
from wsi_mil.synthetic.writing import write_pyramid

TILE_PX, MPP = 27, 0.5


def write_mosaics(data: Path, folder: Path) -> dict[str, NDArray[np.bool_]]:
    """Write slides/, labels.csv, annotations/ and tissue/; return each patient's patch labels in tile order."""
    with np.load(data, allow_pickle=False) as arrays:
        images, patient, cancerous = arrays["images"], arrays["patient"], arrays["cancerous"].astype(bool)
    truth, rows = {}, []
    for number in np.unique(patient):
        slide_id = f"patient_{int(number):03d}"
        patches, positive = images[patient == number], cancerous[patient == number]
        truth[slide_id] = positive
        rows.append([slide_id, int(positive.any()), slide_id])
        columns = math.ceil(math.sqrt(len(patches)))
        mosaic = np.full((math.ceil(len(patches) / columns) * TILE_PX, columns * TILE_PX, 3), 255, np.uint8)
        corners = [((i % columns) * TILE_PX, (i // columns) * TILE_PX) for i in range(len(patches))]
        for (x, y), patch in zip(corners, patches, strict=True):
            mosaic[y : y + TILE_PX, x : x + TILE_PX] = patch
        write_pyramid(folder / "slides" / f"{slide_id}.tiff", mosaic, (MPP, MPP), factor=0, quality=None)
        boxes = shapely.box(*np.array(corners).T, *(np.array(corners) + TILE_PX).T)
        # the outline of what is a patch, given as a user's edit would be: blank cells are no tissue
        write_outline(folder / "tissue" / f"{slide_id}.geojson", slide_id, "Tissue", boxes)
        write_outline(folder / "annotations" / f"{slide_id}.geojson", slide_id, "Tumor", boxes[positive])
    lines = ["slide,label,patient", *(",".join(str(value) for value in row) for row in rows)]
    write_text(folder / "labels.csv", "\n".join(lines) + "\n")
    return truth


def write_outline(path: Path, slide_id: str, name: str, boxes: NDArray[np.object_]) -> None:
    area = polygonal(shapely.union_all(boxes))
    uid = stable_id(slide_id, name)
    items = [] if area.is_empty else [feature(area, object_type="annotation", uid=uid, class_name=name)]
    write_features(path, items, {"kind": "outline", "slide_id": slide_id, "bounds_offset_px": [0, 0]})


def run_features(config: RunConfig, name: str, encoder: dict[str, object], mosaics: Path) -> RunFolder:
    """Run the stages that the table needs on one feature set, in its own run folder."""
    run = config.run / name
    (run / "tissue").mkdir(parents=True, exist_ok=True)
    for path in (mosaics / "tissue").iterdir():
        (run / "tissue" / path.name).write_bytes(path.read_bytes())
    values = config.model_dump(mode="json")
    values["run"], values["encoder"] = str(run), encoder
    values["slides"] |= {
        "folder": str(mosaics / "slides"),
        "labels": str(mosaics / "labels.csv"),
        "annotations": str(mosaics / "annotations"),
    }
    for stage in ("tile", "extract", "train", "score", "evaluate"):
        started = time.perf_counter()
        run_stage(RunConfig(**values), stage)
        print(f"{name}: {stage} took {time.perf_counter() - started:.0f} s", flush=True)
    return RunFolder(run)


def linear_probe(run: RunFolder, key: str, truth: dict[str, NDArray[np.bool_]]) -> tuple[float, float]:
    """Patch AUC (mean, deviation over folds) of a logistic regression that sees the patch labels: the upper bound."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = {s: run.store(s).read_features(key).features.astype(np.float32) for s in truth}
    found = []
    for fold in Split.load(run.split).folds:
        train, test = [*fold.train, *fold.val], fold.test
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
        model.fit(np.concatenate([features[s] for s in train]), np.concatenate([truth[s] for s in train]))
        scores = model.decision_function(np.concatenate([features[s] for s in test]))
        found.append(auc(np.concatenate([truth[s] for s in test]), scores))
    return float(np.mean(found)), float(np.std(found, ddof=1))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="crchisto27.npz")
    parser.add_argument(
        "--squeezenet", type=Path, help="ImageNet weights of SqueezeNet 1.0 (.npz); left out: texture only"
    )
    parser.add_argument("overrides", nargs="*", help="key.sub=value")
    arguments = parser.parse_intermixed_args()
    setup_console()
    config = load_config(arguments.config, tuple(arguments.overrides))
    mosaics = config.run / "mosaics"
    truth = write_mosaics(arguments.data, mosaics)
    encoders: dict[str, dict[str, object]] = {"texture": {"name": "texture"}}
    if arguments.squeezenet:
        encoders["squeezenet1_0"] = {
            "name": "torchvision:squeezenet1_0",
            "weights": str(arguments.squeezenet),
            "input_px": 96,
        }
    table = [["features", "method", "slide AUC", "sd", "patch AUC", "sd", "patch AUPRC (pooled)"]]
    for name, encoder in encoders.items():
        run = run_features(config, name, encoder, mosaics)
        for model in config.models:
            metrics = json.loads((run.evaluation(model) / "metrics.json").read_text())
            slide, patch = metrics["slide"]["folds"], metrics["patch"]["folds"]
            values = [
                slide["mean"],
                slide["std"],
                patch["mean"],
                patch["std"],
                metrics["patch"]["auprc"],
            ]
            table.append([name, model, *(f"{value:.3f}" for value in values)])
        key = str(encoder["name"]).replace(":", ".")
        mean, spread = linear_probe(run, key, truth)
        table.append(
            [name, "linear probe (sees patch labels)", "-", "-", f"{mean:.3f}", f"{spread:.3f}", "-"]
        )
    print("\n".join("| " + " | ".join(row) + " |" for row in table))
    with (config.run / "table.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows(table)


if __name__ == "__main__":
    main()
