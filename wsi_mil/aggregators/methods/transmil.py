"""TransMIL: Nystrom self-attention over the tiles of a bag. Shao, Bian, Chen, Wang, Zhang, Ji and Zhang,
NeurIPS 2021.

tokens = ReLU(W x), the first ones repeated up to a square number, a class token in front
two layers t + Nystrom(LayerNorm(t)); between them PPEG: depthwise 7, 5 and 3 convolutions over the square of
tokens logits = V LayerNorm(class token)

Nystrom attention is that of the nystrom-attention package (Xiong et al., AAAI 2021), version 0.0.10 or later.
The version that the authors pin returns wrong rows if the number of tokens is no multiple of the landmarks.
"""

import math
from typing import ClassVar

import torch
from nystrom_attention import NystromAttention
from torch import Tensor, nn

from wsi_mil.aggregators.base import Aggregator
from wsi_mil.bags.segments import split
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.contracts.outputs import AggregatorOutput
from wsi_mil.errors import ConfigError
from wsi_mil.tasks import TaskLoss


class TransMIL(Aggregator):
    """Bags are processed one by one: the pseudo-inverse scales by maxima over its whole input, so that bags
    in one call would depend on each other. The order of tiles matters: it gives their place in the square,
    and the landmarks.

    Departures from the paper: a corrected release of the attention package (above). The training is that of
    `train`; published are Lookahead with RAdam at 2e-4, weight decay 1e-5, gradients of two bags added, half
    precision, 200 epochs at most. Default `landmarks` are half of `hidden`, 256 of 512 as published.

    Instance scores (the paper has none): the attention of the class token in the second layer, mean over
    heads. The Nystrom approximation may be slightly negative; such entries are set to 0, and the scores of a
    bag are scaled to sum to 1.

    >>> TransMIL(in_features=8, n_outputs=2, hidden=16, heads=2, landmarks=4).classifier
    Linear(in_features=16, out_features=2, bias=True)
    """

    small: ClassVar[dict[str, object]] = {"hidden": 32, "heads": 4, "landmarks": 8}

    permutes_with_instances = False
    binary_outputs = (2,)

    def __init__(
        self,
        in_features: int,
        n_outputs: int = 2,
        hidden: int = 512,
        heads: int = 8,
        landmarks: int | None = None,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(in_features, n_outputs)
        if hidden % heads:
            raise ConfigError(f"transmil: hidden must be a multiple of heads, got {hidden} and {heads}")
        self.dropout = dropout
        self.embed = nn.Linear(in_features, hidden)
        self.class_token = nn.Parameter(torch.randn(1, 1, hidden))
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(3))
        self.layers = nn.ModuleList(
            NystromAttention(
                dim=hidden, dim_head=hidden // heads, heads=heads, num_landmarks=landmarks or hidden // 2
            )
            for _ in range(2)
        )
        self.position = nn.ModuleList(
            nn.Conv2d(hidden, hidden, size, padding=size // 2, groups=hidden) for size in (7, 5, 3)
        )
        self.classifier = nn.Linear(hidden, n_outputs)

    def forward(self, bags: PackedBags) -> AggregatorOutput:
        h = torch.relu(self.embed(bags.features))  # (ΣN, D) -> (ΣN, H)
        classes, scores = zip(*(self.one_bag(part) for part in split(h, bags.lengths)), strict=True)
        embedding = torch.cat(classes)  # -> (B, H)
        logits = self.classifier(embedding)
        return AggregatorOutput(bags, logits, torch.cat(scores), "attention", {"class_embedding": embedding})

    def one_bag(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return the class token (1, H) and scores (n,) of the embedded instances h (n, H) of one bag."""
        side = math.ceil(math.sqrt(len(h)))
        square = torch.cat([h, h[: side * side - len(h)]])  # (n, H) -> (s², H)
        tokens = torch.cat([self.class_token.to(h.dtype), square[None]], 1)  # -> (1, 1 + s², H)
        tokens, _ = self.attend(0, tokens)
        grid = tokens[:, 1:].transpose(1, 2).reshape(1, -1, side, side)
        grid = grid + sum(conv(grid) for conv in self.position)
        tokens = torch.cat([tokens[:, :1], grid.flatten(2).transpose(1, 2)], 1)
        tokens, attention = self.attend(1, tokens)
        return self.norms[2](tokens)[:, 0], tile_scores(attention, len(h))

    def attend(self, number: int, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens after a layer, and the class token's attention (heads, 1 + s²) in it, without
        gradient."""
        # the iterated pseudo-inverse loses its way in half precision
        with torch.autocast(tokens.device.type, enabled=False):
            tokens = tokens if tokens.dtype == torch.float64 else tokens.float()
            update, (left, inverse, right) = self.layers[number](
                self.norms[number](tokens), return_attn_matrices=True
            )
        count = tokens.shape[1]
        with torch.no_grad():
            row = (
                left[0, :, -count, None] @ inverse[0] @ right[0]
            )  # (heads, 1, m) ... -> (heads, 1, padded tokens)
        return tokens + self.drop(update, self.dropout), row[:, 0, -count:]

    def loss(self, output: AggregatorOutput, targets: Tensor, task_loss: TaskLoss) -> dict[str, Tensor]:
        return {"bag": task_loss(output.bag_logits, targets)}


def tile_scores(attention: Tensor, count: int) -> Tensor:
    """Return (n,) scores that sum to 1 from the class token's attention (heads, 1 + s²): a tile that was
    repeated to fill the square has the sum of its copies."""
    mean = attention.mean(0)[1:]
    scores = mean[:count].clone()
    scores[: len(mean) - count] += mean[count:]
    scores = scores.clamp_min(0)
    total = scores.sum()
    return scores / total if total > 0 else torch.full_like(scores, 1 / count)


AGGREGATOR = TransMIL
