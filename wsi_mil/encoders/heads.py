"""What a published encoder does with the tokens of its network: one vector per tile."""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsi_mil.encoders.published.record import Pooling, Published


@final
class AttentionPool(nn.Module):
    """One learned query attends to all tokens, as in CoCa (Yu et al., TMLR 2022) and CONCH (Lu et al. 2024).

    (B, N, `tokens`) -> (B, `width`).

    >>> AttentionPool(tokens=8, width=16)(torch.zeros(2, 5, 8)).shape
    torch.Size([2, 16])
    """

    def __init__(self, tokens: int, width: int, heads: int = 8) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, width))
        self.attn = nn.MultiheadAttention(width, heads, kdim=tokens, vdim=tokens, batch_first=True)
        self.ln_q, self.ln_k, self.ln_out = nn.LayerNorm(width), nn.LayerNorm(tokens), nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, width) of tokens (B, N, D)."""
        known = self.ln_k(tokens)
        query = self.ln_q(self.query).expand(len(tokens), -1, -1)
        found: Tensor = self.ln_out(self.attn(query, known, known, need_weights=False)[0][:, 0])
        return found


@final
class PlainAttentionPool(nn.Module):
    """The attentional pooling of CONCH v1.5: as `AttentionPool`, with maps that have no bias.

    (B, N, `tokens`) -> (B, `width`).
    """

    def __init__(self, tokens: int, width: int, heads: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Parameter(torch.randn(1, width))
        self.ln_k, self.ln_q, self.ln_out = nn.LayerNorm(tokens), nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(tokens, 2 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, width) of tokens (B, N, D)."""
        query = self.to_q(self.ln_q(self.query)).expand(len(tokens), -1, -1)
        key, value = self.to_kv(self.ln_k(tokens)).chunk(2, -1)
        # (B, N, width) -> (B, heads, N, width / heads)
        split = [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (query, key, value)]
        joined = F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
        found: Tensor = self.ln_out(self.to_out(joined)[:, 0])
        return found


@final
class UnitMlp(nn.Module):
    """Two layers on the class token, scaled to length 1: KEEP's map to the space of its texts.

    (B, `tokens`) -> (B, `width`).
    """

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(tokens, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, token: Tensor) -> Tensor:
        """Return (B, width) of class tokens (B, D)."""
        return F.normalize(self.layers(token), dim=-1)


def make_head(pooling: Pooling, tokens: int, dim: int) -> nn.Module | None:
    """Return the trained part after the network of timm, with random weights; None if there is none."""
    if pooling == "attention":
        return AttentionPool(tokens, dim)
    if pooling == "attention (v1.5)":
        return PlainAttentionPool(tokens, dim)
    if pooling == "mlp":
        return UnitMlp(tokens, dim)
    if pooling == "projected":
        return nn.Linear(tokens, dim, bias=False)
    return None


@final
class Pooled(nn.Module):
    """A network that returns one vector per tile, pooled as its record says.

    `trunk` keeps the names of timm; `head` is there for pooling that is trained.
    """

    def __init__(self, trunk: nn.Module, record: Published) -> None:
        super().__init__()
        self.trunk = trunk
        self._pooling = record.pooling
        self._features_only = bool(record.options.get("features_only"))
        head = make_head(record.pooling, int(getattr(trunk, "num_features", 0)), record.dim)
        if head is not None:
            self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, dim) features of prepared images (B, 3, S, S)."""
        if self._features_only:
            maps: Tensor = self.trunk(images)[-1]
            return maps.mean((2, 3))  # (B, C, h, w) -> (B, C)
        if self._pooling == "pooled":
            pooled: Tensor = self.trunk(images)
            return pooled
        if self._pooling == "class of each colour":
            each = self._tokens(images.reshape(-1, 1, *images.shape[2:]))[:, 0]  # -> (3 B, D)
            return each.reshape(len(images), -1)
        if self._pooling == "class at two scales":
            return torch.cat([self._tokens(images)[:, 0], self._quarters(images)], 1)
        return self._pool(self._tokens(images))

    def _tokens(self, images: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, 1 + registers + patches, D)."""
        tokens: Tensor = self.trunk.forward_features(images)  # type: ignore[operator]
        return tokens

    def _quarters(self, images: Tensor) -> Tensor:
        """Return (B, D): the mean class token of the four quarters of the images at twice the size."""
        side = images.shape[-1]
        large = F.interpolate(images.float(), size=2 * side, mode="bicubic").to(images.dtype)
        places = [(y, x) for y in (0, side) for x in (0, side)]
        quarters = [self._tokens(large[..., y : y + side, x : x + side])[:, 0] for y, x in places]
        return torch.stack(quarters).mean(0)

    def _pool(self, tokens: Tensor) -> Tensor:
        if self._pooling == "class":
            return tokens[:, 0]
        if self._pooling == "class+mean":
            patches = tokens[:, int(self.trunk.num_prefix_tokens) :]  # type: ignore[arg-type]
            return torch.cat([tokens[:, 0], patches.mean(1)], 1)
        features: Tensor = self.head(tokens if self._pooling.startswith("attention") else tokens[:, 0])
        return features
