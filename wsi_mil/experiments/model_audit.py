"""The audit of a trained model: held-out slides are changed and the predictions compared.

Nothing is trained.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from wsi_mil.config import RunConfig
from wsi_mil.config.validation import require_detection
from wsi_mil.errors import ConfigError, DataError, nearest
from wsi_mil.experiments.audit_pixels import ask_of_pixels
from wsi_mil.experiments.audited_slides import audited_slides
from wsi_mil.io.json import write_json
from wsi_mil.randomness import named_generator
from wsi_mil.report.audit_figure import draw_audit
from wsi_mil.robustness.audit.audit_file import refuse_other_audit
from wsi_mil.robustness.audit.interventions import QUESTIONS, AuditedSlide, ask_of_features
from wsi_mil.robustness.audit.model_audit import KIND, ModelAudit, agreement, summarise_check
from wsi_mil.run.context import open_run
from wsi_mil.run.lock import locked

POOL_TILES_A_SLIDE = 500


def run_audit(config: RunConfig, name: str, pixel_slides: int = 8, out: Path | None = None) -> ModelAudit:
    """Audit model `name` of a run on its test slides; write audit.json and curves.png.

    They are written into `out`, by default RUN/audit/<name>.

    pixel_slides: how many slides of each class are read again for the checks that change pixels; 0: none.
    Raises ConfigError if the run has no such model, DataError without labelled and scored test slides.
    """
    require_detection(config, "audit")
    if out is not None:
        refuse_other_audit(out, KIND, ("curves.png",))
    with locked(config.run):
        context = open_run(config, keep_configuration=True)
        if name not in config.models:
            raise ConfigError(f"the run has no model {name!r}. Nearest: {nearest(name, list(config.models))}")
        audited = audited_slides(context, name)
        slides = audited.slides
        seed, draws = config.evaluation.seed, config.evaluation.bootstrap
        answers = ask_of_features(slides, _normal_tiles(slides, seed), seed)
        of_pixels = ask_of_pixels(context, name, audited, pixel_slides)
        answers |= of_pixels.answers
        right = [slide for slide in slides if slide.rightly_called]
        found = ModelAudit(
            name,
            audited.digests,
            len(slides),
            len(right),
            sum(bool(slide.label) for slide in right),
            tuple(summarise_check(QUESTIONS[key], points, seed, draws) for key, points in answers.items()),
            agreement(slides, seed, draws),
            of_pixels.skipped,
        )
        folder = out or context.run.audit(name)
        write_json(folder / "audit.json", found.as_json())
        draw_audit(found, folder / "curves.png")
        return found


def _normal_tiles(slides: Sequence[AuditedSlide], seed: int) -> Tensor:
    """Return features (M, D) of random tiles of normal test slides, POOL_TILES_A_SLIDE or fewer of each."""
    normal = [slide for slide in slides if not slide.label]
    if not normal:
        raise DataError("the audit replaces tiles by tiles of normal slides, but no test slide is normal")
    chosen = [
        named_generator(seed, "normal tiles", s.slide_id).permutation(len(s.features))[:POOL_TILES_A_SLIDE]
        for s in normal
    ]
    return torch.cat([s.features[torch.from_numpy(rows)] for s, rows in zip(normal, chosen, strict=True)])
