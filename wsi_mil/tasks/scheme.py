"""Which cells of a label table are one class, and which classes are positive. Known words or the user decide.

Where neither decides, the run is refused: a guess would exchange tumour and normal in every result.
"""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

from wsi_mil.contracts.labels import LabelScheme
from wsi_mil.errors import ConfigError, nearest
from wsi_mil.tasks.classes import label_order
from wsi_mil.tasks.words import Side, fold_label, is_number, says_no_label, side_of, spelling

USER = "slides.positive"


def name_classes(
    cells: Sequence[str], class_names: Sequence[str] | None = None, positive: Sequence[str] = ()
) -> list[str]:
    """Return the class name of each cell; "" for a cell that says that there is no label.

    Cells that differ only in case, blanks, Unicode form, or as `1` and `1.0`, are one class. Its name is that
    in `class_names` or `positive`, else the most frequent spelling. Raises ConfigError if two classes are
    spellings of one word (`tumor`, `tumour`), unless `class_names` has both.

    >>> name_classes(["Tumor", "tumor ", "tumor", "NA", "1.0"])
    ['tumor', 'tumor', 'tumor', '', '1']
    """
    given = {fold_label(name): str(name).strip() for name in (*positive, *(class_names or ()))}
    counts: dict[str, Counter[str]] = {}
    folded = ["" if _no_label(cell, cells, given) else fold_label(cell) for cell in cells]
    for key, cell in zip(folded, cells, strict=True):
        if key:
            counts.setdefault(key, Counter())[
                key if is_number(key) else unicodedata.normalize("NFC", " ".join(cell.split()))
            ] += 1
    names = {
        key: given.get(key) or min(found, key=lambda name: (-found[name], name))
        for key, found in counts.items()
    }
    _refuse_spellings(names, set(map(fold_label, class_names or ())))
    return [names.get(key, "") for key in folded]


def _no_label(cell: str, cells: Sequence[str], given: Mapping[str, str]) -> bool:
    if fold_label(cell) in given:
        return False
    if cell.strip() == "-" and any(other.strip() == "+" for other in cells):
        return False  # beside `+`, `-` is the negative class
    return says_no_label(cell)


def _refuse_spellings(names: Mapping[str, str], given: set[str]) -> None:
    alike: dict[str, str] = {}
    for key, name in names.items():
        other = alike.setdefault(spelling(key), key)
        if other != key and not {key, other} <= given:
            raise ConfigError(
                f"labels {names[other]!r} and {name!r} look like two spellings of one class: write one of "
                "them in the whole table, or, if they are two classes, name every class in slides.class_names"
            )


def decide(class_names: Sequence[str], positive: Sequence[str] | None, ordered: bool) -> LabelScheme:
    """Return the scheme of classes of which some are normal.

    positive: `slides.positive`, which decides alone where it is given. ordered: whether the user gave the
    order of `class_names`; otherwise they are sorted. Raises ConfigError, with the line to add, where known
    words do not decide.

    >>> decide(["cancer", "normal"], None, False).class_names
    ('normal', 'cancer')
    """
    names = list(class_names) if ordered else sorted(class_names, key=label_order)
    if positive:
        chosen, decided = _by_user(names, positive), f"decided by {USER}"
    else:
        chosen, decided = _by_words(names)
    negative = [name for name in names if name not in chosen]
    return LabelScheme((*negative, *chosen), tuple(chosen), tuple(negative), decided)


def without_normal_class(class_names: Sequence[str], task: str) -> LabelScheme:
    """Return the scheme of a task without a normal class."""
    return LabelScheme(tuple(class_names), (), (), f"task {task} has no normal class")


def _by_user(names: Sequence[str], positive: Sequence[str]) -> list[str]:
    folded = {fold_label(name): name for name in names}
    for name in positive:
        if fold_label(name) not in folded:
            raise ConfigError(
                f"{USER}: no slide has the label {name!r}, the classes are {', '.join(names)}. "
                f"Nearest: {nearest(name, list(names))}"
            )
    wanted = set(map(fold_label, positive))
    chosen = [name for name in names if fold_label(name) in wanted]
    if len(chosen) == len(names) and len(names) > 1:
        raise ConfigError(
            f"{USER} names every class ({', '.join(names)}), so none is left as the negative one: take one "
            "out, or set task.kind=classification if no class is normal"
        )
    return chosen


def _by_words(names: Sequence[str]) -> tuple[list[str], str]:
    """Return the positive classes and how they were found; raises ConfigError if words do not decide."""
    folded = [fold_label(name) for name in names]
    sides = _sides(folded)
    unknown = [name for name, side in zip(names, sides, strict=True) if side is None]
    found = {side for side in sides if side}
    if len(names) < 2:
        return [name for name, side in zip(names, sides, strict=True) if side == "positive"], "one class"
    numbers = [is_number(key) for key in folded]
    if any(numbers) and not all(numbers):
        raise _undecided(names, "some labels are numbers and some are words")
    decided = "by known words" if not all(numbers) else "0 is negative, other numbers are positive"
    if not unknown and len(found) == 2:
        return [name for name, side in zip(names, sides, strict=True) if side == "positive"], decided
    if unknown and found == {"negative"}:
        known = ", ".join(name for name, side in zip(names, sides, strict=True) if side)
        rest = "the others are" if len(unknown) > 1 else "the other is"
        return unknown, f"{known} is a known word for normal, so {rest} positive"
    if len(unknown) == 1 and found == {"positive"}:
        tumour = [name for name, side in zip(names, sides, strict=True) if side]
        return tumour, f"{', '.join(tumour)} is a known word for tumour, so the other is negative"
    if not unknown:
        side = "tumour" if found == {"positive"} else "normal"
        raise _undecided(names, f"all are known words for {side}")
    which = ", ".join(map(repr, unknown)) + (
        " is no known word" if len(unknown) == 1 else " are no known words"
    )
    raise _undecided(names, f"{which} for tumour or normal")


def _sides(folded: Sequence[str]) -> list[Side | None]:
    """Return the side of each class. Numbers count beside 0 or -1 only: 0 or below is negative, the rest is
    positive."""
    if folded and all(map(is_number, folded)):
        values = [float(key) for key in folded]
        known = 0.0 in values or sorted(values) == [-1.0, 1.0]
        return [("positive" if value > 0 else "negative") if known else None for value in values]
    return [side_of(key) for key in folded]


def _undecided(names: Sequence[str], why: str) -> ConfigError:
    example = names[-1]
    return ConfigError(
        f"which of the classes {', '.join(names)} are positive (tumour) cannot be known: {why}. Add "
        f"`slides: {{positive: [{example}]}}` with the names of the positive classes, or "
        "`task: {kind: classification}` if no class is normal"
    )
