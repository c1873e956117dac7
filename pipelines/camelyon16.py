"""Camelyon16 from the folders as downloaded: the FocusMIL protocol on the official test set.

Slides normal_*, tumor_* (training) and test_*.tif with reference.csv, outlines as <slide>.xml, in any folders below DATA.
10x, ResNet-18, three bags a step, five seeds; each seed draws its own 80/20 training and validation part, the official test
is the test. Epoch and threshold come from validation; FROC is the organisers'.

    python pipelines/camelyon16.py configs/camelyon16.yaml --data CAMELYON16
"""

from pathlib import Path

from pipelines.camelyon import Row, arguments_of, exclude, find_files, find_one, lay_out, run_seeds, table
from wsi_mil.bags import read_labels
from wsi_mil.config import load_config
from wsi_mil.errors import WsiMilError
from wsi_mil.logs import setup_console

SEEDS = (1, 11, 111, 1111, 11111)
EXCLUSIONS = {
    "test_049": "a duplicate, so the organisers count 129 test slides",
    "test_114": "not exhaustively annotated, as the organisers note",
    "normal_144": "left out by several studies; their reason is not verified here",
}
DEFAULT_EXCLUSIONS = ("test_049", "test_114")


def rows_of(data: Path) -> list[Row]:
    """Return a row per slide on disk: the name says the label of training slides, reference.csv that of test slides."""
    reference = read_labels(find_one(data, "reference.csv")).rows
    rows: list[Row] = []
    for name in find_files(data, r"(normal|tumor|test)_\d+").slides:
        if name.startswith("test_"):
            if name not in reference:
                print(f"left out: {name} (not in reference.csv)")
                continue
            label, split = ("tumor" if reference[name].label else "normal"), "test"
        else:
            label, split = name.partition("_")[0], "train"
        rows.append((name, label, name, "", split))
    return rows


def main() -> None:
    arguments = arguments_of(
        __doc__,
        SEEDS,
        "leave a slide out; repeatable; none: keep all. By default " + ", ".join(DEFAULT_EXCLUSIONS),
    )
    setup_console()
    config = load_config(arguments.config, tuple(arguments.overrides))
    rows = exclude(rows_of(arguments.data), arguments.exclude or DEFAULT_EXCLUSIONS, EXCLUSIONS)
    cohort = config.run / "cohort"
    lay_out(cohort, find_files(arguments.data, r"(normal|tumor|test)_\d+"), rows)
    runs = run_seeds(config, cohort, arguments.seeds)
    tested = sum(row[4] == "test" for row in rows)
    print(
        f"\n{len(rows) - tested} training slides, {tested} test slides, {len(runs)} seeds: mean (95 % t-interval)\n"
    )
    print(table(runs, list(config.models)))


if __name__ == "__main__":
    try:
        main()
    except WsiMilError as error:
        raise SystemExit(f"error: {error}") from None
