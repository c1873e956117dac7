"""The cohort: exact truth, no leak, slides that both libraries open, the same bytes from the same seed."""

import csv
from pathlib import Path

import numpy as np
import pytest
import shapely

from wsi_mil.errors import DataError, ScaleError, SlideError
from wsi_mil.evaluation import read_annotations
from wsi_mil.execution import ExecutionSpec
from wsi_mil.io.files import digest_file
from wsi_mil.raster import rasterize
from wsi_mil.slides import open_slide
from wsi_mil.synthetic import Scanner, SynthSpec, draw_anatomy, paint, plan_cohort, write_cohort

MPP = 0.8


def painted(lesions: list[tuple[str, int]], scanner: Scanner | None = None):  # type: ignore[no-untyped-def]
    anatomy = draw_anatomy(1500, 1100, lesions, np.random.default_rng(4), np.random.default_rng(5))
    return anatomy, paint(anatomy, scanner or Scanner("c", MPP), np.random.default_rng(6)).astype(int)


def test_what_is_drawn_is_what_is_annotated() -> None:
    """With and without lesions the pixels differ only inside the outlines, apart from the blur."""
    with_lesions, image = painted([("micro", 2), ("itc", 3)])
    without, plain = painted([])
    assert len(with_lesions.lesions) == 2
    assert not without.lesions
    truth = rasterize(
        shapely.union_all([lesion.outline for lesion in with_lesions.lesions]), image.shape[:2], MPP, MPP
    )
    reach = 4 * 0.45 / MPP + 1  # four sigma of the blur
    import cv2

    near = cv2.dilate(truth.astype(np.uint8), np.ones((2 * round(reach) + 1,) * 2, np.uint8)) > 0
    glands = rasterize(
        shapely.union_all(
            [
                shapely.Point(g.centre_um).buffer(g.radius_um + 4)
                for g in without.glands
                if g not in with_lesions.glands
            ]
        )
        if len(without.glands) != len(with_lesions.glands)
        else shapely.Polygon(),
        image.shape[:2],
        MPP,
        MPP,
    )
    cut = _cut_nuclei(with_lesions, without, image.shape[:2])
    changed = np.abs(image - plain).max(axis=2) > 0
    assert changed[truth].mean() > 0.9
    assert not (changed & ~near & ~glands & ~cut).any()


def _cut_nuclei(with_lesions, without, shape):  # type: ignore[no-untyped-def]
    """Where normal nuclei stood that would have touched an outline: they are left out whole."""
    area = shapely.union_all([lesion.outline for lesion in with_lesions.lesions]).buffer(16)
    return rasterize(area, shape, MPP, MPP)


def test_nuclei_do_not_cross_an_outline() -> None:
    anatomy, _ = painted([("micro", 3)])
    outline = anatomy.lesions[0].outline
    for group in anatomy.nuclei:
        distance = shapely.distance(shapely.points(group.centre_um), outline.exterior)
        assert (distance >= group.axes_um.max(axis=1, initial=0)).all()


def test_grades_are_graded() -> None:
    sizes, spread = [], []
    for grade in (1, 2, 3):
        anatomy, _ = painted([("micro", grade)])
        area = anatomy.nuclei[-1].axes_um.prod(axis=1)
        sizes.append(area.mean())
        spread.append(area.std() / area.mean())
    assert sizes == sorted(sizes)
    assert spread == sorted(spread)


def test_kinds_follow_the_tnm_limits() -> None:
    anatomy = draw_anatomy(
        3000, 2600, [("itc", 1), ("micro", 1)], np.random.default_rng(1), np.random.default_rng(2)
    )
    assert [lesion.kind for lesion in anatomy.lesions] == ["itc", "micro"]
    assert anatomy.lesions[0].diameter_um < 200 < anatomy.lesions[1].diameter_um < 2000


def test_truth_on_disk_is_the_truth(cohort: Path) -> None:
    """ASAP XML and GeoJSON hold the same lesions, and dark, crowded pixels lie inside them."""
    for xml in sorted((cohort / "annotations").glob("*.xml"))[:3]:
        with open_slide(cohort / "slides" / f"{xml.stem}.tiff") as slide:
            a = shapely.union_all([le.geometry for le in read_annotations(xml, xml.stem, slide.info)])
            b = shapely.union_all(
                [le.geometry for le in read_annotations(xml.with_suffix(".geojson"), xml.stem, slide.info)]
            )
            # GeoJSON lies on a grid of 0.01 px
            assert a.symmetric_difference(b).area < 0.01 * a.length
            pixels = slide.read_region(0, 0, 0, slide.info.width_px, slide.info.height_px).mean(axis=2)
            inside = rasterize(a, pixels.shape, 1.0, 1.0)
            assert pixels[inside].mean() < pixels[~inside].mean() - 20


def test_no_leak_from_label_or_centre_into_size_order_or_dimensions(cohort: Path) -> None:
    plans = plan_cohort(SynthSpec(pairs=12, centres=3, seed=11))
    for group in (lambda p: p.label, lambda p: p.scanner.name):
        sizes: dict[object, list[tuple[int, int]]] = {}
        for plan in plans:
            sizes.setdefault(group(plan), []).append((plan.width_px, plan.height_px))
        first, *others = (sorted(found) for found in sizes.values())
        assert all(other == first for other in others), "dimensions differ between groups"
    assert len({path.stat().st_size for path in (cohort / "slides").iterdir()}) == 1, "file sizes differ"
    orders = []
    for seed in range(40):
        ids = [plan.label for plan in plan_cohort(SynthSpec(pairs=6, seed=seed))]
        orders.append(np.mean(np.flatnonzero(ids)) - np.mean(np.flatnonzero(np.array(ids) == 0)))
    assert abs(np.mean(orders)) < 1.0, "positives come earlier or later in the order of ids"


def test_patients_have_several_slides_of_one_label_and_centre() -> None:
    plans = plan_cohort(SynthSpec(pairs=30, centres=3, seed=2))
    by_patient: dict[str, list[tuple[int, str]]] = {}
    for plan in plans:
        by_patient.setdefault(plan.patient, []).append((plan.label, plan.scanner.name))
    assert max(len(slides) for slides in by_patient.values()) == 2
    assert all(len(set(slides)) == 1 for slides in by_patient.values())


def test_both_libraries_open_them_as_pyramids(cohort: Path) -> None:
    for path in sorted((cohort / "slides").iterdir())[:3]:
        with open_slide(path, reader="openslide") as one, open_slide(path, reader="tiffslide") as two:
            assert one.info.level_sizes_px == two.info.level_sizes_px
            assert len(one.info.level_sizes_px) > 1
            assert one.info.mpp_x == pytest.approx(two.info.mpp_x)
            assert 0.45 < one.info.mpp_x < 0.51
            a, b = (slide.read_region(400, 300, 0, 200, 150).astype(int) for slide in (one, two))
            assert np.abs(a - b).max() <= 2
            # odd sizes give downsamples such as 2.0004, at which OpenSlide interpolates by a tenth of a pixel
            a, b = (slide.read_region(400, 300, 1, 200, 150).astype(int) for slide in (one, two))
            assert np.abs(a - b).mean() < 1


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    spec = SynthSpec(
        pairs=1, centres=1, seed=8, width_px=(900, 900), height_px=(700, 700), itc_share=0, macro_share=0
    )
    for name, workers in (("a", 1), ("b", 2)):
        write_cohort(tmp_path / name, spec, ExecutionSpec(workers=workers))
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert len(files) == 6
    for file in files:
        assert digest_file(tmp_path / "a" / file) == digest_file(tmp_path / "b" / file), file


def test_a_cohort_is_made_once_and_another_is_refused(cohort: Path) -> None:
    from tests.conftest import SMALL

    before = (cohort / "cohort.json").stat().st_mtime_ns
    write_cohort(cohort, SMALL)
    assert (cohort / "cohort.json").stat().st_mtime_ns == before
    with pytest.raises(DataError, match="another synthetic cohort"):
        write_cohort(cohort, SMALL.model_copy(update={"seed": 99}))


def test_labels_tell_what_is_there(cohort: Path) -> None:
    with (cohort / "labels.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 18
    for row in rows:
        assert (cohort / "annotations" / f"{row['slide']}.xml").exists() == (row["label"] == "1")
        assert (row["stage"] == "negative") == (row["label"] == "0")


def test_odd_slides(tmp_path: Path) -> None:
    spec = SynthSpec(
        pairs=1,
        centres=1,
        width_px=(1900, 1900),
        height_px=(1500, 1500),
        itc_share=0,
        macro_share=0,
        odd=("no_mpp", "flat", "anisotropic", "empty", "pen", "truncated"),
    )
    write_cohort(tmp_path, spec, ExecutionSpec(workers=1))
    folder = tmp_path / "slides"
    with pytest.raises(ScaleError):
        open_slide(folder / "odd_no_mpp.tiff")
    with open_slide(folder / "odd_flat.tiff") as slide:
        assert len(slide.info.level_sizes_px) == 1
    with open_slide(folder / "odd_anisotropic.tiff") as slide:
        assert slide.info.mpp_y / slide.info.mpp_x == pytest.approx(1.25, rel=1e-3)
    with open_slide(folder / "odd_empty.tiff") as slide:
        assert slide.read_region(0, 0, 0, 1900, 1500).std() < 6

    def read_all() -> None:
        with open_slide(folder / "odd_truncated.tiff") as slide:
            slide.read_region(0, 0, 0, slide.info.width_px, slide.info.height_px)

    with pytest.raises(SlideError, match="odd_truncated"):
        read_all()
