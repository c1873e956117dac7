"""The studies of layers: halves that share no group, what each half may see, columns, tables, short runs."""

import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pipelines import layers_mil, layers_probe
from pipelines.layers import choice as choice_module
from pipelines.layers.bags import LungForm, colon_bags, filled, lung_bags
from pipelines.layers.choice import ALL, LAST, OTHER, PROPOSAL, SAME, Choice, choice_rows, report_rows
from pipelines.layers.mil_tables import difference_table, mean_table
from pipelines.layers.networks import MOBILENET, NETWORKS, PROPOSED, SQUEEZENET, Candidate, Network
from pipelines.layers.probe import Task, folds, make_tasks
from pipelines.layers.sets import Lung, Nuclei, few_of_each, halves, read_lung, read_nuclei
from pipelines.layers.tables import division_table, report_table
from pipelines.lung.spec import CARCINOMAS, NORMAL
from wsi_mil.encoders import EncoderSpec, build_encoder
from wsi_mil.evaluation.methods import compare_trainings
from wsi_mil.io.tables import Row, read_csv

SMALL = Network("small", {"a": 2, "b": 3}, ("a", "b"))


def random_nuclei(patients: int = 20, each: int = 6) -> Nuclei:
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(patients), each)
    cancerous = ((patient % 2 == 1) & (np.arange(len(patient)) % 3 == 0)).astype(np.int64)
    images = rng.integers(0, 200, (len(patient), 27, 27, 3), dtype=np.uint8)
    images[cancerous == 1] += 50
    return Nuclei(images, patient, cancerous, np.arange(len(patient)) % 4 - 1 + (cancerous == 1))


def lung_images(groups: int = 8, each: int = 2) -> Lung:
    kind = np.repeat([NORMAL, *CARCINOMAS], groups * each)
    group = np.array([f"{name}/{i // each % groups}" for i, name in enumerate(kind.tolist())])
    files = tuple(f"{name}_{i}.jpeg" for i, name in enumerate(kind.tolist()))
    return Lung(files, kind, group)


def test_columns_of_a_candidate_are_the_features_that_an_encoder_gives() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    tiles = torch.from_numpy(pixels)
    for network in NETWORKS:
        whole = build_encoder(network.spec(Path("random"), 64), "cpu").encode(tiles)
        assert whole.shape[1] == 2 * sum(network.channels.values())
        common = {"name": f"torchvision:{network.name}", "weights": "random", "input_px": 64}
        own = build_encoder(EncoderSpec.model_validate(common), "cpu").encode(tiles)
        torch.testing.assert_close(whole[:, network.columns(network.last)], own)
        pair = Candidate(network.paired[:2], "mean+std")
        asked = common | {"layers": pair.layers, "layer_pooling": "mean+std"}
        expected = build_encoder(EncoderSpec.model_validate(asked), "cpu").encode(tiles)
        torch.testing.assert_close(whole[:, network.columns(pair)], expected)
    assert len(MOBILENET.columns(PROPOSED)) == 768


def test_candidates_are_layers_and_pairs_with_both_poolings() -> None:
    labels = [candidate.label for candidate in SMALL.candidates()]
    assert labels == ["a, mean", "b, mean", "a + b, mean", "a, mean+std", "b, mean+std", "a + b, mean+std"]
    assert [Candidate.of_label(label) for label in labels] == SMALL.candidates()
    assert SMALL.columns(Candidate(("b", "a"), "mean")).tolist() == [4, 5, 6, 0, 1]
    assert SMALL.columns(Candidate(("b",), "mean+std")).tolist() == [4, 5, 6, 7, 8, 9]


def test_halves_hold_whole_groups_and_half_of_each_label() -> None:
    groups = np.repeat(np.arange(14), 3)
    labels = np.where((groups < 6) & (np.arange(42) % 3 == 1), 1, 0)
    first = halves(groups, labels, seed=5)
    of_group = first.reshape(14, 3)
    assert (of_group == of_group[:, :1]).all()
    assert of_group[:6, 0].sum() == 3
    assert of_group[6:, 0].sum() == 4
    assert (halves(groups, labels, seed=6) != first).any()


def test_few_of_each_group_are_taken() -> None:
    groups = np.array(["x", "y", "x", "x", "y", "z"])
    rows = few_of_each(groups, 2)
    assert [(groups[rows] == name).sum() for name in "xyz"] == [2, 2, 1]
    assert rows.tolist() == sorted(set(rows.tolist()))


def tasks_and_store() -> tuple[list[Task], dict[tuple[str, str], np.ndarray]]:
    """A set of two measures of which layer `b` knows the label, and another one that layer `a` knows."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 4)
    labels = groups % 2
    first = halves(groups, labels, 0)
    rows = np.arange(160)
    store = {
        (name, encoder): rng.normal(size=(160, 10)).astype(np.float32)
        for name in ("lung_plain", "lung_changed", "colon")
        for encoder in ("small", "texture")
    }
    for name, column in (("lung_plain", 4), ("lung_changed", 4), ("colon", 0)):
        store[name, "small"][:, column] += 3 * labels
    looks = {"lung": "lung_plain", "lung, changed stain": "lung_changed"}
    return [
        Task({"colon": "colon"}, rows, labels, groups, first),
        Task(looks, rows, labels, groups, first),
    ], store


def as_rows(columns: tuple[str, ...], rows: list[list[str]]) -> list[Row]:
    return [Row(Path("x.csv"), i, dict(zip(columns, row, strict=True))) for i, row in enumerate(rows)]


def test_each_half_sees_nothing_of_the_other() -> None:
    tasks, store = tasks_and_store()
    chosen = choice_rows(tasks, store, [SMALL], 0.1)
    choice = Choice.of_rows(as_rows(choice_module.CHOICE, chosen), "small")
    reported = report_rows(tasks, store, [(SMALL, choice)], 0.1)
    first = tasks[0].first
    for half, made, other in ((first, chosen, reported), (~first, reported, chosen)):
        changed = {key: values.copy() for key, values in store.items()}
        for values in changed.values():
            values[half] = np.random.default_rng(9).normal(size=(half.sum(), 10))
        again = [
            choice_rows(tasks, changed, [SMALL], 0.1),
            report_rows(tasks, changed, [(SMALL, choice)], 0.1),
        ]
        assert other in again
        assert made not in again


def test_a_choice_is_made_on_all_on_one_measure_or_on_the_other_set(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks, store = tasks_and_store()
    rows = as_rows(choice_module.CHOICE, choice_rows(tasks, store, [SMALL], 0.1))
    choice = Choice.of_rows(rows, "small")
    assert choice.measures == ["colon", "lung", "lung, changed stain"]
    assert choice.candidates["b, mean"]["lung"] > 0.9 > choice.candidates["a, mean"]["lung"]
    monkeypatch.setattr(choice_module, "PROPOSED", Candidate(("b", "a"), "mean"))
    found = choice_module.settings_of(SMALL, choice, "lung, changed stain")
    assert list(found) == [LAST, ALL, SAME, OTHER, PROPOSAL]
    assert found[LAST] == Candidate(("b",), "mean")
    assert set(found[ALL].layers) == {"a", "b"}
    assert "b" in found[SAME].layers
    assert "a" in found[OTHER].layers
    assert choice.best(["colon"]) == found[OTHER]


def test_the_table_has_the_paired_difference_to_the_last_layer() -> None:
    tasks, store = tasks_and_store()
    choice = Choice.of_rows(as_rows(choice_module.CHOICE, choice_rows(tasks, store, [SMALL], 0.1)), "small")
    rows = as_rows(choice_module.REPORT, report_rows(tasks, store, [(SMALL, choice)], 0.1))
    values = {
        setting: [
            row.number("auc") for row in rows if row["setting"] == setting and row["measure"] == "colon"
        ]
        for setting in (LAST, ALL, "texture")
    }
    assert {len(found) for found in values.values()} == {15}
    table = report_table(rows)
    line = next(line for line in table if line[:3] == ["colon", "small", ALL])
    test = compare_trainings(values[ALL], values[LAST], [str(i) for i in range(15)], 0.25)
    assert line[4:] == [
        f"{np.mean(values[ALL]):.3f}",
        f"{np.std(values[ALL], ddof=1):.3f}",
        f"{np.mean(values[ALL]) - np.mean(values[LAST]):+.3f}",
        f"{np.subtract(values[ALL], values[LAST]).std(ddof=1):.3f}",
        f"{test.low:+.3f} to {test.high:+.3f}",
        f"{test.t:.2f}",
        "<0.001" if test.p_two_sided < 0.001 else f"{test.p_two_sided:.3f}",
    ]
    texture = next(line for line in table if line[:3] == ["colon", "texture", "texture"])
    assert texture[4] == f"{np.mean(values['texture']):.3f}"
    assert texture[6:] == ["-"] * 5
    overview = next(
        line for line in division_table({0: rows, 1: rows}) if line[:3] == ["colon", "small", ALL]
    )
    assert overview[3:] == [line[4], *[line[6]] * 3]


def test_tasks_take_typed_nuclei_and_carcinomas() -> None:
    nuclei, lung = random_nuclei(), lung_images().only(CARCINOMAS)
    cancerous, epithelial, squamous = make_tasks(nuclei, lung, 0)
    assert len(cancerous.rows) == 120
    assert set(nuclei.cell_type[epithelial.rows]) == {0, 1, 2}
    assert (epithelial.labels == (nuclei.cell_type[epithelial.rows] == 2)).all()
    halves_of = dict(zip(cancerous.groups.tolist(), cancerous.first.tolist(), strict=True))
    assert all(
        halves_of[g] == f for g, f in zip(epithelial.groups.tolist(), epithelial.first.tolist(), strict=True)
    )
    assert (squamous.labels == (lung.kind == CARCINOMAS[1])).all()
    for train, test in folds(cancerous.labels, cancerous.groups, 2):
        assert not set(cancerous.groups[train]) & set(cancerous.groups[test])


def test_test_bags_are_of_the_half_that_did_not_choose() -> None:
    nuclei, lung = random_nuclei(), lung_images()
    colon = colon_bags(nuclei, 3)
    first = halves(nuclei.patient, nuclei.cancerous, 3)
    assert {len(bags) for bags in colon.values()} == {10, 7, 3}
    assert all(first[bag.rows].all() for part in ("train", "val") for bag in colon[part])
    assert not any(first[bag.rows].any() for bag in colon["test"])
    probed = make_tasks(nuclei, lung.only(CARCINOMAS), 3)
    chose = set(probed[2].groups[probed[2].first].tolist())
    form = LungForm(tiles=9, slides=(("train", 4), ("val", 2), ("test", 6)))
    slides = lung_bags(lung, form, {"train": "near", "val": "near", "test": "far"}, 3)
    groups = {
        part: {g for bag in bags for g in lung.group[bag.rows].tolist()} for part, bags in slides.items()
    }
    assert not groups["test"] & chose
    assert not groups["train"] & groups["val"]
    assert not (groups["train"] | groups["val"]) & groups["test"]
    for bag in slides["test"]:
        assert (bag.features, len(bag.rows)) == ("far", 9)
        assert ((lung.kind[bag.rows] != NORMAL) == (bag.marks == 1)).all()
    assert [int(bag.marks.max()) for bag in slides["test"]] == [0, 1] * 3
    store = {name: np.arange(480).reshape(48, 10).astype(np.float32) for name in ("near", "far")}
    made = filled(slides, store, np.array([7, 2]))["val"][1]
    assert made.label == 1
    assert made.features.tolist() == [[row * 10 + 7, row * 10 + 2] for row in slides["val"][1].rows.tolist()]


def test_differences_of_trainings_are_paired_by_division() -> None:
    columns = ("division", "set", "method", "features", "slide_auc", "patch_auc", "patch_auprc")
    scores = {"0": (0.75, 0.5), "1": (1.0, 0.25), "2": (0.5, None)}
    rows = [
        [division, "colon", "mi_net", f"squeezenet1_0, {kind}", *[f"{value}"] * 3]
        for division, pair in scores.items()
        for kind, value in zip(("chosen", "last layer"), pair, strict=True)
        if value is not None
    ]
    found = as_rows(columns, rows)
    line = difference_table(found)[1]
    assert line[:4] == ["colon", "mi_net", "squeezenet1_0", "2"]
    assert line[4].startswith("+0.500 (0.354), p ")
    assert mean_table(found)[1][3:5] == ["3", "0.750, 0.500"]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Arguments that name small sets of both kinds, and random weights."""
    rng, nuclei, lung = np.random.default_rng(0), random_nuclei(), lung_images()
    np.savez(
        tmp_path / "nuclei.npz",
        images=nuclei.images,
        patient=nuclei.patient,
        cancerous=nuclei.cancerous.astype(bool),
        cell_type=nuclei.cell_type,
    )
    with zipfile.ZipFile(tmp_path / "lung.zip", "w") as archive:
        lines = ["file,class,group"]
        for file, kind, group in zip(lung.files, lung.kind.tolist(), lung.group.tolist(), strict=True):
            pixels = rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)
            archive.writestr(file, cv2.imencode(".jpeg", pixels)[1].tobytes())
            lines.append(f"{file},{kind},{group.partition('/')[2]}")
        archive.writestr("index.csv", "\n".join(lines))
    paths = ["--crc", str(tmp_path / "nuclei.npz"), "--lung", str(tmp_path / "lung.zip")]
    weights = ["--squeezenet", "random", "--mobilenet", "random"]
    return [*paths, *weights, "--divisions", "0", "--out", str(tmp_path / "out")]


def test_sets_are_read_from_their_files(files: list[str]) -> None:
    nuclei, expected = read_nuclei(Path(files[1])), random_nuclei()
    assert (nuclei.images == expected.images).all()
    assert (nuclei.cell_type == expected.cell_type).all()
    lung = read_lung(Path(files[3]))
    assert (lung.files, lung.group.tolist()) == (lung_images().files, lung_images().group.tolist())
    looks = dict(lung.stained_by_group())
    assert looks[lung.files[0]] == looks[lung.files[1]] != looks[lung.files[2]]


def test_both_studies_run_and_continue(
    files: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["layers_probe", *files])
    singles = [[Candidate((layer,), "mean") for layer in network.channels] for network in NETWORKS]
    of_name = dict(zip([network.name for network in NETWORKS], singles, strict=True))
    monkeypatch.setattr("pipelines.layers.networks.Network.candidates", lambda self: of_name[self.name])
    layers_probe.main()
    out = Path(files[-1])
    report = read_csv(out / "probe" / "division_0" / "report_c_0.01.csv")
    assert {row["network"] for row in report} == {SQUEEZENET.name, MOBILENET.name, "texture"}
    assert "| colon, cancerous | texture | texture | - |" in capsys.readouterr().out
    run = ["layers_mil", *files, "--methods", "mean_pool", "--sets", "colon", "--epochs", "1"]
    monkeypatch.setattr(sys, "argv", run)
    layers_mil.main()
    first = capsys.readouterr().out
    rows = read_csv(out / "trainings.csv")
    assert [row["features"] for row in rows] == [
        *(f"{network.name}, {kind}" for network in NETWORKS for kind in ("last layer", "chosen")),
        "texture",
    ]
    choice = Choice.of_rows(read_csv(out / "probe" / "division_0" / "choice.csv"), SQUEEZENET.name)
    best = max(choice.candidates, key=lambda label: sum(choice.candidates[label].values()))
    assert [row["layers"] for row in rows[:2]] == ["features.12, mean", best]
    assert first.count("slide_auc 0") + first.count("slide_auc 1") == 5
    layers_mil.main()
    assert "slide_auc 0" not in capsys.readouterr().out
    assert read_csv(out / "trainings.csv") == rows
