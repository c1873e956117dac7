"""The tables of docs/studies/mnist_bags.md, beside the published figures.

Question: as in `pipelines/mnist_bags.py`. Data: the results.csv that it writes.

    python pipelines/mnist_bags_tables.py runs/mnist_bags/results.csv

Seeds: none. Writes nothing, prints the tables.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipelines.mnist.published import (
    PUBLISHED_ACCURACY,
    PUBLISHED_AUC,
    PUBLISHED_FOUND,
    PUBLISHED_LAMBDA,
    THRESHOLDS,
)
from wsi_mil.io.tables import markdown_table, read_csv

Row = Mapping[str, str]


def cell(values: Sequence[float]) -> str:
    """Return mean and standard deviation over repeats."""
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


def of(rows: Sequence[Row], column: str, **wanted: str) -> list[float]:
    """Return the values of `column` in the rows whose cells equal `wanted`, without empty cells and NaN."""
    chosen = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    return [float(row[column]) for row in chosen if row[column] not in ("", "nan")]


def print_table(title: str, head: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    print(f"\n{title}\n\n{markdown_table(head, lines)}")


def print_comparison(rows: Sequence[Row], methods: Sequence[str]) -> None:
    """Print the AUC of two classes by number of training bags, and the accuracy of four classes."""
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


def print_instances(rows: Sequence[Row], methods: Sequence[str]) -> None:
    """Print how well instance scores find the target digits: precision, recall and F at each threshold."""
    lines = []
    for method in methods:
        kind = next(row["score_kind"] for row in rows if row["method"] == method)
        p, r, f = found_instances(rows, method, "")
        lines.append([method, "attention" if kind == "attention" else "probability", *triples(p, r, f)])
        if method in PUBLISHED_FOUND:
            paper_p, paper_r = PUBLISHED_FOUND[method]
            paper_f = [2 * a * b / (a + b) for a, b in zip(paper_p, paper_r, strict=True)]
            lines.append([f"{method}, paper", "attention", *triples(paper_p, paper_r, paper_f)])
    head = ["method", "score", *(f"P / R / F above {threshold}" for threshold in THRESHOLDS)]
    print_table("Instances of positive bags, two classes, 50 training bags", head, lines)


def found_instances(
    rows: Sequence[Row], method: str, lam: str
) -> tuple[list[float], list[float], list[float]]:
    """Return precision P and recall R, means over repeats, and F = 2PR / (P + R), at each threshold."""
    wanted = {"classes": "2", "bags": "50", "method": method, "lambda": lam}
    p = [float(np.mean(of(rows, f"precision_{t}", **wanted) or [np.nan])) for t in THRESHOLDS]
    r = [float(np.mean(of(rows, f"recall_{t}", **wanted))) for t in THRESHOLDS]
    return p, r, [2 * a * b / (a + b) if a + b > 0 else 0.0 for a, b in zip(p, r, strict=True)]


def triples(p: Sequence[float], r: Sequence[float], f: Sequence[float]) -> list[str]:
    """Return the cells of a table, P / R / F."""
    return [f"{a:.3f} / {b:.3f} / {c:.3f}" for a, b, c in zip(p, r, f, strict=True)]


def print_ablation(rows: Sequence[Row]) -> None:
    """Print AUC and found instances of loss-attention by lambda."""
    lines = []
    for lam in sorted({row["lambda"] for row in rows if row["lambda"]}, key=float):
        p, r, f = found_instances(rows, "loss_attention", lam)
        auc = of(rows, "auc", classes="2", bags="50", method="loss_attention", **{"lambda": lam})
        paper = PUBLISHED_LAMBDA.get(lam, (np.nan,) * 3)
        recall = " ".join(f"{value:.3f}" for value in paper)
        lines.append([lam, cell(auc), *triples(p, r, f), recall])
    head = ["lambda", "AUC", *(f"P / R / F above {t}" for t in THRESHOLDS), "paper: recall above .9 .5 .1"]
    print_table("Loss-attention by lambda (mean form of L2), two classes, 50 training bags", head, lines)


def print_best_epochs(rows: Sequence[Row]) -> None:
    """Print the AUC of the last epoch and of the best epoch on the test bags, of the same trainings."""
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows if row["auc_best_epoch"]):
        watched = [row for row in rows if row["method"] == method and row["auc_best_epoch"]]
        last, best = ([float(row[column]) for row in watched] for column in ("auc_watched", "auc_best_epoch"))
        values = [f"{cell(aucs)} ({np.median(aucs):.3f})" for aucs in (last, best)]
        lines.append([method, *values, f"{PUBLISHED_AUC[method][0]:.3f}"])
    head = ["method", "last epoch", "best epoch of the test bags", "paper"]
    print_table("The same trainings twice, 50 training bags: AUC ± standard deviation (median)", head, lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    rows = read_csv(parser.parse_args().results)
    methods = list(dict.fromkeys(row["method"] for row in rows))
    print_comparison(rows, methods)
    print_best_epochs(rows)
    print_instances(rows, [m for m in methods if m not in ("mean_pool", "max_pool")])
    print_ablation(rows)
    seconds = sum(float(row["seconds"]) for row in rows)
    print(f"\n{len(rows)} trainings, {seconds / 60:.0f} core minutes")


if __name__ == "__main__":
    main()
