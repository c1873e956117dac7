"""Real H&E with patch labels that no model sees: nuclei of CRCHistoPhenotypes as mosaic slides.

Question: which method finds the cancerous patches when it is trained on labels of whole slides?

Data: crchisto27.npz, 20,280 patches of 27 x 27 px at 0.5 µm/px from 98 patients, each cancerous or not. A
slide holds the patches of one patient, one per tile, and its label says whether one of them is cancerous. The
patch labels are the truth of the evaluation. Features: texture, and with --squeezenet also SqueezeNet 1.0
with ImageNet weights.

    python pipelines/crc_cells.py configs/crc_cells.yaml --data FILE.npz --squeezenet WEIGHTS.npz

Seed: 0 for split and weights (five folds by patient). Writes runs/crc_cells/: mosaics, one run folder per
kind of features, and table.csv, which is also printed.
"""

import argparse
import csv
from pathlib import Path

from pipelines.crc.features import linear_probe, model_rows, run_features
from pipelines.crc.mosaics import write_mosaics
from wsi_mil.config import load_config
from wsi_mil.io.tables import markdown_row
from wsi_mil.logs import setup_console

COLUMNS = (
    *("features", "method", "tile score", "slide AUC", "sd", "patch AUC", "sd", "within slides"),
    "patch AUPRC (pooled)",
)
PROBE = "linear probe (sees patch labels)"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="crchisto27.npz")
    parser.add_argument(
        "--squeezenet", type=Path, help="ImageNet weights of SqueezeNet 1.0 (.npz); without it: texture only"
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
            "precision": "fp32",
            "backend": "torch",
        }
    rows: list[list[str]] = []
    for name, encoder in encoders.items():
        run = run_features(config, name, encoder, mosaics)
        rows += [[name, *row] for row in model_rows(run, list(config.models))]
        mean, deviation = linear_probe(run, str(encoder["name"]).replace(":", "."), truth)
        rows.append([name, PROBE, "logit", "-", "-", f"{mean:.3f}", f"{deviation:.3f}", "-", "-"])
    print("\n".join(map(markdown_row, [COLUMNS, *rows])))
    with (config.run / "table.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([COLUMNS, *rows])  # two columns have the name sd


if __name__ == "__main__":
    main()
