"""Labels with every mistake, splits that keep patients together, segments against plain loops."""

from pathlib import Path
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_mil.bags import Split, SplitSpec, make_split, read_labels
from wsi_mil.bags.labels import check_against_slides
from wsi_mil.bags.segments import (
    segment_argmax,
    segment_logmeanexp,
    segment_max,
    segment_mean,
    segment_softmax,
    segment_sum,
    segment_top,
    segment_weighted_sum,
)
from wsi_mil.contracts.bags import Bag, PackedBags
from wsi_mil.contracts.labels import SlideLabel
from wsi_mil.errors import ConfigError, DataError, StoreError
from wsi_mil.tasks import TaskSpec


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_labels_of_every_form(tmp_path: Path) -> None:
    path = write(
        tmp_path / "l.csv",
        "\ufeffSlide,Label,case_id,mpp,mpp_x,mpp_y,extra\na,tumor,p1,,,,x\nb/c,normal,,0.25,,,\nd,,p2,,0.25,0.3,\n",
    )
    table = read_labels(path)
    assert table.class_names == ("normal", "tumor")
    assert table.rows["a"] == SlideLabel("a", 1, "p1")
    assert table.rows["b/c"] == SlideLabel("b/c", 0, "b/c", mpp=0.25)
    assert table.rows["d"].label is None
    assert table.mpp_of("d") == (0.25, 0.3)
    assert table.mpp_of("unknown") is None
    assert read_labels(path, ("tumor", "normal")).class_names == ("normal", "tumor")


def test_numbers_sort_as_numbers(tmp_path: Path) -> None:
    assert read_labels(write(tmp_path / "l.csv", "slide,label\na,10\nb,2\nc,0\n")).class_names == (
        "0",
        "2",
        "10",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slide,label\na,0\na,1\nb,0\n", "'a' has 2 rows, expected one"),
        ("slide,label\n,0\n", "line 2: no slide id"),
        ("slide,label,mpp\na,0,fine\n", "line 2: mpp must be a number.*'fine'"),
        ("slide,label,mpp\na,0,-1\n", "positive"),
        ("slide,label,mpp_x\na,0,0.5\n", "both"),
        ("id,class\na,0\n", "needs the columns slide and label, found id, class"),
        ("", "empty file"),
        ("slide,label\n", "holds no slide"),
    ],
)
def test_mistakes_are_told_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"(?s)labels\.csv.*{message}"):
        read_labels(write(tmp_path / "labels.csv", text))


def test_ids_that_do_not_match_the_folder(tmp_path: Path) -> None:
    table = read_labels(write(tmp_path / "l.csv", "slide,label\na.x,0\nb.svs,1\nc,\n"))
    with pytest.raises(DataError, match=r"'a\.x'.*'a'.*without its ending"):
        check_against_slides(table, {"a", "x"}, tmp_path / "l.csv")
    assert check_against_slides(table, {"b", "c", "d"}, tmp_path) == (["a.x"], ["c", "d"])


def cohort(patients: int = 30, per_patient: int = 2) -> list[SlideLabel]:
    return [SlideLabel(f"s{p}_{i}", p % 3 == 0, f"p{p}") for p in range(patients) for i in range(per_patient)]


@pytest.mark.parametrize("kind", ["holdout", "kfold"])
def test_patients_stay_together_and_classes_balanced(kind: str) -> None:
    labels = cohort()
    split = make_split(labels, SplitSpec(kind=kind, seed=3))  # type: ignore[arg-type]
    patient = {row.slide_id: row.patient for row in labels}
    positive = {row.slide_id: row.label for row in labels}
    for fold in split.folds:
        parts = [set(fold.train), set(fold.val), set(fold.test)]
        assert sum(len(part) for part in parts) == len(labels) == len(set().union(*parts))
        people = [{patient[s] for s in part} for part in parts]
        assert not people[0] & people[1]
        assert not people[0] & people[2]
        assert not people[1] & people[2]
        for part in parts:
            assert abs(sum(positive[s] for s in part) / len(part) - 1 / 3) < 0.2
    if kind == "kfold":
        assert sorted(s for fold in split.folds for s in fold.test) == sorted(patient)


def test_splits_do_not_depend_on_row_order_but_on_the_seed() -> None:
    labels = cohort()
    one, two = make_split(labels, SplitSpec(seed=1)), make_split(labels[::-1], SplitSpec(seed=1))
    assert one == two
    assert make_split(labels, SplitSpec(seed=2)).digest() != one.digest()


def test_saved_splits_read_back_and_refuse_edits(tmp_path: Path) -> None:
    split = make_split(cohort(), SplitSpec(kind="kfold"))
    split.save(tmp_path / "s.json")
    assert Split.load(tmp_path / "s.json") == split
    text = (tmp_path / "s.json").read_text()
    assert text.count('"s0_0"') == 5
    (tmp_path / "s.json").write_text(text.replace('"s0_0"', '"s0_9"', 1))
    with pytest.raises(StoreError, match=r"s\.json is damaged: expected content of digest"):
        Split.load(tmp_path / "s.json")


def test_splits_that_cannot_be() -> None:
    with pytest.raises(DataError, match="one class"):
        make_split([SlideLabel(f"s{i}", 1, f"p{i}") for i in range(9)], SplitSpec())
    few = [SlideLabel(f"s{i}", int(i < 2), f"p{i}") for i in range(20)]
    with pytest.raises(DataError, match="2 patients, too few"):
        make_split(few, SplitSpec())
    with pytest.raises(DataError, match="split column says ''"):
        make_split(cohort(), SplitSpec(kind="column"))
    leaky = [
        SlideLabel(f"s{i}", i % 2, "same" if i < 4 else f"p{i}", split=("train", "val", "test")[i % 3])
        for i in range(24)
    ]
    with pytest.raises(DataError, match="patient 'same' is in"):
        make_split(leaky, SplitSpec(kind="column"))


def test_a_column_of_the_labels_is_obeyed() -> None:
    names = ("training", "VAL", "test")
    labels = [SlideLabel(f"s{i:02d}", i % 2, f"p{i}", split=names[i // 2 % 3]) for i in range(12)]
    fold = make_split(labels, SplitSpec(kind="column")).folds[0]
    assert fold.train == ("s00", "s01", "s06", "s07")
    assert fold.val == ("s02", "s03", "s08", "s09")


def test_a_column_without_validation_has_it_drawn_from_training() -> None:
    labels = [SlideLabel(f"s{i:02d}", i % 2, f"p{i}", split="test" if i < 10 else "train") for i in range(40)]
    folds = make_split(labels, SplitSpec(kind="column", val_share=0.2, repeats=2)).folds
    assert all(set(fold.test) == {f"s{i:02d}" for i in range(10)} for fold in folds)
    assert [(len(fold.train), len(fold.val)) for fold in folds] == [(24, 6), (24, 6)]
    assert folds[0].val != folds[1].val


def test_held_out_centres_are_the_test_and_nothing_else() -> None:
    labels = [SlideLabel(f"s{i:02d}", i // 5 % 2, f"p{i}", centre=f"{i % 5}") for i in range(50)]
    fold = make_split(labels, SplitSpec(kind="centre", test_centres=("3", "4"))).folds[0]
    assert set(fold.test) == {row.slide_id for row in labels if row.centre in "34"}
    assert len(fold.val) == 6
    for centres, why in (((), "name some of the centres"), (("9",), "no slide of centre '9'")):
        with pytest.raises(ConfigError, match=why):
            make_split(labels, SplitSpec(kind="centre", test_centres=centres))


@pytest.mark.parametrize("tiny", [0, 64])
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6), seed=st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_segments_equal_plain_loops(tiny: int, lengths: list[int], seed: int) -> None:
    """Both ways: by splitting (tiny 0) and, for several small bags, by scattering."""
    with mock.patch("wsi_mil.bags.segments.TINY", tiny):
        check_segments(lengths, seed)


def check_segments(lengths: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    bags = PackedBags.pack(
        [Bag(str(i), torch.randn(n, 3, generator=generator).double(), 0) for i, n in enumerate(lengths)]
    )
    x, start = bags.features, 0
    weights, pair = segment_softmax(x[:, 0], lengths), segment_softmax(x, lengths)
    for b, n in enumerate(lengths):
        part = x[start : start + n]
        torch.testing.assert_close(segment_max(x, lengths)[b], part.amax(0))
        assert segment_argmax(x, lengths)[b].tolist() == (part.argmax(0) + start).tolist()
        own = part[:, 0].exp() / part[:, 0].exp().sum()
        torch.testing.assert_close(weights[start : start + n], own)
        torch.testing.assert_close(segment_weighted_sum(weights, x, lengths)[b], (own[:, None] * part).sum(0))
        both = part.exp() / part.exp().sum(0)
        torch.testing.assert_close(
            segment_weighted_sum(pair, x, lengths)[b], torch.einsum("nk,nd->kd", both, part)
        )
        torch.testing.assert_close(segment_sum(x, lengths)[b], part.sum(0))
        torch.testing.assert_close(segment_mean(x, lengths)[b], part.sum(0) / n)
        torch.testing.assert_close(segment_logmeanexp(x, lengths, 3.0)[b], (3 * part).exp().mean(0).log() / 3)
        order = sorted(range(n), key=lambda i: -float(part[i, 0]))
        assert segment_top(x[:, 0], 2, lengths)[b].tolist() == [start + i for i in order[:2]]
        assert segment_top(x[:, 0], 2, lengths, largest=False)[b].tolist() == [
            start + i for i in order[::-1][:2]
        ]
        start += n
    slopes = []
    for way in (0, 64):  # gradients of both ways agree
        with mock.patch("wsi_mil.bags.segments.TINY", way):
            leaf = x.clone().requires_grad_()
            pooled = segment_weighted_sum(segment_softmax(leaf, lengths), leaf.square(), lengths).sum()
            total = pooled + segment_max(leaf, lengths).sum() + segment_logmeanexp(leaf, lengths, 2.0).sum()
            total.backward()
            slopes.append(leaf.grad)
    torch.testing.assert_close(slopes[0], slopes[1])


def test_the_first_of_equals_is_taken_both_ways() -> None:
    values = torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 5.0], [0.0, 5.0], [3.0, 3.0]])
    for tiny in (0, 64):
        with mock.patch("wsi_mil.bags.segments.TINY", tiny):
            assert segment_argmax(values, [2, 2, 1]).tolist() == [[0, 0], [2, 2], [4, 4]]


def test_survival_and_regression_tables(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    rows = "\n".join(f"s{i},{i + 1},{int(i % 3 > 0)}" for i in range(30))
    table.write_text(f"slide,time,event\n{rows}\n")
    found = read_labels(table, spec=TaskSpec(kind="survival"))
    assert found.rows["s1"].target == (2.0, 1.0)
    assert found.rows["s1"].label is None
    split = make_split(list(found.rows.values()), SplitSpec(), found.task)
    events = [
        sum(int(s[1:]) % 3 > 0 for s in part) / len(part)
        for part in (split.folds[0].train, split.folds[0].test)
    ]
    assert events == pytest.approx([2 / 3, 2 / 3], abs=0.1)
    with pytest.raises(
        DataError, match=r"needs the columns slide and value, found.*task\.columns\.value=COLUMN"
    ):
        read_labels(table, spec=TaskSpec(kind="regression"))
    table.write_text("slide,value\na,1.5\nb,high\n")
    with pytest.raises(DataError, match="line 3: column value: expected a number, got 'high'"):
        read_labels(table, spec=TaskSpec(kind="regression"))


def test_the_user_names_the_columns_of_a_task(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("slide,label,Ki67,months,died\na,x,0.5,12,1\nb,y,,30,0\n")
    found = read_labels(table, spec=TaskSpec(kind="regression", columns={"value": "ki67"}))
    assert [row.target for row in found.rows.values()] == [0.5, None]
    columns = {"time": "months", "event": "died"}
    found = read_labels(table, spec=TaskSpec(kind="discrete_survival", columns=columns))
    assert [row.target for row in found.rows.values()] == [(12.0, 1.0), (30.0, 0.0)]
    with pytest.raises(
        ConfigError, match=r"task\.columns\.event: regression reads no such column, it reads value"
    ):
        read_labels(table, spec=TaskSpec(kind="regression", columns=columns))
    with pytest.raises(DataError, match="needs the columns slide and grade, found slide, label, Ki67"):
        read_labels(table, spec=TaskSpec(kind="ordinal", columns={"label": "grade"}))
    with pytest.raises(DataError, match="line 2: column months and label: expected a number, got 'x'"):
        read_labels(table, spec=TaskSpec(kind="survival", columns={"time": "months", "event": "label"}))


def test_the_order_of_classes_is_stated_unless_they_are_numbers(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("slide,label\na,high\nb,low\nc,medium\n")
    with pytest.raises(ConfigError, match=r"slides\.class_names.*order of high, low, medium"):
        read_labels(table, spec=TaskSpec(kind="ordinal"))
    found = read_labels(table, ("low", "medium", "high"), TaskSpec(kind="ordinal"))
    assert [row.label for row in found.rows.values()] == [2, 0, 1]
    table.write_text("slide,label\na,10\nb,2\nc,5\n")
    assert read_labels(table, spec=TaskSpec(kind="ordinal")).class_names == ("2", "5", "10")
    with pytest.raises(ConfigError, match=r"slides\.class_names: task regression has no classes"):
        read_labels(table, ("2", "5", "10"), TaskSpec(kind="regression", columns={"value": "label"}))


def test_survival_without_a_censored_slide_is_split_by_time(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    rows = "\n".join(f"s{i},{i + 1},1" for i in range(30))
    table.write_text(f"slide,time,event\n{rows}\n")
    found = read_labels(table, spec=TaskSpec(kind="survival"))
    fold = make_split(list(found.rows.values()), SplitSpec(), found.task).folds[0]
    late = sum(int(slide_id[1:]) >= 15 for slide_id in fold.test) / len(fold.test)
    assert late == pytest.approx(0.5, abs=0.15)
