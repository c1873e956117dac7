"""Fold batch normalisations into the convolutions before them: the same values with one layer less to run.

In evaluation mode a batch normalisation multiplies each channel by a constant and adds one. The convolution
before it can do both with other weights (`torch.nn.utils.fuse_conv_bn_eval`).
"""

import copy

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import fuse_conv_bn_eval

from wsi_mil.logs import logger

TOLERANCE = 1e-3
"""Allowed difference of the folded network, relative to the largest output. Rounding causes 1 % of it."""


def fold_batch_norms(network: nn.Module, example: Tensor) -> nn.Module:
    """Return a copy of `network` (in evaluation mode) whose batch normalisations are folded into
    convolutions.

    Returns `network` itself if torch cannot trace it, if there is nothing to fold, or if the output for
    `example` (B, 3, S, S) would change by more than TOLERANCE.

    >>> plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    >>> folded = fold_batch_norms(plain, torch.rand(1, 3, 8, 8))
    >>> [type(module).__name__ for module in folded.modules() if not list(module.children())]
    ['Conv2d', 'Identity']
    """
    kinds = {type(module) for module in network.modules()}
    # Transformers (LayerNorm) gain next to nothing, and their code branches on shapes, which tracing cannot
    # follow.
    if nn.BatchNorm2d not in kinds or nn.LayerNorm in kinds:
        return network
    try:
        traced = fx.symbolic_trace(copy.deepcopy(network))
    except Exception:  # tracing runs the network's own code, which may fail in any way
        logger().debug("batch normalisation is not folded", exc_info=True)
        return network
    if not _fold_all(traced):
        return network
    with torch.inference_mode():
        expected, found = network(example), traced(example)
        same = bool((found - expected).abs().max() <= TOLERANCE * expected.abs().max())
    return traced if same else network


def _fold_all(traced: fx.GraphModule) -> int:
    """Fold each batch normalisation whose convolution has no other user; return how many were folded."""
    modules = dict(traced.named_modules())
    calls = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    folded = 0
    for node in traced.graph.nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        convolution, norm = modules[str(before.target)], modules[str(node.target)]
        if type(convolution) is not nn.Conv2d or type(norm) is not nn.BatchNorm2d:
            continue
        if norm.running_mean is None or calls.count(before.target) > 1 or calls.count(node.target) > 1:
            continue
        traced.set_submodule(str(before.target), fuse_conv_bn_eval(convolution, norm))
        traced.set_submodule(str(node.target), nn.Identity())
        folded += 1
    return folded
