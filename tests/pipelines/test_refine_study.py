"""The refinement study: separate cohorts, outlines of training slides only, and its tables."""

from pathlib import Path

from pipelines.refine import cohort_config, outlines_of_training_slides
from pipelines.refinement.tables import FIGURES, by_cohort, table
from wsi_mil.bags import Split
from wsi_mil.config import load_config
from wsi_mil.run.folder import RunFolder

ROOT = Path(__file__).parents[2]


def test_every_cohort_has_its_own_slides_and_folder() -> None:
    config = load_config(ROOT / "configs" / "refine.yaml")
    one, other = (cohort_config(config, seed) for seed in (11, 12))
    assert (one.run.name, other.run.name) == ("cohort11", "cohort12")
    assert one.synthetic is not None
    assert other.synthetic is not None
    assert (one.synthetic.seed, other.synthetic.seed) == (11, 12)
    assert one.synthetic.model_copy(update={"seed": 12}) == other.synthetic


def test_outlines_are_of_training_slides(small_run: Path, cohort: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    (run.path / "models").mkdir(parents=True)
    run.split.write_bytes(RunFolder(small_run).split.read_bytes())
    (run.path / "cohort").symlink_to(cohort)
    names = [path.stem for path in outlines_of_training_slides(run, 2).glob("*.geojson")]
    assert len(names) == 2
    assert set(names) <= set(Split.load(run.split).folds[0].train)


def test_the_table_is_of_means_and_differences() -> None:
    def row(before: float, after: float) -> dict[str, float]:
        return {
            "second": before,
            "first": after,
            "difference": after - before,
            "low": after - before - 0.1,
            "high": after - before + 0.1,
        }

    cohorts = [
        {
            "plain": {
                "dice": {"own": row(0.5, 0.7), "validation": row(0.6, 0.7)},
                "froc": row(0.9, 0.9),
                "seconds": 10.0,
                "test_slides": 12,
            }
        },
        {
            "plain": {
                "dice": {"own": row(0.7, 0.8), "validation": row(0.6, 0.7)},
                "froc": row(0.7, 0.5),
                "seconds": 20.0,
                "test_slides": 14,
            }
        },
    ]
    lines = table(cohorts).splitlines()
    assert len(lines) == 3
    # t of one degree of freedom: 12.706 x 0.0707 / sqrt 2
    assert lines[2].startswith(
        "| plain | 0.600 → 0.750, +0.150 (-0.485 to +0.785) | 0.600 → 0.700, +0.100 (+0.100 to +0.100) |"
    )
    assert lines[2].endswith("| 15 |")
    text = by_cohort(cohorts, (11, 12), "plain").splitlines()
    assert text[0].count("|") == 3 + len(FIGURES)
    assert text[2].startswith("| 11 | 12 | 0.500 → 0.700 (+0.100 to +0.300) |")
