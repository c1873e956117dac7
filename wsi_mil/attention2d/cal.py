"""CAL, counterfactual attention learning: attention is rewarded for what it adds to the logits.

What it adds is the difference to the logits under counterfactual attention, which does not depend on the
image. Rao et al., Counterfactual attention learning for fine-grained visual categorization and
re-identification, ICCV 2021; defaults of its published code. In three dimensions features are (B, C, D, H,
W), and there are no crops.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsi_mil.attention2d.bilinear import RESIZE, AttentionMaps, bilinear_attention_pooling
from wsi_mil.errors import ConfigError

Counterfactual = Literal["random", "uniform", "reversed", "shuffled"]
SCALE = 100.0
"""Factor of the pooled features, which have length 1, before the classifier."""
CENTRE_RATE = 0.05
CROP_THETA, CROP_PAD, DROP_THETA = (0.4, 0.6), 0.1, (0.2, 0.5)
TEST_CROPS = ((0.3, 0.1), (0.2, 0.1), (0.1, 0.05))


@dataclass(frozen=True)
class CALOutput:
    """Outputs for B images, K classes and M attention maps.

    logits, effect (B, K): effect is what attention adds to the logits. features (B, M C): pooled. attention
    (B, M, ...). maps (B, K, ...): per class, at the size of the input, at least 0.
    """

    logits: Tensor
    effect: Tensor
    features: Tensor
    attention: Tensor
    maps: Tensor


class CAL(nn.Module):
    """`backbone`: images to feature maps (B, channels, ...). What is random takes its numbers from
    `generator`.

    >>> model = CAL(nn.Conv2d(3, 6, 3), 6, 2, maps=4)
    >>> output = model(torch.rand(2, 3, 16, 16))
    >>> output.logits.shape, output.attention.shape, output.maps.shape
    (torch.Size([2, 2]), torch.Size([2, 4, 14, 14]), torch.Size([2, 2, 16, 16]))
    """

    def __init__(
        self,
        backbone: nn.Module,
        channels: int,
        classes: int,
        *,
        maps: int = 32,
        counterfactual: Counterfactual = "random",
        dimensions: Literal[2, 3] = 2,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if counterfactual not in ("random", "uniform", "reversed", "shuffled"):
            raise ConfigError(
                f"counterfactual={counterfactual!r}: expected random, uniform, reversed or shuffled"
            )
        self.backbone = backbone
        self.attentions = AttentionMaps(channels, maps, dimensions)
        self.fc = nn.Linear(maps * channels, classes, bias=False)
        self.counterfactual = counterfactual
        self.generator = generator
        self.centres: Tensor
        self.register_buffer("centres", torch.zeros(classes, maps * channels))

    def forward(self, images: Tensor, fake: Tensor | None = None) -> CALOutput:
        """Return logits and the effect of attention. `fake`: counterfactual maps, drawn if not given."""
        values = self.backbone(images)
        attention = self.attentions(values)
        features = bilinear_attention_pooling(values, attention)
        fake = self.fake_attention(attention) if fake is None else fake
        logits = self.fc(SCALE * features)
        effect = logits - self.fc(SCALE * bilinear_attention_pooling(values, fake))
        return CALOutput(
            logits, effect, features, attention, self._class_maps(features, attention, images.shape[2:])
        )

    def fake_attention(self, attention: Tensor) -> Tensor:
        """Return counterfactual maps of the same shape as `attention`.

        Outside of training they are all ones (plain average pooling), as in the published code.
        """
        if not self.training:
            return torch.ones_like(attention)
        if self.counterfactual == "random":
            drawn = torch.rand(attention.shape, generator=self.generator, dtype=attention.dtype)
            return 2 * drawn.to(attention.device)
        if self.counterfactual == "uniform":
            return attention.flatten(1).mean(1).view(-1, *[1] * (attention.ndim - 1)).expand_as(attention)
        if self.counterfactual == "reversed":
            return attention.flatten(1).amax(1).view(-1, *[1] * (attention.ndim - 1)) - attention
        return attention[torch.randperm(len(attention), generator=self.generator)]

    def losses(
        self, output: CALOutput, labels: Tensor, augmented: Sequence[CALOutput] = ()
    ) -> dict[str, Tensor]:
        """Return the terms of the loss; `augmented`: the outputs of crops and drops of the same images, in
        their order.

        raw: CE / 3; effect: CE over images, crops and drops together; augmented: 2/3 CE of crops and drops;
        centre.
        """
        effects = torch.cat([output.effect, *(other.effect for other in augmented)])
        terms = {
            "raw": F.cross_entropy(output.logits, labels) / 3,
            "effect": F.cross_entropy(effects, labels.repeat(1 + len(augmented))),
            "centre": self.centre_loss(output.features, labels),
        }
        if augmented:
            logits = torch.cat([other.logits for other in augmented])
            terms["augmented"] = F.cross_entropy(logits, labels.repeat(len(augmented))) * 2 / 3
        return terms

    def centre_loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the squared distance of features to the centres of their classes, mean over the batch.

        In training the centres are then moved towards the features.
        """
        centres = F.normalize(self.centres[labels], dim=1)
        loss = (features - centres).square().sum() / len(features)
        if self.training:
            self.centres.index_add_(
                0, labels, CENTRE_RATE * (features - centres).detach().to(self.centres.dtype)
            )
        return loss

    def pick_probabilities(self, attention: Tensor) -> Tensor:
        """Return (B, M): the probability that a map is chosen for cropping or dropping."""
        return F.normalize((attention.detach().flatten(2).sum(-1) + 1e-6).sqrt(), p=1, dim=1)

    def augment(self, images: Tensor, attention: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images cropped to one map, and with another map blanked; both are drawn per image."""
        picks = torch.multinomial(
            self.pick_probabilities(attention).cpu(), 2, replacement=True, generator=self.generator
        )
        rows = torch.arange(len(images))
        one, other = (
            attention.detach()[rows, picks[:, column].to(attention.device)][:, None] for column in (0, 1)
        )
        theta_crop, theta_drop = (self._between(len(images), *limits) for limits in (CROP_THETA, DROP_THETA))
        return crop(images, one, theta_crop, CROP_PAD), drop(images, other, theta_drop)

    def _between(self, count: int, low: float, high: float) -> list[float]:
        return (low + (high - low) * torch.rand(count, generator=self.generator)).tolist()

    @torch.inference_mode()
    def predict(
        self, images: Tensor, crops: Sequence[tuple[float, float]] = TEST_CROPS, flip: bool = True
    ) -> Tensor:
        """Return (B, K) logits, averaged over the image, its `crops` to the mean map, and the mirror images
        of all.

        crops: pairs of threshold (theta, of the map's maximum) and padding (of the image's side).
        """
        found = []
        for view in (images, images.flip(-1)) if flip else (images,):
            output = self(view)
            mean = output.attention.mean(1, keepdim=True)
            found += [output.logits]
            found += [self(crop(view, mean, [theta] * len(view), pad)).logits for theta, pad in crops]
        return torch.stack(found).mean(0)

    def _class_maps(self, features: Tensor, attention: Tensor, size: torch.Size) -> Tensor:
        """Return (B, K, ...), at least 0: the attention maps, weighted by what each one adds to a class."""
        batch, maps = attention.shape[:2]
        weights = self.fc.weight.view(len(self.fc.weight), maps, -1)
        added = torch.einsum("kmc,bmc->bkm", weights, features.view(batch, maps, -1)).relu()
        found = torch.einsum("bkm,bm...->bk...", added, attention)
        return F.interpolate(found, size, mode=RESIZE[len(size)], align_corners=True)


def crop(images: Tensor, attention: Tensor, theta: Sequence[float], pad: float) -> Tensor:
    """Return each image (B, C, H, W) cropped to where its map (B, 1, h, w) is high, and enlarged again.

    The crop is the box around the positions that reach `theta` of the map's maximum, wider on every side by
    `pad` of the image's side.
    """
    height, width = images.shape[2:]
    resized = F.interpolate(attention, (height, width), mode="bilinear", align_corners=True)
    found = []
    for image, whole, small, share in zip(images, resized, attention, theta, strict=True):
        rows, columns = torch.nonzero(whole[0] >= share * small.max(), as_tuple=True)
        top, lower = max(int(rows.min() - pad * height), 0), min(int(rows.max() + pad * height), height)
        left, right = max(int(columns.min() - pad * width), 0), min(int(columns.max() + pad * width), width)
        part = image[None, :, top : max(lower, top + 1), left : max(right, left + 1)]
        found.append(F.interpolate(part, (height, width), mode="bilinear", align_corners=True))
    return torch.cat(found)


def drop(images: Tensor, attention: Tensor, theta: Sequence[float]) -> Tensor:
    """Return each image (B, C, H, W) with 0 where its map (B, 1, h, w) reaches `theta` of its maximum."""
    resized = F.interpolate(attention, images.shape[2:], mode="bilinear", align_corners=True)
    limits = attention.flatten(1).amax(1) * torch.tensor(
        theta, dtype=attention.dtype, device=attention.device
    )
    return images * (resized < limits.view(-1, 1, 1, 1))
