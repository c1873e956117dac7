"""Tables of the poison study: by cohort and method, of the ablation, and by dose."""

from collections.abc import Mapping, Sequence

from wsi_mil.experiments.poison_table import spread_text
from wsi_mil.io.tables import markdown_table
from wsi_mil.report.poison_figure import mean_of
from wsi_mil.robustness.poison.study import PoisonedModel, PoisonStudy

Doses = Mapping[str, Mapping[float, PoisonStudy]]
"""Axis (coverage or strength) -> value on that axis -> study."""

OF_DIRECTIONS = (
    *("training only", "test only", "**poison**", "verdict"),
    *("mirrored: training only", "test only", "**mirrored**", "verdict"),
)
METHOD_HEAD = ("cohort", "method", "slide AUC, clean", *OF_DIRECTIONS, "all alike")
PATCH_HEAD = (
    *("cohort", "method", "patch AUC, clean", "poison", "mirrored", "FROC, clean", "poison", "mirrored"),
    *("score on poison", "mirrored", "top on poison", "mirrored"),
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
    "mirrored: training AUC",
    "test AUC",
    "patch AUC",
)


def method_table(studies: Mapping[str, PoisonStudy]) -> str:
    """Return a Markdown table with a row per cohort and method.

    Columns: slide AUC in every condition, and the verdict in each direction.
    """
    rows = []
    for cohort, model in _sorted(studies):
        clean, normal, tumour, alike = (
            [spread_text(model.metric(condition, "slide_auc")) for condition in conditions]
            for conditions in (
                ("none",),
                ("train_only", "test_only", "poison"),
                ("mirrored_train_only", "mirrored_test_only", "mirrored"),
                ("alike",),
            )
        )
        verdicts = model.verdict("normal"), model.verdict("tumour")
        rows.append([cohort, model.model, *clean, *normal, verdicts[0], *tumour, verdicts[1], *alike])
    return markdown_table(METHOD_HEAD, rows)


def patch_table(studies: Mapping[str, PoisonStudy]) -> str:
    """Return a Markdown table with a row per cohort and method.

    Columns: patch AUC and FROC clean and in both directions, and the fraction of the score, and of highest
    tiles, that lies on poison.
    """
    shown = [
        *(
            (condition, name)
            for name in ("patch_auc", "froc")
            for condition in ("none", "poison", "mirrored")
        ),
        *(
            (condition, name)
            for name in ("poison_share", "poison_top")
            for condition in ("poison", "mirrored")
        ),
    ]
    rows = [
        [cohort, model.model, *(_mean(model, condition, name) for condition, name in shown)]
        for cohort, model in _sorted(studies)
    ]
    return markdown_table(PATCH_HEAD, rows)


def _sorted(studies: Mapping[str, PoisonStudy]) -> list[tuple[str, PoisonedModel]]:
    """Return (cohort, model), in each cohort from the highest slide AUC under poison to the lowest."""
    return [
        (cohort, model)
        for cohort, study in studies.items()
        for model in sorted(study.models, key=lambda m: -mean_of(m, "poison", "slide_auc"))
    ]


def ablation_table(studies: Mapping[str, PoisonStudy], names: Sequence[str]) -> str:
    """Return a Markdown table of the models `names`: AUC on training and test part, clean and poisoned."""
    rows = []
    for cohort, study in studies.items():
        by_name = {model.model: model for model in study.models}
        for model in (by_name[name] for name in names if name in by_name):
            cells = [
                text
                for arm, condition in (("none", "none"), ("normal", "poison"), ("tumour", "mirrored"))
                for text in (
                    spread_text(model.train_auc.get(arm)),
                    spread_text(model.metric(condition, "slide_auc")),
                    spread_text(model.metric(condition, "patch_auc")),
                )
            ]
            rows.append([cohort, model.model, *cells])
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
