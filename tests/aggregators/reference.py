"""Reads the files of the published reference code, whatever their seeds and bag sizes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsi_mil.contracts.bags import Bag, PackedBags

DTYPES = [torch.float64, torch.float32]


class Reference:
    """One file, compared in one precision: float64 to rtol 1e-9, float32 as the files' README allows."""

    def __init__(self, folder: Path, name: str, dtype: torch.dtype) -> None:
        with np.load(folder / "aggregators" / f"{name}.npz", allow_pickle=False) as file:
            self.stored: dict[str, NDArray[np.generic]] = {key: file[key] for key in file.files}
        self.dtype = dtype
        self.compared = 0
        self.bags = sorted({int(key.split("/")[0][3:]) for key in self.stored if key.startswith("bag")})
        assert self.bags

    def __contains__(self, key: str) -> bool:
        return key in self.stored

    def shape(self, name: str) -> tuple[int, ...]:
        return self.stored[f"param/{name}"].shape

    def load(self, model: nn.Module, names: Mapping[str, str]) -> None:
        """Put the stored parameters into `model`; `names`: our parameter name -> theirs, complete on both
        sides."""
        theirs = {key.removeprefix("param/") for key in self.stored if key.startswith("param/")}
        assert set(names.values()) == theirs
        state = {
            ours: torch.from_numpy(self.stored[f"param/{name}"]).to(self.dtype)
            for ours, name in names.items()
        }
        model.to(self.dtype).load_state_dict(state)

    def tensor(self, key: str) -> Tensor:
        double = f"{key}_f64" if self.dtype == torch.float64 else key
        value = torch.from_numpy(self.stored.get(double, self.stored[key]))
        return value.to(self.dtype) if value.is_floating_point() else value

    def x(self, bag: int) -> Tensor:
        return self.tensor(f"bag{bag}/x").flatten(1).requires_grad_()

    def pack(self, *features: Tensor) -> PackedBags:
        return PackedBags.pack([Bag(f"bag{i}", x, 0) for i, x in enumerate(features)])

    def label(self, bag: int) -> int:
        return int(self.stored[f"bag{bag}/label"].ravel()[0])

    def labels_of(self, bag: int) -> list[int]:
        """The k for which the file has blocks `bag<i>/y<k>/`."""
        found = {key.split("/")[1] for key in self.stored if key.startswith(f"bag{bag}/y")}
        return sorted(int(part[1:]) for part in found if part[1:].isdigit())

    def close(self, found: Tensor, key: str, gradient: bool = False) -> None:
        double = self.dtype == torch.float64
        exact = np.issubdtype(self.stored[key].dtype, np.integer)
        expected = self.stored[key + ("_f64" if double and not exact else "")].astype(np.float64)
        values = found.detach().numpy().astype(np.float64).reshape(expected.shape)
        if double or exact:
            np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-10, err_msg=key)
        else:
            scale = np.abs(expected).max(initial=0)
            atol = 1e-4 * scale + 1e-6 if gradient else 1e-5 * max(1, scale)
            np.testing.assert_allclose(values, expected, rtol=0, atol=atol, err_msg=key)
        self.compared += 1

    def gradients(
        self,
        model: nn.Module,
        names: Mapping[str, str],
        x: Tensor | None,
        block: str,
        loss: Tensor,
        shift_free: tuple[str, ...] = (),
    ) -> None:
        """Compare the gradient of `loss` in x and the norms in all parameters with those stored under
        `block`.

        `shift_free`: parameters whose gradient is zero in exact arithmetic: compared by absolute value.
        """
        model.zero_grad()
        if x is not None:
            x.grad = None
        loss.backward(retain_graph=True)
        if x is not None and f"{block}/grad_x" in self:
            assert x.grad is not None
            self.close(x.grad, f"{block}/grad_x", gradient=True)
        own = dict(model.named_parameters())
        for ours, theirs in names.items():
            key = f"{block}/gradnorm/{theirs}"
            if key not in self or ours not in own:
                continue
            gradient = own[ours].grad
            norm = torch.zeros(()) if gradient is None else gradient.norm()
            if ours in shift_free:
                assert float(norm) < (1e-10 if self.dtype == torch.float64 else 1e-4)
            else:
                self.close(norm, key, gradient=True)


def linear(pairs: Mapping[str, str], bias: bool = True) -> dict[str, str]:
    """Names of weights (and biases) of linear maps, ours -> theirs."""
    kinds = ("weight", "bias") if bias else ("weight",)
    return {f"{ours}.{kind}": f"{theirs}.{kind}" for ours, theirs in pairs.items() for kind in kinds}


def total(terms: dict[str, Tensor]) -> Tensor:
    """Return the sum of the terms of a loss."""
    return torch.stack(list(terms.values())).sum()
