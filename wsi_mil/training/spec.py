"""What training was asked to do."""

from typing import Annotated, Any, Literal

from pydantic import Field

from wsi_mil.contracts.spec import Spec

WarmUp = Literal["auto", "none", "smooth_max", "annealed_max", "top_k"]


class TrainSpec(Spec):
    """How models are trained.

    The defaults are those of code that follows the FocusMIL paper on Camelyon16, but for `warm_up`: AdamW,
    learning rate 1e-4, weight decay 1e-4, 100 epochs, three bags a step, gradient norm clipped at 1. `params`
    are those of the aggregator. The epoch with the best validation measure is kept, and among equals the one
    with the lower validation loss; `patience` epochs without a better one end the training.
    """

    aggregator: str | None = Field(default=None, description="registry name; default: the model's own name")
    params: dict[str, Any] = Field(default_factory=dict)
    head: Literal["auto", "sigmoid", "softmax"] = Field(
        default="auto", description="of two classes; auto: as published"
    )
    epochs: int = Field(default=100, ge=1)
    bags_per_batch: int = Field(default=3, ge=1)
    class_weight: Literal["none", "balanced"] = Field(
        default="none", description="balanced: each class has the same weight in the bag loss of training"
    )
    sampler: Literal["shuffle", "balanced"] = Field(
        default="shuffle",
        description="balanced: classes take turns in an epoch, bags of a rare class occur several times",
    )
    optimizer: Literal["adamw", "adam"] = "adamw"
    lr: float = Field(default=1e-4, gt=0)
    search: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(),
        description="learning rates to try in place of lr; in each fold, validation slides choose one",
    )
    weight_decay: float = Field(default=1e-4, ge=0)
    schedule: Literal["none", "cosine", "plateau"] = "none"
    clip_norm: float = Field(default=1.0, ge=0, description="0: gradients are not clipped")
    patience: int = Field(default=0, ge=0, description="0: no early stopping")
    select_by: Literal["val_auc", "val_loss", "last"] = Field(
        default="val_auc",
        description="val_auc: the task's own measure on validation slides: AUC of detection and "
        "classification, kappa of ordinal, R² of regression, concordance of survival",
    )
    standardize: bool = Field(
        default=True, description="features to mean 0 and deviation 1 of the training bags"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="auto: bf16 on a GPU, fp32 on a CPU"
    )
    two_pass: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="max-pooling only: gradients from the deciding instances alone, exactly; auto: in large "
        "batches",
    )
    chunk_rows: int = Field(default=4096, ge=1, description="instances at a time in two-pass mode")
    warm_up: WarmUp = Field(
        default="auto",
        description="methods that take the maximum over instance logits (focus_mil, mi_net, causal_mil): "
        "smooth_max: log-mean-exp of sharpness 1 at first, then the maximum; annealed_max: its sharpness "
        "rises from 1 to 32; top_k: the mean of the k largest logits, k falls from all to 1; none: the "
        "maximum from the start, as published; auto: smooth_max for these methods",
    )
    warm_up_share: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="which fraction of the epochs the warm-up lasts; the epoch to keep is chosen after it",
    )
    annotated_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="guided(...) only: fraction of training slides whose lesion outlines it may see",
    )
    views: bool = Field(
        default=False,
        description="in every epoch, train on the plain features of a bag or on one of encoder.views, "
        "drawn at random",
    )
    restarts: int = Field(
        default=0, ge=0, description="so many further trainings with other seeds while none has learned"
    )
    checkpoint_every: int = Field(default=10, ge=1)
    seed: int = 0
