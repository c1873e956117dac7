"""Which classes are lesions: names as people write them, and names that must not be guessed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_mil.config.schema import SlidesConfig
from wsi_mil.errors import DataError
from wsi_mil.evaluation.annotations.vocabulary import check_patterns, meaning

MEANINGS = {
    "lesion": "Tumor|tumor |TUMOUR|Tumor*|Metastasis|metastases|lesion|Cancer|Carcinoma|adenocarcinoma"
    "|invasive carcinoma|ductal carcinoma in situ|Tumor: Positive|Tumor: Negative|Region: Tumor|_0|_1"
    "|TumorRegion|tumor_01|Tumor-2|Tumor region|tumor epithelium|Melanoma|malignant|positive|LUAD|métastases"
    "|Non-small cell carcinoma|non-Hodgkin lymphoma|triple negative breast cancer|Carcinoma, NOS"
    "|ＴＵＭＯＲ|Gleason 4|lymph node metastasis",
    "excluded": "Exclusion|_2|normal|Normal tissue|benign|healthy|non-tumour|nontumor|No tumor|tumor-free"
    "|without carcinoma|nonTumor|negative|exclude from tumor",
    "no lesion": "Stroma|Stroma: Positive|Necrosis|Immune cells|Ignore*|artefact|Background"
    "|Immune cells: Tumor",
    "unknown": "Tumor stroma|tumor necrosis|Tumor border|tumor-infiltrating lymphocytes|peritumoral carcinoma"
    "|CD3 positive cells|Tumor negative|HER2 negative tumor|benign tumor|tumor?|suspicious for carcinoma|ROI"
    "|Region*|foo|1|Annotation 3|adenoma|dysplasia|not normal|precancer|abnormal",
    "no class": "|None| none |Unclassified|null",
}


@pytest.mark.parametrize(
    ("name", "expected"), [(name, what) for what, names in MEANINGS.items() for name in names.split("|")]
)
def test_the_meaning_of_a_name(name: str, expected: str) -> None:
    assert meaning([name]) == expected
    assert meaning([f"  {name.upper()} "]) in (expected, "unknown")  # nonTUMOR has no seam in capitals


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["area 7", "Tumor"], "lesion"),
        (["Stroma", "Tumor"], "no lesion"),
        (["_2", "Tumor"], "excluded"),
        (["foo", "bar"], "unknown"),
        (["None", "Tumor"], "lesion"),
        ([], "no class"),
    ],
)
def test_the_innermost_name_that_is_understood_decides(names: list[str], expected: str) -> None:
    assert meaning(names) == expected


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("CaP", "cap"),
        ("dysplasia", "Dysplasia*"),
        ("high*grade*", "High-grade dysplasia"),
        ("none", ""),
        ("none", "None"),
        ("adenoma", "Adenoma: Positive"),
        ("stroma", "Stroma"),
        ("g?", "G3"),
    ],
)
def test_lesion_classes_extend_the_vocabulary(pattern: str, name: str) -> None:
    assert meaning([name]) != "lesion"
    assert meaning([name], [pattern]) == "lesion"
    assert meaning(["other class"], [pattern]) != "lesion"


@pytest.mark.parametrize("pattern", ["", "  ", "*", "**", "?"])
def test_a_pattern_that_names_no_class_is_refused(pattern: str) -> None:
    with pytest.raises(DataError, match=r"slides\.lesion_classes: .* names no class"):
        check_patterns([pattern])
    with pytest.raises(ValueError, match=r"slides\.lesion_classes"):
        SlidesConfig(lesion_classes=(pattern,))


@settings(max_examples=200)
@given(name=st.text(max_size=30), pattern=st.text(min_size=1, max_size=10))
def test_any_text_has_a_meaning(name: str, pattern: str) -> None:
    assert meaning([name], [pattern]) in MEANINGS
