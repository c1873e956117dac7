"""Which cells are one class, and which classes are positive: words and the user decide, not the alphabet."""

import itertools

import pytest

from wsi_mil.contracts.labels import LabelScheme
from wsi_mil.errors import ConfigError
from wsi_mil.tasks import Detection, task_from_values, task_values
from wsi_mil.tasks.scheme import decide, name_classes
from wsi_mil.tasks.words import fold_label, says_no_label, side_of

PAIRS = [
    ("cancer", "normal"),
    ("Tumor", "benign"),
    ("TUMOUR", "healthy"),
    ("carcinoma", "control"),
    ("metastasis", "Negative"),
    ("malignant", "benign"),
    ("positive", "negative"),
    ("pos", "neg"),
    ("yes", "no"),
    ("1", "0"),
    ("+", "-"),
    ("Primary Tumor", "Solid Tissue Normal"),
    ("tumor", "no tumor"),
    ("tumor", "non-tumor"),
    ("cancer", "not_cancer"),
    ("L\u00e4sion", "gesund"),
    ("adenocarcinoma", "normal mucosa"),
    ("LUAD", "normal"),
    ("cancer", "stroma"),
]


@pytest.mark.parametrize(("positive", "negative"), PAIRS)
def test_the_order_of_the_rows_and_of_the_alphabet_changes_nothing(positive: str, negative: str) -> None:
    for names in itertools.permutations((positive, negative)):
        for ordered in (False, True):
            scheme = decide(names, None, ordered)
            assert (scheme.positive, scheme.negative) == ((positive,), (negative,))
            assert scheme.class_names == (negative, positive)
            assert scheme.is_positive(1)
            assert not scheme.is_positive(0)
            assert positive in scheme.line
            assert scheme.decided


@pytest.mark.parametrize(
    "names",
    [
        ("LUAD", "LUSC"),
        ("MSI", "MSS"),
        ("1", "2"),
        ("a", "b", "c"),
        ("normal", "benign"),
        ("carcinoma", "sarcoma"),
        ("tumor", "inflammation", "normal"),
        ("tumor", "stroma", "fat"),
        ("0", "tumor"),
    ],
)
def test_a_guess_is_refused_with_the_line_to_add(names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"slides: \{positive: \[.*classification"):
        decide(names, None, True)
    chosen = decide(names, [names[0].upper()], True)
    assert chosen.positive == (names[0],)
    assert chosen.class_names[-1] == names[0]
    assert "slides.positive" in chosen.decided


def test_the_user_overrules_words() -> None:
    scheme = decide(["normal", "tumor"], ["normal"], False)
    assert scheme.positive == ("normal",)
    with pytest.raises(ConfigError, match=r"no slide has the label 'tumr'.*Nearest: 'tumor'"):
        decide(["normal", "tumor"], ["tumr"], False)
    with pytest.raises(ConfigError, match="names every class"):
        decide(["a", "b"], ["a", "b"], False)


def test_several_negative_classes_come_first_and_are_no_finding() -> None:
    torch = pytest.importorskip("torch")
    scheme = decide(["benign", "malignant", "normal"], None, False)
    assert scheme.class_names == ("benign", "normal", "malignant")
    task = Detection(scheme.class_names, scheme)
    assert task.negative_classes == 2
    assert task.finding(torch.tensor([0, 1, 2])).tolist() == [False, False, True]


def test_numbers_are_positive_above_zero() -> None:
    scheme = decide(["2", "0", "1"], None, False)
    assert (scheme.class_names, scheme.positive) == (("0", "1", "2"), ("1", "2"))
    assert decide(["-1", "1"], None, False).positive == ("1",)


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        (["Tumor", "tumor", " tumor "], ["tumor"] * 3),
        (["1", "1.0", "0"], ["1", "1", "0"]),
        (["lésion", "le\u0301sion"], ["lésion"] * 2),
        (["NA", "nan", "N/A", "unknown", "None", "", "[Not Available]", "?"], [""] * 8),
        (["solid  tissue normal", "Solid Tissue Normal", "Solid Tissue Normal"], ["Solid Tissue Normal"] * 3),
        (["+", "-"], ["+", "-"]),
        (["tumor", "-"], ["tumor", ""]),
    ],
)
def test_cells_that_are_one_class(cells: list[str], names: list[str]) -> None:
    assert name_classes(cells) == names


def test_two_spellings_of_one_word_are_refused_unless_named() -> None:
    with pytest.raises(ConfigError, match="'tumor' and 'tumour' look like two spellings"):
        name_classes(["tumor", "tumour", "normal"])
    both = ["tumor", "tumour"]
    assert name_classes(both, class_names=both) == both
    assert name_classes(["none", "tumor"], class_names=["none", "tumor"]) == ["none", "tumor"]


@pytest.mark.parametrize("text", ["not normal", "normal adjacent to tumor", "her2", "luad"])
def test_what_words_do_not_decide_is_not_decided(text: str) -> None:
    assert side_of(fold_label(text)) is None
    assert not says_no_label(text)


def test_a_scheme_goes_through_a_model_card_and_older_cards_have_the_first_class_negative() -> None:
    scheme = LabelScheme(("stroma", "fat", "msi"), ("msi",), ("stroma", "fat"), "decided by slides.positive")
    task = Detection(scheme.class_names, scheme)
    assert task_from_values(task_values(task)) == task
    old = task_from_values({"kind": "detection", "class_names": ["normal", "a", "b"]})
    assert old.labels is not None
    assert old.labels.positive == ("a", "b")
