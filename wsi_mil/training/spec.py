"""What training was asked to do."""

from typing import Any, Literal

from pydantic import Field

from wsi_mil.contracts.spec import Spec


class TrainSpec(Spec):
    """How models are trained.

    The defaults are those of FocusMIL on Camelyon16: AdamW, learning rate 1e-4, weight decay 1e-4, 100
    epochs, three bags a step, gradient norm clipped at 1. `params` are those of the aggregator. The epoch
    with the best validation measure is kept, and among equals the one with the lower validation loss;
    `patience` epochs without a better one end the training.
    """

    aggregator: str | None = Field(default=None, description="registry name; default: the model's own name")
    params: dict[str, Any] = Field(default_factory=dict)
    head: Literal["auto", "sigmoid", "softmax"] = Field(
        default="auto", description="of two classes; auto: as published"
    )
    epochs: int = Field(default=100, ge=1)
    bags_per_batch: int = Field(default=3, ge=1)
    optimizer: Literal["adamw", "adam"] = "adamw"
    lr: float = Field(default=1e-4, gt=0)
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
    checkpoint_every: int = Field(default=10, ge=1)
    seed: int = 0
