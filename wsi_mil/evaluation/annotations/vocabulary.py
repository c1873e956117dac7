"""What the class of an outline means: one vocabulary for the files of every tool.

A class name is understood only where all of its words agree. Any other name is unknown, and is reported.
"""

import re
import unicodedata
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Literal

from wsi_mil.errors import DataError

Meaning = Literal["lesion", "excluded", "no lesion", "unknown", "no class"]
"""excluded: cut out of the lesions. no lesion: understood, neither a lesion nor cut out."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


CAMELYON: dict[str, Meaning] = {"_0": "lesion", "_1": "lesion", "_2": "excluded"}  # Camelyon16's own groups
NO_CLASS = {"", "none", "null", "unclassified", "no class"}
ALONE: dict[str, Meaning] = {
    "positive": "lesion",
    "pos": "lesion",
    "negative": "excluded",
    "neg": "excluded",
}
"""Understood as the whole name only: "CD3 positive cells" are no lesion."""
LESION = _words(
    "tumor tumors tumour tumours tumoral tumoural tumorous tum cancer cancers cancerous carcinoma "
    "carcinomas metastasis metastases metastatic micrometastasis micrometastases macrometastasis "
    "macrometastases mets metastase metastasen metastasi malignant malignancy malignancies neoplasm "
    "neoplasms neoplastic lesion lesions lesional invasive dcis idc ilc nsclc sclc luad lusc scc bcc hcc "
    "rcc pdac tnbc gleason tumeur tumeurs tumore krebs kanker tumorregion tumourregion tumorgewebe"
)
LESION_ENDING = re.compile(
    r"(carcinoma|sarcoma|melanoma|lymphoma|blastoma|glioma|seminoma|myeloma|mesothelioma|karzinom|carcinome)"
    r"(s|ta|e)?$"
)
EXCLUSION = frozenset(["exclusion", "exclusions", "exclude", "excluded"])
NORMAL = frozenset(["normal", "benign", "healthy"])
NEGATION = frozenset(["non", "no", "not", "without"])
NOT_NEGATED = re.compile(
    r"\b(non (small|hodgkin\w*|invasive|keratini[sz]ing)|not otherwise specified|triple negative)\b"
)
CONTRARY = _words(
    "negative free like stroma stromal necrosis necrotic lymphocyte lymphocytes tils immune inflammation "
    "inflammatory background glass artefact artefacts artifact artifacts ignore pen ink fold folds blood "
    "fat adipose muscle mucus vessel vessels nerve cyst ulcer hole bed border margin front adjacent "
    "peritumoral peritumoural peritumor peritumour intratumoral associated surrounding uncertain "
    "suspicious suspected possible probable control"
)
"""Next to a word for a lesion these make a name unknown ("tumor stroma"); without one it is no lesion."""
NEUTRAL = _words("tissue epithelium gland glands region roi area other others annotation class")
MARKERS = frozenset({"positive", "negative", "pos", "neg", "1+", "2+", "3+"})
"""Second parts of QuPath's derived classes: how strongly a stain marks the cells."""


def meaning(names: Sequence[str], lesion_classes: Sequence[str] = ()) -> Meaning:
    """Return what the classes of one outline mean; `names`: the most specific one first.

    The first name that is understood decides: of a group within a group, the inner one. lesion_classes: names
    or patterns (`*`, `?`) of further classes that are lesions; case does not count, and `none` is an outline
    without a class.

    >>> meaning(["Tumour"]), meaning(["invasive carcinoma"]), meaning(["area 3", "Tumor"])
    ('lesion', 'lesion', 'lesion')
    >>> meaning(["Tumor: Negative"]), meaning(["Stroma: Positive"]), meaning(["non-tumour"]), meaning([])
    ('lesion', 'no lesion', 'excluded', 'no class')
    >>> meaning(["Gewebe B"]), meaning(["Gewebe B"], ["gewebe*"])
    ('unknown', 'lesion')
    """
    given = [_folded(pattern) for pattern in lesion_classes]
    named = [name for name in names if plain(name) not in NO_CLASS]
    for name in named or ["none"]:
        parts = [plain(part) for part in (name, *name.split(":"))]
        if any(fnmatchcase(part, pattern) for part in parts for pattern in given):
            return "lesion"
    if not named:
        return "no class"
    understood = [found for name in named if (found := _of_one(name)) != "unknown"]
    return understood[0] if understood else "unknown"


def plain(name: str) -> str:
    """Return a name without case, accents, stars at its end, and blanks around it.

    >>> plain(" Tumor* "), plain("Métastase"), plain("TUMOR  cells")
    ('tumor', 'metastase', 'tumor cells')
    """
    return _folded(name).rstrip("* ")


def _folded(text: str) -> str:
    letters = unicodedata.normalize("NFKD", text)
    return " ".join("".join(c for c in letters if not unicodedata.combining(c)).casefold().split())


def check_patterns(patterns: Sequence[str]) -> None:
    """Raise DataError for a pattern that is empty or matches every class."""
    for pattern in patterns:
        if not _folded(pattern).strip("*? "):
            raise DataError(
                f"slides.lesion_classes: {pattern!r} names no class: give a name or a pattern such as "
                "'carcinoma*'; `none` is an outline without a class"
            )


def _of_one(name: str) -> Meaning:
    """Return the meaning of one name; of a derived class ("Tumor: Positive"), that of its first part."""
    if name.strip() in CAMELYON:
        return CAMELYON[name.strip()]
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)  # TumorRegion
    parts = [plain(part) for part in spaced.split(":")]
    if len(parts) > 1:
        parts = [part for part in parts if part not in MARKERS | NEUTRAL] or parts[:1]
    understood = [found for part in parts if (found := _of_words(part)) != "unknown"]
    return understood[0] if understood else "unknown"


def _of_words(text: str) -> Meaning:
    if text in ALONE:
        return ALONE[text]
    spaced = " ".join(re.findall(r"[^\W_]+", text))
    words = [word for part in NOT_NEGATED.sub(" ", spaced).split() for word in _split(part)]
    if not words or "?" in text:
        return "unknown"
    lesion, contrary = any(map(_is_lesion, words)), any(word in CONTRARY for word in words)
    if any(word in EXCLUSION for word in words):
        return "excluded"
    if words[0] in NEGATION or words[-1] == "free":
        return "excluded" if lesion else "unknown"
    if any(word in NEGATION for word in words):
        return "unknown"
    if any(word in NORMAL for word in words):
        return "unknown" if lesion else "excluded"
    if lesion:
        return "unknown" if contrary else "lesion"
    return "no lesion" if contrary else "unknown"


def _split(word: str) -> list[str]:
    """Return "nontumor" as two words, "tumor2" without its number."""
    word = word.rstrip("0123456789") or word
    return ["non", word[3:]] if word.startswith("non") and _is_lesion(word[3:]) else [word]


def _is_lesion(word: str) -> bool:
    return word in LESION or LESION_ENDING.search(word) is not None
