"""CausalMIL: an identifiable variational auto-encoder with a prior conditioned on the bag, max-pooling over
instances.

Zhang, Zhang, Liu and Zhang, Multi-instance causal representation learning for instance label prediction and
out-of-distribution generalization, NeurIPS 2022, arXiv 2202.12570.

    e_i = f(x_i),  q(z_i | x_i) = N(mu_i, sigma_i^2),  z_i = mu_i + sigma_i eps  (evaluation: z_i = mu_i)
    p(z | b) = N(mu_b, sigma_b^2), one number each, from the mean of e over the bag
    s_i = w . z_i + c,  S_b = max_i s_i = s_j
    L = y_weight BCE(S_b, Y_b) + |x_j - g(z_j)|^2 / D
        + kl_weight (KL(p(z | b) || N(0, 1)) + log q(z_j | x_j) - log p(z_j | b))

In the authors' code j counts from the start of its bag but is used as a row of the whole batch. It
reconstructs the wrong instance of every bag but the first. Here j is the row of the instance that holds the
maximum.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from wsi_mil.aggregators.instance_maximum import InstanceMaximum
from wsi_mil.aggregators.methods.focus_mil import sample
from wsi_mil.bags.segments import segment_argmax, segment_mean
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.contracts.outputs import AggregatorOutput
from wsi_mil.tasks import TaskLoss


class CausalMIL(InstanceMaximum):
    """Encoder in - hidden - ReLU - code; decoder latent - hidden - ReLU - in. Several classes: each against
    the rest.

    `decoder_output` 'linear' suits standardised features; the published 'sigmoid' suits pixels in [0, 1].

    >>> CausalMIL(in_features=8, latent=24).prior_mu
    Linear(in_features=200, out_features=1, bias=True)
    """

    class_loss = "one_vs_rest"

    def __init__(
        self,
        in_features: int,
        n_outputs: int = 1,
        latent: int = 24,
        hidden: int = 128,
        code: int = 200,
        kl_weight: float = 1.0,
        y_weight: float = 1000.0,
        decoder_output: Literal["linear", "sigmoid"] = "linear",
    ) -> None:
        super().__init__(in_features, n_outputs)
        self.kl_weight, self.y_weight = kl_weight, y_weight
        self.encoder = nn.Sequential(nn.Linear(in_features, hidden), nn.ReLU(), nn.Linear(hidden, code))
        self.mu = nn.Linear(code, latent)
        self.logvar = nn.Linear(code, latent)
        self.prior_mu = nn.Linear(code, 1)
        self.prior_logvar = nn.Linear(code, 1)
        self.classifier = nn.Linear(latent, n_outputs)
        self.decoder = nn.Sequential(
            nn.Linear(latent, hidden),
            nn.ReLU(),
            nn.Linear(hidden, in_features),
            nn.Sigmoid() if decoder_output == "sigmoid" else nn.Identity(),
        )

    def forward(self, bags: PackedBags, noise: Tensor | None = None) -> AggregatorOutput:
        code = self.encoder(bags.features)  # (ΣN, D) -> (ΣN, code)
        mu, logvar = self.mu(code), self.logvar(code)  # -> (ΣN, latent)
        if noise is None and self.training:
            noise = torch.randn(mu.shape, generator=self.generator)
        z = sample(mu, logvar, noise)
        logits = self.classifier(z)  # -> (ΣN, C)
        top = segment_argmax(logits, bags.lengths)  # -> (B, C)
        bag_code = segment_mean(code, bags.lengths)
        extras = {
            "mu": mu,
            "logvar": logvar,
            "z": z,
            "instance_logits": logits,
            "top": top,
            "prior_mu": self.prior_mu(bag_code)[:, 0],  # (B,)
            "prior_logvar": self.prior_logvar(bag_code)[:, 0],
        }
        pooled = self.pooled(logits, bags.lengths, top)
        return AggregatorOutput(bags, pooled, self.positive_scores(logits), "logit", extras)

    def loss(self, output: AggregatorOutput, targets: Tensor, task_loss: TaskLoss) -> dict[str, Tensor]:
        extras = output.extras
        rows = extras["top"].flatten()  # (B * C,): the deciding instance of each bag and class
        per_bag = extras["top"].shape[1]
        mu_b = extras["prior_mu"].repeat_interleave(per_bag)
        logvar_b = extras["prior_logvar"].repeat_interleave(per_bag)
        z, x = extras["z"][rows], output.bags.features[rows]
        reconstruction = (x - self.decoder(z)).square().mean()
        prior = 0.5 * (mu_b.square() + logvar_b.exp() - logvar_b - 1)
        posterior = log_density(z, extras["mu"][rows], extras["logvar"][rows])
        kl = prior + (posterior - log_density(z, mu_b[:, None], logvar_b[:, None])).sum(1)
        return {
            "bag": self.y_weight * task_loss(output.bag_logits, targets),
            "reconstruction": reconstruction,
            "kl": self.kl_weight * kl.mean(),
        }


def log_density(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Return log N(z; mu, exp(logvar)) without the constant log(2 pi) / 2, entry by entry."""
    return -0.5 * (logvar + (z - mu).square() / logvar.exp())


AGGREGATOR = CausalMIL
