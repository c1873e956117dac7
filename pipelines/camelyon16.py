"""Camelyon16 in the folders as downloaded: the FocusMIL protocol on the official test set.

Question: how well do the methods classify slides and find lesions on the official test set of 129 slides?

Data: slides normal_*.tif and tumor_*.tif (training) and test_*.tif, reference.csv, and outlines <slide>.xml,
in any folders below DATA. 10x, ResNet-18, three bags per step. Each seed draws its own training and
validation parts (80 % and 20 % of the training slides). Epoch and threshold are chosen on the validation
part. FROC is that of the organisers.

    python pipelines/camelyon16.py configs/camelyon16.yaml --data CAMELYON16

Seeds: 1, 11, 111, 1111, 11111 (--seeds). Writes runs/camelyon16/: cohort (labels.csv and links), features,
and one run folder per seed with models, scores, evaluation and report. Prints a table of means over the
seeds.
"""

from pathlib import Path

from pipelines.camelyon.arguments import read_arguments
from pipelines.camelyon.download import SlideRow, exclude, find_files, find_one, lay_out
from pipelines.camelyon.seeds import run_seeds, table_over_seeds
from wsi_mil.bags import read_labels
from wsi_mil.config import load_config
from wsi_mil.errors import WsiMilError
from wsi_mil.logs import setup_console

SEEDS = (1, 11, 111, 1111, 11111)
NAMES = r"(normal|tumor|test)_\d+"
EXCLUSIONS = {
    "test_049": "a duplicate, so the organisers count 129 test slides",
    "test_114": "not exhaustively annotated, as the organisers note",
    "normal_144": "left out by several studies; their reason is not verified here",
}
DEFAULT_EXCLUSIONS = ("test_049", "test_114")


def rows_of(data: Path) -> list[SlideRow]:
    """Return a row per slide below `data`.

    The label of a training slide is in its name, that of a test slide in reference.csv.
    """
    reference = read_labels(find_one(data, "reference.csv")).rows
    rows = []
    for name in find_files(data, NAMES).slides:
        if not name.startswith("test_"):
            rows.append(SlideRow(name, name.partition("_")[0], name, "", "train"))
        elif name in reference:
            label = "tumor" if reference[name].label else "normal"
            rows.append(SlideRow(name, label, name, "", "test"))
        else:
            print(f"left out: {name} (not in reference.csv)")
    return rows


def main() -> None:
    arguments = read_arguments(
        __doc__,
        SEEDS,
        "leave a slide out; repeatable; none: keep all. By default " + ", ".join(DEFAULT_EXCLUSIONS),
    )
    setup_console()
    config = load_config(arguments.config, tuple(arguments.overrides))
    rows = exclude(rows_of(arguments.data), arguments.exclude or DEFAULT_EXCLUSIONS, EXCLUSIONS)
    cohort = config.run / "cohort"
    lay_out(cohort, find_files(arguments.data, NAMES), rows)
    runs = run_seeds(config, cohort, arguments.seeds)
    tested = sum(row.split == "test" for row in rows)
    counts = f"{len(rows) - tested} training slides, {tested} test slides, {len(runs)} seeds"
    print(f"\n{counts}: mean (95 % t-interval)\n")
    print(table_over_seeds(runs, list(config.models)))


if __name__ == "__main__":
    try:
        main()
    except WsiMilError as error:
        raise SystemExit(f"error: {error}") from None
