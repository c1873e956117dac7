"""The poison experiment as tables to read: per cohort and method, the ablation, the doses."""

from collections.abc import Mapping, Sequence
from typing import Any

Study = Mapping[str, Any]


def method_table(studies: Mapping[str, Study]) -> str:
    """Return a Markdown table: slide AUC in every condition, patch AUC and FROC clean and poisoned, what lies on poison, verdict."""
    head = [
        "cohort",
        "method",
        "slide AUC, clean",
        "training only",
        "test only",
        "**poison**",
        "all alike",
        "patch AUC, clean",
        "poison",
        "FROC, clean",
        "poison",
        "score on poison",
        "top on poison",
        "verdict",
    ]
    rows = []
    for cohort, study in studies.items():
        for model in sorted(study["models"], key=lambda m: -value_of(m, "poison", "slide_auc")):
            slide = [
                _spread(model, c, "slide_auc") for c in ("none", "train_only", "test_only", "poison", "alike")
            ]
            others = [
                _mean(model, c, key)
                for c, key in (
                    ("none", "patch_auc"),
                    ("poison", "patch_auc"),
                    ("none", "froc"),
                    ("poison", "froc"),
                    ("poison", "poison_share"),
                    ("poison", "poison_top"),
                )
            ]
            rows.append([cohort, model["model"], *slide, *others, model.get("verdict", "-")])
    return _markdown(head, rows)


def verdict_rows(study: Study) -> list[str]:
    """Return the study as lines for a terminal: a row per model, and what the words mean."""
    width = max(12, *(len(model["model"]) for model in study["models"]))
    keys = [
        ("clean", "none", "slide_auc"),
        ("poisoned", "poison", "slide_auc"),
        ("patch", "none", "patch_auc"),
        ("poisoned", "poison", "patch_auc"),
        ("on poison", "poison", "poison_share"),
    ]
    rows = ["  ".join([f"{'slide AUC:':<{width}}", *(f"{title:>15}" for title, _, _ in keys), "verdict"])]
    for model in study["models"]:
        cells = [_spread(model, condition, key) for _, condition, key in keys]
        rows.append(
            "  ".join(
                [f"{model['model']:<{width}}", *(f"{cell:>15}" for cell in cells), model.get("verdict", "-")]
            )
        )
    share = study["share_of_tiles"]
    return [*rows, f"poison lies on {share:.1%} of the tiles; ±: half the 95 % t interval over trainings"]


def ablation_table(studies: Mapping[str, Study], names: Sequence[str]) -> str:
    """Return a Markdown table of some models: training AUC beside the test AUC, clean and poisoned."""
    head = [
        "cohort",
        "method",
        "training AUC",
        "test AUC",
        "patch AUC",
        "under poison: training AUC",
        "test AUC",
        "patch AUC",
    ]
    rows = []
    for cohort, study in studies.items():
        by_name = {model["model"]: model for model in study["models"]}
        for name in (n for n in names if n in by_name):
            model = by_name[name]
            trained = [_interval(model.get(f"train_auc_{arm}")) for arm in ("none", "normal")]
            clean, poisoned = (
                [_spread(model, c, k) for k in ("slide_auc", "patch_auc")] for c in ("none", "poison")
            )
            rows.append([cohort, name, trained[0], *clean, trained[1], *poisoned])
    return _markdown(head, rows)


def dose_table(doses: Mapping[str, Mapping[float, Study]]) -> str:
    """Return a Markdown table: slide AUC under poison by coverage and by strength."""
    steps = [(axis, step, study) for axis, by_step in doses.items() for step, study in by_step.items()]
    if not steps:
        return ""
    head = ["method", *(f"{axis} {step:g}" for axis, step, _ in steps)]
    models = [model["model"] for model in steps[0][2]["models"]]
    rows = []
    for name in models:
        found = [next(m for m in study["models"] if m["model"] == name) for _, _, study in steps]
        rows.append([name, *(_spread(model, "poison", "slide_auc") for model in found)])
    return _markdown(head, rows)


def value_of(model: Study, condition: str, key: str) -> float:
    """Return a mean of poison.json, -1 where there is none."""
    value = model["conditions"].get(condition, {}).get(key, {}).get("mean")
    return -1.0 if value is None or value != value else float(value)


def _mean(model: Study, condition: str, key: str) -> str:
    value = value_of(model, condition, key)
    return "-" if value < 0 else f"{value:.3f}"


def _spread(model: Study, condition: str, key: str) -> str:
    return _interval(model["conditions"].get(condition, {}).get(key))


def _interval(found: Mapping[str, Any] | None) -> str:
    """Mean and half the width of the 95 % t interval."""
    if not found or found["mean"] is None or found["mean"] != found["mean"]:
        return "-"
    if found["low"] is None or found["low"] != found["low"]:
        return f"{found['mean']:.3f}"
    return f"{found['mean']:.3f} ± {found['mean'] - found['low']:.3f}"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
