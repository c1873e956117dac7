"""Nuclei of each kind of tissue: where they lie, and their shape."""

import numpy as np
import shapely

from wsi_mil.synthetic.nuclei import LYMPHOCYTE, Gland, draw_nuclei, normal_nuclei, tumour_nuclei

GLAND = Gland((300.0, 250.0), radius_um=50.0, lumen_um=20.0)
REACTIVE_ZONE = shapely.box(500, 100, 800, 400)


def test_nuclei_lie_where_their_tissue_is() -> None:
    tissue = shapely.box(0, 0, 2000, 1600)
    groups = normal_nuclei(tissue, [GLAND], REACTIVE_ZONE, np.random.default_rng(0))
    epithelium, *between = groups
    away = epithelium.centre_um - GLAND.centre_um
    distance = np.hypot(*away.T)
    assert ((distance > GLAND.lumen_um) & (distance < GLAND.radius_um)).all()
    outwards = np.arctan2(away[:, 1], away[:, 0])
    np.testing.assert_allclose(np.sin(outwards - epithelium.angle), 0, atol=1e-9)
    for group in between:
        assert len(group.centre_um)
        distance = np.hypot(*(group.centre_um - GLAND.centre_um).T)
        assert (distance > GLAND.radius_um + group.axes_um.max(axis=1)).all()
    _, reactive, spindle, lymphocytes = between
    assert shapely.contains_xy(REACTIVE_ZONE, *reactive.centre_um.T).all()
    for group in (spindle, lymphocytes):
        assert not shapely.contains_xy(REACTIVE_ZONE, *group.centre_um.T).any()
    length_by_width = spindle.axes_um[:, 0] / spindle.axes_um[:, 1]
    assert 2.2 <= length_by_width.min() <= length_by_width.max() <= 4.0
    assert not any(group.nucleolus_um.any() for group in groups)  # only tumour has nucleoli


def test_tumour_nuclei_lie_inside_and_have_nucleoli_by_grade() -> None:
    outline = shapely.Point(400, 300).buffer(200)
    fractions = []
    for grade in (1, 2, 3):
        nuclei = tumour_nuclei(outline, grade, np.random.default_rng(0))
        bodies = [
            shapely.Point(c).buffer(a) for c, a in zip(nuclei.centre_um, nuclei.axes_um.max(1), strict=True)
        ]
        assert all(outline.contains(body) for body in bodies)
        fractions.append((nuclei.nucleolus_um > 0).mean())
    np.testing.assert_allclose(fractions, (0.25, 0.45, 0.65), atol=0.08)


def test_the_same_generator_gives_the_same_nuclei_and_keep_selects_rows() -> None:
    centres = np.arange(20.0).reshape(10, 2)
    one, other = (draw_nuclei(centres, LYMPHOCYTE, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one.axes_um, other.axes_um)
    kept = one.keep(np.arange(10) % 2 == 0)
    np.testing.assert_array_equal(kept.centre_um, centres[::2])
    np.testing.assert_array_equal(kept.darkness, one.darkness[::2])
