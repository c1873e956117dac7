"""Camelyon17: the pN-stage of a patient from classes of lymph nodes, and the kappa of two lists of stages."""

from collections.abc import Sequence

from wsi_mil.errors import DataError

NODE_CLASSES = ("negative", "itc", "micro", "macro")
STAGES = ("pN0", "pN0(i+)", "pN1mi", "pN1", "pN2")


def node_class(tumour: bool, length_um: float) -> str:
    """Return the class of a lymph node by the largest extent of its metastasis.

    Isolated tumour cells up to 0.2 mm, a micrometastasis up to 2 mm, a macrometastasis above.

    >>> [node_class(True, length) for length in (150, 900, 2500)], node_class(False, 900)
    (['itc', 'micro', 'macro'], 'negative')
    """
    if not tumour:
        return "negative"
    return "itc" if length_um <= 200 else "micro" if length_um <= 2000 else "macro"


def pn_stage(nodes: Sequence[str]) -> str:
    """Return the stage of one patient, by the rules of the challenge, from one class per lymph node (slide).

    pN0: no tumour. pN0(i+): isolated tumour cells only. pN1mi: micrometastases, no macrometastasis. pN1:
    metastases in one to three nodes, at least one of them a macrometastasis. pN2: the same in four to nine
    nodes. Isolated cells do not count as a metastasis. Raises DataError for an unknown class or a patient
    without nodes.

    >>> pn_stage(["negative", "micro", "macro", "itc", "negative"])
    'pN1'
    """
    if unknown := [node for node in nodes if node not in NODE_CLASSES]:
        raise DataError(f"a lymph node is {unknown[0]!r}, expected one of {', '.join(NODE_CLASSES)}")
    if not nodes:
        raise DataError("a patient without a lymph node has no pN-stage")
    metastases = sum(node in ("micro", "macro") for node in nodes)
    if "macro" in nodes:
        return "pN1" if metastases < 4 else "pN2"
    if "micro" in nodes:
        return "pN1mi"
    return "pN0(i+)" if "itc" in nodes else "pN0"


def quadratic_kappa(truth: Sequence[str], predicted: Sequence[str]) -> float:
    """Return Cohen's kappa of two lists of stages, with quadratic weights.

    A disagreement counts by the square of the distance between the two stages. NaN if both lists hold only
    one and the same stage. Raises DataError for lists of different lengths and for unknown stages.
    """
    from sklearn.metrics import cohen_kappa_score

    if len(truth) != len(predicted) or not truth:
        raise DataError(f"kappa needs one prediction per patient, got {len(truth)} and {len(predicted)}")
    if unknown := sorted({*truth, *predicted} - set(STAGES)):
        raise DataError(f"unknown stage {unknown[0]!r}, expected one of {', '.join(STAGES)}")
    if len({*truth, *predicted}) == 1:
        return float("nan")
    return float(cohen_kappa_score(truth, predicted, labels=list(STAGES), weights="quadratic"))
