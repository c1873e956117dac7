"""The tables of docs/studies/mnist_bags.md from the results of pipelines/mnist_bags.py, beside the published figures.

python pipelines/mnist_bags_tables.py runs/mnist_bags/results.csv
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

THRESHOLDS = ("0.9", "0.7", "0.5", "0.3", "0.1")
# Shi et al., AAAI 2020, Table 2: AUC at 50, 100, 150, 200 training bags, accuracy (four classes) at 50
PUBLISHED_AUC = {
    "mean_pool": (0.794, 0.847, 0.904, 0.934),
    "max_pool": (0.805, 0.943, 0.962, 0.975),
    "mi_net": (0.904, 0.947, 0.952, 0.954),
    "abmil": (0.914, 0.963, 0.977, 0.984),
    "abmil_gated": (0.908, 0.959, 0.973, 0.979),
    "loss_attention": (0.931, 0.969, 0.978, 0.984),
}
PUBLISHED_ACCURACY = {
    "mean_pool": 0.582,
    "max_pool": 0.635,
    "mi_net": 0.477,
    "abmil": 0.753,
    "abmil_gated": 0.720,
    "loss_attention": 0.765,
}
# the same, Figure 2, 50 training bags, binary: precision, recall at thresholds .9, .7, .5, .3, .1 (measured from the curves)
PUBLISHED_FOUND = {
    "abmil": ((0.913, 0.878, 0.851, 0.818, 0.716), (0.283, 0.396, 0.503, 0.655, 0.759)),
    "abmil_gated": ((0.914, 0.884, 0.856, 0.805, 0.646), (0.189, 0.325, 0.473, 0.665, 0.787)),
    "loss_attention": ((0.967, 0.948, 0.928, 0.897, 0.822), (0.481, 0.544, 0.583, 0.623, 0.685)),
}
# Figure 3, binary recall at thresholds .9, .5, .1 by lambda
PUBLISHED_LAMBDA = {
    "0": (0.300, 0.525, 0.737),
    "0.001": (0.404, 0.565, 0.713),
    "0.01": (0.420, 0.573, 0.710),
    "0.1": (0.447, 0.576, 0.697),
    "1": (0.477, 0.582, 0.686),
    "10": (0.513, 0.587, 0.665),
    "100": (0.529, 0.594, 0.658),
}
Row = dict[str, str]


def cell(values: Sequence[float]) -> str:
    """Mean and standard deviation over repeats."""
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


def of(rows: Sequence[Row], column: str, **wanted: str) -> list[float]:
    """The values of `column` in the rows that have all of `wanted`; empty cells left out."""
    chosen = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    return [float(row[column]) for row in chosen if row[column] not in ("", "nan")]


def print_table(title: str, head: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    print(f"\n{title}\n\n| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for line in lines:
        print("| " + " | ".join(line) + " |")


def comparison(rows: Sequence[Row], methods: Sequence[str]) -> None:
    sizes = sorted({row["bags"] for row in rows if row["classes"] == "2"}, key=int)
    lines = []
    for method in methods:
        line = [method]
        for i, size in enumerate(sizes):
            own = of(rows, "auc", classes="2", bags=size, method=method, **{"lambda": ""})
            paper = f"{PUBLISHED_AUC[method][i]:.3f}" if method in PUBLISHED_AUC else "-"
            line += [f"{cell(own)} ({np.median(own):.3f})", paper]
        lines.append(line)
    head = ["method", *(f"{size} bags{what}" for size in sizes for what in ("", ", paper"))]
    print_table("AUC, two classes: mean ± standard deviation (median)", head, lines)
    lines = []
    for method in methods:
        own = of(rows, "accuracy", classes="4", bags="50", method=method, **{"lambda": ""})
        paper = f"{PUBLISHED_ACCURACY[method]:.3f}" if method in PUBLISHED_ACCURACY else "-"
        lines.append([method, cell(own), paper])
    print_table("Accuracy, four classes, 50 bags", ["method", "ours", "paper"], lines)


def instances(rows: Sequence[Row], methods: Sequence[str]) -> None:
    """Mean precision, recall and F = 2PR / (P + R) of these means at each threshold."""
    lines = []
    for method in methods:
        kind = next(row["score_kind"] for row in rows if row["method"] == method)
        p, r, f = found(rows, method, "")
        lines.append([method, "attention" if kind == "attention" else "probability", *triples(p, r, f)])
        if method in PUBLISHED_FOUND:
            paper_p, paper_r = PUBLISHED_FOUND[method]
            paper_f = [2 * a * b / (a + b) for a, b in zip(paper_p, paper_r, strict=True)]
            lines.append([f"{method}, paper", "attention", *triples(paper_p, paper_r, paper_f)])
    head = ["method", "score", *(f"P / R / F above {threshold}" for threshold in THRESHOLDS)]
    print_table("Instances of positive bags, two classes, 50 training bags", head, lines)


def found(rows: Sequence[Row], method: str, lam: str) -> tuple[list[float], list[float], list[float]]:
    wanted = {"classes": "2", "bags": "50", "method": method, "lambda": lam}
    p = [float(np.mean(of(rows, f"precision_{t}", **wanted) or [np.nan])) for t in THRESHOLDS]
    r = [float(np.mean(of(rows, f"recall_{t}", **wanted))) for t in THRESHOLDS]
    return p, r, [2 * a * b / (a + b) if a + b > 0 else 0.0 for a, b in zip(p, r, strict=True)]


def triples(p: Sequence[float], r: Sequence[float], f: Sequence[float]) -> list[str]:
    return [f"{a:.3f} / {b:.3f} / {c:.3f}" for a, b, c in zip(p, r, f, strict=True)]


def ablation(rows: Sequence[Row]) -> None:
    lines = []
    for lam in sorted({row["lambda"] for row in rows if row["lambda"]}, key=float):
        p, r, f = found(rows, "loss_attention", lam)
        auc = of(rows, "auc", classes="2", bags="50", method="loss_attention", **{"lambda": lam})
        paper = PUBLISHED_LAMBDA.get(lam, (np.nan,) * 3)
        recall = " ".join(f"{value:.3f}" for value in paper)
        lines.append([lam, cell(auc), *triples(p, r, f), recall])
    head = ["lambda", "AUC", *(f"P / R / F above {t}" for t in THRESHOLDS), "paper: recall above .9 .5 .1"]
    print_table("Loss-attention by lambda (mean form of L2), two classes, 50 training bags", head, lines)


def best_epochs(rows: Sequence[Row]) -> None:
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows if row["auc_best_epoch"]):
        watched = [row for row in rows if row["method"] == method and row["auc_best_epoch"]]
        last, best = ([float(row[column]) for row in watched] for column in ("auc_watched", "auc_best_epoch"))
        values = [f"{cell(found)} ({np.median(found):.3f})" for found in (last, best)]
        lines.append([method, *values, f"{PUBLISHED_AUC[method][0]:.3f}"])
    head = ["method", "last epoch", "best epoch of the test bags", "paper"]
    print_table("The same trainings twice, 50 training bags: AUC ± standard deviation (median)", head, lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    with parser.parse_args().results.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    comparison(rows, methods)
    best_epochs(rows)
    instances(rows, [m for m in methods if m not in ("mean_pool", "max_pool")])
    ablation(rows)
    seconds = sum(float(row["seconds"]) for row in rows)
    print(f"\n{len(rows)} trainings, {seconds / 60:.0f} core minutes")


if __name__ == "__main__":
    main()
