"""Losses of class labels: functions of bag logits and labels."""

import torch
from torch import Tensor
from torch.nn import functional as F

from wsi_mil.tasks.base import ClassLoss

CLAMP = 1e-5


def class_losses(logits: Tensor, labels: Tensor, form: ClassLoss, reduction: str = "none") -> Tensor:
    """Return the loss of class labels (B,) int64 under logits (B, C), per row or ("mean") their mean.

    softmax      cross-entropy over the classes; one logit: binary cross-entropy, label 1 being positive
    one_vs_rest  mean over the classes of the binary cross-entropy of each class against the others
    clamped      as softmax, but of one logit the probability is clamped to [1e-5, 1 - 1e-5]: a bag outside
    gives no
                 gradient (published code of Ilse, Tomczak and Welling, ICML 2018)

    >>> class_losses(torch.tensor([[2.0], [2.0]]), torch.tensor([1, 0]), "softmax")
    tensor([0.1269, 2.1269])
    """
    if form == "one_vs_rest":
        found = F.binary_cross_entropy_with_logits(logits, multi_hot(labels, logits), reduction=reduction)
        return found.mean(1) if reduction == "none" else found
    if logits.shape[1] > 1:
        return F.cross_entropy(logits, labels, reduction=reduction)
    if form == "clamped":
        found = _clamped_bernoulli(logits[:, 0], labels)
        return found if reduction == "none" else found.mean()
    targets = labels.to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits[:, 0], targets, reduction=reduction)


def _clamped_bernoulli(logits: Tensor, labels: Tensor) -> Tensor:
    if logits.dtype != torch.float64:
        logits = logits.float()  # 1 - 1e-5 is 1 in half precision
    positive = logits.sigmoid().clamp(CLAMP, 1 - CLAMP)
    targets = labels.to(positive.dtype)
    return -(targets * positive.log() + (1 - targets) * (1 - positive).log())


def multi_hot(labels: Tensor, logits: Tensor) -> Tensor:
    """Return labels (B,) as 0/1 targets of the shape and type of logits (B, C)."""
    if logits.shape[1] == 1:
        return labels.to(logits.dtype)[:, None]
    return F.one_hot(labels, logits.shape[1]).to(logits.dtype)


def class_probabilities(logits: Tensor) -> Tensor:
    """Return (B, max(C, 2)) class probabilities of logits (B, C): sigmoid of one logit, softmax of several.

    >>> class_probabilities(torch.zeros(1, 1))
    tensor([[0.5000, 0.5000]])
    """
    if logits.shape[1] == 1:
        positive = logits.sigmoid()
        return torch.cat([1 - positive, positive], 1)
    return logits.softmax(1)
