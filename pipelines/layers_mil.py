"""Features of the last layer, of layers inside the network, and texture, under multiple-instance learning.

Question: do the layers that linear probes chose also help where a model sees labels of slides only?

Data and halves: those of pipelines/layers_probe.py, which must have run with the same --out. The first half
chose the layers with its patch labels; here it gives training and validation bags (three to one), and the
other half gives the test bags. colon: one bag for each patient, at most 40 nuclei. lung: 120 tiles, 1 or 2 of
them tumour in tumour slides; training and validation slides come from one laboratory, test slides from
another. The layers of a network are those with the highest mean over all four probe measures. UCSB breast has
fixed features, so it has no layers to choose. Bags have no places, so there is no FROC.

    python pipelines/layers_mil.py --crc crchisto27.npz --lung lung_he.zip
        --squeezenet WEIGHTS.npz --mobilenet WEIGHTS.safetensors --divisions 0 1 2

Seeds: the number of the division is also that of bags and weights. Writes trainings.csv into --out, one row
for each training, and continues where it was stopped. Prints the tables.
"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.layers.bags import LungForm, colon_bags, filled, lung_bags
from pipelines.layers.choice import Choice
from pipelines.layers.features import Features
from pipelines.layers.mil_tables import MEASURES, difference_table, mean_table
from pipelines.layers.networks import NETWORKS
from pipelines.layers.sets import laboratories, read_lung, read_nuclei
from pipelines.layers.store import TEXTURE
from pipelines.layers_probe import add_arguments, source_of
from pipelines.warm_up import train_and_measure
from wsi_mil.io.tables import Row, markdown_row, read_csv, write_csv
from wsi_mil.logs import setup_console

METHODS = ("abmil_gated", "mi_net", "focus_mil", "mean_pool", "loss_attention", "clam_sb")
IDENTITY = ("division", "set", "method", "features")
COLUMNS = (*IDENTITY, "layers", "epoch", "val_auc", *MEASURES)
RATES = {"abmil_gated": 1e-3}
"""Rates that validation slides chose in earlier studies; others have 3e-4."""


def kinds_of_features(
    folder: Path, division: int
) -> Iterator[tuple[str, str, str, NDArray[np.int64] | None]]:
    """Yield name, encoder, layers and columns (None: all) of each kind of features of a division."""
    rows = read_csv(folder / f"division_{division}" / "choice.csv")
    for network in NETWORKS:
        choice = Choice.of_rows(rows, network.name)
        chosen = choice.best(choice.measures)
        yield f"{network.name}, last layer", network.name, network.last.label, network.columns(network.last)
        yield f"{network.name}, chosen", network.name, chosen.label, network.columns(chosen)
    yield TEXTURE, TEXTURE, "-", None


def make_trainings(arguments: argparse.Namespace, store: Mapping[tuple[str, str], Features]) -> list[Row]:
    """Make the trainings that trainings.csv does not have; return the rows that were asked for."""
    path = arguments.out / "trainings.csv"
    done = {tuple(row[key] for key in IDENTITY): dict(row) for row in read_csv(path)} if path.exists() else {}
    nuclei, lung = read_nuclei(arguments.crc), read_lung(arguments.lung)
    names = [f"lung_{centre.name}" for centre in laboratories()]
    centres = {"train": names[0], "val": names[0], "test": names[1]}
    asked = set()
    for division in arguments.divisions:
        drawn = {
            "colon": colon_bags(nuclei, division),
            "lung": lung_bags(lung, LungForm(), centres, division),
        }
        for name, encoder, layers, columns in kinds_of_features(arguments.probe, division):
            own = {key: values for (key, owner), values in store.items() if owner == encoder}
            for data in arguments.sets:
                bags = None
                for method in arguments.methods:
                    key = (str(division), data, method, name)
                    asked.add(key)
                    if key in done:
                        continue
                    used = np.arange(next(iter(own.values())).shape[1]) if columns is None else columns
                    bags = bags or filled(drawn[data], own, used)
                    rate = RATES.get(method, 3e-4)
                    found = train_and_measure(bags, method, "smooth_max", rate, division, arguments.epochs)
                    numbers = (f"{found[measure]:.6g}" for measure in COLUMNS[len(IDENTITY) + 1 :])
                    done[key] = dict(zip(COLUMNS, (*key, layers, *numbers), strict=True))
                    write_csv(path, COLUMNS, list(done.values()))
                    print(*key, *(f"{measure} {found[measure]:.3f}" for measure in MEASURES), flush=True)
    return [row for row in read_csv(path) if tuple(row[key] for key in IDENTITY) in asked]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--probe", type=Path, help="folder of the probe; default: probe in --out")
    parser.add_argument("--sets", nargs="+", choices=("colon", "lung"), default=["colon", "lung"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--epochs", type=int, default=30)
    arguments = parser.parse_args()
    arguments.probe = arguments.probe or arguments.out / "probe"
    setup_console()
    source, store = source_of(arguments), dict[tuple[str, str], Features]()
    if "colon" in arguments.sets:
        store |= source.colon(read_nuclei(arguments.crc))
    if "lung" in arguments.sets:
        store |= source.laboratories(read_lung(arguments.lung))
    rows = make_trainings(arguments, store)
    for table in (mean_table(rows), difference_table(rows)):
        print("\n" + "\n".join(map(markdown_row, table)))


if __name__ == "__main__":
    main()
