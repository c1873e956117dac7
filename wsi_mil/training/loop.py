"""The training loop: mini-batches of several bags, AdamW, validation after every epoch, exact resume."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsi_mil.aggregators import Aggregator
from wsi_mil.contracts.bags import Bag, PackedBags
from wsi_mil.errors import DataError
from wsi_mil.files import write_text
from wsi_mil.logs import progress
from wsi_mil.training.checkpoint import Checkpoint, optimizer_tensors, restore_optimizer
from wsi_mil.training.spec import TrainSpec

CHECKPOINT = "checkpoint.safetensors"
Row = dict[str, float]


@dataclass(frozen=True)
class FitResult:
    """The kept epoch (from 1), its metrics, and those of all epochs. The model holds that epoch's weights."""

    epoch: int
    metrics: Row
    history: list[Row]


def fit(
    model: Aggregator,
    train: Sequence[Bag],
    val: Sequence[Bag],
    spec: TrainSpec,
    *,
    device: torch.device | str = "cpu",
    folder: Path | None = None,
    identity: str = "",
    label: str = "train",
    stop_after: int | None = None,
) -> FitResult:
    """Train `model` in place on `train`; choose the epoch on `val`; return what happened.

    With `folder`: metrics.csv, TensorBoard events and a checkpoint are kept there, and training goes on from a
    checkpoint with the same `identity` to the very numbers of an uninterrupted run. `stop_after`: leave after so many
    epochs, as an interruption would.
    """
    if not train or not val:
        raise DataError(f"training needs training and validation bags, got {len(train)} and {len(val)}")
    run = _Run(model, spec, torch.device(device), identity)
    checkpoint = folder / CHECKPOINT if folder else None
    if checkpoint is not None and checkpoint.exists():
        run.resume(Checkpoint.load(checkpoint))
    board = _board(folder)
    left = range(run.epoch, spec.epochs)
    for epoch in progress(left, total=len(left), label=label, unit="epoch"):
        row = {"epoch": epoch + 1.0, **run.train_epoch(train), **run.validate(val), "lr": run.lr}
        run.finish_epoch(row)
        if board is not None:
            for name, value in row.items():
                board.add_scalar(name, value, epoch + 1)
        stopping = run.out_of_patience() or epoch + 1 == spec.epochs
        if checkpoint is not None and (stopping or (epoch + 1) % spec.checkpoint_every == 0 or epoch + 1 == stop_after):
            run.checkpoint().save(checkpoint)
        if stopping or epoch + 1 == stop_after:
            break
    if board is not None:
        board.close()
    if folder is not None:
        write_text(folder / "metrics.csv", _csv(run.history))
    model.load_state_dict(run.best_state)
    model.eval()
    return FitResult(run.best_epoch, run.history[run.best_epoch - 1], run.history)


class _Run:
    """Everything that changes while a model trains."""

    def __init__(self, model: Aggregator, spec: TrainSpec, device: torch.device, identity: str) -> None:
        self.model, self.spec, self.device, self.identity = model.to(device), spec, device, identity
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=spec.lr, weight_decay=spec.weight_decay)
        self.generator = torch.Generator().manual_seed(spec.seed)
        model.generator = self.generator
        self.epoch = 0
        self.lr = spec.lr
        self.best_key = (-math.inf, -math.inf)
        self.best_epoch = 0
        self.best_state = _copy(model)
        self.history: list[Row] = []
        self._plateau = (math.inf, 0)
        low = spec.precision == "bf16" or (spec.precision == "auto" and device.type == "cuda")
        self._autocast = torch.autocast(device.type, torch.bfloat16, enabled=low)

    def train_epoch(self, bags: Sequence[Bag]) -> Row:
        """One pass over the training bags in a new random order; returns the mean of every loss term."""
        self._set_lr()
        self.model.train()
        order = torch.randperm(len(bags), generator=self.generator).tolist()
        sums: dict[str, float] = {}
        for start in range(0, len(order), self.spec.bags_per_batch):
            batch = PackedBags.pack([bags[i] for i in order[start : start + self.spec.bags_per_batch]]).to(self.device)
            with self._autocast:
                terms = self.model.loss(self.model(batch), batch.labels)
                total = torch.stack(list(terms.values())).sum()
            if not torch.isfinite(total):
                raise DataError(
                    f"the loss is {float(total.detach())} in epoch {self.epoch + 1} at slides {', '.join(batch.slide_ids)}: "
                    "lower train.lr, or look for broken features"
                )
            self.optimizer.zero_grad(set_to_none=True)
            total.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.spec.clip_norm)
            self.optimizer.step()
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + float(term.detach()) * len(batch)
        row = {f"train_{name}": value / len(bags) for name, value in sums.items()}
        return {"train_loss": sum(row.values()), **row}

    @torch.inference_mode()
    def validate(self, bags: Sequence[Bag]) -> Row:
        """Return val_loss (bag term, bag by bag) and val_auc (NaN where undefined)."""
        self.model.eval()
        losses, scores = [], []
        for bag in bags:
            batch = PackedBags.pack([bag]).to(self.device)
            output = self.model(batch)
            losses.append(float(self.model.loss(output, batch.labels)["bag"]))
            scores.append(self.model.probabilities(output.bag_logits.float())[0].double().cpu())
        return {
            "val_loss": sum(losses) / len(losses),
            "val_auc": macro_auc(torch.stack(scores), [b.label for b in bags]),
        }

    def finish_epoch(self, row: Row) -> None:
        self.epoch += 1
        self.history.append(row)
        if self.spec.schedule == "plateau":  # on the training loss, as FocusMIL on Camelyon16: factor 0.1, patience 10
            lowest, waited = self._plateau
            better = row["train_loss"] < lowest * (1 - 1e-4)
            self._plateau = (row["train_loss"], 0) if better else (lowest, waited + 1)
        key = {
            "val_auc": (-math.inf if math.isnan(row["val_auc"]) else row["val_auc"], -row["val_loss"]),
            "val_loss": (-row["val_loss"], 0.0),
            "last": (row["epoch"], 0.0),
        }[self.spec.select_by]
        if key > self.best_key:
            self.best_key, self.best_epoch, self.best_state = key, self.epoch, _copy(self.model)

    def out_of_patience(self) -> bool:
        return self.spec.patience > 0 and self.epoch - self.best_epoch >= self.spec.patience

    def _set_lr(self) -> None:
        if self.spec.schedule == "cosine":
            self.lr = self.spec.lr * 0.5 * (1 + math.cos(math.pi * self.epoch / self.spec.epochs))
        elif self.spec.schedule == "plateau" and self._plateau[1] > 10:
            self.lr *= 0.1
            self._plateau = (self._plateau[0], 0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr

    def checkpoint(self) -> Checkpoint:
        tensors = {
            "model": dict(self.model.state_dict()),
            "best": self.best_state,
            "optimizer": optimizer_tensors(self.optimizer),
            "random": {"generator": self.generator.get_state(), "torch": torch.get_rng_state()},
        }
        values: dict[str, Any] = {
            "identity": self.identity,
            "epoch": self.epoch,
            "lr": self.lr,
            "best_key": list(self.best_key),
            "best_epoch": self.best_epoch,
            "plateau": list(self._plateau),
            "history": self.history,
        }
        return Checkpoint(tensors, values)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from `checkpoint` if it belongs to this training; start afresh if it does not."""
        values = checkpoint.values
        if values["identity"] != self.identity:
            return
        self.model.load_state_dict(checkpoint.tensors["model"])
        self.best_state = checkpoint.tensors["best"]
        restore_optimizer(self.optimizer, checkpoint.tensors["optimizer"], values["lr"])
        self.generator.set_state(checkpoint.tensors["random"]["generator"])
        torch.set_rng_state(checkpoint.tensors["random"]["torch"])
        self.epoch, self.lr, self.best_epoch = values["epoch"], values["lr"], values["best_epoch"]
        self.best_key = (values["best_key"][0], values["best_key"][1])
        self._plateau = (values["plateau"][0], values["plateau"][1])
        self.history = values["history"]


def macro_auc(probabilities: Tensor, labels: Sequence[int]) -> float:
    """Return the ROC AUC of (B, C) probabilities, averaged over the classes that have both sides; two classes: of the
    second. NaN if no class has both."""
    from sklearn.metrics import roc_auc_score

    classes = [1] if probabilities.shape[1] == 2 else list(range(probabilities.shape[1]))
    found = []
    for k in classes:
        truth = [int(label == k) for label in labels]
        if 0 < sum(truth) < len(truth):
            found.append(float(roc_auc_score(truth, probabilities[:, k].numpy())))
    return sum(found) / len(found) if found else math.nan


def _copy(model: Aggregator) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _board(folder: Path | None) -> Any:
    if folder is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"))


def _csv(history: list[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "epoch": int(row["epoch"])} for row in history)
    return text.getvalue()
