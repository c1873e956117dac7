"""The training loop: mini-batches of several bags, AdamW, validation after every epoch, exact resume."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsi_mil.aggregators import Aggregator
from wsi_mil.aggregators.instance_maximum import set_pooling
from wsi_mil.aggregators.max_pooling import MaxPooling
from wsi_mil.bags import BagSource, StoredBag
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.errors import ConfigError, DataError, ModelError
from wsi_mil.io.files import write_text
from wsi_mil.io.tables import csv_text
from wsi_mil.logs import progress
from wsi_mil.randomness import named_generator
from wsi_mil.tasks import Detection, Task
from wsi_mil.training.balance import epoch_order, loss_weights
from wsi_mil.training.board import EventWriter
from wsi_mil.training.checkpoint import Checkpoint, optimizer_tensors, restore_optimizer
from wsi_mil.training.learning import has_learned, learning_measures
from wsi_mil.training.loading import Buffer, packed_batches
from wsi_mil.training.spec import TrainSpec
from wsi_mil.training.two_pass import backward_in_two_passes, score_in_chunks
from wsi_mil.training.warm_up import pooling_of, warm_up_epochs

CHECKPOINT, HISTORY = "checkpoint.safetensors", "metrics.csv"
ONE_PASS = {"cpu": 1024, "cuda": 16384}
"""Batches of at most this many instances take one pass. On a CPU two passes are slower below it; on a GPU
they only save memory."""
Row = dict[str, float]


@dataclass(frozen=True)
class FitResult:
    """The kept epoch (from 1), its metrics, and those of all epochs. The model holds that epoch's weights.

    `task`: as fitted to the training bags; `task.predict` turns bag logits into what a person reads.
    """

    epoch: int
    metrics: Row
    history: list[Row]
    task: Task

    @property
    def learned(self) -> bool | None:
        """Whether the model has learned anything; None if that is not known."""
        return has_learned(self.metrics)


def fit(
    model: Aggregator,
    train: Sequence[BagSource],
    val: Sequence[BagSource],
    spec: TrainSpec,
    *,
    task: Task | None = None,
    device: torch.device | str = "cpu",
    folder: Path | None = None,
    identity: str = "",
    label: str = "train",
    stop_after: int | None = None,
) -> FitResult:
    """Train `model` in place on `train`; choose the epoch on `val`; return what happened.

    `task`: what the labels of the bags mean; default: detection. Raises ConfigError for a task that the model
    does not support.

    With select_by 'last' no epoch is chosen and `val` may be empty.

    `folder`: gets metrics.csv, TensorBoard events and a checkpoint. Training resumes from a checkpoint with
    the same
    `identity` and ends with the same numbers as without an interruption.
    `stop_after`: return after so many epochs, as an interruption would.
    """
    if not train or (not val and spec.select_by != "last"):
        raise DataError(f"training needs training and validation bags, got {len(train)} and {len(val)}")
    task = (task or Detection.of(max(model.n_outputs, 2))).fitted([bag.label for bag in train])
    run = _Run(model, spec, torch.device(device), identity, task)
    run.weigh(loss_weights(spec, task, [bag.label for bag in train]))
    # Layers of torch such as nn.Dropout draw from torch's own generators. Each epoch seeds them anew, so that
    # no state of theirs outlives an epoch, and none comes from outside.
    with torch.random.fork_rng(devices=[run.device] if run.device.type == "cuda" else []):
        torch.manual_seed(spec.seed)
        return _fit(run, train, val, folder=folder, label=label, stop_after=stop_after)


def has_checkpoint(folder: Path, identity: str) -> bool:
    """Return whether a folder holds a whole checkpoint of the training `identity`."""
    try:
        return bool(Checkpoint.load(folder / CHECKPOINT).values["identity"] == identity)
    except (ModelError, KeyError):
        return False


class _Run:
    """Everything that changes while a model trains."""

    def __init__(
        self, model: Aggregator, spec: TrainSpec, device: torch.device, identity: str, task: Task
    ) -> None:
        self.model, self.spec, self.device, self.identity = model.to(device), spec, device, identity
        if spec.two_pass == "always" and not isinstance(model, MaxPooling):
            raise ConfigError(
                f"train.two_pass=always: {type(model).__name__} is no max-pooling method; leave it at 'auto'"
            )
        if task.kind not in model.tasks:
            raise ConfigError(f"{type(model).__name__} does not support the task {task.kind}")
        if task.compares_slides and spec.bags_per_batch < 2:
            raise ConfigError(
                "train.bags_per_batch=1: the loss of this task compares the slides of a step: give at least "
                "2, better 16 or more"
            )
        self.task = task
        self.task_loss = self.train_loss = model.task_loss(task)
        kind = torch.optim.AdamW if spec.optimizer == "adamw" else torch.optim.Adam
        self.optimizer = kind(model.parameters(), lr=spec.lr, weight_decay=spec.weight_decay, fused=True)
        self.generator = torch.Generator().manual_seed(spec.seed)
        model.generator = self.generator
        self.buffers = (Buffer(), Buffer())
        self.epoch = 0
        self.lr = spec.lr
        self.best_key = (-math.inf, -math.inf)
        self.best_epoch = 0
        self.best_state = _copy(model)
        self.history: list[Row] = []
        self._plateau = (math.inf, 0)
        self.measure = "val_auc"
        self.warm_up_epochs = warm_up_epochs(spec, model)
        low = spec.precision == "bf16" or (spec.precision == "auto" and device.type == "cuda")
        self._autocast = torch.autocast(device.type, torch.bfloat16, enabled=low)

    def weigh(self, weights: tuple[float, ...]) -> None:
        """Give the classes these weights in the loss of training; validation has none."""
        self.train_loss = replace(self.task_loss, weights=weights)

    def train_epoch(self, bags: Sequence[BagSource]) -> Row:
        """One pass over the training bags in a new random order; returns the mean of every loss term."""
        self._set_lr()
        torch.manual_seed(int(named_generator(self.spec.seed, "layers", str(self.epoch)).integers(2**62)))
        self.model.start_epoch(self.epoch)
        set_pooling(self.model, pooling_of(self.spec, self.epoch, self.warm_up_epochs))
        self.model.train()
        bags = [bag.drawn(self.generator) if isinstance(bag, StoredBag) else bag for bag in bags]
        order = epoch_order(self.spec, [bag.label for bag in bags], self.generator)
        size = self.spec.bags_per_batch
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        sums: dict[str, float] = {}
        for batch, terms in zip(batches, self._steps(bags, batches), strict=True):
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + term * len(batch)
        row = {f"train_{name}": value / len(bags) for name, value in sums.items()}
        return {"train_loss": sum(row.values()), **row}

    def _steps(self, bags: Sequence[BagSource], batches: Sequence[Sequence[int]]) -> Iterator[Row]:
        """Take one optimiser step per batch; yield its loss terms."""
        if self._in_two_passes(bags, batches):
            for batch in batches:
                yield self._step(
                    [bags[i].slide_id for i in batch], partial(self._two_passes, [bags[i] for i in batch])
                )
        else:
            for packed in packed_batches(bags, batches, self.buffers):
                yield self._step(packed.slide_ids, partial(self._one_pass, packed))

    def _in_two_passes(self, bags: Sequence[BagSource], batches: Sequence[Sequence[int]]) -> bool:
        if not isinstance(self.model, MaxPooling) or self.spec.two_pass == "never":
            return False
        largest = max(sum(len(bags[i]) for i in batch) for batch in batches)
        return self.spec.two_pass == "always" or largest > ONE_PASS.get(self.device.type, ONE_PASS["cuda"])

    def _step(self, slide_ids: Sequence[str], add_gradients: Callable[[], dict[str, Tensor]]) -> Row:
        self.optimizer.zero_grad(set_to_none=True)
        terms = {name: float(term) for name, term in add_gradients().items()}
        if not math.isfinite(sum(terms.values())):
            raise DataError(
                f"the loss is {sum(terms.values())} in epoch {self.epoch + 1} at slides "
                f"{', '.join(slide_ids)}: lower "
                "train.lr, or look for broken features"
            )
        if self.spec.clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.spec.clip_norm)
        self.optimizer.step()
        return terms

    def _one_pass(self, packed: PackedBags) -> dict[str, Tensor]:
        batch = packed.to(self.device)
        with self._autocast:
            terms = self.model.loss(self.model(batch), batch.labels, self.train_loss)
            total = torch.stack(list(terms.values())).sum()
        total.backward()
        return {name: term.detach() for name, term in terms.items()}

    def _two_passes(self, bags: Sequence[BagSource]) -> dict[str, Tensor]:
        assert isinstance(self.model, MaxPooling)
        with self._autocast:
            return backward_in_two_passes(
                self.model,
                bags,
                self.train_loss,
                chunk_rows=self.spec.chunk_rows,
                device=self.device,
                buffers=self.buffers,
            )

    @torch.inference_mode()
    def validate(self, bags: Sequence[BagSource]) -> Row:
        """Return val_loss (bag term, mean over bags) and the measures of the task, NaN where undefined.

        Of a loss that compares slides, val_loss is that of all bag logits together.
        """
        self.model.eval()
        losses, logits = 0.0, []
        for batch in self._validation_batches(bags):
            output = self.model(batch)
            losses += float(self.model.loss(output, batch.labels, self.task_loss)["bag"]) * len(batch)
            logits.append(output.bag_logits.float())
        targets = [bag.label for bag in bags]
        mean = losses / len(bags)
        if self.task.compares_slides:
            mean = float(self.task_loss(torch.cat(logits).cpu(), torch.tensor(targets)))
        predictions = torch.cat([self.task.predict(part).double().cpu() for part in logits])
        found = self.task.measures(predictions, targets)
        self.measure = f"val_{next(iter(found))}"
        return {
            "val_loss": mean,
            **{f"val_{name}": value for name, value in found.items()},
            **learning_measures(self.task_loss, torch.cat(logits).cpu(), targets),
        }

    def _validation_batches(self, bags: Sequence[BagSource]) -> Iterator[PackedBags]:
        """Yield the bags in order, up to chunk_rows instances at a time. With max pooling a larger bag is
        reduced to the instances that hold a maximum."""
        rows = self.spec.chunk_rows
        if isinstance(self.model, MaxPooling) and max(len(bag) for bag in bags) > rows:
            for bag in bags:
                yield score_in_chunks(
                    self.model, bag, chunk_rows=rows, device=self.device, buffers=self.buffers
                )[0].to(self.device)
            return
        batches: list[list[int]] = []
        filled = rows
        for number, bag in enumerate(bags):
            if filled + len(bag) > rows:
                batches.append([])
                filled = 0
            batches[-1].append(number)
            filled += len(bag)
        yield from (packed.to(self.device) for packed in packed_batches(bags, batches, self.buffers))

    def finish_epoch(self, row: Row) -> None:
        self.epoch += 1
        self.history.append(row)
        if (
            self.spec.schedule == "plateau"
        ):  # on the training loss, as FocusMIL on Camelyon16: factor 0.1, patience 10
            lowest, waited = self._plateau
            better = row["train_loss"] < lowest * (1 - 1e-4)
            self._plateau = (row["train_loss"], 0) if better else (lowest, waited + 1)
        key = self._merit(row)
        if self.epoch > self.warm_up_epochs and key > self.best_key:
            self.best_key, self.best_epoch, self.best_state = key, self.epoch, _copy(self.model)

    def _merit(self, row: Row) -> tuple[float, float]:
        """Return the key of an epoch: the epoch with the largest key is kept."""
        if self.spec.select_by == "last":
            return (row["epoch"], 0.0)
        if self.spec.select_by == "val_loss":
            return (-row["val_loss"], 0.0)
        value = row[self.measure]
        return (-math.inf if math.isnan(value) else value, -row["val_loss"])

    def out_of_patience(self) -> bool:
        best = max(self.best_epoch, self.warm_up_epochs)
        return self.spec.patience > 0 and self.epoch - best >= self.spec.patience

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
            "memory": self.model.training_state(),
            "random": {"generator": self.generator.get_state()},
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
        """Continue from `checkpoint` if it belongs to this training; otherwise start anew."""
        values = checkpoint.values
        if values["identity"] != self.identity:
            return
        self.model.load_state_dict(checkpoint.tensors["model"])
        self.best_state = checkpoint.tensors["best"]
        restore_optimizer(self.optimizer, checkpoint.tensors["optimizer"], values["lr"])
        self.model.load_training_state(checkpoint.tensors.get("memory", {}))
        self.generator.set_state(checkpoint.tensors["random"]["generator"])
        self.epoch, self.lr, self.best_epoch = values["epoch"], values["lr"], values["best_epoch"]
        self.best_key = (values["best_key"][0], values["best_key"][1])
        self._plateau = (values["plateau"][0], values["plateau"][1])
        self.history = values["history"]


def _fit(
    run: _Run,
    train: Sequence[BagSource],
    val: Sequence[BagSource],
    *,
    folder: Path | None,
    label: str,
    stop_after: int | None,
) -> FitResult:
    spec = run.spec
    checkpoint = folder / CHECKPOINT if folder else None
    if checkpoint is not None and checkpoint.exists():
        run.resume(Checkpoint.load(checkpoint))
    left = range(run.epoch, run.epoch if run.out_of_patience() else spec.epochs)
    board = EventWriter(folder) if left and folder is not None else None
    for epoch in progress(left, total=len(left), label=label, unit="epoch"):
        row = {
            "epoch": epoch + 1.0,
            **run.train_epoch(train),
            **(run.validate(val) if val else {}),
            "lr": run.lr,
        }
        run.finish_epoch(row)
        if board is not None:
            board.add(row, epoch + 1)
        stopping = run.out_of_patience() or epoch + 1 == spec.epochs
        if checkpoint is not None and (
            stopping or (epoch + 1) % spec.checkpoint_every == 0 or epoch + 1 == stop_after
        ):
            run.checkpoint().save(checkpoint)
        if stopping or epoch + 1 == stop_after:
            break
    if board is not None:
        board.close()
    if folder is not None:
        write_text(folder / HISTORY, history_csv(run.history))
    set_pooling(run.model, None)
    if run.best_epoch:  # else training was stopped in the warm-up, of which no epoch is kept
        run.model.load_state_dict(run.best_state)
    run.model.eval()
    epoch = run.best_epoch or run.epoch
    return FitResult(epoch, run.history[epoch - 1], run.history, run.task)


def _copy(model: Aggregator) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def history_csv(history: list[Row]) -> str:
    """Return metrics.csv: one row for each epoch."""
    columns = list(history[-1])  # the first ones may come from a checkpoint of an earlier version
    rows = [{**dict.fromkeys(columns, math.nan), **row, "epoch": int(row["epoch"])} for row in history]
    return csv_text(columns, rows)
