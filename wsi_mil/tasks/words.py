"""Words of label tables: when two spellings are one class, which words are no label, and which words mean
tumour or normal."""

import re
import unicodedata
from typing import Literal

Side = Literal["positive", "negative"]


def _words(text: str, separator: str | None = None) -> frozenset[str]:
    return frozenset(text.replace("\n", " ").split(separator))


NO_LABEL = _words(
    "na;n/a;n.a.;n.a;#n/a;#na;nan;nat;none;null;nil;unknown;unk;missing;?;.;-;--;---;tbd;not available;"
    "not applicable;not known;not reported;not evaluated;not determined;not specified;undetermined;"
    "indeterminate;unspecified;unlabelled;unlabeled;no label;no data",
    ";",
)
"""Cells that say that a value is not known, folded as `fold_label` does, without brackets around them."""
POSITIVE_WORDS = _words(
    "tumor tumour tumors tumours tumoral tumorous tumeur karzinom krebs cancer cancers cancerous canceroso "
    "carcinoma carcinomas carcinomatous metastasis metastases metastatic metastase met mets micromet "
    "macromet micrometastasis macrometastasis itc malignant malignancy maligne malign maligno neoplasm "
    "neoplasia neoplastic lesion lesions lesional lasion laesion positive pos positiv positif positivo yes y "
    "true present diseased disease abnormal invasive dcis adenocarcinoma + 1"
)
NEGATIVE_WORDS = _words(
    "normal normals benign benigne negative neg negativ negatif negativo control controls ctrl healthy "
    "gesund sain sano no n false absent clear unaffected nontumor nontumour noncancer noncancerous "
    "nonneoplastic nonmalignant - 0 -1"
)
NEGATIONS = _words("no non not without free absence")
ENDINGS = ("carcinoma", "carcinomas", "sarcoma", "melanoma", "lymphoma", "blastoma", "glioma", "karzinom")
"""Words that end like this name a malignant tumour."""
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?")


def fold_label(text: str) -> str:
    """Return the form by which labels are compared: case, blanks, Unicode form and `1` or `1.0` are equal.

    >>> fold_label("  Tumor "), fold_label("1.0"), fold_label("Grade   2")
    ('tumor', '1', 'grade 2')
    """
    folded = " ".join(unicodedata.normalize("NFKC", text).replace("\u2212", "-").casefold().split())
    folded = unicodedata.normalize("NFC", folded)
    if NUMBER.fullmatch(folded):
        number = float(folded)
        return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
    return folded


def is_number(folded: str) -> bool:
    """Return whether a folded label is a number.

    >>> is_number("2"), is_number("2a")
    (True, False)
    """
    return NUMBER.fullmatch(folded) is not None


def says_no_label(text: str) -> bool:
    """Return whether a cell says that a value is not known, such as an empty one, `NA` or `[Not Available]`.

    >>> says_no_label("n/a"), says_no_label("[Not Available]"), says_no_label("normal")
    (True, True, False)
    """
    folded = fold_label(text)
    return not folded or folded in NO_LABEL or folded.strip("[]()<>'\" ") in NO_LABEL


def spelling(folded: str) -> str:
    """Return a form in which two spellings of one word are equal; it is for doubts, not for merging classes.

    >>> spelling("tumour") == spelling("tumors"), spelling("grade_1") == spelling("grade 1")
    (True, True)
    """
    if is_number(folded):
        return folded
    joined = re.sub(r"(?<=\w)[\s_\-]+(?=\w)", "", folded).replace("_", "")
    return re.sub(r"(?<=[a-z]{3})s$", "", _without_accents(joined).replace("our", "or"))


def side_of(folded: str) -> Side | None:
    """Return "positive" for a folded label that is a known word for tumour, "negative" for normal; else None.

    A label of several words is known by its words: `solid tissue normal`, `no tumor`. One that has words of
    both sides is not known.

    >>> side_of("primary tumor"), side_of("no tumour seen"), side_of("luad")
    ('positive', 'negative', None)
    """
    plain = _without_accents(folded)
    whole = _side_of_word(plain)
    if whole is not None or is_number(plain):
        return whole
    words = [word for word in re.split(r"[^\w]+|_", plain) if word]
    known = [word for word in words if len(word) > 1 and word not in NEGATIONS]
    sides = {side for word in known if (side := _side_of_word(word))}
    if len(known) < len([word for word in words if len(word) > 1]):
        return "negative" if sides == {"positive"} else None  # "no tumour"; "not normal" stays unknown
    return sides.pop() if len(sides) == 1 else None


def _side_of_word(word: str) -> Side | None:
    if word in NEGATIVE_WORDS:
        return "negative"
    if word in POSITIVE_WORDS or word.endswith(ENDINGS):
        return "positive"
    return None


def _without_accents(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(char for char in decomposed if not unicodedata.combining(char))
