"""The colon nuclei study on one kind of features: the stages of a run, its metrics, and an upper bound."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipelines.crc.mosaics import PatchLabels
from wsi_mil.bags import Split
from wsi_mil.config import RunConfig
from wsi_mil.evaluation.metrics.auc import auc
from wsi_mil.io.json import read_json
from wsi_mil.run.folder import RunFolder
from wsi_mil.stages import run_stage


def run_features(config: RunConfig, name: str, encoder: dict[str, object], mosaics: Path) -> RunFolder:
    """Run the stages up to evaluation with one encoder in `<run>/<name>`; return that run folder."""
    run = config.run / name
    (run / "tissue").mkdir(parents=True, exist_ok=True)
    for path in (mosaics / "tissue").iterdir():
        (run / "tissue" / path.name).write_bytes(path.read_bytes())
    values = config.model_dump(mode="json")
    values["run"], values["encoder"] = str(run), encoder
    values["slides"] |= {
        "folder": str(mosaics / "slides"),
        "labels": str(mosaics / "labels.csv"),
        "annotations": str(mosaics / "annotations"),
    }
    for stage in ("tile", "extract", "train", "score", "evaluate"):
        started = time.perf_counter()
        run_stage(RunConfig(**values), stage)
        print(f"{name}: {stage} took {time.perf_counter() - started:.0f} s", flush=True)
    return RunFolder(run)


def model_rows(run: RunFolder, models: Sequence[str]) -> list[list[str]]:
    """Return a row for each tile score of a model.

    Its cells: the model, what the tile score is, slide and patch AUC with standard deviations over folds, the
    mean patch AUC within slides that have a cancerous patch, and the patch AUPRC of all slides together.
    """
    rows = []
    for model in models:
        metrics = read_json(run.evaluation(model) / "metrics.json")
        slide = metrics["slide"]["folds"]
        for patch in (metrics["patch"], metrics["patch_second"]):
            if patch is not None:
                folds, within = patch["folds"], patch["per_slide"]["auc"]["mean"]
                values = [slide["mean"], slide["std"], folds["mean"], folds["std"], within, patch["auprc"]]
                rows.append([model, patch["score_kind"], *(f"{value:.3f}" for value in values)])
    return rows


def linear_probe(run: RunFolder, key: str, truth: PatchLabels) -> tuple[float, float]:
    """Return the patch AUC of a logistic regression trained on patch labels: mean, standard deviation.

    No other method sees patch labels, so this is an upper bound for the features `key`.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = {s: run.store(s).read_features(key).features.astype(np.float32) for s in truth}
    found = []
    for fold in Split.load(run.split).folds:
        train, test = [*fold.train, *fold.val], fold.test
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
        model.fit(np.concatenate([features[s] for s in train]), np.concatenate([truth[s] for s in train]))
        scores = model.decision_function(np.concatenate([features[s] for s in test]))
        found.append(auc(np.concatenate([truth[s] for s in test]), scores))
    return float(np.mean(found)), float(np.std(found, ddof=1))
