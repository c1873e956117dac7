"""Tables of the poison study: by cohort and method, of the ablation, and by dose."""

from collections.abc import Mapping, Sequence

from wsi_mil.experiments.poison_table import spread_text
from wsi_mil.io.tables import markdown_table
from wsi_mil.report.poison_figure import mean_of
from wsi_mil.robustness.poison.study import PoisonedModel, PoisonStudy

Doses = Mapping[str, Mapping[float, PoisonStudy]]
"""Axis (coverage or strength) -> value on that axis -> study."""

METHOD_HEAD = (
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
)
ABLATION_HEAD = (
    "cohort",
    "method",
    "training AUC",
    "test AUC",
    "patch AUC",
    "under poison: training AUC",
    "test AUC",
    "patch AUC",
)


def method_table(studies: Mapping[str, PoisonStudy]) -> str:
    """Return a Markdown table with a row per cohort and method.

    Columns: slide AUC in every condition, patch AUC and FROC clean and poisoned, the fraction of the score on
    poison, and the verdict.
    """
    rows = []
    for cohort, study in studies.items():
        for model in sorted(study.models, key=lambda m: -mean_of(m, "poison", "slide_auc")):
            slide = [
                spread_text(model.metric(condition, "slide_auc"))
                for condition in ("none", "train_only", "test_only", "poison", "alike")
            ]
            others = [
                _mean(model, condition, name)
                for condition, name in (
                    ("none", "patch_auc"),
                    ("poison", "patch_auc"),
                    ("none", "froc"),
                    ("poison", "froc"),
                    ("poison", "poison_share"),
                    ("poison", "poison_top"),
                )
            ]
            rows.append([cohort, model.model, *slide, *others, model.verdict or "-"])
    return markdown_table(METHOD_HEAD, rows)


def ablation_table(studies: Mapping[str, PoisonStudy], names: Sequence[str]) -> str:
    """Return a Markdown table of the models `names`: AUC on training and test part, clean and poisoned."""
    rows = []
    for cohort, study in studies.items():
        by_name = {model.model: model for model in study.models}
        for model in (by_name[name] for name in names if name in by_name):
            trained = [spread_text(model.train_auc.get(arm)) for arm in ("none", "normal")]
            clean, poisoned = (
                [spread_text(model.metric(condition, name)) for name in ("slide_auc", "patch_auc")]
                for condition in ("none", "poison")
            )
            rows.append([cohort, model.model, trained[0], *clean, trained[1], *poisoned])
    return markdown_table(ABLATION_HEAD, rows)


def dose_table(doses: Doses) -> str:
    """Return a Markdown table: slide AUC under poison for every coverage and strength; "" without studies."""
    steps = [(axis, step, study) for axis, by_step in doses.items() for step, study in by_step.items()]
    if not steps:
        return ""
    rows = [
        [
            model.model,
            *(
                spread_text(model_named(study, model.model).metric("poison", "slide_auc"))
                for *_, study in steps
            ),
        ]
        for model in steps[0][2].models
    ]
    return markdown_table(["method", *(f"{axis} {step:g}" for axis, step, _ in steps)], rows)


def model_named(study: PoisonStudy, name: str) -> PoisonedModel:
    """Return one model of a study by its name."""
    return next(model for model in study.models if model.model == name)


def _mean(model: PoisonedModel, condition: str, name: str) -> str:
    value = mean_of(model, condition, name)
    return "-" if value < 0 else f"{value:.3f}"
