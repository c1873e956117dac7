"""FocusMIL: max-pooling over instances of a variational encoder, trained with several bags a step.

Liu, Zhang, Tang, Le, Li, Liu and Zhang, From Correlation to Causation: Max-Pooling-Based MIL Leads to More
Robust WSI Classification, arXiv 2408.09449.

    z_i = mu(x_i) + sigma(x_i) * eps  (training),  z_i = mu(x_i)  (evaluation)
    s_i = w . z_i + c,  S_b = max_{i in b} s_i
    L   = BCE(S_b, Y_b) + kl_weight * mean over instances and dimensions of KL( N(mu, sigma^2) || N(0, 1) )
"""

from typing import Literal

import torch
from torch import Tensor, nn

from wsi_mil.aggregators.instance_maximum import InstanceMaximum
from wsi_mil.aggregators.max_pooling import MaxPooling
from wsi_mil.bags.segments import segment_argmax
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.contracts.outputs import AggregatorOutput
from wsi_mil.errors import ConfigError
from wsi_mil.tasks import TaskLoss

SIGMA_FLOOR = 1e-8


class FocusMIL(InstanceMaximum, MaxPooling):
    """Encoder in - 128 - ReLU - 200, heads to `latent` means and log-variances, one linear instance
    classifier. The maximum is that of raw logits.

    `kl_over`: 'all' takes the KL of every instance of the batch, as the code that follows the paper does;
    'selected' that of each bag's top instance only, as the paper writes it.
    `variational`: False gives z = mu in training, too, and no KL: a plain instance classifier of the same
    size, to compare with.

    >>> model = FocusMIL(in_features=8, n_outputs=1, latent=35)
    >>> model.classifier
    Linear(in_features=35, out_features=1, bias=True)
    """

    class_loss = "one_vs_rest"

    def __init__(
        self,
        in_features: int,
        n_outputs: int = 1,
        latent: int = 35,
        hidden: tuple[int, int] = (128, 200),
        kl_weight: float = 0.01,
        kl_over: Literal["all", "selected"] = "all",
        variational: bool = True,
    ) -> None:
        super().__init__(in_features, n_outputs)
        if kl_over not in ("all", "selected"):
            raise ConfigError(f"focus_mil: kl_over must be 'all' or 'selected', got {kl_over!r}")
        self.kl_weight, self.kl_over = kl_weight, kl_over
        self.encoder = nn.Sequential(
            nn.Linear(in_features, hidden[0]), nn.ReLU(), nn.Linear(hidden[0], hidden[1])
        )
        self.mu = nn.Linear(hidden[1], latent)
        self.logvar = nn.Linear(hidden[1], latent) if variational else None
        self.classifier = nn.Linear(latent, n_outputs)

    @property
    def noise_width(self) -> int:
        return self.mu.out_features if self.training and self.logvar is not None else 0

    def forward(self, bags: PackedBags, noise: Tensor | None = None) -> AggregatorOutput:
        if noise is None and self.noise_width:
            noise = torch.cat([self.draw_noise(rows) for rows in bags.lengths])
        mu, logvar = self.encode(bags.features)
        logits = self.classifier(sample(mu, logvar, noise))  # (ΣN, latent) -> (ΣN, C)
        top = segment_argmax(logits, bags.lengths)  # -> (B, C)
        extras = {"mu": mu, "instance_logits": logits, "top": top}
        if logvar is not None:
            extras["logvar"] = logvar
        pooled = self.pooled(logits, bags.lengths, top)
        return AggregatorOutput(bags, pooled, self.positive_scores(logits), "logit", extras)

    def encode(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return means and log-variances (n, latent) of instances (n, D); no log-variances if not
        variational."""
        code = self.encoder(features)  # (n, D) -> (n, 200)
        return self.mu(code), None if self.logvar is None else self.logvar(code)

    def loss(self, output: AggregatorOutput, targets: Tensor, task_loss: TaskLoss) -> dict[str, Tensor]:
        bag = task_loss(output.bag_logits, targets)
        if self.logvar is None:
            return {"bag": bag}
        mu, logvar = output.extras["mu"], output.extras["logvar"]
        if self.kl_over == "selected":
            rows = output.extras["top"].flatten()
            mu, logvar = mu[rows], logvar[rows]
        return {"bag": bag, "kl": self.kl_weight * gaussian_kl(mu, logvar)}

    @property
    def reaches_every_instance(self) -> bool:
        return self.logvar is not None and self.kl_over == "all"

    def scan(self, features: Tensor, noise: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        mu, logvar = self.encode(features)
        terms = {}
        if logvar is not None and self.reaches_every_instance:
            terms["kl"] = self.kl_weight * gaussian_kl(mu, logvar)
        return self.classifier(sample(mu, logvar, noise)), terms


def sample(mu: Tensor, logvar: Tensor | None, noise: Tensor | None) -> Tensor:
    """Return mu + sigma * noise; without noise mu, as in evaluation."""
    return mu if noise is None or logvar is None else mu + (0.5 * logvar).exp() * noise.to(mu)


def gaussian_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """Return the mean, over all entries, of KL(N(mu, sigma²) || N(0, 1)) = (mu² + sigma² - 2 log sigma -
    1) / 2."""
    sigma = (0.5 * logvar).exp()
    return 0.5 * (mu.square() + sigma.square() - 2 * (sigma + SIGMA_FLOOR).log() - 1).mean()


AGGREGATOR = FocusMIL
