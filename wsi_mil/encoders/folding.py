"""Batch normalisation folded into the convolution before it: the same network for inference, one pass over memory less a layer."""

import copy

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import fuse_conv_bn_eval

TOLERANCE = 1e-3
"""Of the largest value of the output, between the folded and the plain network: float32 rounding is a hundredth of it."""


def fold_batch_norms(network: nn.Module, example: Tensor) -> nn.Module:
    """Return `network` (in eval mode) with its batch normalisations folded into their convolutions, as a copy; or itself where torch
    cannot follow its flow, where nothing is to be folded, or where `example` (B, 3, S, S) would come out otherwise.

    >>> plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    >>> folded = fold_batch_norms(plain, torch.rand(1, 3, 8, 8))
    >>> [type(module).__name__ for module in folded.modules() if not list(module.children())]
    ['Conv2d', 'Identity']
    """
    kinds = {type(module) for module in network.modules()}
    if (
        nn.BatchNorm2d not in kinds or nn.LayerNorm in kinds
    ):  # transformers spend their time elsewhere, and branch on shapes
        return network
    try:
        traced = fx.symbolic_trace(copy.deepcopy(network))
    except Exception:  # whatever a foreign forward() does with what is no tensor
        return network
    folded = 0
    modules = dict(traced.named_modules())
    calls = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    for node in traced.graph.nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        convolution, norm = modules[str(before.target)], modules[str(node.target)]
        if (
            type(convolution) is not nn.Conv2d
            or type(norm) is not nn.BatchNorm2d
            or norm.running_mean is None
        ):
            continue
        if calls.count(before.target) > 1 or calls.count(node.target) > 1:
            continue
        traced.set_submodule(str(before.target), fuse_conv_bn_eval(convolution, norm))
        traced.set_submodule(str(node.target), nn.Identity())
        folded += 1
    if not folded:
        return network
    with torch.inference_mode():
        expected, found = network(example), traced(example)
        same = bool((found - expected).abs().max() <= TOLERANCE * expected.abs().max())
    return traced if same else network
