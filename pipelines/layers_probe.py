"""Which layers of a network make the best features of H&E: linear probes, chosen and reported on two halves.

Question: do layers inside an ImageNet network tell tissue apart better than its last one, and do the layers
that one half of the patients chooses keep their lead on the other half?

Data: crchisto27.npz (at most 40 random nuclei of each of 98 patients, enlarged to 96 px: cancerous or not,
epithelial or not); lung_he.zip (at most two images of each group of near-duplicates, at 1 µm/px:
adenocarcinoma or squamous), tested as they are and with a changed stain that training has not seen. Networks:
SqueezeNet 1.0 and MobileNetV2 with ImageNet weights; texture beside them.

Each division cuts patients and groups into two halves. Five folds of the first half choose the layers; three
times five folds of the second half report. No patient and no group is in both. The probe is a logistic
regression on standardised features.

    python pipelines/layers_probe.py --crc crchisto27.npz --lung lung_he.zip
        --squeezenet WEIGHTS.npz --mobilenet WEIGHTS.safetensors --divisions 0 1 2

Seeds: the numbers of the divisions; 0 for the images that are taken and for the changed stain. Writes
features/ and, for each division, choice.csv and report_c_<c>.csv into --out, and continues where it was
stopped. Prints the tables.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

from pipelines.layers.choice import CHOICE, REPORT, Choice, choice_rows, report_rows
from pipelines.layers.features import Features
from pipelines.layers.networks import MOBILENET, NETWORKS, SQUEEZENET
from pipelines.layers.probe import make_tasks
from pipelines.layers.sets import Lung, Nuclei, read_lung, read_nuclei
from pipelines.layers.store import Source
from pipelines.layers.tables import chosen_table, division_table, layer_table, report_table
from pipelines.lung.spec import CARCINOMAS
from wsi_mil.io.tables import Row, markdown_row, read_csv, write_csv
from wsi_mil.logs import setup_console

C = 0.01
"""Inverse strength of the penalty of the logistic regression that chooses."""


def probe(
    folder: Path,
    division: int,
    nuclei: Nuclei,
    lung: Lung,
    store: Mapping[tuple[str, str], Features],
    c: float,
) -> tuple[list[Row], list[Row]]:
    """Write choice.csv and the report of a penalty of a division unless it has them; return both."""
    tasks = make_tasks(nuclei, lung.only(CARCINOMAS), division)
    choice, report = folder / "choice.csv", folder / f"report_c_{c:g}.csv"
    if not choice.exists():
        write_csv(choice, CHOICE, choice_rows(tasks, store, NETWORKS, C))
    if not report.exists():
        chosen = [(network, Choice.of_rows(read_csv(choice), network.name)) for network in NETWORKS]
        write_csv(report, REPORT, report_rows(tasks, store, chosen, c))
    return read_csv(choice), read_csv(report)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the files of both studies of layers."""
    parser.add_argument("--crc", type=Path, required=True, help="crchisto27.npz")
    parser.add_argument("--lung", type=Path, required=True, help="lung_he.zip")
    parser.add_argument("--squeezenet", type=Path, required=True, help="ImageNet weights of SqueezeNet 1.0")
    parser.add_argument("--mobilenet", type=Path, required=True, help="ImageNet weights of MobileNetV2")
    parser.add_argument("--divisions", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/layers"))


def source_of(arguments: argparse.Namespace) -> Source:
    """Return the source of the features that the arguments of `add_arguments` name."""
    weights = {SQUEEZENET.name: arguments.squeezenet, MOBILENET.name: arguments.mobilenet}
    return Source(arguments.lung, weights, arguments.out / "features")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument(
        "--c", type=float, default=C, help="inverse strength of the penalty on the half that reports"
    )
    arguments = parser.parse_args()
    setup_console()
    nuclei, lung = read_nuclei(arguments.crc), read_lung(arguments.lung)
    store = source_of(arguments).probe_features(nuclei, lung)
    choices: dict[tuple[int, str], Choice] = {}
    reports: dict[int, list[Row]] = {}
    for division in arguments.divisions:
        folder = arguments.out / "probe" / f"division_{division}"
        rows, reports[division] = probe(folder, division, nuclei, lung, store, arguments.c)
        choices |= {(division, network.name): Choice.of_rows(rows, network.name) for network in NETWORKS}
        print(f"division {division} is done", flush=True)
    first = reports[arguments.divisions[0]]
    tables = chosen_table(choices), layer_table(choices, NETWORKS), report_table(first)
    for table in (*tables, division_table(reports)):
        print("\n" + "\n".join(map(markdown_row, table)))


if __name__ == "__main__":
    main()
